"""Consents that an application begins, in the real MongoDB: each link, state and connect code is of use once."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from daemon.domain.authorization import code_challenge
from daemon.domain.consent_request import (
    CODE_LIVES,
    HELD_FOR,
    MOST_TRIES,
    WAITS_FOR,
    Completion,
    ConsentFailureKind,
    ConsentProgress,
    ConsentRequest,
    ConsentState,
    identified,
)
from daemon.domain.secret import Secret
from daemon.domain.session_proof import Proof, hashed
from tests.adapters.mongo.connecting.consent_bench import FAILURE, NOON, REQUEST, Bench, opened
from tests.adapters.mongo.mongo_bench import RING

APPLICATIONS = replace(
    REQUEST,
    code=None,
    code_verifier=None,
    code_challenge=code_challenge(Secret("v" * 43)),
    key="k1",
    return_url="https://app.example/done",
)
RIGHT: dict[str, Any] = {
    "key": "k1",
    "proof": Proof(connect_code=Secret("c" * 43), code_verifier=Secret("v" * 43)),
}
OTHER_SESSION = {"proof": Proof(connect_code=Secret("c" * 43), code_verifier=Secret("w" * 43))}
OTHER_BROWSER = {"proof": Proof(connect_code=Secret("d" * 43), code_verifier=Secret("v" * 43))}


@pytest.fixture
async def bench(mongod: str, database_name: str, mongo_client: Any) -> AsyncIterator[Bench]:
    async with opened(mongod, database_name, mongo_client) as found:
        yield found


async def begun(bench: Bench, name: str = "c1", **changes: Any) -> ConsentRequest:
    request = identified(replace(APPLICATIONS, id=name, **changes))
    await bench.of().insert(request, state_hash=None, link_hash=f"link-{name}")
    bench.ids[name] = request.id
    return request


async def pressed(bench: Bench, name: str = "c1", **changes: Any) -> ConsentRequest:
    await begun(bench, name, **changes)
    found = await bench.of().spend_link(
        f"link-{name}", browser_hash="browser", state_hash=f"state-{name}", code_verifier=Secret("v-4711")
    )
    assert found is not None
    return found


async def given(bench: Bench, name: str = "c1") -> ConsentRequest:
    request = await pressed(bench, name)
    assert await bench.of().called_back("acme", f"state-{name}", "browser") == request
    assert await bench.of().give_code(
        request.id, code=Secret("code-4712"), connect_code_hash=hashed(Secret("c" * 43))
    )
    return request


async def held(bench: Bench, name: str = "c1") -> ConsentRequest:
    request = await given(bench, name)
    assert await bench.of().take(request.id) is not None
    assert await bench.of().hold(request.id, Secret("grant-4713"), account="T1")
    return request


async def progress(bench: Bench, name: str = "c1") -> ConsentProgress:
    found = await bench.of().progress(bench.ids[name])
    assert found is not None
    return found


# ---------------------------------------------------------------- the link


async def test_a_link_leads_to_its_request_and_looking_changes_nothing(bench: Bench) -> None:
    """A page is only shown, also by programs that open each link of a mail."""
    request = await begun(bench)
    before = bench.document()
    assert await bench.of().by_link("link-c1") == request
    assert await bench.of().by_link("link-c2") is None
    assert bench.document() == before


async def test_a_link_is_used_once(bench: Bench) -> None:
    """Of many browsers, one goes on."""
    await begun(bench)
    found = await asyncio.gather(
        *(
            bench.of().spend_link(
                "link-c1", browser_hash=f"b{one}", state_hash=f"s{one}", code_verifier=Secret("v")
            )
            for one in range(8)
        )
    )
    assert sum(one is not None for one in found) == 1
    assert await bench.of().by_link("link-c1") is None
    assert "link_hash" not in bench.document()


async def test_a_button_gives_its_owner_time_again_and_seals_the_verifier(bench: Bench) -> None:
    """For the request's own id."""
    await begun(bench)
    bench.clock.passed = timedelta(minutes=14)
    request = await bench.of().spend_link(
        "link-c1", browser_hash="browser", state_hash="state", code_verifier=Secret("v-4711")
    )
    assert request is not None
    assert request.expires_at == NOON + timedelta(minutes=14) + WAITS_FOR
    document = bench.document()
    assert "4711" not in str(document)
    assert RING.open(document["code_verifier"], token_id=request.id, field="code_verifier") == "v-4711"


