"""An issuer's keys in memory: asked for before they are out of date, by one request, whatever callers present.

A key that the issuer has removed is refused after KEPT_FOR. A key that it has added is found by the first JWT that names
it, unless a JWT with an invented key has been looked for within the last minute.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from daemon.adapters.issuer_keys.failure import ReadFailed
from daemon.adapters.issuer_keys.key_set import KeySet, parse_key_set
from daemon.domain.jwt import Fault, Jwt, KeysAway

KEPT_FOR = timedelta(minutes=10)
RENEWED_AFTER = timedelta(minutes=5)  # in the background, so that no caller waits for it
AWAY_FOR = timedelta(hours=1)  # the last keys still count while the issuer doesn't answer
AGAIN_AFTER = timedelta(seconds=10)  # a failure
UNKNOWN_EACH = timedelta(minutes=1)  # a look for a key that is not there

NEVER = timedelta(days=-36_500)


class Source(Protocol):
    async def read(self) -> bytes:
        """Raises ReadFailed."""


class Clock(Protocol):
    def boot(self) -> timedelta: ...


class KeptKeys:
    """Implements `serving.ports.IssuerKeys`. `observe` receives the reason of the first of several failures, and None
    when the keys are back.
    """

    def __init__(self, source: Source, clock: Clock, *, observe: Callable[[str | None], None]) -> None:
        self._source = source
        self._clock = clock
        self._observe = observe
        self._keys = KeySet()
        self._read_at = NEVER
        self._again_at = NEVER
        self._unknown_at = NEVER
        self._asking: asyncio.Task[None] | None = None
        self._why: str | None = None

    async def fault(self, jwt: Jwt) -> Fault | None:
        """Return the fault of the JWT's signature, or None if the issuer has signed it. Raises KeysAway."""
        await self._have_keys()
        found = self._keys.fault(jwt)
        if found is None or not self._may_be_new(jwt, found):
            return found
        await self._look_for(jwt)
        return self._keys.fault(jwt)

    async def prepare(self) -> None:
        """Ask before the first caller does."""
        await self._ask()

    async def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    def _may_be_new(self, jwt: Jwt, fault: Fault) -> bool:
        """Return whether newer keys may change the verdict. A JWT without a key's id may be signed by any."""
        return not self._keys.knows(jwt) or (fault is Fault.SIGNATURE and jwt.key_id is None)

    async def _have_keys(self) -> None:
        """Ask if the keys are out of date, and raise KeysAway if there are none."""
        age = self._age()
        if age >= RENEWED_AFTER and self._clock.boot() >= self._again_at:
            asking = self._ask()
            if age >= KEPT_FOR:
                await asking
        if self._age() >= AWAY_FOR:
            raise KeysAway(AGAIN_AFTER)

    async def _look_for(self, jwt: Jwt) -> None:
        """Ask for a key that isn't known, at most once a minute if it isn't there. Raises KeysAway."""
        if self._asking is not None:
            await self._ask()
            if self._keys.fault(jwt) is None:
                return
        now = self._clock.boot()
        if now >= self._unknown_at + UNKNOWN_EACH:
            self._unknown_at = now
            await self._ask()
            if self._keys.fault(jwt) is None:
                self._unknown_at = NEVER
        if self._why is not None:  # the key may well be there
            raise KeysAway(max(self._unknown_at + UNKNOWN_EACH - now, AGAIN_AFTER))

    def _age(self) -> timedelta:
        return self._clock.boot() - self._read_at

    def _ask(self) -> "asyncio.Future[None]":
        """Return what ends with the one request that is under way. A caller that gives up does not end it."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._read(), name="issuer keys")
            self._asking.add_done_callback(self._asked)
        return asyncio.shield(self._asking)

    def _asked(self, _task: asyncio.Task[None]) -> None:
        self._asking = None

    async def _read(self) -> None:
        began = self._clock.boot()
        try:
            keys = parse_key_set(await self._source.read())
        except ReadFailed as why:
            self._again_at = self._clock.boot() + AGAIN_AFTER
            if self._why is None:
                self._observe(str(why))
            self._why = str(why)
            return
        self._keys, self._read_at = keys, began
        if self._why is not None:
            self._why = None
            self._observe(None)
