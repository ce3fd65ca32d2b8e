"""Access tokens of clouds, each used for as long as it is valid and shared by all reads of this process."""

import asyncio
from collections.abc import Awaitable, Callable
from weakref import WeakKeyDictionary

_LEFT = 60.0  # seconds that a token must still be valid

Login = Callable[[], Awaitable[tuple[str, float]]]  # returns a token and its lifetime in seconds


class Logins:
    """One login at a time for each identity: a metadata server limits the rate, and one token serves all."""

    def __init__(self) -> None:
        self._tokens: dict[object, tuple[str, float]] = {}
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[object, asyncio.Lock]]
        self._locks = WeakKeyDictionary()  # a lock belongs to its loop, and each reading may have its own

    async def token(self, identity: object, login: Login) -> str:
        """Return a valid token of `identity`, from an earlier login if there is one."""
        loop = asyncio.get_running_loop()
        async with self._locks.setdefault(loop, {}).setdefault(identity, asyncio.Lock()):
            token, until = self._tokens.get(identity, ("", 0.0))
            if loop.time() >= until - _LEFT:
                token, lifetime = await login()
                self._tokens[identity] = (token, loop.time() + lifetime)
            return token

    def forget(self, identity: object) -> None:
        """Drop the token of `identity`, which its service has refused."""
        self._tokens.pop(identity, None)


def seconds(value: object) -> float:
    """Return a lifetime as services write it: a number, or its digits as text. Anything else is 0: used once."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    return float(value) if isinstance(value, int) and 0 <= value < 10**9 else 0.0
