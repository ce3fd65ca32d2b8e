"""A token for a caller: permitted, fresh enough or renewed, and opened."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network

import pytest

from daemon.domain.access_key import Verb
from daemon.domain.provider import Definition
from daemon.domain.served_token import ServedToken
from daemon.domain.token import Failure, FailureKind
from daemon.serving.doorkeeper import Caller
from daemon.serving.problems import Problem
from daemon.serving.reading import Accepted, Reading, Served, Wanted
from daemon.serving.seats import Seats
from tests.serving.fakes import MINUTE, NOON, World, token

ACME = Definition(name="acme", title="Acme", token_url="https://acme.example/token")
LONG = timedelta(seconds=30)


@pytest.fixture
def world() -> World:
    return World()


def reading(world: World, *, seats: Seats | None = None) -> Reading:
    return Reading(
        world,
        world,
        world.clock,
        definitions=lambda: {"acme": ACME},
        fresh_for=MINUTE,
        reconnect_url="https://app.example/reconnect?token={id}",
        seats=seats,
    )


def caller(world: World, *tokens: str, can: tuple[Verb, ...] = tuple(Verb), **fields: object) -> Caller:
    _, key = world.key(*tokens, can=can, **fields)
    return Caller(key=key, address="10.0.0.1")


async def problem(world: World, who: Caller, name: str = "acme:me", wanted: Wanted | None = None) -> Problem:
    with pytest.raises(Problem) as caught:
        await reading(world).read(who, name, wanted or Wanted())
    return caught.value


def renew(world: World, text: str = "second", **fields: object) -> None:
    """Let the daemon fulfil every wish."""
    now = world.clock.now()
    world.on_wish = lambda one: world.store(
        replace(
            token(one.id, text),
            issued_at=now,
            refreshed_at=now,
            expires_at=now + 60 * MINUTE,
            due_at=now + 55 * MINUTE,
            **fields,  # type: ignore[arg-type]
        )
    )


async def test_a_fresh_token_is_read_without_a_wish(world: World):
    world.store(token())
    served = await reading(world).read(caller(world), "acme:me", Wanted())
    assert (served.access_token.reveal(), served.away, world.wishes) == ("opened first", False, [])


@pytest.mark.parametrize(
    ("tokens", "fields"),
    [
        (("acme:you",), {}),
        (("acme:m",), {}),
        (("xero:*",), {}),
        (("acme:*",), {"can": (Verb.LIST, Verb.REFUSE)}),
        (("acme:*",), {"where": {"subject": "u2"}}),
        (("acme:*",), {"where": {"subject": "u1", "meta.tenant": "t2"}}),
        (("acme:*",), {"where": {"meta.missing": ""}}),
    ],
)
async def test_what_a_key_may_not_read_looks_unknown(
    world: World, tokens: tuple[str, ...], fields: dict[str, object]
):
    world.store(token(selected={"subject": "u1", "meta.tenant": "t1"}))
    forbidden = await problem(world, caller(world, *tokens, **fields))
    unknown = await problem(world, caller(world), "acme:nobody")
    assert (
        (forbidden.name, forbidden.detail) == (unknown.name, unknown.detail) == ("not-found", unknown.detail)
    )


async def test_a_key_reads_the_tokens_that_its_conditions_name(world: World):
    world.store(token(selected={"subject": "u1", "meta.tenant": "t1"}))
    who = caller(
        world, "acme:m*", where={"subject": "u1", "meta.tenant": "t1"}, networks=(ip_network("::/0"),)
    )
    assert (await reading(world).read(who, "acme:me", Wanted())).token.id == "acme:me"


@pytest.mark.parametrize(
    ("state", "name"),
    [
        ("needs_reauth", "needs-reauth"),
        ("paused", "paused"),
        ("revoking", "revoking"),
        ("revoked", "not-found"),
        ("", "not-found"),
    ],
)
async def test_a_token_out_of_use_is_not_served(world: World, state: str, name: str):
    failure = Failure(kind=FailureKind.REJECTED, code="invalid_grant", message="provider's words", at=NOON)
    world.store(token(state=state, last_failure=failure))
    found = await problem(world, caller(world))
    assert found.name == name
    assert "provider's words" not in str(found.fields)
    if name == "needs-reauth":
        assert found.fields["reconnect_url"] == "https://app.example/reconnect?token=acme%3Ame"


async def test_a_token_past_its_end_is_renewed_while_the_caller_waits(world: World):
    world.store(token(expires_at=NOON))
    renew(world)
    served = await reading(world).read(caller(world), "acme:me", Wanted(wait=LONG))
    assert (served.access_token.reveal(), world.wishes) == ("opened second", [("acme:me", None)])


async def test_a_caller_that_does_not_wait_hears_when_to_come_again(world: World):
    world.store(token(expires_at=NOON))
    found = await problem(world, caller(world))
    assert (found.name, len(world.wishes)) == ("renewing", 1)
    assert found.retry_after == 25 * MINUTE


async def test_a_token_that_lives_shorter_than_usual_is_better_than_none(world: World):
    world.store(token(expires_at=NOON + timedelta(seconds=30)))
    served = await reading(world).read(caller(world), "acme:me", Wanted())
    assert (served.access_token.reveal(), len(world.wishes)) == ("opened first", 1)
    explicit = await problem(world, caller(world), wanted=Wanted(fresh_for=MINUTE))
    assert explicit.name == "renewing"


@pytest.mark.parametrize("fields", [{"failures": 1}, {"refreshed_at": NOON}])
async def test_no_wish_is_written_for_a_failing_or_just_renewed_token(
    world: World, fields: dict[str, object]
):
    world.store(token(expires_at=NOON, **fields))
    assert (await problem(world, caller(world))).name == "renewing"
    assert world.wishes == []


async def test_no_wish_is_written_for_a_resting_provider(world: World):
    world.store(token(expires_at=NOON))
    world.resting.add("acme")
    assert (await problem(world, caller(world))).name == "renewing"
    assert world.wishes == []


async def test_a_token_that_can_never_be_renewed_needs_its_owner(world: World):
    world.store(token(expires_at=NOON, due_at=None))
    assert (await problem(world, caller(world))).name == "needs-reauth"


async def test_a_scope_that_was_not_granted_is_named(world: World):
    world.store(token(scope="read"))
    found = await problem(world, caller(world), wanted=Wanted(scope=frozenset({"read", "write"})))
    assert (found.name, found.fields["missing_scopes"]) == ("scope-missing", ["write"])


async def test_many_refusals_of_one_version_make_one_wish(world: World):
    world.store(token())
    service, who = reading(world), caller(world)
    version = world.tokens["acme:me"].version or ""
    waits = [asyncio.create_task(service.refused(who, "acme:me", version, LONG)) for _ in range(40)]
    await asyncio.sleep(0.01)
    first = world.wishes[0][1]
    assert first is not None
    world.store(replace(world.tokens["acme:me"], refusals=first))
    wished = len(world.wishes)
    more = [asyncio.create_task(service.refused(who, "acme:me", version, LONG)) for _ in range(5)]
    await asyncio.sleep(0.01)
    assert len(world.wishes) == wished
    renew(world)
    world.on_wish(world.tokens["acme:me"])
    for done in await asyncio.gather(*waits, *more):
        assert isinstance(done, Served)
        assert done.access_token.reveal() == "opened second"


async def test_a_refusal_of_an_old_version_brings_the_current_one(world: World):
    world.store(token(text="second"))
    done = await reading(world).refused(caller(world), "acme:me", "an older version", timedelta(0))
    assert isinstance(done, Served)
    assert world.wishes == []


async def test_a_refusal_that_is_not_answered_in_time_is_accepted(world: World):
    world.store(token())
    version = world.tokens["acme:me"].version or ""
    done = await reading(world).refused(caller(world), "acme:me", version, timedelta(0))
    assert isinstance(done, Accepted)
    assert len(world.wishes) == 1


async def test_waiting_callers_have_limited_places(world: World):
    world.store(token(expires_at=NOON))
    service, who = reading(world, seats=Seats(most=10, most_of_one_key=2)), caller(world)
    waits = [asyncio.create_task(service.read(who, "acme:me", Wanted(wait=LONG))) for _ in range(5)]
    await asyncio.sleep(0.01)
    ended = [one for one in waits if one.done()]
    assert len(ended) == 3
    assert all(isinstance(one.exception(), Problem) for one in ended)
    renew(world)
    world.on_wish(world.tokens["acme:me"])
    assert sum(isinstance(one, Served) for one in await asyncio.gather(*waits, return_exceptions=True)) == 2


async def test_a_caller_that_leaves_frees_its_place_and_cancels_nothing(world: World):
    world.store(token(expires_at=NOON))
    service, who = reading(world, seats=Seats(most=1)), caller(world)
    leaving = asyncio.create_task(service.read(who, "acme:me", Wanted(wait=LONG)))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    staying = asyncio.create_task(service.read(who, "acme:me", Wanted(wait=LONG)))
    await asyncio.sleep(0.01)
    renew(world)
    world.on_wish(world.tokens["acme:me"])
    assert (await staying).access_token.reveal() == "opened second"


async def test_at_a_stop_those_who_wait_are_answered(world: World):
    world.store(token(expires_at=NOON))
    service = reading(world)
    waiting = asyncio.create_task(service.read(caller(world), "acme:me", Wanted(wait=LONG)))
    await asyncio.sleep(0.01)
    service.stop_waiting()
    with pytest.raises(Problem, match="not available yet"):
        await asyncio.wait_for(waiting, 1)


async def test_a_token_paused_while_its_caller_waits_is_not_served(world: World):
    world.store(token(expires_at=NOON))
    waiting = asyncio.create_task(reading(world).read(caller(world), "acme:me", Wanted(wait=LONG)))
    await asyncio.sleep(0.01)
    world.store(token(state="paused"))
    with pytest.raises(Problem, match="paused"):
        await asyncio.wait_for(waiting, 1)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, None),
        ({"expires_at": NOON}, "unavailable"),
        ({"expires_at": None}, "unavailable"),
        ({"state": "revoking"}, "revoking"),
        ({"state": "paused"}, "paused"),
        ({"sealed": None}, "unavailable"),
    ],
)
async def test_without_mongodb_only_a_token_with_an_end_that_has_not_come_is_served(
    world: World, fields: dict[str, object], name: str | None
):
    world.store(token(**fields))
    world.away = True
    if name is not None:
        assert (await problem(world, caller(world))).name == name
        return
    served = await reading(world).read(caller(world), "acme:me", Wanted(fresh_for=timedelta(hours=9)))
    assert served.away
    assert world.wishes == []


async def test_without_mongodb_a_scope_that_was_not_granted_is_named_too(world: World):
    """Memory knows the scope, so an outage is no reason to hand out a token that the caller can't use."""
    world.store(token(scope="read"))
    world.away = True
    found = await problem(world, caller(world), wanted=Wanted(scope=frozenset({"write"})))
    assert (found.name, found.fields["missing_scopes"]) == ("scope-missing", ["write"])
    assert (await reading(world).read(caller(world), "acme:me", Wanted(scope=frozenset({"read"})))).away


async def test_a_text_of_another_key_is_not_served(world: World):
    world.store(token(text="sealed by a stranger"))
    assert (await problem(world, caller(world))).name == "unavailable"


def test_the_version_changes_with_the_stored_text_only():
    one = ServedToken(id="a:b", provider="a", account="b", state="active")
    assert one.version is None
    assert one.lifetime is None
    assert not one.is_usable(NOON)
