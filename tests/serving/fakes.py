"""The world of the access service, as a test sets it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from daemon.domain.access_key import AccessKey, Verb, new_key, secret_hash
from daemon.domain.claim import StoreLost
from daemon.domain.known import Known
from daemon.domain.secret import Secret
from daemon.domain.served_token import Refusals, ServedToken, version_of
from tests.support.clocks import SetClock

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def token(name: str = "acme:me", text: str = "first", **fields: object) -> ServedToken:
    """An active token with an hour's lifetime, half of which has passed."""
    provider, _, account = name.partition(":")
    usual: dict[str, object] = {
        "state": "active",
        "issued_at": NOON - 30 * MINUTE,
        "expires_at": NOON + 30 * MINUTE,
        "due_at": NOON + 25 * MINUTE,
        "refreshed_at": NOON - 30 * MINUTE,
        "sealed": text,
        "version": version_of(text),
    }
    return ServedToken(id=name, provider=provider, account=account, **{**usual, **fields})  # type: ignore[arg-type]


class World:
    """Tokens, keys and time. `away`: MongoDB does not answer; what was found once is still known."""

    def __init__(self) -> None:
        self.clock = SetClock(NOON)
        self.tokens: dict[str, ServedToken] = {}
        self.keys: dict[str, AccessKey] = {}
        self.resting: set[str] = set()
        self.wishes: list[tuple[str, Refusals | None]] = []
        self.on_wish: Callable[[ServedToken], None] = lambda _token: None
        self.away = False
        self.lost = False
        self.looked = 0
        self._watching: list[asyncio.Event] = []

    def key(
        self, *tokens: str, can: tuple[Verb, ...] = tuple(Verb), **fields: object
    ) -> tuple[str, AccessKey]:
        """Store a new key. Returns its text and itself."""
        text, presented = new_key()
        key = AccessKey(
            id=presented.id,
            name="app",
            secret_hash=secret_hash(presented.secret),
            tokens=tokens or ("acme:*",),
            can=frozenset(can),
            **fields,  # type: ignore[arg-type]
        )
        self.keys[key.id] = key
        return text.reveal(), key

    def store(self, one: ServedToken) -> None:
        self.tokens[one.id] = one
        for changed in self._watching:
            changed.set()

    # ---------------------------------------------------------------- the ports

    async def find(self, name: str) -> Known[ServedToken]:
        self._answer()
        return Known(self.tokens.get(name), self.away)

    async def find_key(self, key_id: str) -> Known[AccessKey]:
        self._answer()
        return Known(self.keys.get(key_id), self.away)

    @contextmanager
    def watching(self, _token: str) -> Iterator[Callable[[], Coroutine[None, None, None]]]:
        """Report changes from now on only, as a change stream does."""
        event = asyncio.Event()

        async def changed() -> None:
            await event.wait()
            event.clear()

        self._watching.append(event)
        yield changed
        self._watching.remove(event)

    async def wish(self, one: ServedToken, refusals: Refusals | None) -> None:
        self.wishes.append((one.id, refusals))
        self.on_wish(one)

    async def is_resting(self, provider: str) -> bool:
        return provider in self.resting

    def open(self, one: ServedToken) -> Secret | None:
        return Secret(f"opened {one.sealed}") if one.sealed != "sealed by a stranger" else None

    def _answer(self) -> None:
        self.looked += 1
        if self.lost:
            raise StoreLost("MongoDB is away")


class Keys:
    """The port for access keys of a world."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def find(self, key_id: str) -> Known[AccessKey]:
        return await self._world.find_key(key_id)
