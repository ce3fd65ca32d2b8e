"""The order of the relay's steps: stored in the outbox first, then taken out of the token."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import pytest

from daemon.domain.claim import StoreLost
from daemon.domain.event import OwnerEventsLost
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType
from daemon.domain.waiting_events import EventRefused, WaitingEvents
from daemon.notifying.relay import AT_ONCE, REFUSED_FOR, Relay

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)


def waiting(token: str, *names: str, malformed: int = 0, lost: int = 0) -> WaitingEvents:
    events = [
        OwnerEvent(
            id=name, type=OwnerEventType.REVOKED, at=NOON, who_acts=Actor.NOBODY, token=token, revision=1
        )
        for name in names
    ]
    return WaitingEvents(token=token, events=events, ids=names, malformed=malformed, lost=lost)


class World:
    """Tokens with events, and an outbox. `diary`: what was done, in its order."""

    def __init__(self, *stored: WaitingEvents) -> None:
        self.tokens = {one.token: one for one in stored}
        self.outbox: dict[str, OwnerEvent] = {}
        self.refused: set[str] = set()  # ids of events
        self.unchangeable: set[str] = set()  # tokens
        self.lost_at: str | None = None
        self.diary: list[str] = []
        self.observed: list[OwnerEventsLost] = []
        self.relay = Relay(self, self, observe=self.observed.append)

    async def waiting(self, *, limit: int, skip: Collection[str]) -> Sequence[WaitingEvents]:
        return [one for name, one in self.tokens.items() if name not in skip][:limit]

    async def forget(self, relayed: Sequence[WaitingEvents]) -> Collection[str]:
        self._step("forget")
        for one in relayed:
            if one.token not in self.unchangeable:
                del self.tokens[one.token]
        return {one.token for one in relayed} & self.unchangeable

    async def add(self, events: Sequence[OwnerEvent]) -> None:
        self._step("add")
        for one in events:
            if one.id not in self.refused:
                self.outbox.setdefault(one.id, one)
        if any(one.id in self.refused for one in events):
            raise EventRefused("code 121")

    def _step(self, name: str) -> None:
        if self.lost_at == name:
            raise StoreLost("gone")
        self.diary.append(name)


async def test_an_event_is_in_the_outbox_before_it_leaves_its_token() -> None:
    """The other order would lose it if the process died in between."""
    world = World(waiting("acme:1", "a", "b"))
    assert await world.relay.run() == 2
    assert (list(world.outbox), world.tokens, world.diary) == (["a", "b"], {}, ["add", "forget"])


@pytest.mark.parametrize("step", ["add", "forget"])
async def test_after_a_loss_the_next_run_relays_all(step: str) -> None:
    """Whatever was done before."""
    world = World(waiting("acme:1", "a"), waiting("acme:2", "b"))
    world.lost_at = step
    with pytest.raises(StoreLost):
        await world.relay.run()
    assert len(world.tokens) == 2
    world.lost_at = None
    assert await world.relay.run() == 2
    assert (list(world.outbox), world.tokens) == (["a", "b"], {})


async def test_without_events_nothing_is_written() -> None:
    """A look costs one query."""
    world = World()
    assert await world.relay.run() == 0
    assert world.diary == []


async def test_many_are_relayed_in_one_run() -> None:
    """In batches, until none is left."""
    world = World(*(waiting(f"acme:{one}", f"e{one}") for one in range(2 * AT_ONCE + 1)))
    assert await world.relay.run() == 2 * AT_ONCE + 1
    assert world.diary == ["add", "forget"] * 3


async def test_a_refused_event_stays_and_delays_no_other() -> None:
    """It is tried again later, since an operator may drop what refuses it."""
    world = World(waiting("acme:1", "bad"), waiting("acme:2", "good"))
    world.refused = {"bad"}
    with pytest.raises(EventRefused):
        await world.relay.run()
    assert (list(world.outbox), list(world.tokens)) == (["good"], ["acme:1"])
    world.refused = set()
    for _ in range(REFUSED_FOR - 1):
        assert await world.relay.run() == 0
    assert await world.relay.run() == 1
    assert world.tokens == {}


async def test_a_token_that_can_not_be_changed_is_left_alone_for_a_while() -> None:
    """Its events are in the outbox, which finds a second report of them."""
    world = World(*(waiting(f"acme:{one}", f"e{one}") for one in range(AT_ONCE)), waiting("acme:z", "z"))
    world.unchangeable = {f"acme:{one}" for one in range(AT_ONCE)}
    await world.relay.run()
    assert "z" in world.outbox
    assert world.diary == ["add", "forget"] * 2
    await world.relay.run()
    assert world.diary == ["add", "forget"] * 2


async def test_events_that_nobody_gets_are_reported() -> None:
    """With their number. The others of the token are relayed."""
    world = World(waiting("acme:1", "a", malformed=2), waiting("acme:2", lost=3), waiting("acme:3", "c"))
    assert await world.relay.run() == 2
    assert world.tokens == {}
    assert world.observed == [
        OwnerEventsLost(token="acme:1", malformed=2, pushed_out=0),
        OwnerEventsLost(token="acme:2", malformed=0, pushed_out=3),
    ]