async def test_a_link_ends_with_its_request(bench: Bench) -> None:
    """By time, or because its consent was refused."""
    await begun(bench)
    await begun(bench, "c2")
    assert await bench.of().refuse(bench.ids["c2"], FAILURE)
    assert await bench.of().by_link("link-c2") is None
    bench.clock.passed = WAITS_FOR
    assert await bench.of().by_link("link-c1") is None
    assert (
        await bench.of().spend_link("link-c1", browser_hash="b", state_hash="s", code_verifier=None) is None
    )


async def test_a_request_that_its_owner_leaves_alone_has_failed_in_the_end(bench: Bench) -> None:
    """No daemon ends it, since it has no code."""
    await begun(bench)
    assert (await progress(bench)).state is ConsentState.WAITING
    bench.clock.passed = WAITS_FOR
    found = await progress(bench)
    assert found.state is ConsentState.FAILED
    assert found.failure is not None
    assert found.failure.kind is ConsentFailureKind.EXPIRED
    assert "owner" in found.failure.message


# ---------------------------------------------------------------- the callback


async def test_a_state_is_used_once(bench: Bench) -> None:
    """A callback that is replayed finds nothing, and takes nothing back."""
    request = await given(bench)
    assert await bench.of().called_back("acme", "state-c1", "browser") is None
    assert (await progress(bench)).state is ConsentState.WAITING
    assert not await bench.of().give_code(request.id, code=Secret("other"), connect_code_hash="x")
    taken = await bench.of().take(request.id)
    assert isinstance(taken, ConsentRequest)
    assert (taken.code, taken.code_verifier) == (Secret("code-4712"), Secret("v-4711"))


@pytest.mark.parametrize(("provider", "browser"), [("other", "browser"), ("acme", "theirs"), ("acme", "")])
async def test_a_state_at_another_provider_or_in_another_browser_ends_its_request(
    bench: Bench, provider: str, browser: str
) -> None:
    """Its owner has been lured: the right callback comes too late."""
    request = await pressed(bench)
    assert await bench.of().called_back(provider, "state-c1", browser) is None
    failure = (await progress(bench)).failure
    assert failure is not None
    assert failure.kind is ConsentFailureKind.MIXED_UP
    assert await bench.of().called_back("acme", "state-c1", "browser") is None
    assert not await bench.of().give_code(request.id, code=Secret("c"), connect_code_hash="x")


async def test_an_unknown_state_changes_nothing(bench: Bench) -> None:
    """Nor does the state of `refreshd connect`, which has no browser here."""
    await pressed(bench)
    await bench.add("c2", code=None)
    before = [bench.document(name) for name in ("c1", "c2")]
    for state in ("state-9", "h", ""):
        assert await bench.of().called_back("acme", state, "browser") is None
    assert [bench.document(name) for name in ("c1", "c2")] == before


async def test_a_callback_comes_too_late(bench: Bench) -> None:
    """After the time of its owner is over; that is no mix-up."""
    await pressed(bench)
    bench.clock.passed = WAITS_FOR
    assert await bench.of().called_back("acme", "state-c1", "browser") is None
    failure = (await progress(bench)).failure
    assert failure is not None
    assert failure.kind is ConsentFailureKind.EXPIRED


async def test_a_code_needs_a_used_state(bench: Bench) -> None:
    """And a daemon has time to take it, however late it came."""
    request = await pressed(bench)
    assert not await bench.of().give_code(request.id, code=Secret("c"), connect_code_hash="x")
    bench.clock.passed = WAITS_FOR - timedelta(seconds=1)
    assert await bench.of().called_back("acme", "state-c1", "browser") is not None
    assert await bench.of().give_code(request.id, code=Secret("c"), connect_code_hash="x")
    bench.clock.passed = WAITS_FOR + CODE_LIVES - timedelta(seconds=2)
    assert await bench.of().take(request.id) is not None


# ---------------------------------------------------------------- the completion


async def test_a_held_grant_is_completed_once(bench: Bench) -> None:
    """By the key that began it, with the code of the browser and the verifier of the session."""
    request = await held(bench)
    found = await progress(bench)
    assert (found.state, found.held, found.key) == (ConsentState.ASKED, True, "k1")
    assert found.return_url == "https://app.example/done"
    assert await bench.of().complete(request.id, **RIGHT) is Completion.TAKEN
    assert bench.document()["completed_at"] == NOON
    assert await bench.of().complete(request.id, **RIGHT) is Completion.OVER


