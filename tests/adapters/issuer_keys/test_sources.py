"""Where keys come from: bounded, direct, and at public addresses unless the operator says otherwise."""

import asyncio
import gzip
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult

from daemon.adapters.egress.names import Names
from daemon.adapters.egress.tls import client_context
from daemon.adapters.issuer_keys.failure import ReadFailed
from daemon.adapters.issuer_keys.key_set import LARGEST, parse_key_set
from daemon.adapters.issuer_keys.sources import FileSource, UrlSource
from tests.support.jwts import KeyServer, SigningKey, key_set

KEY = SigningKey("a", "EdDSA")
SOON = timedelta(milliseconds=300)
TLS = client_context()  # takes long to make
BOMB = gzip.compress(b" " * 4_000_000)


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    async with KeyServer() as one:
        one.body = key_set(KEY)
        yield one


def source(url: str, *, allow_private: bool = True, names: Names | None = None) -> UrlSource:
    return UrlSource(url, names or Names(), allow_private=allow_private, within=SOON, tls=TLS)


async def failure(one: UrlSource | FileSource) -> str:
    with pytest.raises(ReadFailed) as caught:
        await one.read()
    return str(caught.value)


async def test_it_reads_the_key_set(server: KeyServer):
    assert parse_key_set(await source(server.url).read()).keys
    assert server.asked == 1


async def test_inside_the_network_it_asks_nobody(server: KeyServer):
    assert "no public address" in await failure(source(server.url, allow_private=False))
    for host in ("10.0.0.1", "169.254.169.254", "[::1]", "[fd00::1]", "100.64.0.1"):
        assert "no public address" in await failure(source(f"http://{host}/jwks", allow_private=False))
    assert server.asked == 0


async def test_a_name_that_leads_inside_is_not_followed(server: KeyServer):
    def ask(host: str) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=0, family=2, proto=6, flags=0)]

    url = server.url.replace("127.0.0.1", "issuer.example")
    assert "no public address" in await failure(source(url, allow_private=False, names=Names(ask)))
    assert server.asked == 0
    assert await source(url, names=Names(ask)).read()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(server: KeyServer, status: int):
    async def answer(_request: Any) -> web.Response:
        return web.Response(status=status, headers={"Location": server.url, "Set-Cookie": "a=b"})

    server.answer = answer
    assert await failure(source(server.url)) == (
        f"the answer has the status {status}, and redirects are not followed"
    )
    assert server.asked == 1


@pytest.mark.parametrize("status", [204, 404, 500, 503])
async def test_only_200_is_an_answer(server: KeyServer, status: int):
    async def answer(_request: Any) -> web.Response:
        return web.Response(status=status)

    server.answer = answer
    assert await failure(source(server.url)) == f"the answer has the status {status}"


async def test_an_endless_answer_is_broken_off(server: KeyServer):
    async def answer(request: Any) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        for _ in range(100):
            await stream.write(b" " * 65536)
        return stream

    server.answer = answer
    assert await failure(source(server.url)) == f"it has more than {LARGEST} bytes"


async def test_a_compressed_answer_is_not_unpacked(server: KeyServer):
    async def answer(request: Any) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        return web.Response(body=BOMB, headers={"Content-Encoding": "gzip"})

    server.answer = answer
    with pytest.raises(ReadFailed, match="not JSON"):
        parse_key_set(await source(server.url).read())


@pytest.mark.parametrize("after", ["nothing", "headers", "drops"])
async def test_a_hanging_issuer_is_given_up(server: KeyServer, after: str):
    async def answer(request: Any) -> web.StreamResponse:
        stream = web.StreamResponse()
        if after != "nothing":
            await stream.prepare(request)
        while after == "drops" and not server.over.is_set():
            await stream.write(b" ")
            await asyncio.sleep(0.05)
        await server.over.wait()
        return stream

    server.answer = answer
    assert await failure(source(server.url)) == "no answer within 0.3 s"


async def test_a_dead_port_is_said_without_the_url(server: KeyServer):
    async with KeyServer() as gone:
        url = f"{gone.url}?secret=1"
    assert (await failure(source(url))).startswith("no connection")


async def test_a_name_that_nobody_has():
    def ask(_host: str) -> list[ResolveResult]:
        raise OSError(-2, "Name or service not known")

    assert await failure(source("https://issuer.invalid/jwks", names=Names(ask))) == "name resolution failed"


async def test_broken_http_is_a_failure(server: KeyServer):
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n\r\n")
        writer.close()

    other = await asyncio.start_server(garbage, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{other.sockets[0].getsockname()[1]}/"
    assert (await failure(source(url))).startswith("the exchange failed")
    other.close()


async def test_a_file(tmp_path: Path):
    file = tmp_path / "jwks.json"
    assert await failure(FileSource(file)) == "the file can't be read: No such file or directory"
    file.write_text("{}")
    file.chmod(0o644)
    assert await FileSource(file).read() == b"{}"
    file.write_bytes(b" " * (LARGEST + 10))
    assert len(await FileSource(file).read()) == LARGEST + 1


@pytest.mark.skipif(os.geteuid() != 0, reason="changes the owner")
async def test_a_file_that_others_can_change_is_not_used(tmp_path: Path):
    file = tmp_path / "jwks.json"
    file.write_text("{}")
    file.chmod(0o666)
    assert str(file) in await failure(FileSource(file))
