"""The health server on a real socket: every answer an operator, a probe or a stranger can get from it."""

import asyncio
import json
import logging
import os
import re
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from hashlib import sha256

import aiohttp
import pytest

from daemon.domain.secret import Secret
from daemon.runtime.web.server import CHECKS, SECURITY_HEADERS, HealthServer, PortTaken

STATUS: Mapping[str, object] = {
    "version": "0.1.0",
    "instance": "i-1",
    "started_at": "2026-11-21T04:00:00Z",
    "ready": True,
    "providers": {
        "xero": {
            "configured": True,
            "paused": None,
            "states": {"active": 41, "needs_reauth": 2},
            "in_flight": 7,
        },
        "google": {"configured": True, "paused": "wrong_client", "states": {"active": 3}, "in_flight": 0},
        "old": {"configured": False, "paused": None, "states": {"active": 1}, "in_flight": 0},
    },
    "next_due_at": "2026-11-21T04:05:00Z",
    "oldest_due_age_seconds": 3.5,
    "journal_entries": 4,
    "last_failures": [
        {
            "token": "xero:<script>alert(1)</script>",
            "provider": "xero",
            "kind": "rejected",
            "code": "invalid_grant",
            "message": 'gone & "forgotten"',
            "at": "2026-11-21T03:59:00Z",
        }
    ],
}
PASSING = dict.fromkeys(CHECKS, (True, "fine"))


class Source:
    """Says what the test wants to hear; `silent` makes the asynchronous answers wait for ever."""

    def __init__(self) -> None:
        self.live = (True, "sweeps are being started")
        self.draining = False
        self.checks: Mapping[str, tuple[bool, str]] = PASSING
        self.told = STATUS
        self.silent = False
        self.broken: Exception | None = None

    def liveness(self) -> tuple[bool, str]:
        return self.live

    async def readiness(self) -> Mapping[str, tuple[bool, str]]:
        await self._misbehave()
        return self.checks

    async def status(self) -> Mapping[str, object]:
        await self._misbehave()
        return self.told

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        return b"refreshd_store_up 1.0\n", f"text/plain; version=0.0.4; charset=utf-8; seen={len(accept)}"

    async def _misbehave(self) -> None:
        if self.silent:
            await asyncio.Event().wait()
        if self.broken:
            raise self.broken


Started = Callable[..., Awaitable[HealthServer]]


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def started(source: Source) -> AsyncIterator[Started]:
    servers: list[HealthServer] = []

    async def start(
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        bearer_token: str | None = None,
        patience: float = 5,
        **more: Callable[[str, Exception], None],
    ) -> HealthServer:
        server = HealthServer(
            source,
            host=host,
            port=port,
            bearer_token=Secret(bearer_token) if bearer_token else None,
            check_timeout=timedelta(seconds=patience),
            **more,
        )
        servers.append(server)
        await server.start()
        return server

    yield start
    for server in servers:
        await server.stop()


async def ask(
    server: HealthServer, path: str, *, method: str = "GET", **headers: str
) -> tuple[aiohttp.ClientResponse, str]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{server.port}{path}", headers=sent) as response,
    ):
        return response, await response.text()


