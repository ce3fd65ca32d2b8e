"""Every fault on a real socket: what the client sees, and what the ledger says happened."""

import asyncio
import json
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import aiohttp
import pytest


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


async def give_up(peer: Any, token: str) -> None:
    """A client whose patience ends; a fifth of a second is ample on loopback."""
    async with peer.session.post(
        peer.sandbox.token_url,
        data={
            "grant_type": "refresh_token",
            "refresh_token": token,
            "client_id": peer.sandbox.client_id,
            "client_secret": peer.sandbox.client_secret,
        },
        timeout=aiohttp.ClientTimeout(total=0.2),
    ):
        pass


async def ledger_until(peer: Any, grant: str, ready: Callable[[Any], object]) -> Any:
    async with asyncio.timeout(5):
        while not ready(truth := await peer.ledger(grant)):
            pass
    return truth


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("kind", "symptom"), [("hang", TimeoutError), ("reset", aiohttp.ClientOSError)])
async def test_no_answer_comes_and_the_ledger_knows_whether_the_token_was_spent(
    peer: Any, kind: str, symptom: type[Exception], after: bool
) -> None:
    """The ambiguity that a client has to live with, before and after processing."""
    grant, token = await peer.consent()
    await peer.fault(kind=kind, count=1, after_processing=after)
    with pytest.raises(symptom):
        await give_up(peer, token)
    truth = await peer.ledger(grant)
    [line] = truth["presented"]
    assert line["outcome"] == ("granted" if after else f"fault:{kind}")
    assert (line["fault"], line["replied_at"], line["sha256"]) == (kind, None, digest(token))
    assert truth["generation"] == int(after)
    assert (await peer.refresh(token))[0] == (400 if after else 200)


async def test_a_reset_is_a_real_one(peer: Any) -> None:
    """RST, not a polite end: the kernel says so."""
    await peer.fault(kind="reset")
    with pytest.raises(aiohttp.ClientOSError) as caught:
        await peer.refresh("x")
    assert isinstance(caught.value, ConnectionResetError) or caught.value.errno == 104


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("throttle", 429, "slow_down"),
        ("error", 500, "server_error"),
        ("outage", 503, "temporarily_unavailable"),
        ("dead_grant", 400, "invalid_grant"),
        ("wrong_client", 401, "invalid_client"),
    ],
)
async def test_a_fault_that_answers_leaves_the_token_unspent(
    peer: Any, kind: str, status: int, error: str
) -> None:
    """By default these strike before the request takes effect."""
    grant, token = await peer.consent()
    await peer.fault(kind=kind, count=1)
    answered, body = await peer.refresh(token)
    assert (answered, body["error"]) == (status, error)
    [line] = (await peer.ledger(grant))["presented"]
    assert line["outcome"] == f"fault:{kind}"
    assert line["replied_at"] is not None
    assert (await peer.refresh(token))[0] == 200


@pytest.mark.parametrize(("kind", "status"), [("error", 500), ("outage", 503)])
async def test_an_error_after_processing_loses_the_reply(peer: Any, kind: str, status: int) -> None:
    """The server broke after it had rotated: the ledger says granted, the client has nothing."""
    grant, token = await peer.consent()
    await peer.fault(kind=kind, count=1, after_processing=True)
    assert (await peer.refresh(token))[0] == status
    truth = await peer.ledger(grant)
    assert truth["generation"] == 1
    assert [(line["outcome"], line["fault"]) for line in truth["presented"]] == [("granted", kind)]


@pytest.mark.parametrize("retry_after", [7, "Sun, 01 Nov 2026 10:00:00 GMT", None])
async def test_a_throttle_says_when_to_come_back(peer: Any, retry_after: object) -> None:
    """In seconds, as a date, or not at all."""
    await peer.fault(kind="throttle", retry_after=retry_after)
    async with peer.ask("x") as reply:
        assert reply.status == 429
        assert reply.headers.get("Retry-After") == (None if retry_after is None else str(retry_after))


async def test_garbage_is_a_200_that_is_not_json(peer: Any) -> None:
    """The real reply is lost, unless the fault is told to strike before processing."""
    for after in (True, False):
        grant, token = await peer.consent()
        await peer.fault(kind="garbage", count=1, after_processing=after)
        async with peer.ask(token) as reply:
            body = await reply.read()
            assert (reply.status, reply.content_type) == (200, "application/json")
        with pytest.raises(ValueError):
            json.loads(body)
        assert (await peer.ledger(grant))["generation"] == int(after)


async def test_a_page_stands_in_the_place_of_the_reply(peer: Any) -> None:
    """Status 200 and HTML, before the request takes effect."""
    grant, token = await peer.consent()
    await peer.fault(kind="page", count=1)
    async with peer.ask(token) as reply:
        body = await reply.read()
    assert (reply.status, reply.content_type, len(body)) == (200, "text/html", 100 * 1024)
    assert (await peer.ledger(grant))["generation"] == 0


