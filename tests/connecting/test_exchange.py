"""The life of a consent, and what is left of it wherever the process ends."""

import asyncio
from datetime import timedelta

import pytest

from daemon.connecting.exchange import EXPIRE_EVERY, MOST_OF_ONE, CodeExchange
from daemon.domain.consent_request import ConsentFailure, ConsentFailureKind, ConsentState
from daemon.domain.event import ConsentFailed, TokenConnected
from daemon.domain.journal_entry import Entry, EntryKind, EntryState, ReplayResult
from daemon.domain.reply import NoReply
from tests.connecting.fakes import NOON, Killed, OpenLane, World, answered, states

STEPS = ["take", "send", "keep", "bind", "done", "forget"]


async def test_a_code_becomes_a_token() -> None:
    """In the order that makes it safe: the reply is kept before anything depends on it."""
    world = World()
    world.add()
    await world.run(world.process())
    assert world.diary == STEPS
    assert states(world) == {"c1": ConsentState.DONE}
    token = world.tokens["acme:7"]
    assert token.refresh_token is not None
    assert token.refresh_token.reveal() == "rt-1"
    assert token.expires_at == NOON + timedelta(hours=1)
    assert world.bindings["acme:7"].asked_at == NOON
    assert not world.disk


async def _killed(world: World, step: str, moment: str) -> None:
    """Run a process that ends at this step."""
    world.kill = (step, moment)
    exchange = world.process()
    await exchange.look({"acme": None})
    (task,) = list(exchange._running.values())
    with pytest.raises(Killed):
        await task
    world.kill = None


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
async def test_wherever_the_process_ends_the_next_start_finishes_or_gives_up(step: str, moment: str) -> None:
    """J2: no grant, or a whole one; and the code is presented once at most."""
    world = World()
    world.add()
    await _killed(world, step, moment)
    await world.run(world.process())
    await world.run(world.process())
    assert len(world.sent) <= 1
    assert not world.disk
    kept = (step, moment) not in {
        ("take", "after"),
        ("send", "before"),
        ("send", "after"),
        ("keep", "before"),
    }
    if kept:
        assert states(world) == {"c1": ConsentState.DONE}
        assert len(world.sent) == 1
        assert "acme:7" in world.tokens
    else:
        assert states(world) == {"c1": ConsentState.FAILED}
        failure = world.rows["c1"].failure
        assert failure is not None
        assert failure.kind is ConsentFailureKind.INTERRUPTED
        assert "start again" in failure.message
        assert not world.tokens


@pytest.mark.parametrize("step", ["bind", "done"])
async def test_a_reply_outlives_a_loss_of_the_store(step: str) -> None:
    """It is replayed, and is not given up before that."""
    world = World(lost={step})
    world.add()
    exchange = world.process()
    await exchange.look({"acme": None})
    await exchange.ended()
    assert len(world.disk) == 1
    await exchange.look({"acme": None})
    assert states(world) == {"c1": ConsentState.ASKED}
    await world.run(exchange)
    assert states(world) == {"c1": ConsentState.DONE}
    assert len(world.sent) == 1
    assert not world.bugs


async def test_a_store_that_is_lost_while_a_request_is_taken_leaves_it_waiting_or_gives_it_up() -> None:
    """Nothing was sent in either case."""
    world = World(lost={"take"})
    world.add()
    exchange = world.process()
    await exchange.look({"acme": None})
    await exchange.ended()
    assert not world.sent
    assert states(world) == {"c1": ConsentState.WAITING}
    await world.run(exchange)
    assert states(world) == {"c1": ConsentState.DONE}


async def test_two_instances_present_a_code_once() -> None:
    """The one that takes it."""
    world = World()
    world.add()
    one, two = world.process("one"), world.process("two")
    await asyncio.gather(world.run(one), world.run(two))
    assert len(world.sent) == 1
    assert states(world) == {"c1": ConsentState.DONE}


async def test_a_running_exchange_is_neither_given_up_nor_replayed() -> None:
    """A sweep and the next look come while its provider takes its time."""
    world = World()
    world.add()
    exchange = world.process()
    await exchange.look({"acme": None})
    while "send" not in world.diary:
        await asyncio.sleep(0)
    await exchange.look({"acme": None})
    assert states(world) == {"c1": ConsentState.ASKED}
    await exchange.ended()
    assert states(world) == {"c1": ConsentState.DONE}
    assert len(world.sent) == 1


