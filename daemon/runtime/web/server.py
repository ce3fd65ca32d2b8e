"""The HTTP server of the daemon: probes, metrics, status. It is read-only and reads only from `HealthSource`.

It listens on loopback by default. A bearer token protects everything except the probes, which then show
strangers no details. Without a token, on loopback, a `Host` that is not this machine gets the stranger's
answers as well: a web page in an operator's browser can point its own name at 127.0.0.1 (DNS rebinding) and
would otherwise read the page.
"""

import asyncio
import errno
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Protocol

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpProcessingError, RawRequestMessage
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_request import BaseRequest

from daemon.domain.secret import Secret
from daemon.runtime.web.admission import Admission
from daemon.runtime.web.challenge import bearer_challenge
from daemon.runtime.web.client_limits import LIMITS, LimitedServer, Limits
from daemon.runtime.web.hosts import host_name, is_loopback
from daemon.runtime.web.port_holder import port_holder
from daemon.runtime.web.status_page import STYLE_SOURCE, render

CHECKS = ("store", "journal", "keys", "sweep", "clock", "lanes", "secrets")
CHECK_TIMEOUT = timedelta(seconds=5)  # below the ten seconds that Prometheus and most probes wait
PROBES = frozenset({"/livez", "/healthz", "/readyz"})
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"default-src 'none'; style-src {STYLE_SOURCE}; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

Answer = Callable[[BaseRequest, bool], Awaitable[web.Response]]

_log = logging.getLogger("refreshd.http")
# A stranger's malformed request is answered but not logged: a port scan would fill the log with tracebacks.
_log.addFilter(lambda said: not (said.exc_info and isinstance(said.exc_info[1], HttpProcessingError)))


class HealthSource(Protocol):
    """The source of the server's answers. No method may block; the server limits the waits."""

    draining: bool  # the process is about to end: it is not ready, whatever the checks say

    def liveness(self) -> tuple[bool, str]:
        """Return whether the process can work at all, and a sentence."""

    async def readiness(self) -> Mapping[str, tuple[bool, str]]:
        """Return for each of `CHECKS` whether it passes, and a sentence."""

    async def status(self) -> Mapping[str, object]:
        """Return the body of `GET /status`, ready for JSON."""

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        """Return the exposition for an `Accept` header, and its content type."""


class PortTaken(Exception):
    """Another process listens on the configured port. `holder`: "pid 123 (name)", if it is known."""

    def __init__(self, host: str, port: int, holder: str | None) -> None:
        super().__init__(f"{host}:{port} is in use by {holder or 'another process'}")
        self.host, self.port, self.holder = host, port, holder


def _logged(where: str, error: Exception) -> None:
    _log.error("unexpected, in %s", where, exc_info=error)


