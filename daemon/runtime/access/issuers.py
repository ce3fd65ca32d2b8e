"""The trusted issuers of the access service, put together: their rules, their keys, and what operators see of them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from daemon.adapters.egress.names import Names
from daemon.adapters.egress.tls import client_context
from daemon.adapters.issuer_keys.kept_keys import KeptKeys
from daemon.adapters.issuer_keys.sources import FileSource, UrlSource
from daemon.adapters.telemetry import log_lines
from daemon.domain.provider import Rate
from daemon.runtime.config.issuers import Issuers, KeySource
from daemon.runtime.tasks import end
from daemon.serving.ports import Clock
from daemon.serving.workloads import Workloads

LOGGED_EACH = timedelta(minutes=1)  # of refusals for the same reason


class Log(Protocol):
    def log(self, line: log_lines.LogLine, /, **fields: object) -> None: ...


@asynccontextmanager
async def workloads_of(
    issuers: Issuers,
    clock: Clock,
    *,
    log: Log,
    rate: Rate,
    count: Callable[[str, str], None],
    failed: Callable[[str], None],
) -> AsyncIterator[Workloads]:
    """Return what admits workloads. Their issuers' keys are asked for in the background. `count` receives the rule and
    the reason of each refusal, `failed` the caller's address.
    """
    names, tls = Names(), client_context()
    keys = {
        issuer: KeptKeys(_source(source, names, tls), clock, observe=_observer(log, issuer))
        for issuer, source in issuers.sources.items()
    }
    first = [asyncio.create_task(one.prepare(), name="issuer keys") for one in keys.values()]
    try:
        refused = RefusalLog(log, clock, count)
        yield Workloads(issuers.rules, keys, clock, rate=rate, refused=refused, failed=failed)
    finally:
        await end(*first)
        for one in keys.values():
            await one.close()
        await names.close()


class RefusalLog:
    """Counts each refused JWT, and logs those of one rule and reason once a minute."""

    def __init__(self, log: Log, clock: Clock, count: Callable[[str, str], None]) -> None:
        self._log = log
        self._clock = clock
        self._count = count
        self._last: dict[tuple[str, str], tuple[timedelta, int]] = {}

    def __call__(self, rule: str, reason: str, address: str) -> None:
        self._count(rule, reason)
        now = self._clock.boot()
        logged_at, left_out = self._last.get((rule, reason), (None, 0))
        if logged_at is not None and now - logged_at < LOGGED_EACH:
            self._last[rule, reason] = (logged_at, left_out + 1)
            return
        self._last[rule, reason] = (now, 0)
        self._log.log(
            log_lines.ACCESS_JWT_REFUSED, issuer=rule, reason=reason, ip=address, count=left_out + 1
        )


def _source(source: KeySource, names: Names, tls: ssl.SSLContext) -> UrlSource | FileSource:
    if isinstance(source.place, Path):
        return FileSource(source.place)
    return UrlSource(source.place, names, allow_private=source.allow_private, tls=tls)


def _observer(log: Log, issuer: str) -> Callable[[str | None], None]:
    def observe(why: str | None) -> None:
        if why is None:
            log.log(log_lines.ACCESS_ISSUER_BACK, issuer=issuer)
        else:
            log.log(log_lines.ACCESS_ISSUER_LOST, issuer=issuer, message=why)

    return observe
