"""Grants that wait for their completion: stored then, and never before; given up if it does not come."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.connecting.exchange import CodeExchange
from daemon.connecting.held_grants import MOST_OF_ONE, MOST_UNREADABLE, OPEN_AGAIN
from daemon.domain.consent_request import HELD_FOR, LEASE, ConsentFailure, ConsentFailureKind, ConsentState
from daemon.domain.event import ConsentFailed, TokenConnected
from daemon.domain.held_grant import held_grant
from daemon.domain.secret import Secret
from tests.connecting.fakes import GRANT, NOON, Killed, OpenLane, World, answered, states


async def held(world: World, name: str = "c1") -> None:
    """A consent that is bound to a session, whose grant is there."""
    world.add(name, challenge="challenge")
    await world.run(world.process())
    assert states(world)[name] is ConsentState.ASKED


async def test_a_grant_is_held_and_the_stored_token_is_untouched() -> None:
    """The journal's entry goes only after the grant is sealed into its consent."""
    world = World()
    await held(world)
    assert world.diary == ["take", "send", "keep", "hold", "forget"]
    assert not world.tokens
    assert not world.events
    text = world.rows["c1"].grant
    assert text is not None
    grant = held_grant(text)
    assert grant.asked_at == NOON
    assert grant.consent.refresh_token == Secret("rt-1")
    await world.run(world.process())
    assert not world.tokens


async def test_a_completed_grant_is_stored_as_an_unbound_one_is() -> None:
    """With the time at which its code was presented, by which consents are ordered (J3)."""
    bound, unbound = World(), World()
    await held(bound)
    bound.clock.passed = timedelta(minutes=9)
    assert bound.complete()
    await bound.run(bound.process())
    unbound.add()
    await unbound.run(unbound.process())
    assert states(bound) == {"c1": ConsentState.DONE}
    assert bound.rows["c1"].grant is None
    assert bound.tokens["acme:7"].refresh_token == unbound.tokens["acme:7"].refresh_token
    assert bound.tokens["acme:7"].expires_at == unbound.tokens["acme:7"].expires_at
    assert bound.bindings == unbound.bindings
    assert bound.events == unbound.events == [TokenConnected(token="acme:7", provider="acme", consent="c1")]
    assert not bound.revoked


async def test_an_access_token_that_ends_while_it_is_held_is_renewed_first() -> None:
    """It is due as soon as it is stored."""
    world = World(reply=answered({"access_token": "at-1", "refresh_token": "rt-1", "expires_in": 60}))
    await held(world)
    world.clock.passed = timedelta(minutes=5)
    world.complete()
    await world.run(world.process())
    due_at = world.tokens["acme:7"].due_at
    assert due_at is not None
    assert due_at <= world.clock.now()


async def test_a_newer_consent_stands() -> None:
    """Although the older one was completed after it (J3). The older grant is discarded."""
    world = World()
    await held(world)
    world.clock.passed = timedelta(minutes=1)
    world.reply = replace(GRANT, body=GRANT.body.replace(b"rt-1", b"rt-2"), asked_at=world.clock.now())
    world.add("c2")
    await world.run(world.process())
    world.complete("c1")
    await world.run(world.process())
    assert world.tokens["acme:7"].refresh_token == Secret("rt-2")
    failure = world.rows["c1"].failure
    assert failure is not None
    assert failure.kind is ConsentFailureKind.SUPERSEDED
    await world.run(world.process())
    assert world.revoked == ["rt-1"]


async def test_without_completion_a_consent_is_abandoned() -> None:
    """At its time, not before, and it is reported once."""
    world = World()
    await held(world)
    world.clock.passed = HELD_FOR - timedelta(seconds=1)
    await world.run(world.process())
    assert states(world) == {"c1": ConsentState.ASKED}
    world.clock.passed = HELD_FOR
    assert not world.complete()
    for _ in range(3):
        await world.run(world.process())
    assert states(world) == {"c1": ConsentState.ABANDONED}
    assert not world.tokens
    (event,) = [one for one in world.events if isinstance(one, ConsentFailed)]
    assert event.kind == "abandoned"
    assert world.revoked == ["rt-1"]
    assert world.rows["c1"].grant is None


