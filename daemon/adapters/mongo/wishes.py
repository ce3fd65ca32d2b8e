"""Wishes: an application asks for an early renewal when it sets `due_at` to now. A change stream shows them
within milliseconds, instead of at the next sweep.

MongoDB filters the stream, so that refreshd's own writes, which set other fields too, cost this process
nothing. But each write wakes a cursor that waits for changes, which costs MongoDB a third of what the write itself
does. So while this process writes a lot, the stream isn't waited for: it is read twice a second.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import OperationFailure, PyMongoError

from daemon.adapters.mongo.connection import Mongo, refusal
from daemon.adapters.mongo.document_limits import LONGEST_ID
from daemon.adapters.mongo.write_rate import WriteRate
from daemon.domain.claim import StoreLost

AT_ONCE = 200  # events of one reply, so that a storm neither takes much memory nor blocks the loop
READ_EVERY = timedelta(milliseconds=500)  # while it isn't waited for: each look costs as much as two renewals
LOOK_EVERY = timedelta(milliseconds=100)  # at the rate, while MongoDB is waited for
_NO_WAIT = 1  # ms: the shortest wait that MongoDB knows

_SET = "updateDescription.updatedFields"
_OWN = ("updated_at", "last_failure", "lease")  # at least one of them is in each of refreshd's own writes
_ONLY_WISHES: list[Mapping[str, Any]] = [
    {
        "$match": {
            "operationType": "update",
            "documentKey._id": {"$regex": rf"(?s)\A.{{1,{LONGEST_ID}}}\z"},  # a text, and not a long one
            f"{_SET}.due_at": {"$type": "date"},
            **{f"{_SET}.{name}": {"$exists": False} for name in _OWN},
        }
    },
    {"$project": {"documentKey._id": 1, f"{_SET}.due_at": 1}},
]

_INTERRUPTED = (237, 11601)  # an operator, or MongoDB, has killed the cursor or the operation
_NO_RIGHT = 13
_HISTORY_LOST = 286
_STANDALONE = 40573
_WHYS = {
    _NO_RIGHT: "the user lacks the privilege changeStream on the tokens",
    _STANDALONE: "this MongoDB is not a replica set, so it has no change streams",
    _HISTORY_LOST: "MongoDB's oplog no longer holds the changes since the last one that was read",
}

Wished = Callable[[str, datetime], None]  # the token's id, and its new due_at


class NotFollowed(Exception):
    """MongoDB answers, but refuses the stream or has ended it. The text is a sentence for operators."""


class WishStream:
    """A change stream on the tokens that shows wishes only. After an interruption it continues from the same point.

    `written`: how many results this process has written so far.
    """

    def __init__(self, mongo: Mongo, *, written: Callable[[], int]) -> None:
        self._mongo = mongo
        self._written = written
        self._rate = WriteRate()
        self._position: Mapping[str, Any] | None = None  # in MongoDB's history

    async def follow(self, wished: Wished, *, begun: Callable[[], None]) -> None:
        """Pass each wish to `wished`, until the stream fails. `begun` is called when MongoDB has accepted it.

        Raises StoreLost, which is not reported: whatever else needs MongoDB does that. Raises NotFollowed.
        """
        try:
            while await self._read(wished, begun=begun, waits=not self._is_high()):
                pass  # the rate has changed, and the next one goes on where this one was
        except OperationFailure as error:
            if error.code in _INTERRUPTED:
                raise StoreLost(str(error.code)) from None
            self._position = None  # it may be the reason
            raise NotFollowed(_WHYS.get(error.code or 0) or refusal(error)) from None
        except PyMongoError as error:
            raise StoreLost(type(error).__name__) from None
        self._position = None
        raise NotFollowed(
            "MongoDB has ended the change stream, because the collection was dropped or renamed"
        )

    async def _read(self, wished: Wished, *, begun: Callable[[], None], waits: bool) -> bool:
        """Read one stream, which waits for changes or doesn't. Return whether to go on with one of the other kind; False
        if MongoDB has ended this one.
        """
        async with await self._opened(waits=waits) as stream:
            begun()
            while True:
                self._position = stream.resume_token or self._position
                if self._is_high() is waits:
                    return True
                if not stream.alive:
                    return False
                event = await (self._waited_for(stream) if waits else stream.try_next())
                if event is not None:
                    _pass_on(event, wished)
                elif not waits:
                    await asyncio.sleep(READ_EVERY.total_seconds())  # noqa: TID251  nothing is tried again

    async def _waited_for(self, stream: AsyncChangeStream[dict[str, object]]) -> Mapping[str, Any] | None:
        """Return the next event. None: there is none within a second, or this process has begun to write a lot. A burst of
        writes is often over by the time at which MongoDB ends a wait.
        """
        event = asyncio.ensure_future(stream.try_next())
        try:
            while not event.done() and not self._is_high():
                await asyncio.wait({event}, timeout=LOOK_EVERY.total_seconds())
            return event.result() if event.done() else None
        finally:
            event.cancel()  # which costs a connection, and no event: the position is the one before
            await asyncio.gather(event, return_exceptions=True)

    async def _opened(self, *, waits: bool) -> AsyncChangeStream[dict[str, object]]:
        return await self._mongo.tokens.watch(
            _ONLY_WISHES,
            resume_after=self._position,
            batch_size=AT_ONCE,
            max_await_time_ms=None if waits else _NO_WAIT,
        )

    def _is_high(self) -> bool:
        return self._rate.is_high(self._written(), now=self._mongo.clock.boot())


def _pass_on(event: Mapping[str, Any], wished: Wished) -> None:
    """Pass on the wish in `event`. Leave out an event of another form: a sweep finds its token."""
    try:
        token, due_at = event["documentKey"]["_id"], event["updateDescription"]["updatedFields"]["due_at"]
    except (KeyError, TypeError):
        return
    if isinstance(token, str) and isinstance(due_at, datetime):
        wished(token, due_at)
