"""MongoDB: the way there, what it promises, and what this login may do there."""

from collections.abc import Awaitable, Callable
from functools import partial

from daemon.adapters.mongo.admin.contents import TooLong
from daemon.adapters.mongo.admin.preflight import (
    CHOOSE_DATABASE,
    harmful_indexes,
    may_follow_wishes,
    missing_consent_rights,
    missing_hook_rights,
    missing_rights,
    needless_rights,
    own_indexes,
    tokens_elsewhere,
    write_with_majority,
)
from daemon.adapters.mongo.connection import LoginRefused, Refusal
from daemon.commands.checks.access import check_access_key_rights
from daemon.commands.checks.documents import check_claims, check_dates, check_duplicates, check_strangers
from daemon.commands.checks.keys import check_missing_keys, check_stored_keys
from daemon.commands.checks.machine import check_clock
from daemon.commands.checks.report import Report
from daemon.commands.support.access import Access, open_store
from daemon.commands.support.failure import Exit
from daemon.domain.claim import StoreLost
from daemon.runtime.config.problems import SettingsInvalid
from daemon.runtime.config.settings import Settings

Step = Callable[[Access, Report], Awaitable[None]]


async def check_store(settings: Settings, report: Report, *, access_keys: bool = False) -> None:
    """Everything that needs MongoDB, as far as it answers. `access_keys`: also the rights for them."""
    steps: tuple[Step, ...] = (
        *_STEPS,
        partial(check_claims, settings.providers),
        partial(check_dates, settings.providers),
    )
    if access_keys:
        steps = (*steps, check_access_key_rights)
    if settings.hooks:
        steps = (*steps, _check_hook_rights)
    if not settings.store.embedded:  # whose login refreshd makes
        steps = (*steps, _check_needless_rights)
    try:
        async with open_store(settings) as access:
            _tell_address(access, settings, report)
            check_clock(access.clock, settings, report)
            for step in steps:
                await _take(step, access, report)
    except LoginRefused as refused:
        do = "Correct the user's name, the password or authSource in store.uri."
        report.problem("store.uri", str(refused), do, code=Exit.UNAVAILABLE)
    except StoreLost as lost:
        report.problem("store.uri", str(lost), "Start MongoDB, or correct the URI.", code=Exit.UNAVAILABLE)
    except SettingsInvalid as invalid:
        report.invalid(invalid.problems)


async def _take(step: Step, access: Access, report: Report) -> None:
    """One step; what it may not do does not keep the next one from being taken. Raises StoreLost."""
    try:
        await step(access, report)
    except Refusal as why:
        report.problem("store.uri", str(why), "Grant it. The role readWrite is enough.")
    except TooLong as why:
        report.skipped("store.collection", str(why))


def _tell_address(access: Access, settings: Settings, report: Report) -> None:
    address, tokens = access.mongo.address, access.mongo.tokens
    login = f"as {address.login}" if address.login else "without a login"
    way = "by TLS" if address.tls else "without TLS"
    where = f"database {tokens.database.name}, collection {tokens.name}"
    report.passed("store.uri", f"MongoDB at {address} answers {login}, {way}: {where}")
    if settings.caution is not None:
        report.warn("store.uri", settings.caution, "Point store.uri at a MongoDB of your own.")
    if settings.store.embedded:
        return
    if address.login is None:
        who = "every user of this machine" if address.local else "everyone who can reach it"
        what = f"MongoDB at {address} requires no login, so {who} can change tokens"
        report.warn("store.uri", what, "Turn its access control on, and give refreshd a login.")
    if not address.tls and not address.local:
        report.warn(
            "store.uri",
            f"the connection to MongoDB at {address} is not encrypted",
            "Add tls=true to the URI.",
        )
    elif address.tls and not address.verified:
        what = f"the certificate of MongoDB at {address} is not checked"
        report.warn("store.uri", what, "Name its authority by tlsCAFile instead.")


