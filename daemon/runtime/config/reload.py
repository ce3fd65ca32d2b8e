"""Parts of the configuration that a reload can't change, and the texts that the log must never show."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.runtime.config.mirrors import mirror_secrets
from daemon.runtime.config.settings import Settings


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


def moved_token_urls(old: Mapping[str, Provider], new: Mapping[str, Provider]) -> dict[str, tuple[str, str]]:
    """Return the providers whose tokens and client secrets now go to another URL, with the former and the new
    URL.
    """
    return {
        name: (old[name].definition.token_url, new[name].definition.token_url)
        for name in sorted(old.keys() & new.keys())
        if old[name].definition.token_url != new[name].definition.token_url
    }


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
    for entry in settings.keys.ring.values():
        yield Secret(entry.key.hex())
        yield Secret(b64encode(entry.key).decode())
    if settings.server.bearer_token is not None:
        yield settings.server.bearer_token
    for provider in settings.providers.values():
        if provider.client_secret is not None:
            yield provider.client_secret
