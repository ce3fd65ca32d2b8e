"""Ends, pauses and anomalies reach the outbox once for each process, and again after a loss."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.announcement import of_pause, of_resumption
from daemon.domain.anomaly import AnomalyKind
from daemon.domain.claim import StoreLost
from daemon.domain.event import AnomalyDetected, TokenEnding
from daemon.domain.owner_event import OwnerEvent
from daemon.notifying.announcer import MOST_WAITING, Announcer
from tests.support.clocks import SetClock

NOON = datetime(2026, 11, 29, 12, 30, 1, tzinfo=UTC)
ENDING = TokenEnding(token="acme:a:b", provider="acme", ends_at=NOON + timedelta(days=3))


class World:
    """An outbox, and the stored pauses."""

    def __init__(self) -> None:
        self.stored: list[OwnerEvent] = []
        self.paused: Sequence[OwnerEvent] = ()
        self.lost = False
        self.clock = SetClock(NOON)
        self.announcer = Announcer(self, self.clock, pauses=self)

    async def events(self) -> Sequence[OwnerEvent]:
        return self.paused

    async def add(self, events: Sequence[OwnerEvent]) -> None:
        if self.lost:
            raise StoreLost("gone")
        self.stored.extend(events)

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.stored]


def anomaly(
    kind: AnomalyKind, key: str, token: str | None = None, *, repeated: bool = False
) -> AnomalyDetected:
    return AnomalyDetected(kind=kind, key=key, count=3, at=NOON, message="", token=token, repeated=repeated)


async def test_an_end_is_announced_once() -> None:
    """Each count reports it again. Its id has the token and the end, so every replica makes the same."""
    world = World()
    for _ in range(2):
        world.announcer(ENDING)
        await world.announcer.run()
    assert world.ids == ["token.ending:acme:a:b:2026-12-02T12:30:01Z"]
    [event] = world.stored
    assert (event.provider, event.account, event.who_acts, event.at) == ("acme", "a:b", "owner", NOON)


async def test_what_could_not_be_stored_is_stored_later() -> None:
    """Nothing is forgotten before a majority has it."""
    world = World()
    world.announcer(ENDING)
    world.lost = True
    with pytest.raises(StoreLost):
        await world.announcer.run()
    world.lost = False
    await world.announcer.run()
    assert len(world.ids) == 1


async def test_a_pause_and_its_end_are_announced_from_what_is_stored() -> None:
    """A process that dies before it reports them has nothing to remember."""
    world = World()
    world.paused = [
        of_resumption("acme", since=NOON - timedelta(hours=2), at=NOON - timedelta(hours=1)),
        of_pause("acme", since=NOON, reason="client"),
        of_pause("old", since=NOON - timedelta(days=40), reason="operator"),
    ]
    await world.announcer.run()
    await world.announcer.run()
    assert world.ids == [
        "provider.resumed:acme:2026-11-29T10:30:01Z",
        "provider.paused:acme:2026-11-29T12:30:01Z",
    ]
    assert [(one.kind, one.who_acts) for one in world.stored] == [(None, "nobody"), ("client", "operator")]


async def test_an_anomaly_names_what_it_concerns() -> None:
    """One that is reported again in the same hour is no news."""
    world = World()
    world.announcer(anomaly(AnomalyKind.REUSE_REFUSED, "acme:1"))
    world.announcer(anomaly(AnomalyKind.READ_BURST, "abc", "acme:2"))
    world.announcer(anomaly(AnomalyKind.AUTH_FAILURES, "2001:db8::1"))
    world.announcer(anomaly(AnomalyKind.READ_BURST, "xyz", repeated=True))
    await world.announcer.run()
    assert [(one.id, one.token, one.provider, one.code) for one in world.stored] == [
        ("anomaly:reuse_refused:acme:1:2026-11-29T12", "acme:1", "acme", "acme:1"),
        ("anomaly:read_burst:abc:2026-11-29T12", "acme:2", "acme", "abc"),
        ("anomaly:auth_failures:2001:db8::1:2026-11-29T12", None, None, "2001:db8::1"),
    ]


async def test_memory_is_bounded_while_the_outbox_is_away() -> None:
    """A count reports ends again."""
    world = World()
    for number in range(MOST_WAITING + 5):
        world.announcer(TokenEnding(token=f"acme:{number}", provider="acme", ends_at=NOON))
    await world.announcer.run()
    assert len(world.stored) == MOST_WAITING
    world.announcer(TokenEnding(token=f"acme:{MOST_WAITING + 1}", provider="acme", ends_at=NOON))
    await world.announcer.run()
    assert len(world.stored) == MOST_WAITING + 1
