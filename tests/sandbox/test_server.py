"""The sandbox on a real socket when nothing is wrong, and its levers."""

import asyncio
import time
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import pytest

from daemon.sandbox import Sandbox, SandboxOptions
from tests.support import wall_clock

REFRESH = {"grant_type": "refresh_token"}


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


async def test_a_refresh_answers_as_rfc_6749_says_and_the_ledger_agrees(peer: Any) -> None:
    """Rotation through ten generations; the stored value is the ledger's current one."""
    grant, token = await peer.consent()
    for _ in range(10):
        async with peer.ask(token) as reply:
            answer = await reply.json()
            assert (reply.status, reply.content_type) == (200, "application/json")
            assert (reply.headers["Cache-Control"], reply.headers["Pragma"]) == ("no-store", "no-cache")
        assert set(answer) == {"token_type", "access_token", "refresh_token", "expires_in", "scope"}
        assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 60)
        assert answer["refresh_token"] != token
        token = answer["refresh_token"]
    truth = await peer.ledger(grant)
    assert (truth["generation"], truth["current"], truth["live"]) == (10, digest(token), [digest(token)])
    assert truth["revoked_by"] is None
    for line in truth["presented"]:
        assert line["outcome"] == "granted"
        assert line["fault"] is None
        assert wall_clock.timestamp() - 60 < line["at"] <= line["replied_at"] <= wall_clock.timestamp()


async def test_basic_authentication_with_form_encoded_credentials(peer: Any) -> None:
    """A secret full of awkward characters arrives, and an unencoded one does not."""
    _, token = await peer.consent()
    encoded = aiohttp.encode_basic_auth(
        quote_plus(peer.sandbox.client_id), quote_plus(peer.sandbox.client_secret)
    )
    raw = aiohttp.encode_basic_auth(peer.sandbox.client_id, peer.sandbox.client_secret, encoding="utf-8")
    form = {**REFRESH, "refresh_token": token}
    url = peer.sandbox.token_url
    async with peer.session.post(url, data=form, headers={"Authorization": raw}) as reply:
        assert (reply.status, (await reply.json())["error"]) == (401, "invalid_client")
        assert reply.headers["WWW-Authenticate"].startswith("Basic ")
    async with peer.session.post(url, data=form, headers={"Authorization": encoded}) as reply:
        assert reply.status == 200


async def test_a_wrong_client_spends_nothing_and_is_in_the_ledger(peer: Any) -> None:
    """The presented token stays good, but was shown."""
    grant, token = await peer.consent()
    async with peer.ask(token, client_secret="wrong") as reply:
        assert (reply.status, (await reply.json())["error"]) == (401, "invalid_client")
        assert "WWW-Authenticate" not in reply.headers
    truth = await peer.ledger(grant)
    assert [line["outcome"] for line in truth["presented"]] == ["invalid_client"]
    assert truth["live"] == [digest(token)]
    assert (await peer.refresh(token))[0] == 200


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "invalid_request"),
        ({"refresh_token": ""}, "invalid_request"),
        ({"refresh_token": "unknown"}, "invalid_grant"),
    ],
)
async def test_a_wrong_request_gets_the_error_of_the_rfc(peer: Any, form: dict[str, str], error: str) -> None:
    """Section 5.2, code by code."""
    _, token = await peer.consent()
    async with peer.ask(token, **form) as reply:
        assert (reply.status, (await reply.json())["error"]) == (400, error)


async def test_a_body_of_another_type_or_beyond_64_kib_is_refused(peer: Any) -> None:
    """JSON is not what the RFC says; and everything is bounded."""
    url = peer.sandbox.token_url
    async with peer.session.post(url, json=REFRESH) as reply:
        assert (reply.status, (await reply.json())["error"]) == (400, "invalid_request")
    async with peer.session.post(url, data={"refresh_token": "x" * 66_000}) as reply:
        assert reply.status == 413
    async with peer.session.put(peer.sandbox.url + "/faults", data=b"x" * 66_000) as reply:
        assert reply.status == 413


async def test_client_credentials_give_an_access_token_alone(peer: Any) -> None:
    """Nothing to rotate, and it opens the resource."""
    async with peer.ask("", grant_type="client_credentials") as reply:
        answer = await reply.json()
    assert (reply.status, "refresh_token" in answer) == (200, False)
    bearer = {"Authorization": f"Bearer {answer['access_token']}"}
    await peer.call("GET", "/resource", headers=bearer)


async def test_the_resource_opens_to_a_live_access_token_only(peer: Any) -> None:
    """Also not to the one of a withdrawn consent."""
    [answer] = await peer.call("POST", "/grants")
    bearer = {"Authorization": f"Bearer {answer['access_token']}"}
    await peer.call("GET", "/resource", headers=bearer)
    await peer.call("GET", "/resource", status=401)
    await peer.call("GET", "/resource", status=401, headers={"Authorization": "Bearer x"})
    withdrawn = await peer.call("DELETE", f"/grants/{answer['grant']}")
    assert withdrawn["revoked_by"] == "owner"
    await peer.call("GET", "/resource", status=401, headers=bearer)
    status, refusal = await peer.refresh(answer["refresh_token"])
    assert (status, refusal["error"]) == (400, "invalid_grant")
    await peer.call("DELETE", "/grants/g99", status=404)