@pytest.mark.parametrize("wrong", [OTHER_BROWSER, OTHER_SESSION])
async def test_wrong_completions_end_a_consent(bench: Bench, wrong: dict[str, Any]) -> None:
    """Then the right one comes too late, and a daemon abandons it now."""
    request = await held(bench)
    for _ in range(MOST_TRIES):
        assert await bench.of().complete(request.id, **{**RIGHT, **wrong}) is Completion.WRONG
    assert await bench.of().complete(request.id, **{**RIGHT, **wrong}) is Completion.OVER
    assert await bench.of().complete(request.id, **RIGHT) is Completion.OVER
    (due,) = await bench.of().due_grants(["acme"])
    assert (due.id, due.state, due.completed) == (request.id, ConsentState.ASKED, False)


@pytest.mark.parametrize("tries", [-1, -0.5, 0.5, 5.0, float("nan"), "0", None, True, [0], [-1, 3], 2**62])
async def test_an_odd_number_of_tries_allows_none(bench: Bench, tries: object) -> None:
    """One below zero would allow more wrong ones than five."""
    request = await held(bench)
    bench.consents.update_one({"_id": request.id}, {"$set": {"tries": tries}})
    assert await bench.of().complete(request.id, **{**RIGHT, **OTHER_SESSION}) is Completion.OVER
    assert await bench.of().complete(request.id, **RIGHT) is Completion.OVER


@pytest.mark.parametrize("tries", [0.0, 4.0, -0.0, 4])
async def test_tries_may_be_counted_in_floating_point(bench: Bench, tries: float) -> None:
    """Some languages write every number so."""
    request = await held(bench)
    bench.consents.update_one({"_id": request.id}, {"$set": {"tries": tries}})
    assert await bench.of().complete(request.id, **RIGHT) is Completion.TAKEN


async def test_four_wrong_completions_do_not(bench: Bench) -> None:
    """An application may be wrong."""
    request = await held(bench)
    for _ in range(MOST_TRIES - 1):
        await bench.of().complete(request.id, **{**RIGHT, **OTHER_SESSION})
    assert await bench.of().complete(request.id, **RIGHT) is Completion.TAKEN


@pytest.mark.parametrize("key", ["k2", ""])
async def test_another_key_sees_nothing_and_costs_no_try(bench: Bench, key: str) -> None:
    """However right the rest is."""
    request = await held(bench)
    for _ in range(MOST_TRIES + 1):
        assert await bench.of().complete(request.id, **{**RIGHT, "key": key}) is Completion.UNKNOWN
    assert await bench.of().complete("c9", **RIGHT) is Completion.UNKNOWN
    assert await bench.of().complete(request.id, **RIGHT) is Completion.TAKEN


async def test_a_completion_comes_too_late(bench: Bench) -> None:
    """At the end of the time, not before."""
    request = await held(bench)
    bench.clock.passed = HELD_FOR
    assert await bench.of().complete(request.id, **RIGHT) is Completion.OVER
    bench.clock.passed = HELD_FOR - timedelta(seconds=1)
    assert await bench.of().complete(request.id, **RIGHT) is Completion.TAKEN


async def test_a_completion_may_come_before_the_grant(bench: Bench) -> None:
    """The daemon then stores it as soon as it is there."""
    request = await given(bench)
    assert await bench.of().complete(request.id, **RIGHT) is Completion.TAKEN
    assert await bench.of().take(request.id) is not None
    assert await bench.of().due_grants(["acme"]) == []
    assert await bench.of().hold(request.id, Secret("grant"), account=None)
    (due,) = await bench.of().due_grants(["acme"])
    assert due.completed


async def test_a_consent_without_a_browser_is_not_completed(bench: Bench) -> None:
    """Its code has not come, so no connect code exists."""
    request = await pressed(bench)
    for proof in (RIGHT, {**RIGHT, **OTHER_BROWSER}):
        assert await bench.of().complete(request.id, **proof) is Completion.WRONG


async def test_what_an_application_began_can_not_be_changed_in_the_database(bench: Bench) -> None:
    """Such as the session that completes it, or the address to which its browser goes."""
    for field, value in (("code_challenge", "theirs"), ("code_challenge", None), ("key", "k2"), ("return_url", "https://evil.test")):  # fmt: skip
        name = f"c-{field}-{value is None}"
        await begun(bench, name)
        bench.consents.update_one({"_id": bench.ids[name]}, {"$set": {field: value}})
        assert await bench.of().by_link(f"link-{name}") is None


@pytest.mark.parametrize("fields", [{"code_challenge": 7}, {"key": []}, {"return_url": {}}])
async def test_a_malformed_request_has_no_link(bench: Bench, fields: dict[str, Any]) -> None:
    """Other processes write here."""
    await begun(bench)
    bench.consents.update_one({"_id": bench.ids["c1"]}, {"$set": fields})
    assert await bench.of().by_link("link-c1") is None
