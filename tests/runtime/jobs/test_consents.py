"""The daemon looks for codes as long as it runs, whatever MongoDB says."""

import asyncio
import io
import json
from collections.abc import Mapping
from datetime import timedelta

import pytest

from daemon.adapters.mongo.connecting.consent_requests import ConsentsRefused
from daemon.adapters.telemetry.event_log import configure
from daemon.domain.claim import StoreLost
from daemon.domain.event import Event, InternalError
from daemon.runtime.jobs.consents import LOOK_EVERY, REFUSED_AGAIN, ConsentFollower


class ScriptedExchange:
    """Fails as the script says, then works."""

    def __init__(self, *script: Exception | None) -> None:
        self.script = list(script)
        self.looks: list[Mapping[str, object]] = []

    async def look(self, providers: Mapping[str, object]) -> int:
        self.looks.append(providers)
        if self.script and (error := self.script.pop(0)) is not None:
            raise error
        return 0


class House:
    def __init__(self, *script: Exception | None) -> None:
        self.exchange = ScriptedExchange(*script)
        self.observed: list[Event] = []
        self.ready = True
        self._out = io.StringIO()
        self.follower = ConsentFollower(
            self.exchange,  # type: ignore[arg-type]
            log=configure(format="json", level="info", stream=self._out),
            observe=self.observed.append,
        )

    async def look(self) -> timedelta:
        return await self.follower._look(lambda: self.ready, lambda: {"acme": None})

    @property
    def lines(self) -> list[str]:
        return [json.loads(line)["event"] for line in self._out.getvalue().splitlines()]


async def test_it_looks_for_the_codes_of_its_providers() -> None:
    """Once a second."""
    house = House()
    assert await house.look() == LOOK_EVERY
    assert house.exchange.looks == [{"acme": None}]


async def test_before_the_daemon_is_ready_nothing_is_taken() -> None:
    """Its keys may be the wrong ones."""
    house = House()
    house.ready = False
    assert await house.look() == LOOK_EVERY
    assert not house.exchange.looks


async def test_a_missing_right_is_logged_once_and_harms_nothing_else() -> None:
    """An installation of before has a role without the new collection."""
    refused = ConsentsRefused("the user lacks the privilege for find on tokens_consents")
    house = House(refused, refused, None, refused)
    assert [await house.look() for _ in range(4)] == [
        REFUSED_AGAIN,
        REFUSED_AGAIN,
        LOOK_EVERY,
        REFUSED_AGAIN,
    ]
    assert house.lines == ["connect.refused", "connect.refused"]
    assert not house.observed


@pytest.mark.parametrize(("error", "reported"), [(StoreLost("away"), 0), (ValueError("a bug"), 1)])
async def test_a_failure_does_not_end_the_looks(error: Exception, reported: int) -> None:
    """A lost store has reported itself; a bug is an internal error."""
    house = House(error)
    assert await house.look() == LOOK_EVERY
    assert await house.look() == LOOK_EVERY
    assert [type(one) for one in house.observed] == [InternalError] * reported
    assert not house.lines


async def test_it_goes_on_until_it_is_cancelled() -> None:
    """The first look comes immediately."""
    house = House()
    running = asyncio.create_task(house.follower.run(lambda: True, lambda: {"acme": None}))
    while not house.exchange.looks:
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
