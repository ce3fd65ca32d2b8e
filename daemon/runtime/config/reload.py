"""Parts of the configuration that a reload can't change, and the texts that the log must never show."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from daemon.domain.provider import Definition, Provider
from daemon.domain.revocation_request import revocation_url
from daemon.domain.secret import Secret
from daemon.runtime.config.hooks import secrets_of_hooks
from daemon.runtime.config.mirrors import mirror_secrets
from daemon.runtime.config.settings import Settings

_URLS: Mapping[str, Callable[[Definition], str | None]] = {
    "token_url": lambda definition: definition.token_url,
    "authorize_url": lambda definition: definition.authorize_url,
    "par_url": lambda definition: definition.par_url,
    "device_url": lambda definition: definition.device_url,
    "revoke_url": revocation_url,  # that of the table `revoke` comes first
}


def needs_restart(old: Settings, new: Settings) -> list[str]:
    """Return the changed sections that only a restart takes over."""
    changed = {
        "store": old.store != new.store,
        "state": old.state_dir != new.state_dir,
        "refresh": old.refresh != new.refresh,
        "server": (old.server.host, old.server.port) != (new.server.host, new.server.port),
        "demo": old.demo != new.demo,
        "mirrors": old.mirrors != new.mirrors,
        "log.format": old.log.format != new.log.format,
    }
    return [name for name, differs in changed.items() if differs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A URL that a reload has changed. `key`: the definition's. None: there was no such URL, or there is none now."""

    provider: str
    key: str
    former: str | None
    now: str | None


def moved_urls(old: Mapping[str, Provider], new: Mapping[str, Provider]) -> list[Moved]:
    """Return the changed URLs to which tokens, client secrets or owners are sent."""
    return [
        Moved(provider=name, key=key, former=former, now=now)
        for name in sorted(old.keys() & new.keys())
        for key, url in _URLS.items()
        if (former := url(old[name].definition)) != (now := url(new[name].definition))
    ]


def secrets_of(settings: Settings, uri: Secret | None) -> list[Secret]:
    """Return every secret of the configuration, in every form that a library might print."""
    return [secret for secret in _secrets(settings, uri) if secret]


def _secrets(settings: Settings, uri: Secret | None) -> Iterator[Secret]:
    for url in (uri, settings.refresh.proxy):
        if url is not None:
            yield url
            password = urlsplit(url.reveal()).password or ""
            yield Secret(password)
            yield Secret(unquote(password))
    yield from mirror_secrets(settings.mirrors)
    yield from secrets_of_hooks(settings.hooks)
    yield from settings.keys.key_ring.secrets()
    if settings.server.bearer_token is not None:
        yield settings.server.bearer_token
    yield from client_secrets(settings.providers)


def client_secrets(providers: Mapping[str, Provider]) -> list[Secret]:
    """Return the secrets of these providers' clients."""
    found = (provider.client_secret for provider in providers.values())
    return [secret for secret in found if secret is not None]


def with_former_clients(fresh: Settings, former: Mapping[str, Provider]) -> Settings:
    """Return the fresh settings, in which a client whose secret has not come keeps its former one."""
    kept = {
        name: replace(
            one,
            client_id=one.client_id or before.client_id,
            client_secret=before.client_secret,
            sign_claims=before.sign_claims,
            client_assertion=before.client_assertion,
            client_fingerprint=before.client_fingerprint,
            lacking=None,
        )
        for name, one in fresh.providers.items()
        if one.lacking is not None
        and (before := former.get(name)) is not None
        and before.lacking is None
        and _client_place(before) == _client_place(one)
    }
    return replace(fresh, providers={**fresh.providers, **kept})


def unresolved(settings: Settings) -> frozenset[str]:
    """Return the places whose sources have not answered."""
    kept = (one.secret for one in settings.answered if one.kept is not None)
    return frozenset((*kept, *(one.where for one in settings.lacking)))


def _client_place(provider: Provider) -> tuple[str, str, str]:
    """Return what a client's secret belongs to."""
    definition = provider.definition
    return provider.client_id, definition.token_url, definition.client_auth.value
