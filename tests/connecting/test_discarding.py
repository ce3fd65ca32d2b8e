"""Grants that are not stored: revoked, unless that could end a stored one."""

from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.connecting.discarding import LATER
from daemon.domain.consent_request import (
    DISCARDED_WITHIN,
    HELD_FOR,
    LEASE,
    ConsentFailure,
    ConsentFailureKind,
    ConsentState,
)
from daemon.domain.discard import Harm
from daemon.domain.reply import NoReply, Reply
from daemon.domain.revocation import PresentedToken, Revocation, RevocationEnds
from tests.connecting.fakes import ACME, GRANT, NOON, OpenLane, World, answered, states
from tests.connecting.test_held_grants import held, killed

PAGE = "https://acme.example/apps"
NO_ANSWER = NoReply(code="timeout", message="no response in time", sent=True, asked_at=NOON)
ENDS_TOKEN = replace(ACME, definition=replace(ACME.definition, revoke=Revocation(ends=RevocationEnds.TOKEN)))
WITHOUT = replace(ACME, definition=replace(ACME.definition, revoke_url=None))


async def abandoned(world: World) -> None:
    await held(world)
    world.clock.passed = HELD_FOR
    for _ in range(2):
        await world.run(world.process())
    assert states(world)["c1"] is ConsentState.ABANDONED


async def test_a_new_account_is_revoked() -> None:
    """Nothing stored can end with it. The record is written before the request."""
    world = World()
    await abandoned(world)
    assert world.revoked == ["rt-1"]
    assert world.records == {("revoking", "c1"): ("acme:7", None)}
    assert world.diary.index("revoking") < world.diary.index("revoke")
    assert world.rows["c1"].grant is None
    assert world.asked_about == [(["acme"], None)]


@pytest.mark.parametrize("harm", [Harm.SAME_ACCOUNT, Harm.SAME_TOKEN])
async def test_a_grant_whose_revocation_could_end_a_stored_one_is_left_alive(harm: Harm) -> None:
    """With a record that has the page on which its owner can end it."""
    world = World(harmed=harm)
    await abandoned(world)
    assert not world.revoked
    assert world.records == {(harm.value, "c1"): ("acme:7", PAGE)}
    assert world.rows["c1"].grant is None


async def test_where_a_revocation_ends_one_token_a_grant_of_the_same_account_is_revoked() -> None:
    """Its access token, too: no stored token is among them."""
    world = World(harmed=Harm.SAME_ACCOUNT, providers={"acme": ENDS_TOKEN})
    await abandoned(world)
    assert world.revoked == ["rt-1", "at-1"]


@pytest.mark.parametrize(("later", "forgotten"), [(timedelta(minutes=30), True), (timedelta(hours=2), False)])
async def test_an_unknown_access_token_ends_the_care_only_while_it_would_be_alive(
    later: timedelta, *, forgotten: bool
) -> None:
    """The request before was lost. Afterwards the token may be unknown because it is over, with a living refresh token."""
    by_access = Revocation(token=PresentedToken.ACCESS)
    provider = replace(ACME, definition=replace(ACME.definition, revoke=by_access))
    world = World(providers={"acme": provider})
    world.answers = [NO_ANSWER, answered({"error": "invalid_token"}, status=401)]
    await abandoned(world)
    world.clock.passed = later
    await world.run(world.process())
    assert world.revoked == ["at-1", "at-1"]
    assert (world.rows["c1"].grant is None) is forgotten


async def test_a_refresh_token_that_is_stored_is_never_revoked() -> None:
    """Some providers answer a second consent with the same one."""
    world = World(harmed=Harm.SAME_TOKEN, providers={"acme": ENDS_TOKEN})
    await abandoned(world)
    assert not world.revoked


async def test_an_access_token_alone_may_be_the_stored_one() -> None:
    """So it is not revoked where a stored token may be of the same account."""
    world = World(
        harmed=Harm.SAME_ACCOUNT,
        providers={"acme": ENDS_TOKEN},
        reply=answered({"access_token": "at-1", "expires_in": 9}),
    )
    world.add()
    for _ in range(2):
        await world.run(world.process())
    assert states(world) == {"c1": ConsentState.FAILED}
    assert not world.revoked
    assert world.records == {("same_account", "c1"): ("acme:7", PAGE)}


async def test_a_provider_without_revocation() -> None:
    """The owner's page is all that is left."""
    world = World(providers={"acme": WITHOUT})
    await abandoned(world)
    assert world.records == {("no_revocation", "c1"): ("acme:7", PAGE)}
    assert world.rows["c1"].grant is None


async def test_providers_of_one_client_are_looked_at_together() -> None:
    """An operator may have configured one client twice."""
    twin = replace(ACME, definition=replace(ACME.definition, name="twin"))
    world = World(providers={"acme": ACME, "twin": twin, "else": replace(ACME, client_id="else")})
    await abandoned(world)
    assert world.asked_about == [(["acme", "twin"], None)]


