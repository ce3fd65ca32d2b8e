"""The daemon relays events as long as it runs: each second for the receivers that it has, now and then without one."""

import io

import pytest

from daemon.adapters.telemetry.event_log import configure
from daemon.domain.event import Event
from daemon.runtime.owner_events import UNHEARD_EVERY, EventFollower


class Counting:
    """A relay, or an announcer, that counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self) -> int:
        self.runs += 1
        return 0


class House:
    def __init__(self, *, heard: bool) -> None:
        self.relay, self.announcer = Counting(), Counting()
        self.observed: list[Event] = []
        self.ready, self.heard = True, heard
        self.follower = EventFollower(
            self.relay,  # type: ignore[arg-type]
            self.announcer,  # type: ignore[arg-type]
            indexed=lambda: True,
            heard=lambda: self.heard,
            log=configure(format="json", level="info", stream=io.StringIO()),
            observe=self.observed.append,
        )

    async def turns(self, count: int) -> int:
        """Return the number of relays in so many turns."""
        before = self.relay.runs
        for _ in range(count):
            await self.follower.turn(lambda: self.ready)
        return self.relay.runs - before


async def test_with_a_hook_each_turn_relays() -> None:
    """A receiver hears of an event within about a second."""
    assert await House(heard=True).turns(20) == 20


async def test_without_a_hook_few_turns_relay() -> None:
    """Nobody waits for the events, so they are only cleared away. The first turn does."""
    house = House(heard=False)
    assert await house.turns(1) == 1
    assert await house.turns(UNHEARD_EVERY - 1) == 0
    assert await house.turns(1) == 1


async def test_a_hook_that_a_reload_adds_is_heard_in_the_next_turn() -> None:
    """Its first event does not wait for the end of the long pause."""
    house = House(heard=False)
    await house.turns(2)
    house.heard = True
    assert await house.turns(1) == 1


@pytest.mark.parametrize("heard", [True, False])
async def test_before_the_daemon_is_ready_nothing_is_taken(heard: bool) -> None:
    """Its keys may be the wrong ones."""
    house = House(heard=heard)
    house.ready = False
    assert await house.turns(2 * UNHEARD_EVERY) == 0