class HealthServer:
    """Serves `source` on `host` and `port` (0: any free one) from `start()` to `stop()`."""

    def __init__(
        self,
        source: HealthSource,
        *,
        host: str,
        port: int,
        bearer_token: Secret | None = None,
        check_timeout: timedelta = CHECK_TIMEOUT,
        limits: Limits = LIMITS,
        failed: Callable[[str, Exception], None] = _logged,
    ) -> None:
        """Create the server. `failed` receives exceptions from answers."""
        self._source = source
        self._failed = failed
        self._host = host
        self._port = port
        self._bearer_token = bearer_token
        self._check_timeout = check_timeout.total_seconds()
        self._limits = limits
        self._closing = AsyncExitStack()
        self._checking: asyncio.Task[Mapping[str, tuple[bool, str]]] | None = None
        self._answers: Mapping[str, Answer] = {
            "/livez": self._live,
            "/healthz": self._live,
            "/readyz": self._ready,
            "/metrics": self._metrics,
            "/status": self._status,
            "/": self._page,
        }

    @property
    def port(self) -> int:
        """Return the port that it listens on; before `start()` the configured one."""
        return self._port

    def set_bearer_token(self, bearer_token: Secret | None) -> None:
        """Set the token from now on. A reload reads secrets again."""
        self._bearer_token = bearer_token

    async def start(self) -> None:
        """Listen. Raises PortTaken if another process does already, OSError if `host` can't be listened
        on.
        """
        server = LimitedServer(
            self._handle,
            headers=SECURITY_HEADERS.items(),
            probes=PROBES,
            limits=self._limits,
            request_factory=_request,
            logger=_log,
        )
        runner = web.ServerRunner(server, shutdown_timeout=1.0)
        await runner.setup()
        self._closing.push_async_callback(runner.cleanup)
        admission = Admission(server, every=self._limits.accepted_each, burst=self._limits.connections)
        self._closing.push_async_callback(admission.close)
        try:
            self._port = await admission.listen(self._host, self._port)
        except OSError as error:
            await self.stop()
            if error.errno != errno.EADDRINUSE:
                raise
            holder = await asyncio.to_thread(port_holder, self._port)
            raise PortTaken(self._host, self._port, holder) from None

    async def stop(self) -> None:
        """Stop listening, and end the requests that are still open."""
        await self._closing.aclose()
        if self._checking is not None:
            self._checking.cancel()

    async def _handle(self, request: BaseRequest) -> web.StreamResponse:
        answer = self._answers.get(request.path)
        if answer is None:
            response = _said(404, "There is no page at this path.")
        elif request.method not in {"GET", "HEAD"}:
            response = _said(405, "This server is read-only: use GET or HEAD.", Allow="GET, HEAD")
        else:
            refusal = self._refusal(request)
            probe = request.path in PROBES
            response = (
                refusal if refusal and not probe else await self._answer(answer, request, refusal is None)
            )
        if request.body_exists:
            response.force_close()
        return response

    async def _answer(self, answer: Answer, request: BaseRequest, trusted: bool) -> web.Response:
        try:
            return await answer(request, trusted)
        except Exception as error:  # noqa: BLE001  a stranger sees nothing of it, the operator all
            self._failed("http", error)
            return _said(500, "A bug in refreshd prevented an answer. See internal.error in its log.")

    def _refusal(self, request: BaseRequest) -> web.Response | None:
        """Return why this request may not see everything, or None if it may."""
        if self._bearer_token:
            scheme, _, given = request.headers.get("Authorization", "").partition(" ")
            wanted = self._bearer_token.reveal().encode("utf-8", "surrogateescape")
            if scheme.lower() == "bearer" and hmac.compare_digest(
                given.strip().encode("utf-8", "surrogateescape"), wanted
            ):
                return None
            presented = scheme.lower() == "bearer" and bool(given.strip())
            header = {"WWW-Authenticate": bearer_challenge(presented=presented)}
            return _said(401, "Send the configured bearer token: Authorization: Bearer ...", **header)
        if is_loopback(self._host) and not is_loopback(host_name(request.headers.get("Host", self._host))):
            return _said(
                421,
                "This server answers only requests for localhost. Behind a proxy, set server.bearer_token"
                " or let the proxy send 'Host: localhost'.",
            )
        return None

    async def _live(self, _request: BaseRequest, trusted: bool) -> web.Response:
        live, detail = self._source.liveness()
        return _json({"live": live} | ({"detail": detail} if trusted else {}), ok=live)

    async def _ready(self, _request: BaseRequest, trusted: bool) -> web.Response:
        checks = await self._readiness()
        results = {
            name: {"ok": ok} | ({"detail": detail} if trusted else {})
            for name, (ok, detail) in checks.items()
        }
        draining = self._source.draining
        ready = all(ok for ok, _ in checks.values()) and not draining
        leaving = {"draining": True} if draining else {}
        return _json({"ready": ready, **leaving, "checks": results}, ok=ready)

    async def _metrics(self, request: BaseRequest, _trusted: bool) -> web.Response:
        body, content_type = await self._source.metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _status(self, _request: BaseRequest, _trusted: bool) -> web.Response:
        try:
            async with asyncio.timeout(self._check_timeout):
                return _json(await self._source.status())
        except TimeoutError:
            return _json({"error": f"no status within {self._check_timeout:g} s"}, ok=False)

    async def _page(self, _request: BaseRequest, _trusted: bool) -> web.Response:
        try:
            async with asyncio.timeout(self._check_timeout):
                status = await self._source.status()
        except TimeoutError:
            status = {}
        page = render(status, await self._readiness(), draining=self._source.draining)
        return web.Response(text=page, content_type="text/html")

    async def _readiness(self) -> Mapping[str, tuple[bool, str]]:
        """Return the checks. Requests that arrive while they run share the result, so many requests cost no
        more than one.
        """
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._check(), name="checks")
        return await asyncio.shield(self._checking)

    async def _check(self) -> Mapping[str, tuple[bool, str]]:
        """Run the checks. A check that hangs or breaks fails, so that every request gets an answer."""
        try:
            async with asyncio.timeout(self._check_timeout):
                return await self._source.readiness()
        except TimeoutError:
            why = f"unknown: the checks took longer than {self._check_timeout:g} s"
        except Exception as error:  # noqa: BLE001  a broken check is a failed one
            self._failed("http", error)
            why = f"unknown: the checks failed with {type(error).__name__}"
        return dict.fromkeys(CHECKS, (False, why))


class _Request(BaseRequest):
    """A request whose every answer has the security headers, including aiohttp's own answers to malformed
    requests.
    """

    async def _prepare_hook(self, response: web.StreamResponse) -> None:
        response.headers.update(SECURITY_HEADERS)
        response.headers.popall("Server", None)


def _request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> BaseRequest:
    return _Request(message, payload, protocol, writer, task, task.get_loop())


def _json(body: Mapping[str, object], *, ok: bool = True) -> web.Response:
    text = (
        json.dumps(body) + "\n"
    )  # in ASCII: a name from a document must not steer a terminal or turn a line around
    return web.Response(status=200 if ok else 503, text=text, content_type="application/json")


def _said(status: int, sentence: str, **headers: str) -> web.Response:
    return web.Response(status=status, text=sentence + "\n", headers=headers)
