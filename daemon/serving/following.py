"""Waits until a daemon has gone on with a consent."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from daemon.domain.consent_request import ConsentProgress
from daemon.serving.ports import Clock, Consents

FOLLOWED_FOR = timedelta(seconds=10)
LOOK_EVERY = timedelta(milliseconds=200)


class Following:
    """`pause` waits between two looks at a consent."""

    def __init__(
        self, consents: Consents, clock: Clock, *, pause: Callable[[timedelta], Awaitable[None]]
    ) -> None:
        self._consents = consents
        self._clock = clock
        self._pause = pause

    async def until_there(self, consent: str, *, held: bool = True) -> ConsentProgress | None:
        """Wait until a consent has ended or, with `held`, until its grant is there, at most FOLLOWED_FOR. Return its last state.

        Raises StoreLost.
        """
        end = self._clock.boot() + FOLLOWED_FOR
        while True:
            progress = await self._consents.progress(consent)
            if progress is None or progress.state.is_final or (held and progress.held):
                return progress
            if self._clock.boot() >= end:
                return progress
            await self._pause(LOOK_EVERY)