async def _check_database(access: Access, report: Report) -> None:
    if (elsewhere := await tokens_elsewhere(access.mongo)) is not None:
        report.problem("store.uri", elsewhere, CHOOSE_DATABASE)


async def _check_topology(access: Access, report: Report) -> None:
    if access.mongo.retryable_writes:
        report.passed("store.uri", "it is a replica set, or a cluster of them")
    else:
        report.warn(
            "store.uri",
            "this MongoDB is a standalone server: no failover, no retryable writes, and requested renewals wait for a sweep",
            "Make it a replica set, even of one member.",
        )


async def _check_rights(access: Access, report: Report) -> None:
    missing = await missing_rights(access.mongo)
    for right in missing:
        report.problem("store.uri", f"this login may not {right}", "Grant it. The role readWrite is enough.")
    if not missing:
        report.passed("store.uri", "this login has every right that is needed")
    if not await may_follow_wishes(access.mongo):
        what = f"this login may not changeStream on {access.mongo.tokens.full_name}, so requested renewals wait for a sweep"
        report.warn("store.uri", what, "Grant it. The role readWrite is enough.")
    if lacking := await missing_consent_rights(access.mongo):
        what = f"this login may not {', '.join(lacking)}, so `refreshd connect` has no effect"
        report.warn("store.uri", what, "Grant it. The role readWrite is enough.")


async def _check_hook_rights(access: Access, report: Report) -> None:
    if lacking := await missing_hook_rights(access.mongo):
        what = f"this login may not {', '.join(lacking)}, so no hook gets an event"
        report.problem("store.uri", what, "Grant it. The role readWrite is enough.")


async def _check_needless_rights(access: Access, report: Report) -> None:
    if needless := await needless_rights(access.mongo):
        what = f"this login has far more rights than are needed: on {', '.join(needless[:5])}"
        report.warn("store.uri", what, "Give refreshd a login with the role in docs/security.md alone.")


async def _check_writing(access: Access, report: Report) -> None:
    await write_with_majority(access.mongo)
    report.passed("store.uri", "a majority of its members confirms a write, on disk")


async def _check_indexes(access: Access, report: Report) -> None:
    own, harms = await own_indexes(access.mongo), await harmful_indexes(access.mongo)
    for name in own.wrong:
        report.problem(
            "store.collection",
            f"its index {name!r} is not the one that refreshd needs",
            "Drop that index: the daemon creates it again.",
        )
    for name in own.missing:
        report.warn(
            "store.collection",
            f"its index {name!r} is missing, so {_SLOW[name]} read every token",
            "Start the daemon with a login that may create indexes.",
        )
    for name in own.building:
        report.warn(
            "store.collection",
            f"MongoDB is still building its index {name!r}: {_awaits(name)}",
            "Wait until it is built. The daemon then logs store.indexed.",
        )
    for harm in harms:
        report.problem("store.collection", harm.why, f"Drop the index {harm.name!r}.")
    if not (own.wrong or own.missing or own.building or harms):
        report.passed("store.collection", "its indexes are as they must be")


def _awaits(index: str) -> str:
    if index == "due":
        return "renewals wait for it"
    return f"renewals go on; until then {_SLOW[index]} wait, or read every token"


_ADDS = "`refreshd add` and imports"
_SLOW = {  # what uses each index
    "due": "sweeps",
    "grant_fingerprint": _ADDS,
    "origin": _ADDS,
    "subject": "lists and revocations of a subject",
    "removed_at": "deletions of removed tokens",
    "forget_at": f"{_ADDS} (and nothing deletes tombstones)",
    "events": "events for hooks",
}

_STEPS: tuple[Step, ...] = (
    _check_database,
    _check_topology,
    _check_rights,
    _check_writing,
    _check_indexes,
    check_stored_keys,
    check_missing_keys,
    check_duplicates,
    check_strangers,
)