async def say(server: HealthServer, said: bytes) -> str:
    """What a raw socket hears after `said`, until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(said)
    heard = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return heard.decode()


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
async def test_alive_is_200_and_dead_is_503(path: str, source: Source, started: Started) -> None:
    """Liveness says whether the process can do its work, and why."""
    server = await started()
    response, body = await ask(server, path)
    assert (response.status, json.loads(body)) == (200, {"live": True, "detail": "sweeps are being started"})
    source.live = (False, "no sweep was started for 90 s")
    response, body = await ask(server, path)
    assert (response.status, json.loads(body)) == (
        503,
        {"live": False, "detail": "no sweep was started for 90 s"},
    )


async def test_ready_is_200_when_every_check_passes(started: Started) -> None:
    """Readiness lists each check with its words."""
    response, body = await ask(await started(), "/readyz")
    assert response.status == 200
    assert json.loads(body) == {
        "ready": True,
        "checks": {name: {"ok": True, "detail": "fine"} for name in CHECKS},
    }


@pytest.mark.parametrize("failing", CHECKS)
async def test_one_failing_check_makes_it_not_ready(failing: str, source: Source, started: Started) -> None:
    """Any single check is enough for a 503 that names it."""
    source.checks = PASSING | {failing: (False, "out of order")}
    response, body = await ask(await started(), "/readyz")
    told = json.loads(body)
    assert response.status == 503
    assert told["ready"] is False
    assert [name for name, check in told["checks"].items() if not check["ok"]] == [failing]
    assert told["checks"][failing]["detail"] == "out of order"


async def test_while_draining_it_is_not_ready(source: Source, started: Started) -> None:
    """Whatever the checks say, and to strangers too: nothing more should be expected of this process."""
    source.draining = True
    server = await started(bearer_token="pass-phrase")
    response, body = await ask(server, "/readyz")
    told = json.loads(body)
    assert response.status == 503
    assert (told["ready"], told["draining"]) == (False, True)
    assert all(check["ok"] for check in told["checks"].values())
    assert (await ask(server, "/livez"))[0].status == 200
    _, page = await ask(server, "/", Authorization="Bearer pass-phrase")
    assert "Draining" in page


async def test_a_hanging_check_is_a_failing_one(source: Source, started: Started) -> None:
    """A store that never answers must not make the probe hang with it; liveness isn't touched at all."""
    source.silent = True
    server = await started(patience=0.05)
    response, body = await ask(server, "/readyz")
    assert response.status == 503
    assert set(json.loads(body)["checks"]) == set(CHECKS)
    assert "longer than 0.05 s" in body
    assert (await ask(server, "/livez"))[0].status == 200
    assert (await ask(server, "/status"))[0].status == 503
    response, body = await ask(server, "/")
    assert response.status == 200
    assert "Not ready" in body


