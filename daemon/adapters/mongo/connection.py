"""The connection to MongoDB: one client, majority concerns everywhere, and one exception for every kind of
outage.

Every write uses `w: majority, j: true`, and every read goes to the primary with read concern majority. So
data that refreshd has read or confirmed survives a failover.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import ASCENDING, AsyncMongoClient, IndexModel, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import ConfigurationError, DuplicateKeyError, OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.uri_parser import split_options

from daemon.adapters.mongo.address import address_of
from daemon.domain.claim import StoreLost
from daemon.domain.secret import Secret, masked
from daemon.domain.store_event import StoreBack
from daemon.domain.store_event import StoreLost as StoreLostEvent

Result = TypeVar("Result")
Collection = AsyncCollection[dict[str, object]]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPTIONS = {
    "serverSelectionTimeoutMS": 2000,  # a loss is noticed within five seconds, on a busy machine too
    "connectTimeoutMS": 3000,
    "socketTimeoutMS": 20000,
    "heartbeatFrequencyMS": 2000,
    # Hundreds of providers that are due at the same moment share a few connections, which are closed again afterwards.
    "maxPoolSize": 32,
    "maxIdleTimeMS": 120000,
}
_MAJORITY = WriteConcern(w="majority", j=True, wtimeout=10000)
_NO_RIGHT = 13
_NO_LOGIN = (18, 8000)  # MongoDB's own code, and the one of MongoDB Atlas
_COMMAND = re.compile(r'to execute command \{ (\w+): "([^"]+)"')
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_GIVEN_UP = "operation cancelled"  # PyMongo's words for a command whose connection it closed itself
_QUOTED = re.compile(r'"[^"]*"')


class StoreUriInvalid(ValueError):
    """The URI can't be used. Its text holds no password."""


class LoginRefused(StoreLost):
    """MongoDB answers, but rejects the credentials."""


class Refusal(Exception):
    """MongoDB answered, but refused a command that renewals can do without. The text is a sentence for
    operators.
    """


class StoreClock(Protocol):
    def boot(self) -> timedelta: ...
    def now(self) -> datetime: ...
    @property
    def skew(self) -> timedelta | None: ...
    def set_store_time(self, local_time: datetime, *, asked: timedelta, answered: timedelta) -> None: ...