@pytest.mark.parametrize(
    "reply",
    [
        answered({"error": "invalid_grant"}, status=400),
        answered({"odd": 1}),
        answered({"access_token": "a", "expires_in": 9}),
    ],
    ids=["refused", "unparsed", "no refresh token"],
)
async def test_nothing_is_held_without_a_grant(reply: object) -> None:
    """The application learns of it as for an unbound consent."""
    world = World(reply=reply)  # type: ignore[arg-type]
    world.add(challenge="challenge")
    await world.run(world.process())
    assert states(world) == {"c1": ConsentState.FAILED}
    assert not world.complete()


async def test_a_completed_grant_that_must_not_be_stored_is_discarded() -> None:
    """Such as another account's."""
    world = World()
    await held(world)
    world.complete()
    world.refusal = ConsentFailure(kind=ConsentFailureKind.OTHER_ACCOUNT, message="another account")
    await world.run(world.process())
    assert world.rows["c1"].failure == world.refusal
    await world.run(world.process())
    assert world.revoked == ["rt-1"]
    assert not world.tokens


# ---------------------------------------------------------------- many instances, and crashes


async def test_many_instances_store_a_grant_once() -> None:
    """Any of them may: it is the property of none."""
    world = World()
    await held(world)
    world.complete()
    processes = [world.process(f"i{one}") for one in range(5)]
    await asyncio.gather(*(world.run(one) for one in processes))
    assert world.diary.count("bind") == 1
    assert states(world) == {"c1": ConsentState.DONE}
    assert len(world.events) == 1


async def test_another_instance_finishes_after_the_lease() -> None:
    """Not before."""
    world = World()
    await held(world)
    world.complete()
    await killed(world, ("bind", "before"))
    await world.run(world.process("another"))
    assert not world.tokens
    world.clock.passed = LEASE
    await world.run(world.process("another"))
    assert states(world) == {"c1": ConsentState.DONE}
    assert "acme:7" in world.tokens


async def killed(world: World, kill: tuple[str, str]) -> None:
    """Run a process of `me` that ends at this step."""
    world.kill = kill
    exchange = world.process()
    await exchange.look({"acme": None})
    tasks = [*exchange._running.values(), *exchange._held._running.values()]
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(one, Killed) for one in found)
    world.kill = None


HOLDING = ["take", "send", "keep", "hold", "forget"]


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", HOLDING)
async def test_wherever_the_process_ends_a_grant_is_held_whole_or_not_at_all(step: str, moment: str) -> None:
    """The next start holds it, or the owner starts again. The code is presented once at most."""
    world = World()
    world.add(challenge="challenge")
    await killed(world, (step, moment))
    await world.run(world.process())
    await world.run(world.process())
    assert len(world.sent) <= 1
    assert not world.disk
    assert not world.tokens
    lost = (step, moment) in {("take", "after"), ("send", "before"), ("send", "after"), ("keep", "before")}
    assert states(world)["c1"] is (ConsentState.FAILED if lost else ConsentState.ASKED)
    assert world.complete() is not lost
    await world.run(world.process())
    assert ("acme:7" in world.tokens) is not lost
    assert not world.revoked


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["take_grant", "bind", "done"])
async def test_wherever_the_process_ends_a_completed_grant_is_stored_once(step: str, moment: str) -> None:
    """By the next start of the same instance."""
    world = World()
    await held(world)
    world.complete()
    await killed(world, (step, moment))
    await world.run(world.process())
    assert states(world) == {"c1": ConsentState.DONE}
    assert world.rows["c1"].grant is None
    assert world.tokens["acme:7"].refresh_token == Secret("rt-1")
    await world.run(world.process())
    assert not world.revoked
    assert len(world.sent) == 1


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["take_grant", "give_up"])
async def test_wherever_the_process_ends_an_abandoned_grant_is_discarded(step: str, moment: str) -> None:
    """And no token is stored."""
    world = World()
    await held(world)
    world.clock.passed = HELD_FOR
    await killed(world, (step, moment))
    for _ in range(3):
        await world.run(world.process())
    assert states(world) == {"c1": ConsentState.ABANDONED}
    assert world.revoked == ["rt-1"]
    assert world.rows["c1"].grant is None
    assert not world.tokens