async def test_a_broken_check_is_a_failing_one(
    source: Source, started: Started, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in a check is logged and answered with its type, never with its words."""
    source.broken = RuntimeError("mongodb://user:hunter2@db/")
    response, body = await ask(await started(), "/readyz")
    assert response.status == 503
    assert "RuntimeError" in body
    assert "hunter2" not in body
    assert [record.name for record in caplog.records] == ["refreshd.http"]


@pytest.mark.parametrize("path", ["/readyz", "/status", "/"])
async def test_a_bug_is_reported_as_one(path: str, source: Source, started: Started) -> None:
    """To who counts and logs bugs, with the exception itself."""
    failed: list[tuple[str, Exception]] = []
    source.broken = RuntimeError("odd")
    await ask(await started(failed=lambda where, error: failed.append((where, error))), path)
    assert ("http", source.broken) in failed


async def test_an_unexpected_error_shows_nothing_of_itself(
    source: Source, started: Started, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug behind /status is a plain 500 with the same headers as every answer."""
    source.broken = RuntimeError("mongodb://user:hunter2@db/")
    response, body = await ask(await started(), "/status", Accept="text/html")
    assert response.status == 500
    assert "hunter2" not in body
    assert "Traceback" not in body
    assert response.headers["X-Frame-Options"] == "DENY"
    assert "Server" not in response.headers
    assert len(caplog.records) == 1


async def test_metrics_are_passed_on_with_their_content_type(started: Started) -> None:
    """The source chooses the format from the Accept header."""
    response, body = await ask(await started(), "/metrics", Accept="abc")
    assert body == "refreshd_store_up 1.0\n"
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8; seen=3"


async def test_status_is_the_sources_as_json(started: Started) -> None:
    """/status is what the runtime composed, unchanged."""
    response, body = await ask(await started(), "/status")
    assert response.content_type == "application/json"
    assert json.loads(body) == STATUS


@pytest.mark.parametrize("path", ["/status", "/readyz", "/livez"])
async def test_json_is_ascii(path: str, source: Source, started: Started) -> None:
    """A name from a document must not steer the terminal of who asks with curl, nor turn its text around."""
    name = "a\x9b31m\u202eb\u2066c"
    source.told = {**STATUS, "providers": {name: {}}}
    source.checks = PASSING | {"store": (False, name)}
    source.live = (True, name)
    _, body = await ask(await started(), path)
    assert body.isascii()
    assert json.dumps(name)[1:-1] in body


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz", "/metrics", "/status", "/"])
async def test_head_is_get_without_its_body(path: str, started: Started) -> None:
    """Same status and headers, no body."""
    server = await started()
    got, body = await ask(server, path)
    head, nothing = await ask(server, path, method="HEAD")
    assert nothing == ""
    assert head.status == got.status == 200
    assert head.headers["Content-Type"] == got.headers["Content-Type"]
    assert int(head.headers["Content-Length"]) == len(body.encode())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/livez", "/status"])
async def test_other_verbs_are_405(method: str, path: str, started: Started) -> None:
    """Nothing changes anything, and the answer names what is allowed."""
    response, _ = await ask(await started(), path, method=method)
    assert response.status == 405
    assert response.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/favicon.ico", "/status/", "/livez/x", "/..%2fetc/passwd", "//"])
async def test_other_paths_are_404(path: str, started: Started) -> None:
    """There is nothing but the five."""
    response, _ = await ask(await started(), path)
    assert response.status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/livez"), ("GET", "/metrics"), ("GET", "/nope"), ("POST", "/")],
)
async def test_every_answer_carries_the_security_headers(method: str, path: str, started: Started) -> None:
    """Also the refusals; and none says which server this is."""
    response, _ = await ask(await started(), path, method=method)
    assert {name: response.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "Server" not in response.headers


@pytest.mark.parametrize(
    "said",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 100 + b"\r\n",
    ],
)
async def test_a_malformed_or_oversized_request_is_a_quiet_400(
    said: bytes, started: Started, caplog: pytest.LogCaptureFixture
) -> None:
    """Answers that the HTTP library makes itself are hardened too, and strangers can't fill the log with them."""
    with caplog.at_level(logging.INFO):
        heard = await say(await started(), said)
    assert heard.startswith(("HTTP/1.0 400", "HTTP/1.1 400"))
    assert "Server:" not in heard
    assert "X-Frame-Options: DENY" in heard
    assert caplog.records == []


async def test_a_body_is_never_waited_for(started: Started) -> None:
    """A request that announces a huge body is answered at once and its connection closed."""
    heard = await say(
        await started(), b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\nabc"
    )
    assert heard.startswith("HTTP/1.1 405")


@pytest.mark.parametrize("path", ["/metrics", "/status", "/"])
@pytest.mark.parametrize(
    "authorization", [None, "Bearer wrong", "Basic cGFzcw==", "Bearer", "pass-phrase", "Bearer p\u00e4ss"]
)
async def test_a_bearer_token_guards_all_but_the_probes(
    path: str, authorization: str | None, started: Started
) -> None:
    """Without it: 401, and how to do better. A token that is refused is called so (RFC 6750 section 3.1)."""
    server = await started(bearer_token="pass-phrase")
    response, body = await ask(server, path, **({"Authorization": authorization} if authorization else {}))
    assert response.status == 401
    error = ', error="invalid_token"' if (authorization or "").startswith("Bearer ") else ""
    assert response.headers["WWW-Authenticate"] == f'Bearer realm="refreshd"{error}'
    assert "xero" not in body


@pytest.mark.parametrize("path", ["/metrics", "/status", "/", "/livez", "/readyz"])
@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
async def test_the_bearer_token_opens_everything(path: str, scheme: str, started: Started) -> None:
    """Whatever name the server is reached by."""
    server = await started(bearer_token="pass-phrase")
    response, _ = await ask(server, path, Authorization=f"{scheme} pass-phrase", Host="refreshd.example.com")
    assert response.status == 200


