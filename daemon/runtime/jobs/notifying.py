"""Runs the couriers: one task for each configured hook, which a reload replaces alone.

Without a hook nothing is asked of MongoDB. A hook delays no renewal: each courier works on its own, with its own bound.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.adapters.egress.names import Names
from daemon.adapters.egress.tls import client_context
from daemon.adapters.mongo.notifying.deliveries import MongoDeliveries
from daemon.adapters.mongo.notifying.outbox import MongoOutbox, OutboxRefused
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import EventLog
from daemon.domain.claim import StoreLost
from daemon.domain.event import HookCounted, InternalError
from daemon.domain.hook import Outcome, Route
from daemon.domain.owner_event import OwnerEvent
from daemon.notifying.courier import Courier
from daemon.runtime.config.hooks import HookSettings
from daemon.runtime.parts import Parts
from daemon.runtime.receivers import addressee, hook_sender
from daemon.runtime.tasks import end

READY_EVERY = timedelta(milliseconds=500)  # until MongoDB was found
LOST_AGAIN = timedelta(seconds=2)
REFUSED_AGAIN = timedelta(minutes=1)  # MongoDB's user lacks a right: an operator may give it
COUNT_EVERY = timedelta(minutes=1)
DROP_EVERY = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits for one hook. `disabled`: its receiver is gone. `oldest`: since when; None if nothing waits."""

    hook: str
    events: int
    oldest: datetime | None
    disabled: bool


@dataclass(frozen=True, slots=True)
class _Running:
    settings: HookSettings
    task: asyncio.Task[None]
    wake: asyncio.Event


class Notifying:
    """Implements `notifying.ports.Outbox` for what happens in this process: an event is stored, and its couriers begin."""

    def __init__(self, parts: Parts, *, log: EventLog, ready: Callable[[], bool]) -> None:
        self.waiting: Sequence[Waiting] = ()
        self._parts = parts
        self._log = log
        self._ready = ready
        self._hooks: Mapping[str, HookSettings] = {}
        self._running: dict[str, _Running] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._deliveries = MongoDeliveries(parts.mongo)
        self._stored = MongoOutbox(parts.mongo, routes=self.routes)
        self._names = Names()
        self._tls = client_context()
        self._counting: asyncio.Task[None] | None = None
        self._dropped_at: timedelta | None = None
        self._refused: str | None = None

    def routes(self) -> Sequence[Route]:
        return [one.route for one in self._hooks.values()]

    async def add(self, events: Sequence[OwnerEvent]) -> None:
        """Store `events`, and let their couriers begin. Raises StoreLost."""
        await self._stored.add(events)
        for one in self._running.values():
            one.wake.set()

    def configure(self, hooks: Sequence[HookSettings]) -> None:
        """Use these hooks from now on. The courier of a hook that has not changed goes on."""
        self._hooks = {one.name: one for one in hooks}
        self._parts.metrics.hooks.set_hooks(self._hooks)
        for name, running in list(self._running.items()):
            if self._hooks.get(name) != running.settings:
                self._stop(self._running.pop(name).task)
        for name, hook in self._hooks.items():
            if name not in self._running:
                wake = asyncio.Event()
                task = asyncio.create_task(self._courier(hook, wake), name=f"hook {name}")
                self._running[name] = _Running(hook, task, wake)
        if hooks and self._counting is None:
            self._counting = asyncio.create_task(self._count_each(), name="hooks")

    async def close(self) -> None:
        """End all requests. What they would have delivered is due again when its lease ends."""
        for running in self._running.values():
            self._stop(running.task)
        self._running = {}
        if self._counting is not None:
            self._stop(self._counting)
        await end(*self._ending)
        await self._names.close()

    def _stop(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    # ---------------------------------------------------------------- one hook

    async def _courier(self, hook: HookSettings, wake: asyncio.Event) -> None:
        async with AsyncExitStack() as closing:
            sender = hook_sender(hook, self._names, self._tls)
            closing.push_async_callback(sender.close)
            courier = Courier(
                addressee(hook),
                deliveries=self._deliveries,
                sender=sender,
                outbox=self,
                clock=self._parts.clock,
                chance=random.random,
                observe=self._parts.observe,
            )
            while True:
                wake.clear()
                pause = await self._tried(courier.work)
                try:
                    async with asyncio.timeout(pause.total_seconds()):
                        await wake.wait()
                except TimeoutError:
                    pass

    async def _tried(self, work: Callable[[], Awaitable[timedelta]]) -> timedelta:
        """Do some work if the store was found. Returns how long to wait. A missing right is logged once."""
        if not self._ready():
            return READY_EVERY
        try:
            pause = await work()
        except OutboxRefused as why:
            if self._refused != str(why):
                self._refused = str(why)
                self._log.log(log_lines.HOOK_REFUSED, message=str(why))
            return REFUSED_AGAIN
        except StoreLost:
            return LOST_AGAIN  # it has reported itself
        except Exception as error:  # noqa: BLE001  a bug at one hook must end neither the daemon nor the others
            self._parts.observe(InternalError(where="hook", error=error))
            return REFUSED_AGAIN
        self._refused = None
        return pause

    # ---------------------------------------------------------------- all hooks

    async def _count_each(self) -> None:
        while True:
            pause = await self._tried(self._count)
            await asyncio.sleep(pause.total_seconds())

    async def _count(self) -> timedelta:
        """Count what waits, and drop what is too old. Every replica may: each deletion is counted once."""
        if not self._hooks:
            self.waiting = ()
            self._parts.metrics.hooks.set_waiting(None, None)
            return COUNT_EVERY
        boot = self._parts.clock.boot()
        if self._dropped_at is None or boot - self._dropped_at >= DROP_EVERY:
            for hook, count in (await self._deliveries.drop_old()).items():
                self._parts.observe(HookCounted(hook=hook, outcome=Outcome.DROPPED, count=count))
            self._dropped_at = boot
        counted = await self._deliveries.waiting()
        disabled = await self._deliveries.disabled()
        now_disabled = {name for name, one in self._hooks.items() if disabled.get(name) == one.configuration}
        self._parts.metrics.hooks.set_waiting(counted, self._parts.clock.now())
        self._parts.metrics.hooks.set_disabled(now_disabled)
        self.waiting = [
            Waiting(
                hook=name,
                events=counted[name][0] if name in counted else 0,
                oldest=counted[name][1] if name in counted else None,
                disabled=name in now_disabled,
            )
            for name in self._hooks
        ]
        return COUNT_EVERY
