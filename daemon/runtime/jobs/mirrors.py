"""Runs the mirrors: each brings its place up to date soon after a renewal, and looks at all tokens now and then.

Renewals of this process arrive as events. What other replicas and operators do is found by looking. A mirror delays
no renewal: it works on its own, and what it could not write it tries again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

from daemon.domain.claim import StoreLost
from daemon.domain.event import (
    Event,
    InternalError,
    MirrorBack,
    MirrorFailed,
    MirrorRefused,
    TokenConnected,
    TokenNeedsReauth,
    TokenRenewed,
)
from daemon.domain.foreign import SourceLost
from daemon.migrating.mirror import Followed, Mirror
from daemon.refreshing.ports import Clock, Observe

TOGETHER = timedelta(milliseconds=50)  # changes of so short a time are one write
LOOK_EVERY = timedelta(seconds=15)
READY_EVERY = timedelta(milliseconds=100)  # until MongoDB was found
RETRY_FIRST, RETRY_LAST = timedelta(seconds=1), timedelta(minutes=1)


MayWrite = Callable[[], Awaitable[bool]]


class MirrorRunner:
    """Runs one mirror, until cancelled. It observes events. `may_write`: whether this process writes it, and no other
    one.
    """

    def __init__(
        self, name: str, mirror: Mirror, *, may_write: MayWrite, clock: Clock, observe: Observe
    ) -> None:
        self.name = name
        self._may_write = may_write
        self._mirror = mirror
        self._clock = clock
        self._observe = observe
        self._changed: dict[str, timedelta] = {}  # token id -> when, by the boot clock
        self._wake = asyncio.Event()
        self._looked: timedelta | None = None
        self._begun = False
        self._failures = 0  # in a row
        self._refused: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, TokenRenewed | TokenConnected | TokenNeedsReauth) and self._mirror.follows(
            event.provider
        ):
            self._changed.setdefault(event.token, self._clock.boot())
            self._wake.set()

    @property
    def lag(self) -> timedelta:
        """How long the oldest change has waited to be written; zero if none waits."""
        now = self._clock.boot()
        return max((now - since for since in self._changed.values()), default=timedelta(0))

    async def run(self, ready: Callable[[], bool]) -> None:
        """Mirror, once and while the daemon is `ready` for it."""
        while True:
            if not ready():
                await asyncio.sleep(READY_EVERY.total_seconds())
                continue
            try:
                async with asyncio.timeout(self._pause.total_seconds()):
                    await self._wake.wait()
                await asyncio.sleep(TOGETHER.total_seconds())
            except TimeoutError:
                pass
            await self.step()
            if self._failures:
                await asyncio.sleep(min(RETRY_FIRST * 2 ** (self._failures - 1), RETRY_LAST).total_seconds())

    async def step(self) -> None:
        """Write what has changed, and look at all tokens if it is time. Changes that can't be written wait on."""
        self._wake.clear()
        self._begun = True
        changed = dict(self._changed)
        try:
            done = await self._bring(list(changed))
        except (SourceLost, StoreLost) as lost:
            self._failures = min(self._failures + 1, 8)
            self._observe(MirrorFailed(mirror=self.name, message=str(lost)))
            return
        except Exception as error:  # noqa: BLE001  a bug in one mirror must not end the others
            self._failures = min(self._failures + 1, 8)
            self._observe(InternalError(where="mirror", error=error))
            return
        for token, since in changed.items():
            if self._changed.get(token) == since:
                del self._changed[token]
        if self._failures:
            self._failures = 0
            self._observe(MirrorBack(mirror=self.name))
        self._report(done, changed)

    async def _bring(self, changed: list[str]) -> Followed:
        if not await self._may_write():
            self._looked = None  # once it may, it has to look at all
            return Followed()
        now = self._clock.now()
        if self._looked is None or self._clock.boot() - self._looked >= LOOK_EVERY:
            done = await self._mirror.catch_up(now=now)
            self._looked = self._clock.boot()
            return done
        return await self._mirror.follow(changed, now=now)

    def _report(self, done: Followed, changed: Iterable[str]) -> None:
        """Report the rows that were left alone: once each, until the reason changes or the row can be written."""
        for token, why in done.refused.items():
            if self._refused.get(token) != why:
                self._refused[token] = why
                self._observe(MirrorRefused(mirror=self.name, token=token, message=why))
        for token in changed:
            if token not in done.refused:
                self._refused.pop(token, None)

    @property
    def _pause(self) -> timedelta:
        if self._looked is None:
            return LOOK_EVERY if self._begun else timedelta(0)
        return max(LOOK_EVERY - (self._clock.boot() - self._looked), timedelta(0))