async def test_the_entry_blocks_its_token_and_names_its_consent() -> None:
    """So a renewal doesn't run beside it, and a replay doesn't take it for a refresh."""
    world = World(lost={"bind"})
    world.add()
    exchange = world.process()
    await exchange.look({"acme": None})
    await exchange.ended()
    ((entry, _),) = world.disk.values()
    assert (entry.token, entry.claim, entry.spent) == ("acme:7", "consent:c1", None)
    assert entry.kind is EntryKind.CONSENT


async def test_nothing_begins_while_the_lane_is_closed() -> None:
    """A paused provider, a full journal, a stop: the request waits for another moment or instance."""
    world = World()
    world.add()
    await world.run(world.process(lane=OpenLane(is_open=False)))
    assert states(world) == {"c1": ConsentState.WAITING}
    assert not world.sent


@pytest.mark.parametrize(
    ("reply", "kind", "left"),
    [
        (answered({"error": "invalid_grant"}, status=400), ConsentFailureKind.REFUSED, None),
        (answered({"odd": 1}), ConsentFailureKind.UNPARSED, EntryState.UNPARSED),
        (
            answered({"access_token": "a", "refresh_token": "b", "token_type": "DPoP"}),
            ConsentFailureKind.UNUSABLE,
            EntryState.UNPARSED,
        ),
        (answered({"access_token": "a", "expires_in": 9}), ConsentFailureKind.NO_REFRESH_TOKEN, None),
        (
            NoReply(code="timeout", message="no response in time", sent=True, asked_at=NOON),
            ConsentFailureKind.UNAVAILABLE,
            None,
        ),
    ],
    ids=["refused", "unparsed", "sender-constrained", "no refresh token", "no reply"],
)
async def test_without_a_grant_the_consent_has_failed(
    reply: object, kind: ConsentFailureKind, left: EntryState | None
) -> None:
    """A reply that may hold tokens is kept for operators."""
    world = World(reply=reply)  # type: ignore[arg-type]
    world.add()
    await world.run(world.process())
    failure = world.rows["c1"].failure
    assert failure is not None
    assert failure.kind is kind
    assert [state for _, state in world.disk.values()] == ([] if left is None else [left])
    assert not world.tokens
    await world.run(world.process())
    assert len(world.sent) == 1


async def test_a_malformed_request_fails_and_presents_nothing() -> None:
    """The waiting process learns why."""
    world = World(malformed=True)
    world.add()
    await world.run(world.process())
    failure = world.rows["c1"].failure
    assert failure is not None
    assert failure.kind is ConsentFailureKind.UNREADABLE
    assert not world.sent


async def test_a_grant_that_must_not_be_stored_fails_the_consent() -> None:
    """Such as another account's."""
    refusal = ConsentFailure(kind=ConsentFailureKind.OTHER_ACCOUNT, message="another account")
    world = World(refusal=refusal)
    world.add()
    await world.run(world.process())
    assert world.rows["c1"].failure == refusal
    assert not world.disk


async def _late(world: World, exchange: CodeExchange) -> Entry:
    """Return the entry of a reply that could not be bound yet."""
    world.lost = {"bind"}
    world.add()
    await exchange.look({"acme": None})
    await exchange.ended()
    ((entry, _),) = world.disk.values()
    return entry


async def test_a_reply_whose_request_is_gone_is_kept_for_operators() -> None:
    """MongoDB has deleted it."""
    world = World()
    exchange = world.process()
    entry = await _late(world, exchange)
    del world.rows["c1"]
    assert await exchange.replay(entry) is ReplayResult.SUPERSEDED
    assert world.disk[entry.key][1] is EntryState.SUPERSEDED
    assert not world.tokens


