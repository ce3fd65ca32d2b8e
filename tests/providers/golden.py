"""The exact request of each definition, as a text that a person can hold against the provider's page.

`golden/NAME.txt` holds the method and the URL, each header as it goes over the wire, and each parameter on a line of its
own, decoded. A file says all there is: whatever could not be encoded again to the very same bytes is an error here. (In
a query, the HTTP library leaves `/`, `:` and `?` as they are, which means the same.)

    python -m tests.providers.golden           rewrites the files that differ; look at the diff before you keep it
"""

import asyncio
import json
from base64 import b64decode, b64encode
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from daemon.adapters.token_endpoint.endpoint import TokenEndpoint
from daemon.domain.provider import Grant
from daemon.domain.request import Request, refresh_request
from daemon.runtime.config.providers.definitions import shipped
from tests.providers import samples
from tests.providers.wire import CLOCK, Heard, endpoint, heard

FILES = Path(__file__).parent / "golden"
WATCHED = "watched: nothing is sent\n"


async def golden(name: str, *, through: TokenEndpoint) -> str:
    """What should stand in the file of the definition `name`."""
    if shipped()[name].grant is Grant.NONE:
        return WATCHED
    request = refresh_request(samples.provider(name), samples.token(name), now=CLOCK.now())
    return rendered(request, await heard(through, request))


def rendered(request: Request, seen: Heard) -> str:
    """`seen` on lines. Where it went is `request`'s host: over the wire it was ours."""
    place = urlsplit(request.url)
    path, _, query = seen.target.partition("?")
    lines = [f"{seen.method} {place.scheme}://{place.netloc}{path}"]
    lines += [f"    ? {line}" for line in _parameters(query, meant=place.query)]
    if request.public_only:
        lines.append("    (never to a private address)")
    lines.append("")
    for name, value in seen.headers:
        lines.append(f"{name}: {place.netloc if name == 'Host' else _readable(value)}")
    body = seen.body.decode()
    if body:
        lines += ["", *(_members(body) if body.startswith("{") else _parameters(body))]
    return "\n".join(lines) + "\n"


def _parameters(encoded: str, *, meant: str | None = None) -> list[str]:
    pairs = parse_qsl(encoded, keep_blank_values=True, strict_parsing=bool(encoded))
    lines = [f"{name} = {value}" for name, value in pairs]
    return _whole(lines, encoded if meant is None else meant, urlencode(pairs))


def _members(encoded: str) -> list[str]:
    members = json.loads(encoded)
    return _whole(json.dumps(members, indent=2).splitlines(), encoded, json.dumps(members))


def _readable(header: str) -> str:
    scheme, _, credentials = header.partition(" ")
    if scheme != "Basic":
        return header
    pair = b64decode(credentials)
    [readable] = _whole([f"Basic base64({pair.decode()})"], credentials, b64encode(pair).decode())
    return readable


def _whole(lines: list[str], was: str, again: str) -> list[str]:
    if was != again:
        raise ValueError(f"the lines would not say all of it: {was!r} is not {again!r}")
    return lines


async def rewrite() -> list[str]:
    """Brings the files in line with the definitions. The names of those that differed."""
    changed = []
    async with endpoint() as through:
        texts = {f"{name}.txt": await golden(name, through=through) for name in shipped()}
    for file in FILES.iterdir():
        if file.name not in texts:
            file.unlink()
            changed.append(file.name)
    for name, text in texts.items():
        file = FILES / name
        if not file.exists() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")
            changed.append(name)
    return changed


if __name__ == "__main__":
    print("\n".join(asyncio.run(rewrite())) or "nothing differed")
