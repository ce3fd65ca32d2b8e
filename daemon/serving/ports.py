"""What the access service needs of the world. The adapters fit these protocols by shape."""

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

from daemon.domain.access_key import AccessKey
from daemon.domain.known import Known
from daemon.domain.secret import Secret
from daemon.domain.served_token import Refusals, ServedToken


class Keys(Protocol):
    async def find(self, key_id: str) -> Known[AccessKey]:
        """Return the access key. Raises StoreLost if it isn't known well enough."""


class Tokens(Protocol):
    async def find(self, token: str) -> Known[ServedToken]:
        """Return the token. Raises StoreLost if it isn't known well enough."""

    def watching(self, token: str) -> AbstractContextManager[Callable[[], Coroutine[None, None, None]]]:
        """Return a function that waits until the token may have changed since the last call."""

    async def wish(self, token: ServedToken, refusals: Refusals | None) -> None:
        """Make the token due now, unless it has changed. Raises StoreLost."""

    async def is_resting(self, provider: str) -> bool:
        """Return whether the provider is paused. Raises StoreLost."""


class Opener(Protocol):
    def open(self, token: ServedToken) -> Secret | None:
        """Return the access token, or None if the keys of this process don't open it."""


class Clock(Protocol):
    def boot(self) -> timedelta: ...
    def now(self) -> datetime: ...