async def test_the_grant_of_a_request_that_has_ended_is_discarded() -> None:
    """Another instance gave it up in between: nobody could use the grant any more."""
    world = World()
    exchange = world.process()
    entry = await _late(world, exchange)
    world.rows["c1"].state = ConsentState.FAILED
    assert await exchange.replay(entry) is ReplayResult.SUPERSEDED
    assert not world.disk
    await world.run(exchange)
    assert world.revoked == ["rt-1"]
    assert not world.tokens


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_reply_without_a_grant_is_not_read_again_after_a_crash(moment: str) -> None:
    """The consent has failed; a restart only drops its reply, as it would have been dropped."""
    world = World(reply=answered({"error": "invalid_grant"}, status=400))
    world.add()
    await _killed(world, "failed", moment)
    await world.run(world.process())
    failure = world.rows["c1"].failure
    assert failure is not None
    assert failure.kind is ConsentFailureKind.REFUSED
    assert not world.disk
    assert len(world.sent) == 1


async def test_a_provider_that_hangs_holds_up_its_own_consents_only() -> None:
    """It has as many as are allowed for one; another's is exchanged in the next look."""
    world = World(gate=asyncio.Event())
    for number in range(MOST_OF_ONE + 3):
        world.add(f"c{number}", account=str(number))
    exchange = world.process()
    assert await exchange.look({"acme": None, "other": None}) == MOST_OF_ONE
    world.add("o1", account="1", provider="other")
    assert await exchange.look({"acme": None, "other": None}) == 1
    assert await exchange.look({"acme": None, "other": None}) == 0
    assert world.gate is not None
    world.gate.set()
    await exchange.ended()
    assert states(world)["o1"] is ConsentState.DONE
    await world.run(exchange)
    assert set(states(world).values()) == {ConsentState.DONE}


async def test_a_look_that_finds_nothing_asks_one_question() -> None:
    """Each replica looks every second, for years, and consents are rare."""
    world = World()
    exchange = world.process()
    for _ in range(3):
        await world.run(exchange)
    assert (world.looks, world.searches) == (3, 0)
    world.add()
    await world.run(exchange)
    assert states(world)["c1"] is ConsentState.DONE
    await world.run(exchange)
    assert (world.looks, world.searches) == (5, 1)


async def test_expired_requests_are_ended_once_a_minute() -> None:
    """Their codes are not to lie there for long."""
    world = World()
    world.add()
    exchange = world.process(lane=OpenLane(is_open=False))
    await world.run(exchange)
    await world.run(exchange)
    assert world.expiries == 1
    world.clock.passed = EXPIRE_EVERY
    await world.run(exchange)
    assert world.expiries == 2


async def test_an_end_is_reported_once() -> None:
    """With the reason, for the log."""
    world = World()
    world.add("c1")
    await world.run(world.process())
    world.reply = answered({"error": "invalid_grant"}, status=400)
    world.add("c2", account="8")
    await world.run(world.process())
    assert world.events == [
        TokenConnected(token="acme:7", provider="acme", consent="c1"),
        ConsentFailed(
            token="acme:8",
            provider="acme",
            consent="c2",
            kind="refused",
            code="invalid_grant",
            message="invalid_grant",
        ),
    ]


async def test_one_consents_bug_does_not_reach_the_others() -> None:
    """It is reported, and its reply waits."""
    world = World()
    world.add("c1")
    world.add("c2", account="8")
    exchange = world.process()
    binding = exchange._binder._tokens.bind

    async def bind(token, consent):  # type: ignore[no-untyped-def]
        if token.id == "acme:7":
            raise ValueError("a bug")
        return await binding(token, consent)

    exchange._binder._tokens.bind = bind  # type: ignore[method-assign]
    await exchange.look({"acme": None})
    await exchange.ended()
    assert [type(one) for one in world.bugs] == [ValueError]
    assert states(world) == {"c1": ConsentState.ASKED, "c2": ConsentState.DONE}
    assert len(world.disk) == 1


@pytest.mark.parametrize("code", ["invalid_client", "unauthorized_client"])
async def test_a_refused_client_is_reported_as_such(code: str) -> None:
    """To the waiting process and in the log. Its provider isn't paused for one code."""
    world = World(reply=answered({"error": code, "error_description": "nope"}, status=401))
    world.add()
    await world.run(world.process())
    failure = world.rows["c1"].failure
    assert failure is not None
    assert (failure.kind, failure.code) == (ConsentFailureKind.REFUSED, code)
    assert "nope" in failure.message
    assert "check its ID, its secret" in failure.message
    (event,) = world.events
    assert isinstance(event, ConsentFailed)
    assert (event.code, event.message) == (code, failure.message)