async def test_a_cut_reply_promises_more_than_it_sends(peer: Any) -> None:
    """Half of the real reply, then the end."""
    grant, token = await peer.consent()
    await peer.fault(kind="cut", count=1)
    async with peer.ask(token) as reply:
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.read()
        assert reply.status == 200
    assert (await peer.ledger(grant))["generation"] == 1


@pytest.mark.parametrize("kind", ["slow", "huge", "wrong_type"])
async def test_an_odd_reply_still_carries_the_tokens(peer: Any, kind: str) -> None:
    """Dribbled, padded or mislabelled: it is the real one."""
    grant, token = await peer.consent()
    await peer.fault(kind=kind, count=1, **({"seconds": 0.2} if kind == "slow" else {}))
    started = time.monotonic()
    async with peer.ask(token) as reply:
        body = await reply.read()
    assert (await peer.ledger(grant))["current"] == digest(json.loads(body)["refresh_token"])
    assert reply.content_type == ("text/html" if kind == "wrong_type" else "application/json")
    assert (len(body) > 2 * 1024 * 1024) == (kind == "huge")
    assert (time.monotonic() - started >= 0.2) == (kind == "slow") or kind == "huge"


@pytest.mark.parametrize("kind", ["cut", "slow", "huge", "wrong_type"])
async def test_an_odd_reply_before_processing_spoils_a_503(peer: Any, kind: str) -> None:
    """Nothing was spent, so there is no real reply to carry."""
    grant, token = await peer.consent()
    await peer.fault(kind=kind, count=1, after_processing=False, seconds=0.01)
    async with peer.ask(token) as reply:
        assert reply.status == 503
    truth = await peer.ledger(grant)
    assert (truth["generation"], truth["presented"][0]["outcome"]) == (0, f"fault:{kind}")


async def test_withheld_replies_come_together_once_the_fault_is_deleted(peer: Any) -> None:
    """All took effect, none was answered, then all are; later requests pass by a used-up fault."""
    granted = [await peer.consent() for _ in range(20)]
    await peer.fault(kind="withhold", count=20)
    asking = [asyncio.create_task(peer.refresh(token)) for _, token in granted]
    for grant, _ in granted:
        truth = await ledger_until(peer, grant, lambda truth: truth["presented"])
        assert (truth["generation"], truth["presented"][0]["replied_at"]) == (1, None)
    _, free = await peer.consent()
    assert (await peer.refresh(free))[0] == 200
    assert not any(task.done() for task in asking)
    assert await peer.call("DELETE", "/faults") == {"deleted": 1}
    for (grant, _), (status, answer) in zip(granted, await asyncio.gather(*asking), strict=True):
        truth = await peer.ledger(grant)
        assert (status, truth["current"]) == (200, digest(answer["refresh_token"]))
        assert truth["presented"][0]["replied_at"] is not None


async def test_who_gave_up_waiting_is_not_counted_as_answered(peer: Any) -> None:
    """A withheld reply whose client has gone was never handed to a socket."""
    grant, token = await peer.consent()
    await peer.fault(kind="withhold")
    with pytest.raises(TimeoutError):
        await give_up(peer, token)
    await peer.call("DELETE", "/faults")
    assert (await peer.ledger(grant))["presented"][0]["replied_at"] is None


async def test_faults_are_listed_with_how_often_they_struck(peer: Any) -> None:
    """And a wrong wish, or a body that is no JSON, adds none."""
    added = await peer.fault(kind="error", share=1, count=5)
    assert added == {
        "kind": "error", "share": 1.0, "count": 5, "retry_after": None,
        "after_processing": False, "seconds": 5.0, "wording": 0, "at": "token", "error": "server_error", "struck": 0,
    }  # fmt: skip
    await peer.refresh("x")
    answer = await peer.call("PUT", "/faults", json={"kind": "sulk"}, status=400)
    assert answer["error"].startswith("kind must be one of hang,")
    for body in (b"{", b"\xff", b"[" * 60_000):
        assert (await peer.call("PUT", "/faults", data=body, status=400))["error"]
    assert await peer.call("GET", "/faults") == [{**added, "struck": 1}]
    assert await peer.call("DELETE", "/faults") == {"deleted": 1}
    assert await peer.call("GET", "/faults") == []


async def test_it_stops_soon_while_clients_hang(start_sandbox: Any) -> None:
    """A demonstration must end at once when told to, whoever still waits."""
    peer = await start_sandbox()
    grant, token = await peer.consent()
    await peer.fault(kind="hang")
    asking = asyncio.create_task(peer.refresh(token))
    await ledger_until(peer, grant, lambda truth: truth["presented"])
    started = time.monotonic()
    await peer.sandbox.stop()
    assert time.monotonic() - started < 3
    with pytest.raises(aiohttp.ClientError):
        await asking