class Mongo:
    """The process's client. `tokens`, `providers`, `audit`, `keys`, `access`, `access_use`, `instances`, `mirrors`,
    `consents`, `outbox` and `hooks` are its collections.
    """

    def __init__(
        self,
        *,
        uri: Secret,
        database: str,
        collection: str,
        clock: StoreClock,
        observe: Callable[[StoreLostEvent | StoreBack], None],
    ) -> None:
        self.clock = clock
        self.up = False
        self.misplaced: str | None = None  # why its tokens are perhaps in another database
        self.answered_at = clock.boot()  # when MongoDB last answered anything, by the boot clock
        self._reported = False  # whether `up` was ever reported
        self._observe = observe
        self.retryable_writes = True
        self._uri, self._database, self._collection = uri, database, collection
        self.address = address_of(uri.reveal())
        self._client = self._connected()

    def _connected(self) -> AsyncMongoClient[dict[str, object]]:
        try:
            stated = stated_options(self._uri.reveal())
            options: dict[str, Any] = {n: v for n, v in _OPTIONS.items() if n.lower() not in stated}
            client: AsyncMongoClient[dict[str, object]] = AsyncMongoClient(
                self._uri.reveal(),
                appname="refreshd",
                tz_aware=True,
                retryWrites=self.retryable_writes,
                datetime_conversion="DATETIME_AUTO",
                **options,
            )
        except (
            PyMongoError,
            ValueError,
        ) as why:  # PyMongo quotes the text that it could not parse: maybe a password
            raise StoreUriInvalid(masked(_QUOTED.sub('"..."', str(why)), (self._uri,))) from None
        except OSError as why:
            raise StoreUriInvalid(f"can't read a file that the URI names: {masked(str(why))}") from None
        own = CodecOptions[dict[str, object]](
            tz_aware=True,
            datetime_conversion=DatetimeConversion.DATETIME_AUTO,
            unicode_decode_error_handler="replace",  # one document that isn't UTF-8 must not hide the others
        )
        database = client.get_database(
            self._database,
            codec_options=own,
            read_preference=ReadPreference.PRIMARY,
            write_concern=_MAJORITY,
            read_concern=ReadConcern("majority"),
        )
        self.tokens: Collection = database[self._collection]
        self.providers: Collection = database[f"{self._collection}_providers"]
        self.audit: Collection = database[f"{self._collection}_audit"]
        self.keys: Collection = database[f"{self._collection}_keys"]
        self.access: Collection = database[f"{self._collection}_access"]
        self.access_use: Collection = database[f"{self._collection}_access_use"]
        self.instances: Collection = database[f"{self._collection}_instances"]
        self.mirrors: Collection = database[f"{self._collection}_mirrors"]
        self.consents: Collection = database[f"{self._collection}_consents"]
        self.outbox: Collection = database[f"{self._collection}_outbox"]
        self.hooks: Collection = database[f"{self._collection}_hooks"]
        return client

    async def close(self) -> None:
        await self._client.close()

    async def hello(self) -> Mapping[str, object]:
        """Ask MongoDB for its role and its time, and set the clock. Raises StoreLost."""
        asked = self.clock.boot()
        said: Mapping[str, object] = await self.guarded(self._client.admin.command("hello"))
        local_time = said.get("localTime")
        if isinstance(local_time, datetime):
            self.clock.set_store_time(local_time.replace(tzinfo=UTC), asked=asked, answered=self.clock.boot())
        if not said.get("isWritablePrimary"):
            raise self._lost("MongoDB currently has no writable primary")
        return said

    async def prepare(self) -> bool:
        """Adapt to the deployment and create the index of the sweep. Returns whether it is a standalone. Raises
        StoreLost.
        """
        standalone = await self.adapt()
        await self.guarded(self.tokens.create_indexes([DUE_INDEX]))
        return standalone

    async def adapt(self) -> bool:
        """Adapt to the deployment. Returns whether it is a standalone. Raises StoreLost."""
        await self.hello()  # the first one also connects, so that the second gives a more exact time
        said = await self.hello()
        standalone = "setName" not in said and said.get("msg") != "isdbgrid"
        if standalone and self.retryable_writes:
            self.retryable_writes = False  # only replica sets have them
            await self._client.close()
            self._client = self._connected()
        return standalone

    async def guarded(self, work: Awaitable[Result]) -> Result:
        """Return the result of `work`. Raises StoreLost with a sentence. Reports a loss and a return, once
        each.
        """
        try:
            result = await _heeding_cancellation(work)
        except PyMongoError as error:
            raise self.lost(error) from None
        self.seen()
        return result

    async def tried(self, work: Awaitable[Result]) -> Result:
        """Return the result of `work` that renewals can do without.

        Raises Refusal if MongoDB refuses it, which doesn't mean that the store is lost, and lets
        DuplicateKeyError pass.
        """
        try:
            result = await _heeding_cancellation(work)
        except DuplicateKeyError:
            self.seen()
            raise
        except OperationFailure as error:
            if error.timeout or error.code in _NO_LOGIN:
                raise self.lost(error) from None
            self.seen()
            raise Refusal(refusal(error)) from None
        except PyMongoError as error:
            raise self.lost(error) from None
        self.seen()
        return result

    def seen(self) -> None:
        """Note that MongoDB has just answered."""
        self.answered_at = self.clock.boot()
        self._report(up=True)

    def unanswered(self) -> StoreLost:
        """Note that MongoDB left a question open for longer than the caller can wait. The next answer takes it back."""
        return self._lost("MongoDB does not answer in time")

    def lost(self, error: PyMongoError) -> StoreLost:
        """Convert a failed command into StoreLost."""
        text = masked(str(error).split(", Timeout:")[0], (self._uri,))
        if isinstance(error, OperationFailure) and error.code in _NO_LOGIN:
            self._report(up=False, message=self.address.refusal)
            return LoginRefused(self.address.refusal)
        if isinstance(error, OperationFailure) and error.code == _NO_RIGHT:
            return self._lost(f"MongoDB at {self.address}: {refusal(error)}")
        if isinstance(error, ConfigurationError):
            return self._lost(f"MongoDB can't be reached with this URI: {text}")
        if _GIVEN_UP in text:
            return self._lost(f"MongoDB at {self.address} does not answer: {self._heartbeat()}")
        kind = _HUMP.sub(" ", type(error).__name__).lower()  # in words: a long name would be masked
        return self._lost(f"MongoDB operation failed: {kind}: {text}")

    def _heartbeat(self) -> str:
        """Return what the last heartbeat met. It made PyMongo give up the commands that waited, and their own errors say
        nothing of it.
        """
        described = self._client.topology_description.server_descriptions().values()
        met = next((str(one.error) for one in described if one.error and _GIVEN_UP not in str(one.error)), "")
        why = f" ({masked(met, (self._uri,))})" if met else ""
        return f"a heartbeat failed{why}, so the commands that waited were given up"

    def _lost(self, message: str) -> StoreLost:
        self._report(up=False, message=message)
        return StoreLost(message)

    def _report(self, *, up: bool, message: str = "") -> None:
        if up == self.up and self._reported:
            return
        if up and self._reported:
            self._observe(StoreBack())
        elif not up:
            self._observe(StoreLostEvent(message=message))
        self.up, self._reported = up, True


async def _heeding_cancellation(work: Awaitable[Result]) -> Result:
    """Return the result of `work`. Raises CancelledError if the task was cancelled meanwhile, even if `work` ended
    with a result.

    Up to Python 3.11, `asyncio.wait_for` can swallow a cancellation that comes at the moment of the result, and PyMongo
    uses it for each message that it sends. `asyncio.timeout` cancels only once, so its limit would be lost.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    result = await work
    if task and task.cancelling() > before:
        raise asyncio.CancelledError
    return result


def refusal(error: OperationFailure) -> str:
    """Return why MongoDB refuses a command, without any value of the command."""
    if error.code == _NO_RIGHT:
        command = _COMMAND.search(str(error))
        return (
            f"the user lacks the privilege for {command[1]} on {command[2]}"
            if command
            else "the user lacks a privilege"
        )
    name = (error.details or {}).get("codeName")
    return f"MongoDB refuses it: {name if isinstance(name, str) else error.code}"


def stated_options(uri: str) -> set[str]:
    """Return the options in the URI, in lower case. Raises for an invalid one; sends no DNS query."""
    query = uri.partition("?")[2]
    return {name.lower() for name in split_options(query, warn=False)} if query else set()


# The one index of the hot path. Partial: its size and cost follow the scheduled tokens, not all stored ones. The lower
# bound, repeated in every query, is what lets MongoDB use it (a date, and nothing of another type).
DUE_INDEX = IndexModel(
    [("provider", ASCENDING), ("due_at", ASCENDING)],
    name="due",
    partialFilterExpression={"due_at": {"$gt": EPOCH}},
)


def due(now: datetime) -> dict[str, object]:
    """Return the condition for a past date in `due_at`, in the form that the index supports."""
    return {"$gt": EPOCH, "$lte": now}