async def test_a_spent_token_revokes_the_family_or_is_refused(start_sandbox: Any) -> None:
    """The two answers to reuse, seen from outside."""
    for reuse, later in [("revoke", 400), ("refuse", 200)]:
        peer = await start_sandbox(reuse=reuse)
        grant, token = await peer.consent()
        _, answer = await peer.refresh(token)
        assert (await peer.refresh(token))[0] == 400
        assert (await peer.refresh(answer["refresh_token"]))[0] == later
        assert (await peer.ledger(grant))["revoked_by"] == ("reuse" if later == 400 else None)


async def test_a_retry_within_the_grace_gets_a_fresh_pair(start_sandbox: Any) -> None:
    """The lost reply's retry, over the wire."""
    peer = await start_sandbox(grace=timedelta(seconds=60), refresh_lifetime=timedelta(days=30))
    grant, token = await peer.consent()
    await peer.refresh(token)
    _, again = await peer.refresh(token)
    assert again["refresh_token_expires_in"] == 30 * 86400
    truth = await peer.ledger(grant)
    assert [line["outcome"] for line in truth["presented"]] == ["granted", "granted_again"]
    assert truth["current"] == digest(again["refresh_token"])


async def test_many_grants_refresh_at_once_and_the_counts_add_up(peer: Any) -> None:
    """Two hundred at a time, five rounds, nothing lost."""
    tokens = [answer["refresh_token"] for answer in await peer.call("POST", "/grants?n=200")]
    for _ in range(5):
        answers = await asyncio.gather(*(peer.refresh(token) for token in tokens))
        tokens = [answer["refresh_token"] for _, answer in answers]
    assert await peer.call("GET", "/ledger?summary=1") == {
        "grants": 200, "revoked": 0, "refreshes": 1000, "reused": 0, "refused": 0, "unknown": 0,
    }  # fmt: skip
    ledger = await peer.call("GET", "/ledger")
    assert [grant["current"] for grant in ledger] == [digest(token) for token in tokens]
    assert ledger == peer.sandbox.ledger()


@pytest.mark.parametrize("n", ["0", "-1", "x", "10001", "9" * 9999, "²"])
async def test_a_senseless_number_of_grants_gets_a_sentence(peer: Any, n: str) -> None:
    """Bounded, and no traceback."""
    answer = await peer.call("POST", "/grants", params={"n": n[:2000]}, status=400)
    assert answer["error"].startswith("n must be a whole number")


async def test_an_unknown_grant_is_not_in_the_ledger(peer: Any) -> None:
    """404 rather than an empty truth."""
    assert (await peer.call("GET", "/ledger?grant=g1", status=404))["error"] == "no such grant"


async def test_latency_delays_the_answer_but_not_the_effect(start_sandbox: Any) -> None:
    """A client that gave up early has spent its token all the same."""
    peer = await start_sandbox(latency=timedelta(seconds=0.1))
    grant, token = await peer.consent()
    started = time.monotonic()
    asking = asyncio.create_task(peer.refresh(token))
    while not (truth := await peer.ledger(grant))["presented"]:
        pass
    assert (truth["generation"], truth["presented"][0]["replied_at"]) == (1, None)
    await asking
    assert time.monotonic() - started >= 0.1
    assert (await peer.ledger(grant))["presented"][0]["replied_at"] is not None


async def test_it_describes_itself_in_the_words_of_the_contract() -> None:
    """And draws a secret where none was given."""
    async with Sandbox() as sandbox:
        told = sandbox.describe()
    endpoints = {"token_url": "/token", "authorize_url": "/authorize", "revoke_url": "/revoke"}
    endpoints["device_url"] = "/device_authorization"
    assert set(told) == {"url", "client_id", "client_secret", *endpoints}
    assert {name: told[name] for name in endpoints} == {
        name: f"{told['url']}{path}" for name, path in endpoints.items()
    }
    assert told["url"].startswith("http://127.0.0.1:")
    assert (told["client_id"], told["client_secret"]) == ("sandbox-client", sandbox.client_secret)
    assert len(told["client_secret"]) >= 32
    assert Sandbox().client_secret != Sandbox().client_secret


async def test_it_comes_back_on_the_same_port_with_its_grants() -> None:
    """An outage to rehearse: stop, start, and nobody lost a consent."""
    sandbox = Sandbox()
    await sandbox.start()
    url = sandbox.url
    [answer] = sandbox.consent()
    await sandbox.stop()
    await sandbox.stop()
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(url + "/ledger")
        async with sandbox, session.get(url + "/ledger") as reply:
            [grant] = await reply.json()
    assert grant["current"] == digest(str(answer["refresh_token"]))


async def test_a_taken_port_is_an_oserror(peer: Any) -> None:
    """Whoever starts it says so to a person."""
    port = int(peer.sandbox.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        await Sandbox(SandboxOptions(port=port)).start()
