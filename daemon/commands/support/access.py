"""What most commands begin with: the settings, the providers in them, and the store they lead to."""

import os
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from difflib import get_close_matches

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.admin.lookup import TokenLookup
from daemon.adapters.mongo.admin.preflight import CHOOSE_DATABASE, tokens_elsewhere
from daemon.adapters.mongo.admin.provider_pauses import ProviderPauses
from daemon.adapters.mongo.admin.refresh_requests import RefreshRequests
from daemon.adapters.mongo.admin.tokens import TokenAdmin
from daemon.adapters.mongo.audit import Audit
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.keys import NOT_THE_KEY, prove
from daemon.commands.support.audit_log import SYSLOG, AuditLog
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.open_mongo import open_mongo
from daemon.commands.support.options import Options
from daemon.domain.provider import Definition, Provider
from daemon.domain.visible import typed
from daemon.runtime.clock import Clock
from daemon.runtime.config.problems import SecretsAway
from daemon.runtime.config.providers.definitions import shipped
from daemon.runtime.config.secret_places import STORE_ONLY, Use
from daemon.runtime.config.settings import Settings, load
from daemon.runtime.confinement import confine
from daemon.runtime.demo.provider import PROVIDER as DEMO_PROVIDER
from daemon.runtime.demo.provider import running_sandbox
from daemon.runtime.who import who

LONGEST_ID = (
    4096  # characters: an account has 512 bytes at most, and an invisible one is written in up to ten
)
LONGEST_SHOWN = 60  # characters of an ID that is too long
LOOK = timedelta(seconds=5)  # for stored texts, where a key has no check value yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The open store. `clock` follows its time."""

    clock: Clock
    mongo: Mongo
    ring: KeyRing
    audit: Audit
    lookup: TokenLookup
    admin: TokenAdmin
    refreshes: RefreshRequests
    pauses: ProviderPauses


def read_settings(options: Options, uses: Collection[Use] = STORE_ONLY) -> Settings:
    """The settings; from here on this process holds keys. Of the secrets outside this machine only those for `uses` are
    read. Raises SettingsInvalid with every problem, or SecretsAway.
    """
    confine()
    settings = load(options.config, os.environ, options.env_file, uses=uses)
    if settings.lacking:
        raise SecretsAway(settings.lacking, log=settings.log, settings=settings)
    return _with_demo(settings) if settings.demo.enabled else settings


def _with_demo(settings: Settings) -> Settings:
    """Return the settings with the provider of the demo that is running, as its daemon has it."""
    demo = running_sandbox(settings.state_dir, share=settings.refresh.concurrency)
    return (
        settings if demo is None else replace(settings, providers={**settings.providers, DEMO_PROVIDER: demo})
    )


@asynccontextmanager
async def open_store(settings: Settings, *, reason: str | None = None) -> AsyncIterator[Access]:
    """`reason`: why something is done, for the audit. Raises StoreLost, SettingsInvalid."""
    clock = Clock()
    async with open_mongo(settings, clock=clock) as mongo:
        ring = settings.keys.key_ring
        audit = Audit(mongo, who=who(os.environ, reason=reason), log=AuditLog(SYSLOG))
        yield Access(
            clock=clock,
            mongo=mongo,
            ring=ring,
            audit=audit,
            lookup=TokenLookup(mongo),
            admin=TokenAdmin(mongo, ring, audit),
            refreshes=RefreshRequests(mongo, audit),
            pauses=ProviderPauses(mongo, audit),
        )


async def refuse_misplaced(access: Access) -> None:
    """Refuse to store something in another database than the tokens. Raises Failed, StoreLost."""
    if (elsewhere := await tokens_elsewhere(access.mongo)) is not None:
        raise Failed(f"store.uri: {elsewhere}. {CHOOSE_DATABASE}")


async def refuse_to_store(access: Access) -> None:
    """Nothing is stored beside the tokens, or under a key that the store was not sealed with. Raises Failed, StoreLost."""
    await refuse_misplaced(access)
    active = access.ring.active
    (proof,) = await prove(access.mongo, access.ring, [active], within=LOOK)
    if proof.wrong:
        raise Failed(
            f"keys.ring.{active}: key {active!r} {NOT_THE_KEY}, so nothing is sealed with it. Put the right key back under"
            " this id; `refreshd keys check` shows what each key opens"
        )


async def stored_id(access: Access, name: str) -> str:
    """The id that is meant by `name`: exactly that, or what it stands for if it was copied from a list, in which
    characters that are not seen are escapes. `name` itself if neither is stored. Raises Failed, StoreLost.
    """
    if len(name) > LONGEST_ID:
        raise Failed(
            f"{name[:LONGEST_SHOWN]}…: it has {len(name):,} characters, so it is not a token's ID. Copy the ID from `refreshd list`",
            Exit.USAGE,
        )
    if not _is_unicode(name):
        raise Failed(
            f"{name}: it is not valid Unicode, so it is not a token's ID. Copy the ID from `refreshd list`",
            Exit.USAGE,
        )
    meant = typed(name)
    if meant == name or not _is_unicode(meant):
        return name
    found = await access.lookup.stored([name, meant])
    if len(found) > 1:
        raise Failed(
            f"{name}: two stored IDs are printed like this. Write the first backslash as \\u005c for the one that"
            " holds a backslash; give the character itself for the other",
            Exit.USAGE,
        )
    return next(iter(found), name)


def _is_unicode(text: str) -> bool:
    """Whether `text` holds no lone surrogate, as an argument does that was not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def known_providers(settings: Settings | None) -> dict[str, Definition]:
    """Every definition by name: configured ones take precedence. Without a configuration, these are the shipped ones."""
    if settings is None:
        return dict(shipped())
    configured = {name: provider.definition for name, provider in settings.providers.items()}
    return dict(sorted({**settings.definitions, **configured}.items()))


def configured_provider(settings: Settings, name: str) -> Provider:
    """Return the provider with its client. Raises Failed."""
    if (found := settings.providers.get(name)) is not None:
        return found
    if name not in known_providers(settings):
        raise unknown_provider(name, settings)
    raise Failed(
        f"provider {name!r} is not configured: without a client, its tokens can't be refreshed. Add a"
        f" section [providers.{name}] to the configuration; `refreshd providers {name}` shows how",
        Exit.USAGE,
    )


def unknown_provider(name: str, settings: Settings | None) -> Failed:
    configured = ", ".join(sorted(settings.providers)) if settings is not None else ""
    return Failed(
        f"provider {name!r} is unknown.{_like(name, known_providers(settings))} Configured: {configured or 'none'}."
        " `refreshd providers` lists the shipped ones. Define others in the configuration, under [providers.NAME]",
        Exit.USAGE,
    )


def _like(name: str, names: Iterable[str]) -> str:
    close = get_close_matches(name, list(names), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def check_targets(targets: list[str], settings: Settings) -> None:
    """Refuse a misspelt provider before anything is done. An id holds a colon, a provider none."""
    for target in targets:
        if ":" not in target and target not in known_providers(settings):
            raise unknown_provider(target, settings)
