"""Probes and metrics of the access service: on a port of their own, or behind a bearer token on its own port."""

import hmac
from collections.abc import Mapping
from typing import Protocol

from aiohttp import web

from daemon.domain.secret import Secret
from daemon.runtime.access_web.answers import json_answer
from daemon.runtime.access_web.asked import Asked
from daemon.runtime.access_web.routes import Open, Route, route
from daemon.serving.problems import Problem, Unauthorized


class Source(Protocol):
    """The source of the answers."""

    @property
    def draining(self) -> bool: ...

    def readiness(self) -> Mapping[str, tuple[bool, str]]: ...

    def metrics(self, accept: str) -> tuple[bytes, str]: ...


class AdminRoutes:
    def __init__(self, source: Source, *, bearer_token: Secret | None) -> None:
        self._source = source
        self._bearer_token = bearer_token

    def public(self) -> list[Route]:
        """Return the routes on the service's own port: strangers see no details, and no metrics."""
        return self._table(self._ready, self._metrics)

    def private(self) -> list[Route]:
        """Return the routes on the port for operators, which is reached from this machine only."""
        return self._table(self._ready_in_detail, self._all_metrics)

    def _table(self, ready: Open, metrics: Open) -> list[Route]:
        return [
            route("livez", "GET", "/livez", unguarded=self._live),
            route("readyz", "GET", "/readyz", unguarded=ready),
            route("metrics", "GET", "/metrics", unguarded=metrics),
        ]

    async def _live(self, _asked: Asked) -> web.Response:
        return json_answer({"live": True})

    async def _ready(self, asked: Asked) -> web.Response:
        return self._readiness(detailed=self._is_trusted(asked))

    async def _ready_in_detail(self, _asked: Asked) -> web.Response:
        return self._readiness(detailed=True)

    def _readiness(self, *, detailed: bool) -> web.Response:
        checks = self._source.readiness()
        draining = {"draining": True} if self._source.draining else {}
        ready = all(ok for ok, _ in checks.values()) and not draining
        results = {
            name: {"ok": ok} | ({"detail": detail} if detailed else {})
            for name, (ok, detail) in checks.items()
        }
        return json_answer({"ready": ready, **draining, "checks": results}, status=200 if ready else 503)

    async def _metrics(self, asked: Asked) -> web.Response:
        if self._bearer_token is None:
            raise Problem("not-found", "There is no resource at this path.")
        if not self._is_trusted(asked):
            raise Unauthorized("Send the configured bearer token.", presented=bool(asked.access_key()))
        return await self._all_metrics(asked)

    async def _all_metrics(self, asked: Asked) -> web.Response:
        body, content_type = self._source.metrics(asked.request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    def _is_trusted(self, asked: Asked) -> bool:
        if self._bearer_token is None:
            return False
        wanted = self._bearer_token.reveal().encode("utf-8", "surrogateescape")
        return hmac.compare_digest(asked.access_key().encode("utf-8", "surrogateescape"), wanted)
