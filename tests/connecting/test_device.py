"""Device codes: each poll takes the way of a code, and what is left of it wherever the process ends."""

from datetime import timedelta

import pytest

from daemon.domain.consent_request import ConsentFailureKind, ConsentKind, ConsentState
from daemon.domain.event import ConsentFailed
from daemon.domain.journal_entry import EntryState, ReplayResult
from daemon.domain.reply import NoReply
from tests.connecting.fakes import GRANT, NOON, Killed, World, answered, states

PENDING = answered({"error": "authorization_pending"}, status=400)
SLOW_DOWN = answered({"error": "slow_down"}, status=400)
LOST = NoReply(code="timeout", message="no response in time", sent=True, asked_at=NOON)
STEPS = ["take", "send", "keep", "wait_again", "forget"]


def device_world(*replies: object) -> World:
    world = World(replies=list(replies))  # type: ignore[arg-type]
    world.add(kind=ConsentKind.DEVICE)
    return world


async def polled(world: World, *, after: int = 0) -> None:
    """Let the time pass, and look once."""
    world.clock.passed += timedelta(seconds=after)
    await world.run(world.process())


async def test_a_code_is_presented_until_its_owner_has_answered() -> None:
    """Not before the interval is over, and never after the grant."""
    world = device_world(PENDING, PENDING)
    await polled(world)
    assert states(world) == {"c1": ConsentState.WAITING}
    assert not world.disk
    await polled(world, after=4)
    assert len(world.sent) == 1
    await polled(world, after=1)
    assert len(world.sent) == 2
    await polled(world, after=5)
    assert states(world) == {"c1": ConsentState.DONE}
    assert world.tokens["acme:7"].refresh_token is not None
    await polled(world, after=60)
    assert len(world.sent) == 3
    assert b"device_code=code-c1" in world.sent[0].body
    assert b"redirect_uri" not in world.sent[0].body


async def test_a_provider_that_wants_fewer_polls_gets_them() -> None:
    """Five seconds more each time (RFC 8628 §3.5), and twice the interval after a reply that was lost."""
    world = device_world(SLOW_DOWN, SLOW_DOWN, LOST)
    waits = []
    for _ in range(3):
        await polled(world, after=100)
        poll_at = world.rows["c1"].poll_at
        assert poll_at is not None
        waits.append((poll_at - world.clock.now()).total_seconds())
    assert waits == [10, 15, 30]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("access_denied", ConsentFailureKind.DENIED),
        ("expired_token", ConsentFailureKind.EXPIRED),
        ("invalid_grant", ConsentFailureKind.REFUSED),
    ],
)
async def test_an_answer_without_a_grant_ends_it(code: str, kind: ConsentFailureKind) -> None:
    """With its kind in the log, and nothing is asked any more."""
    world = device_world(PENDING, answered({"error": code}, status=403))
    await polled(world)
    await polled(world, after=5)
    await polled(world, after=60)
    failure = world.rows["c1"].failure
    assert failure is not None
    assert failure.kind is kind
    assert [event.kind for event in world.events if isinstance(event, ConsentFailed)] == [kind.value]
    assert len(world.sent) == 2
    assert not world.disk


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_wherever_the_process_ends_the_next_start_polls_on(step: str, moment: str) -> None:
    """A poll that brought nothing is harmless to repeat."""
    world = device_world(PENDING, PENDING)
    world.kill = (step, moment)
    exchange = world.process()
    await exchange.look({"acme": None})
    (task,) = list(exchange._running.values())
    with pytest.raises(Killed):
        await task
    world.kill = None
    for _ in range(4):
        await polled(world, after=10)
    assert states(world) == {"c1": ConsentState.DONE}
    assert not world.disk
    assert not world.bugs


@pytest.mark.parametrize(
    ("step", "moment"),
    [
        ("keep", "after"),
        ("bind", "before"),
        ("bind", "after"),
        ("done", "before"),
        ("done", "after"),
        ("forget", "before"),
    ],
)
async def test_a_kept_grant_is_stored_by_the_next_start_without_another_poll(step: str, moment: str) -> None:
    """The provider would refuse the code by then."""
    world = device_world(GRANT, answered({"error": "invalid_grant"}, status=400))
    world.kill = (step, moment)
    exchange = world.process()
    await exchange.look({"acme": None})
    (task,) = list(exchange._running.values())
    with pytest.raises(Killed):
        await task
    world.kill = None
    await polled(world, after=10)
    await polled(world, after=10)
    assert states(world) == {"c1": ConsentState.DONE}
    assert len(world.sent) == 1
    assert not world.disk


async def test_another_instance_does_not_repeat_a_poll() -> None:
    """Its journal lacks the reply, which may be the grant: `asked` shows it such a request only after a long time."""
    world = device_world(GRANT)
    world.kill = ("keep", "after")
    exchange = world.process("one")
    await exchange.look({"acme": None})
    (task,) = list(exchange._running.values())
    with pytest.raises(Killed):
        await task
    world.kill = None
    disk, world.disk = world.disk, {}
    await world.run(world.process("two"))
    assert states(world) == {"c1": ConsentState.ASKED}
    world.disk = disk
    await world.run(world.process("one"))
    assert states(world) == {"c1": ConsentState.DONE}


async def test_a_kept_grant_of_a_request_that_waits_is_parked() -> None:
    """As after a restore of the database. Operators decide what becomes of it."""
    world = device_world(GRANT)
    world.lost.add("bind")
    exchange = world.process()
    await exchange.look({"acme": None})
    await exchange.ended()
    world.rows["c1"].state = ConsentState.WAITING
    ((entry, _),) = world.disk.values()
    assert await exchange.replay(entry) is ReplayResult.SUPERSEDED
    assert [state for _, state in world.disk.values()] == [EntryState.SUPERSEDED]