@pytest.mark.parametrize("step", ["hold", "bind", "done"])
async def test_a_loss_of_the_store_loses_no_grant(step: str) -> None:
    """The step is repeated: from the journal, or after the lease."""
    world = World(lost={step})
    world.add(challenge="challenge")
    exchange = world.process()
    await world.run(exchange)
    await world.run(exchange)
    assert world.complete()
    await world.run(exchange)
    world.clock.passed = LEASE
    await world.run(exchange)
    assert states(world) == {"c1": ConsentState.DONE}
    assert "acme:7" in world.tokens
    assert len(world.sent) == 1
    assert not world.bugs


# ---------------------------------------------------------------- limits


async def test_a_grant_is_stored_while_its_provider_is_paused() -> None:
    """Nothing is sent for that."""
    world = World()
    await held(world)
    world.complete()
    await world.run(world.process(lane=OpenLane(is_open=False)))
    assert states(world) == {"c1": ConsentState.DONE}


async def test_a_grant_is_not_revoked_while_its_provider_is_paused() -> None:
    """It is abandoned, and revoked later."""
    world = World()
    await held(world)
    world.clock.passed = HELD_FOR
    for _ in range(2):
        await world.run(world.process(lane=OpenLane(is_open=False)))
    assert states(world) == {"c1": ConsentState.ABANDONED}
    assert not world.revoked
    await world.run(world.process())
    assert world.revoked == ["rt-1"]


async def test_an_instance_takes_a_few_grants_of_one_provider() -> None:
    """A flood of one provider must not fill it."""
    world = World()
    for number in range(MOST_OF_ONE + 2):
        world.add(f"c{number}", account=str(number), challenge="challenge")
    exchange = world.process()
    await world.run(exchange)
    for number in range(MOST_OF_ONE + 2):
        world.complete(f"c{number}")
    await exchange.look({"acme": None})
    assert len(exchange._held._running) == MOST_OF_ONE
    await exchange.ended()
    await world.run(exchange)
    assert set(states(world).values()) == {ConsentState.DONE}


async def _opened_in_the_end(world: World, exchange: CodeExchange, *, tries: int) -> None:
    for one in range(tries):
        world.clock.passed = OPEN_AGAIN * one
        await world.run(exchange)


async def test_a_grant_that_can_not_be_opened_waits_for_its_key() -> None:
    """The key may be on another instance."""
    world = World()
    await held(world)
    world.complete()
    world.rows["c1"].readable = False
    exchange = world.process()
    await _opened_in_the_end(world, exchange, tries=3)
    assert states(world) == {"c1": ConsentState.ASKED}
    world.rows["c1"].readable = True
    world.clock.passed = timedelta(hours=1)
    await world.run(exchange)
    assert states(world) == {"c1": ConsentState.DONE}


@pytest.mark.parametrize("text", [None, "{}", "no JSON", "[]", '{"issued_at": 5}'])
async def test_a_grant_that_can_never_be_read_fails_its_consent(text: str | None) -> None:
    """The application learns of it."""
    world = World()
    await held(world)
    world.complete()
    if text is None:
        world.rows["c1"].readable = False
    else:
        world.rows["c1"].grant = Secret(text)
    await _opened_in_the_end(world, world.process(), tries=MOST_UNREADABLE + 1)
    failure = world.rows["c1"].failure
    assert failure is not None
    assert failure.kind is ConsentFailureKind.UNREADABLE
    assert not world.tokens


async def test_a_consent_whose_fields_were_changed_is_not_stored() -> None:
    """Its grant could end at another account, and its tokens could be sent to another provider."""
    world = World()
    await held(world)
    world.complete()
    world.malformed = True
    for _ in range(2):
        await world.run(world.process())
    assert states(world) == {"c1": ConsentState.FAILED}
    assert not world.tokens
    assert not world.revoked
    assert world.records == {("unreadable", "c1"): ("c1", "https://acme.example/apps")}