@pytest.mark.parametrize(
    "kind",
    [
        ConsentFailureKind.OTHER_ACCOUNT,
        ConsentFailureKind.DUPLICATE,
        ConsentFailureKind.REVOKING,
        ConsentFailureKind.NO_REFRESH_TOKEN,
    ],
)
@pytest.mark.parametrize("harm", [Harm.NONE, Harm.SAME_TOKEN])
async def test_the_same_care_for_an_unbound_grant(kind: ConsentFailureKind, harm: Harm) -> None:
    """That must not be stored."""
    world = World(harmed=harm, refusal=ConsentFailure(kind=kind, message="no"))
    world.add()
    for _ in range(2):
        await world.run(world.process())
    failure = world.rows["c1"].failure
    assert failure is not None
    assert failure.kind is kind
    assert world.revoked == (["rt-1"] if harm is Harm.NONE else [])
    assert world.rows["c1"].grant is None
    assert not world.disk


@pytest.mark.parametrize("answer", [NO_ANSWER, answered({}, status=503), answered({}, status=429)])
async def test_a_revocation_is_tried_again(answer: Reply | NoReply) -> None:
    """The refresh token stays sealed until then."""
    world = World(answers=[answer, answer])
    await abandoned(world)
    assert world.revoked == ["rt-1"]
    assert world.rows["c1"].grant is not None
    await world.run(world.process())
    assert world.revoked == ["rt-1"]
    for hours in (1, 2):
        world.clock.passed = timedelta(hours=hours)
        await world.run(world.process())
    assert world.revoked == ["rt-1"] * 3
    assert world.rows["c1"].grant is None
    assert list(world.records) == [("revoking", "c1")]


async def test_a_provider_that_never_answers_leaves_a_grant_alive() -> None:
    """After a week, which is in the audit then."""
    world = World(answers=[NO_ANSWER] * 999)
    await abandoned(world)
    for days in range(1, 7):
        world.clock.passed = timedelta(days=days)
        await world.run(world.process())
    assert world.rows["c1"].grant is not None
    tried = len(world.revoked)
    world.clock.passed = HELD_FOR + DISCARDED_WITHIN
    await world.run(world.process())
    assert len(world.revoked) == tried
    assert world.rows["c1"].grant is None
    assert world.records["not_answered", "c1"] == ("acme:7", PAGE)


async def test_a_client_that_is_refused_is_tried_again_once_a_day() -> None:
    """An operator may correct it."""
    world = World(answers=[answered({"error": "invalid_client"}, status=401)])
    await abandoned(world)
    world.clock.passed = timedelta(hours=12)
    await world.run(world.process())
    assert len(world.revoked) == 1
    world.clock.passed = timedelta(hours=25)
    await world.run(world.process())
    assert len(world.revoked) == 2
    assert world.rows["c1"].grant is None


async def test_a_revocation_waits_while_another_grant_of_the_account_is_held() -> None:
    """The owner has started again, and is about to complete it."""
    world = World()
    await held(world)
    world.clock.passed = timedelta(minutes=9)
    world.reply = replace(GRANT, body=GRANT.body.replace(b"rt-1", b"rt-2"), asked_at=world.clock.now())
    await held(world, "c2")
    world.clock.passed = HELD_FOR
    for _ in range(2):
        await world.run(world.process())
    assert states(world)["c1"] is ConsentState.ABANDONED
    assert not world.revoked
    world.complete("c2")
    world.clock.passed = HELD_FOR + LATER
    world.harmed = Harm.SAME_ACCOUNT  # by the token of c2
    for _ in range(2):
        await world.run(world.process())
    assert states(world)["c2"] is ConsentState.DONE
    assert not world.revoked
    assert world.records == {("same_account", "c1"): ("acme:7", PAGE)}


async def test_a_revocation_waits_for_that_of_the_stored_token() -> None:
    """After it, nothing of the account is stored, and nothing is to stay alive."""
    world = World(harmed=Harm.SOON)
    await abandoned(world)
    assert not world.revoked
    world.harmed = Harm.NONE
    world.clock.passed = HELD_FOR + LATER
    await world.run(world.process())
    assert world.revoked == ["rt-1"]


async def test_a_grant_whose_key_never_comes_is_left_alive() -> None:
    """After a week."""
    world = World()
    await held(world)
    world.rows["c1"].readable = False
    world.clock.passed = HELD_FOR
    for _ in range(2):
        await world.run(world.process())
    assert not world.records
    world.clock.passed = HELD_FOR + DISCARDED_WITHIN
    await world.run(world.process())
    assert world.records == {("unreadable", "c1"): ("acme:7", PAGE)}


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["take_grant", "revoke", "forget_grant", "left_alive"])
async def test_wherever_the_process_ends_the_grant_is_revoked_or_recorded(step: str, moment: str) -> None:
    """One record, however often it was tried; a second revocation does no harm."""
    world = World(harmed=Harm.SAME_ACCOUNT if step == "left_alive" else Harm.NONE)
    await held(world)
    world.clock.passed = HELD_FOR
    await world.run(world.process())
    await killed(world, (step, moment))
    for _ in range(2):
        await world.run(world.process())
    assert world.rows["c1"].grant is None
    assert set(world.revoked) == (set() if step == "left_alive" else {"rt-1"})
    assert len(world.records) == 1


async def test_many_instances_revoke_once() -> None:
    """And another one takes over after the lease."""
    world = World()
    await held(world)
    world.clock.passed = HELD_FOR
    await world.run(world.process())
    await killed(world, ("revoke", "before"))
    await world.run(world.process("another", lane=OpenLane()))
    assert not world.revoked
    world.clock.passed = HELD_FOR + LEASE
    await world.run(world.process("another"))
    assert world.revoked == ["rt-1"]
