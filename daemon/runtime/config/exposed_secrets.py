"""Secrets that stand in a file which every local user can read: the one mistake that nobody notices by himself."""

from collections.abc import Iterator, Mapping
from typing import Any

from daemon.domain.token_url import is_loopback
from daemon.runtime.config.problems import Findings, Place
from daemon.runtime.config.secret_sources import holds_password, world_readable
from daemon.runtime.config.sources import Document


def find_exposed_secrets(document: Document, token_urls: Mapping[str, object], findings: Findings) -> None:
    """Tells `findings` of each inline secret in a world-readable file, but for the clients of loopback providers.

    `token_urls`: where each configured provider's tokens come from. A secret in a file of its own is checked when
    that file is read, and so is a variable that a secret refers to.
    """
    for file, layer in ((document.file, document.written), (document.env_file, document.from_env_file)):
        if file is None or not world_readable(file):
            continue
        for place in _inline(layer, token_urls):
            findings.add(
                place,
                f"it is a secret, and every local user can read {file}",
                f'chmod o-rwx {file}, or refer to the secret: {{ env = "NAME" }}, {{ file = "PATH" }}.',
            )


def _inline(layer: Mapping[str, Any], token_urls: Mapping[str, object]) -> Iterator[Place]:
    uri = _table(layer, "store").get("uri")
    if isinstance(uri, str) and holds_password(uri):
        yield ("store", "uri")
    if isinstance(_table(layer, "server").get("bearer_token"), str):
        yield ("server", "bearer_token")
    proxy = _table(layer, "refresh").get("proxy")
    if isinstance(proxy, str) and holds_password(proxy):
        yield ("refresh", "proxy")
    for name, key in _table(layer, "keys", "ring").items():
        if isinstance(key, str):
            yield ("keys", "ring", name)
    for name in _table(layer, "providers"):
        for key in ("client_secret", "client_key"):
            inline = isinstance(_table(layer, "providers", name).get(key), str)
            if inline and not _local(token_urls.get(name)):
                yield ("providers", name, key)


def _table(layer: Mapping[str, Any], *steps: str) -> Mapping[str, Any]:
    """The table at `steps`; an empty one where there is none. What it ought to be is judged elsewhere."""
    for step in steps:
        inner = layer.get(step)
        layer = inner if isinstance(inner, Mapping) else {}
    return layer


def _local(url: object) -> bool:
    try:
        return isinstance(url, str) and is_loopback(url)
    except ValueError:
        return False
