"""The store for one command: the operator's MongoDB, or the embedded one. If the daemon doesn't run that one, the command does."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Protocol

from daemon.adapters.mongo.connection import Mongo, StoreClock, StoreUriInvalid
from daemon.adapters.state_files import MONGODB, MONGODB_URI
from daemon.adapters.trusted_files import Untrusted, make_private
from daemon.domain.claim import StoreLost
from daemon.domain.secret import Secret
from daemon.runtime.config.problems import Problem, SettingsInvalid
from daemon.runtime.config.settings import StoreSettings


class StorePlace(Protocol):
    """The settings that lead to the store: those of the daemon, or of the access service."""

    @property
    def store(self) -> StoreSettings: ...

    @property
    def state_dir(self) -> Path: ...


def ignore(_event: object) -> None:
    """Drop the event: a command reports a lost store by its exit code."""


@asynccontextmanager
async def open_mongo(
    settings: StorePlace, *, clock: StoreClock, observe: Callable[[object], None] = ignore
) -> AsyncIterator[Mongo]:
    """The store, asked and ready, its time known to `clock`. Call it in the main thread.

    Raises StoreLost when it is away, SettingsInvalid when the settings can't lead to one.
    """
    async with AsyncExitStack() as closing:
        configured = settings.store.uri
        uri = configured if isinstance(configured, Secret) else await _embedded(settings.state_dir, closing)
        try:
            mongo = Mongo(
                uri=uri,
                database=settings.store.database,
                collection=settings.store.collection,
                clock=clock,
                observe=observe,
            )
        except StoreUriInvalid as why:
            raise _invalid("store.uri", str(why), "Correct the URI.") from None
        closing.push_async_callback(mongo.close)
        await mongo.adapt()
        await mongo.hello()  # once more: the first answer's time was blurred by connecting
        yield mongo


async def _embedded(state_dir: Path, closing: AsyncExitStack) -> Secret:
    """The URI of the embedded MongoDB: the running daemon's, or one that runs until `closing`."""
    from daemon.adapters.mongo.embedded_mongod import (  # noqa: PLC0415  few stores are embedded
        EmbeddedMongod,
        MongodFailed,
        MongodMissing,
    )

    make_state_dir(state_dir)
    mongod = EmbeddedMongod(data_dir=state_dir / MONGODB, uri_file=state_dir / MONGODB_URI)
    closing.push_async_callback(mongod.stop)
    try:
        return Secret(await mongod.start())
    except MongodMissing as why:
        raise _invalid("store.uri", "it asks for the embedded MongoDB", str(why)) from None
    except MongodFailed as why:
        raise StoreLost(str(why)) from None


def make_state_dir(state_dir: Path) -> None:
    """Make the state directory for this user alone. Raises SettingsInvalid."""
    try:
        make_private(state_dir)
    except Untrusted as why:
        raise _invalid("state.dir", why.what, why.do) from None
    except OSError as why:
        text = f"{state_dir} can't be made ({why.strerror})"
        raise _invalid("state.dir", text, "Name a directory that this user may write to.") from None


def _invalid(where: str, what: str, do: str) -> SettingsInvalid:
    return SettingsInvalid([Problem(where=where, what=what, do=do)])
