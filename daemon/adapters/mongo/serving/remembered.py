"""What was read of a collection, kept in memory for as long as it is known to be true.

A value is true for two seconds after it was read, and for as long after that as a change stream, which was open before
the reading began, has reported no change. If MongoDB does not answer, the last known value may be used for `offline_for`
after it was last known to be true.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import OperationFailure, PyMongoError

from daemon.adapters.batcher import Batcher
from daemon.adapters.mongo.connection import Collection, Mongo
from daemon.domain.claim import StoreLost

TRUE_FOR = timedelta(seconds=2)  # after a reading, or after the change stream last answered
PATIENCE = timedelta(
    seconds=2
)  # with a MongoDB that answers nothing; then it is away, whatever its connection says
AT_ONCE = 100  # documents of one query
HEARTBEAT = timedelta(milliseconds=500)  # an idle change stream answers as often
AGAIN_AFTER = timedelta(seconds=1)  # a change stream ended
POLL = timedelta(seconds=1)  # of a value that somebody waits for, without a change stream
NO_STREAMS = frozenset({40573, 13, 8000})  # a standalone MongoDB; no right to it
AGAIN_AFTER_REFUSAL = timedelta(minutes=1)
STREAMS_KNOWN = 16  # of the last change streams: when they last answered

Value = TypeVar("Value")
Document = Mapping[str, object]


@dataclass(slots=True)
class _Entry(Generic[Value]):
    """`stream`: the change stream that has reported every change since the reading began; None if none has."""

    value: Value | None
    read_at: timedelta
    stream: int | None


class Remembered(Generic[Value]):
    """The documents of `collection` by id, as `parse` makes them; at most `most` are kept.

    `fields`: the projection. `offline_for`: zero to use nothing while MongoDB does not answer.
    """

    def __init__(
        self,
        mongo: Mongo,
        collection: Callable[[], Collection],
        *,
        fields: Mapping[str, object],
        parse: Callable[[Document], Value],
        most: int,
        offline_for: timedelta,
        without_streams: Callable[[str], None],
        relevant: Mapping[str, object] | None = None,
    ) -> None:
        """`without_streams` receives the reason, once, if MongoDB offers no change streams. `relevant`: the condition for
        the changes to follow; default: all.
        """
        self._mongo = mongo
        self._collection = collection
        self._fields = fields
        self._parse = parse
        self._most = most
        self._offline_for = offline_for
        self._without_streams = without_streams
        self._relevant = relevant or {}
        self._entries: OrderedDict[str, _Entry[Value]] = OrderedDict()
        self._reading: dict[str, asyncio.Future[Value | None]] = {}
        self._changed_while_read: set[str] = set()
        self._waiting: dict[str, set[asyncio.Event]] = {}
        self._batcher = Batcher[str, Value | None](self._read, limit=AT_ONCE)
        self._stream: int | None = None  # the number of the open change stream
        self._streams = 0
        self._answered: dict[int, timedelta] = {}  # when each change stream last answered

    async def find(self, name: str) -> tuple[Value | None, bool]:
        """Return the value, and whether MongoDB is away and this is the last known one. Raises StoreLost."""
        now = self._mongo.clock.boot()
        entry = self._entries.get(name)
        if entry is not None and self._is_true(entry, now):
            return entry.value, False
        if not self._mongo.up and entry is not None and self._is_good_enough(entry):
            return entry.value, True  # without waiting for MongoDB to answer again
        try:
            return await self._fetched_in_time(name), False
        except StoreLost:
            entry = self._entries.get(name)
            if entry is None or not self._is_good_enough(entry):
                raise
            return entry.value, True

    @contextmanager
    def watching(self, name: str) -> Iterator[Callable[[], Coroutine[None, None, None]]]:
        """Return a function that waits until the value may have changed since its last call."""
        changed = asyncio.Event()
        self._waiting.setdefault(name, set()).add(changed)
        try:
            yield lambda: self._changed(name, changed)
        finally:
            others = self._waiting[name]
            others.discard(changed)
            if not others:
                del self._waiting[name]

    async def _changed(self, name: str, changed: asyncio.Event) -> None:
        """Wait for a report of the change stream; without one, or if it may have failed, for a second."""
        while not changed.is_set():
            try:
                async with asyncio.timeout(POLL.total_seconds()):
                    await changed.wait()
            except TimeoutError:
                if not self._is_heard(self._mongo.clock.boot()):
                    self.forget(name)
                    return
        changed.clear()

    def forget(self, name: str) -> None:
        """Read the value again when it is next needed."""
        if (entry := self._entries.get(name)) is not None:
            entry.stream, entry.read_at = None, entry.read_at - TRUE_FOR
        if name in self._reading:
            self._changed_while_read.add(name)

    # ---------------------------------------------------------------- truth

    def _is_heard(self, now: timedelta) -> bool:
        return self._stream is not None and now - self._answered[self._stream] < TRUE_FOR

    def _is_true(self, entry: _Entry[Value], now: timedelta) -> bool:
        if now - entry.read_at < TRUE_FOR:
            return True
        return entry.stream is not None and entry.stream == self._stream and self._is_heard(now)

    def _is_good_enough(self, entry: _Entry[Value]) -> bool:
        """Return whether the value was known to be true lately enough to be used while MongoDB does not answer."""
        watched = (
            self._answered.get(entry.stream, entry.read_at) if entry.stream is not None else entry.read_at
        )
        return self._mongo.clock.boot() - max(entry.read_at, watched) < self._offline_for

    # ---------------------------------------------------------------- reading

    async def _fetched(self, name: str) -> Value | None:
        """Read the value. Callers that ask for it meanwhile share the answer."""
        reading = self._reading.get(name)
        if reading is None:
            reading = self._reading[name] = self._batcher.submit(name)
            reading.add_done_callback(lambda done: self._read_ended(name, done))
        return await asyncio.shield(reading)

    async def _fetched_in_time(self, name: str) -> Value | None:
        """Read the value, for as long as MongoDB answers anything: a query may also wait because this process is busy."""
        while True:
            asked = self._mongo.clock.boot()
            try:
                async with asyncio.timeout(PATIENCE.total_seconds()):
                    return await self._fetched(name)
            except TimeoutError:
                if self._mongo.answered_at < asked:
                    raise self._mongo.unanswered() from None

    def _read_ended(self, name: str, done: asyncio.Future[Value | None]) -> None:
        self._reading.pop(name, None)
        if not done.cancelled():
            done.exception()  # every caller may have left

    async def _read(self, names: Sequence[str]) -> Sequence[Value | None]:
        asked, stream = self._mongo.clock.boot(), self._stream
        self._changed_while_read.difference_update(names)
        query = {"_id": {"$in": list(names)}}
        found = self._collection().find(query, self._fields).batch_size(len(names) + 1)
        rows = {str(row["_id"]): row for row in await self._mongo.guarded(found.to_list())}
        return [self._keep(name, rows.get(name), asked, stream) for name in names]

    def _keep(self, name: str, row: Document | None, asked: timedelta, stream: int | None) -> Value | None:
        value = None if row is None else self._parse(row)
        steady = name not in self._changed_while_read
        self._entries[name] = _Entry(value, asked, stream if steady else None)
        self._entries.move_to_end(name)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)
        return value

    # ---------------------------------------------------------------- the change stream

    async def watch(self) -> None:
        """Follow the collection's changes until cancelled. Without change streams, values are read every two seconds."""
        reported = False
        while True:
            pause = AGAIN_AFTER
            try:
                await self._follow()
            except PyMongoError as error:
                if isinstance(error, OperationFailure) and error.code in NO_STREAMS:
                    pause = AGAIN_AFTER_REFUSAL
                    if not reported:
                        reported = True
                        self._without_streams(
                            "MongoDB is not a replica set" if error.code == 40573 else "the right is missing"
                        )
            finally:
                self._stream = None
            await asyncio.sleep(pause.total_seconds())  # noqa: TID251  nothing of a token is tried again

    async def _follow(self) -> None:
        pipeline: list[Mapping[str, object]] = [
            {"$match": self._relevant},
            {"$project": {"documentKey": 1, "operationType": 1}},
        ]
        await_time = int(HEARTBEAT / timedelta(milliseconds=1))
        async with await self._collection().watch(pipeline, max_await_time_ms=await_time) as stream:
            self._streams += 1
            self._stream = self._streams
            self._answered[self._stream] = self._mongo.clock.boot()
            self._answered.pop(self._stream - STREAMS_KNOWN, None)
            while stream.alive:
                await self._hear(stream, self._stream)

    async def _hear(self, stream: AsyncChangeStream[dict[str, object]], number: int) -> None:
        change = await stream.try_next()
        self._mongo.seen()
        self._answered[number] = self._mongo.answered_at
        if change is None:
            return
        key = change.get("documentKey")
        if not isinstance(key, Mapping):  # the collection was dropped or renamed
            self._entries.clear()
            self._changed_while_read.update(self._reading)
            return
        name = key.get("_id")
        if type(name) is str:  # BSON's code is a str that can't be looked up
            self.forget(name)
            for event in self._waiting.get(name, ()):
                event.set()