async def test_probes_tell_strangers_no_details(source: Source, started: Started) -> None:
    """Without the bearer token the probes still answer, by code and yes or no."""
    server = await started(bearer_token="pass-phrase")
    source.checks = PASSING | {"store": (False, "db.internal refused")}
    assert json.loads((await ask(server, "/livez"))[1]) == {"live": True}
    response, body = await ask(server, "/readyz")
    assert response.status == 503
    assert json.loads(body)["checks"]["store"] == {"ok": False}
    assert "db.internal" not in body
    _, body = await ask(server, "/readyz", Authorization="Bearer pass-phrase")
    assert json.loads(body)["checks"]["store"]["detail"] == "db.internal refused"


async def test_the_bearer_token_can_be_replaced_while_running(started: Started) -> None:
    """After a reload the old one opens nothing any more."""
    server = await started(bearer_token="old-phrase")
    server.set_bearer_token(Secret("new-phrase"))
    assert (await ask(server, "/status", Authorization="Bearer old-phrase"))[0].status == 401
    assert (await ask(server, "/status", Authorization="Bearer new-phrase"))[0].status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9464", "localhost.evil.example", "10.0.0.1", "[::2]"]
)
async def test_a_foreign_host_name_on_loopback_is_refused(host: str, started: Started) -> None:
    """A web page that points its own name at 127.0.0.1 reads nothing; it can learn no details from a probe."""
    server = await started()
    for path in ("/metrics", "/status", "/"):
        assert (await ask(server, path, Host=host))[0].status == 421
    response, body = await ask(server, "/livez", Host=host)
    assert (response.status, json.loads(body)) == (200, {"live": True})


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9464", "127.0.0.1:1", "127.8.8.8", "[::1]:9464", "::1", "a.localhost."]
)
async def test_every_loopback_name_is_ours(host: str, started: Started) -> None:
    """Tunnels and port forwards keep working."""
    assert (await ask(await started(), "/status", Host=host))[0].status == 200


async def test_a_request_without_host_is_no_browser(started: Started) -> None:
    """HTTP/1.0 probes send none, and are answered in full."""
    assert '"detail"' in await say(await started(), b"GET /livez HTTP/1.0\r\n\r\n")


async def test_a_taken_port_is_told_with_its_holder(started: Started) -> None:
    """The operator reads who has it: here it is this process itself."""
    first = await started()
    with pytest.raises(PortTaken) as taken:
        await started(port=first.port)
    assert (taken.value.host, taken.value.port) == ("127.0.0.1", first.port)
    assert taken.value.holder is not None
    assert taken.value.holder.startswith(f"pid {os.getpid()} (")
    assert str(taken.value).startswith(f"127.0.0.1:{first.port} is in use by pid ")


async def test_an_address_that_is_not_ours_is_an_os_error(started: Started) -> None:
    """Only a port in use is PortTaken."""
    with pytest.raises(OSError, match=r"192\.0\.2\.1"):
        await started(host="192.0.2.1")


async def test_after_stop_the_port_is_free(started: Started) -> None:
    """Stopping ends idle connections too, and may be repeated."""
    server = await started()
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await server.stop()
    await server.stop()
    with socket.create_server(("127.0.0.1", server.port)):
        pass
    writer.close()


async def test_the_policy_allows_exactly_the_pages_own_style(started: Started) -> None:
    """The hash in the header is that of the one style element."""
    response, body = await ask(await started(), "/")
    styles = re.findall(r"<style>(.*?)</style>", body, re.DOTALL)
    digest = b64encode(sha256(styles[0].encode()).digest()).decode()
    assert len(styles) == 1
    assert f"style-src 'sha256-{digest}'" in response.headers["Content-Security-Policy"]
