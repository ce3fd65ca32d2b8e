"""Detection of secrets in a file that every local user can read. An operator rarely notices this mistake."""

from collections.abc import Iterator, Mapping
from typing import Any

from daemon.domain.token_url import is_loopback
from daemon.runtime.config.problems import Findings, Place
from daemon.runtime.config.secret_sources import holds_password, world_readable
from daemon.runtime.config.sources import Document


def find_exposed_secrets(document: Document, token_urls: Mapping[str, object], findings: Findings) -> None:
    """Add each inline secret in a world-readable file to `findings`, except for clients of loopback
    providers.

    `token_urls`: the token URL of each configured provider. A secret in its own file is checked when that
    file is read, and so is a variable that a secret refers to.
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
        if isinstance(key.get("value") if isinstance(key, Mapping) else key, str):
            yield ("keys", "ring", name)
    yield from _inline_in_mirrors(layer.get("mirrors"))
    yield from _inline_in_hooks(layer.get("hooks"))
    for name in _table(layer, "providers"):
        for key in ("client_secret", "client_key"):
            inline = isinstance(_table(layer, "providers", name).get(key), str)
            if inline and not _local(token_urls.get(name)):
                yield ("providers", name, key)


def _inline_in_mirrors(mirrors: object) -> Iterator[Place]:
    for number, row in enumerate(mirrors if isinstance(mirrors, list) else ()):
        if not isinstance(row, Mapping):
            continue
        if isinstance(row.get("key"), str):
            yield ("mirrors", str(number), "key")
        if isinstance(row.get("uri"), str) and holds_password(row["uri"]):
            yield ("mirrors", str(number), "uri")


def _inline_in_hooks(hooks: object) -> Iterator[Place]:
    for number, row in enumerate(hooks if isinstance(hooks, list) else ()):
        value = row.get("secret") if isinstance(row, Mapping) else None
        if any(isinstance(one, str) for one in (value if isinstance(value, list) else [value])):
            yield ("hooks", str(number), "secret")


def _table(layer: Mapping[str, Any], *steps: str) -> Mapping[str, Any]:
    """Return the table at `steps`, or an empty one. Other code checks its type."""
    for step in steps:
        inner = layer.get(step)
        layer = inner if isinstance(inner, Mapping) else {}
    return layer


def _local(url: object) -> bool:
    try:
        return isinstance(url, str) and is_loopback(url)
    except ValueError:
        return False
