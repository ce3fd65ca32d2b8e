"""Consent at the sandbox by plain HTTP: the page, the redirect, the code, and everything that must be refused."""

import base64
import json
import re
from typing import Any
from urllib.parse import urlencode

import pytest

from daemon.sandbox.authorization import WRONG_ISSUER, WRONG_STATE
from tests.sandbox.owner import CALLBACK, Owner


@pytest.fixture
def owner(peer: Any) -> Owner:
    return Owner(peer)


async def page(owner: Owner, address: str) -> tuple[int, str, Any]:
    async with owner.peer.session.get(address, allow_redirects=False) as reply:
        return reply.status, await reply.text(), reply.headers


async def test_from_the_page_to_a_renewed_token(owner: Owner) -> None:
    """Approve, exchange, renew; ledger and consents agree."""
    answer = await owner.answer()
    assert set(answer) == {"code", "state", "iss"}
    assert (answer["state"], answer["iss"]) == ("s+t/a=te", owner.sandbox.url)
    status, tokens = await owner.exchange(answer["code"])
    assert (status, tokens["scope"], tokens["account"]) == (200, "read write", "me")
    assert (await owner.peer.refresh(tokens["refresh_token"]))[1]["scope"] == "read write"
    [grant], [consent] = await owner.grants(), await owner.consents()
    assert (grant["account"], grant["scopes"], grant["generation"]) == ("me", ["read", "write"], 1)
    assert (consent["kind"], consent["state"], consent["grant"]) == ("code", "spent", grant["id"])
    assert [line["outcome"] for line in consent["presented"]] == ["granted"]
    assert consent["presented"][0]["replied_at"] is not None
    assert answer["code"] not in json.dumps([grant, consent])


@pytest.mark.parametrize("state", ["%41", "a&b=c;d", "+ %2B", "é\u2028", "s" * 2000])
async def test_a_state_comes_back_to_the_byte(owner: Owner, state: str) -> None:
    """It is the client's, whatever it holds."""
    assert (await owner.answer(state=state))["state"] == state


async def test_the_page_shows_what_is_asked_and_changes_nothing(owner: Owner) -> None:
    """A GET is only looked at; its policy lets the form lead to the client and nowhere else."""
    status, text, headers = await page(owner, owner.address(scope="read <b>", login_hint='a"b'))
    assert status == 200
    assert re.findall(r'name="scope" value="([^"]*)" checked>', text) == ["read", "&lt;b&gt;"]
    assert 'value="a&quot;b"' in text
    assert "<script" not in text
    policy = headers["Content-Security-Policy"]
    assert "form-action 'self' http://127.0.0.1:8917" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["Cache-Control"] == "no-store"
    assert await owner.grants() == await owner.consents() == []


async def test_the_owner_may_deny(owner: Owner) -> None:
    """The client learns it, with its state; the owner's account stays without a grant."""
    answer = await owner.answer({"decision": "deny"})
    assert (answer["error"], answer["state"], "code" in answer) == ("access_denied", "s+t/a=te", False)
    assert [consent["state"] for consent in await owner.consents()] == ["denied"]
    assert await owner.grants() == []


@pytest.mark.parametrize(
    ("form", "scope"),
    [
        ([("decision", "approve"), ("listed", "1"), ("scope", "write")], "write"),
        ([("decision", "approve"), ("scope", "write"), ("scope", "admin")], "write"),
        ([("decision", "approve"), ("listed", "1")], ""),
        ([("decision", "approve")], "read write"),
    ],
)
async def test_the_owner_may_approve_fewer_scopes(owner: Owner, form: Any, scope: str) -> None:
    """Only what was asked for and left checked; a form without boxes takes all."""
    assert (await owner.connect(form))["scope"] == scope


async def test_the_owner_may_be_another_account(owner: Owner) -> None:
    """The response names it, and the ledger too."""
    tokens = await owner.connect({"decision": "approve", "account": "you <é>"})
    assert tokens["account"] == "you <é>"
    assert [grant["account"] for grant in await owner.grants()] == ["you <é>"]


async def test_openid_brings_an_id_token(owner: Owner) -> None:
    """Its subject is the account, and it holds the request's nonce."""
    tokens = await owner.connect(scope="openid read", nonce="n-1")
    body = tokens["id_token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert (claims["sub"], claims["nonce"], claims["aud"]) == ("me", "n-1", owner.sandbox.client_id)
    assert claims["iss"] == owner.sandbox.url
    assert "id_token" not in await owner.connect()


async def test_a_code_works_once_and_its_second_use_ends_the_grant(owner: Owner) -> None:
    """RFC 6749, section 4.1.2: what the first use gave is taken back."""
    code = (await owner.answer())["code"]
    _, tokens = await owner.exchange(code)
    status, refusal = await owner.exchange(code)
    assert (status, refusal["error"]) == (400, "invalid_grant")
    assert (await owner.peer.refresh(tokens["refresh_token"]))[0] == 400
    assert [grant["revoked_by"] for grant in await owner.grants()] == ["code_reuse"]
    [consent] = await owner.consents()
    assert [line["outcome"] for line in consent["presented"]] == ["granted", "reused"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"code_verifier": "w" * 43},
        {"code_verifier": None},
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": CALLBACK.replace("8917", "8918")},
        {"redirect_uri": None},
    ],
    ids=str,
)
async def test_a_code_that_does_not_belong_is_refused_and_spent(owner: Owner, wrong: Any) -> None:
    """A stolen code is of no use, and guessing is not possible."""
    code = (await owner.answer())["code"]
    for form in (wrong, {}):
        status, refusal = await owner.exchange(code, **form)
        assert (status, refusal["error"]) == (400, "invalid_grant")
    assert await owner.grants() == []


async def test_a_verifier_without_a_challenge_is_refused(owner: Owner) -> None:
    """RFC 9700, section 4.8.2: the challenge may have been removed on the way."""
    code = (await owner.answer(code_challenge=None, code_challenge_method=None))["code"]
    assert (await owner.exchange(code))[0] == 400
    code = (await owner.answer(code_challenge=None, code_challenge_method=None))["code"]
    assert (await owner.exchange(code, code_verifier=None))[0] == 200


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"code": None}, "invalid_request"),
        ({"grant_type": None}, "invalid_request"),
        ({"code": "4/unknown"}, "invalid_grant"),
        ({"client_secret": "wrong"}, "invalid_client"),
    ],
)
async def test_an_exchange_that_is_wrong_spends_nothing(owner: Owner, form: Any, error: str) -> None:
    """The code is still good for the client that it belongs to."""
    code = (await owner.answer())["code"]
    assert (await owner.exchange(code, **form))[1]["error"] == error
    assert (await owner.exchange(code))[0] == 200


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"client_id": "other"}, "client_id is unknown"),
        ({"client_id": None}, "client_id is unknown"),
        ({"redirect_uri": None}, "redirect_uri is not a registered one"),
        ({"redirect_uri": "https://127.0.0.1/cb"}, "redirect_uri"),
        ({"redirect_uri": "http://evil.example/cb"}, "redirect_uri"),
        ({"redirect_uri": "http://127.0.0.1@evil.example/cb"}, "redirect_uri"),
        ({"redirect_uri": "http://me@127.0.0.1/cb"}, "redirect_uri"),
        ({"redirect_uri": CALLBACK + "#f"}, "redirect_uri"),
        ({"redirect_uri": "http://127.0.0.1:x/cb"}, "redirect_uri"),
        ({"redirect_uri": "http://127.0.0.1/\r\nX: y"}, "redirect_uri"),
        ({"redirect_uri": "/callback"}, "redirect_uri"),
    ],
    ids=str,
)
async def test_a_request_of_nobody_we_know_is_redirected_nowhere(
    owner: Owner, changed: Any, told: str
) -> None:
    """RFC 6749, section 4.1.2.1: no open redirect, by page or by button."""
    address = owner.address(**changed)
    status, text, headers = await page(owner, address)
    assert (status, "Location" in headers) == (400, False)
    assert told in text
    status, _, to = await owner.press(address)
    assert (status, to) == (400, "")
    assert await owner.consents() == []


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "é" * 43}, "invalid_request"),
    ],
    ids=str,
)
async def test_a_wrong_request_of_a_known_client_goes_back_to_it(
    owner: Owner, changed: Any, error: str
) -> None:
    """With its state, by page and by button; no code is made."""
    address = owner.address(**changed)
    status, _, headers = await page(owner, address)
    assert status == 303
    for to in (headers["Location"], (await owner.press(address))[2]):
        assert to.startswith(CALLBACK + "?")
        assert f"error={error}&" in to
        assert "state=s%2Bt%2Fa%3Dte" in to
    assert await owner.consents() == []


@pytest.mark.parametrize("tail", ["&state=2", "&x=%ff", "&" + "&".join(f"k{n}=1" for n in range(99))])
async def test_an_ambiguous_query_is_refused(owner: Owner, tail: str) -> None:
    """Two states, broken text, or far too much."""
    assert (await page(owner, owner.address() + tail))[0] == 400


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"decision": "maybe"},
        {"decision": "approve", "account": ""},
        {"decision": "approve", "account": "a" * 201},
    ],
    ids=lambda form: urlencode(form)[:40],
)
async def test_a_decision_that_is_none_is_refused(owner: Owner, form: Any) -> None:
    """The page has two buttons and one field."""
    assert (await owner.press(owner.address(), form))[0] == 400
    assert await owner.consents() == []


async def test_a_form_of_another_site_decides_nothing(owner: Owner) -> None:
    """The browser names the site that sent it."""
    assert (await owner.press(owner.address(), Origin="http://evil.example"))[0] == 400
    assert (await owner.press(owner.address(), Origin="null"))[0] == 400
    assert (await owner.press(owner.address(), Origin=owner.sandbox.url))[0] == 303


async def test_registered_redirect_uris_are_compared_as_texts(start_sandbox: Any) -> None:
    """With a list, loopback alone is no longer enough; a query in one is kept."""
    registered = ("https://app.example/cb?tenant=1", CALLBACK)
    owner = Owner(await start_sandbox(redirect_uris=registered))
    _, _, to = await owner.press(owner.address(redirect_uri=registered[0]))
    assert to.startswith(registered[0] + "&code=")
    for other in (CALLBACK + "?x=1", "https://app.example/cb", "http://127.0.0.1:8917/Callback"):
        assert (await owner.press(owner.address(redirect_uri=other)))[0] == 400


async def test_pkce_can_be_demanded(start_sandbox: Any) -> None:
    """As providers do that take public clients."""
    owner = Owner(await start_sandbox(pkce="required"))
    answer = await owner.answer(code_challenge=None, code_challenge_method=None)
    assert (answer["error"], answer["error_description"]) == ("invalid_request", "code_challenge is missing")
    assert (await owner.connect())["access_token"]


async def test_the_redirect_fails_on_request(owner: Owner) -> None:
    """An error, a foreign state and a foreign issuer, each once; then all is well."""
    await owner.peer.fault(kind="error_redirect", error="temporarily_unavailable", count=1)
    await owner.peer.fault(kind="wrong_state", count=1)
    await owner.peer.fault(kind="wrong_issuer", count=1)
    answers = [await owner.answer() for _ in range(4)]
    assert answers[0]["error"] == "temporarily_unavailable"
    assert [answer["state"] for answer in answers] == ["s+t/a=te", WRONG_STATE, "s+t/a=te", "s+t/a=te"]
    own = owner.sandbox.url
    assert [answer["iss"] for answer in answers] == [own, own, WRONG_ISSUER, own]
    assert ["code" in answer for answer in answers] == [False, True, True, True]


async def test_the_exchange_fails_on_request(owner: Owner) -> None:
    """Before it takes effect the code stays good; after it, the reply is what is lost or spoiled."""
    code = (await owner.answer())["code"]
    await owner.peer.fault(kind="outage", count=1)
    assert (await owner.exchange(code))[0] == 503
    await owner.peer.fault(kind="no_refresh_token", count=1)
    _, tokens = await owner.exchange(code)
    assert ("access_token" in tokens, "refresh_token" in tokens) == (True, False)
    [consent] = await owner.consents()
    lines = [(line["outcome"], line["fault"]) for line in consent["presented"]]
    assert lines == [("fault:outage", "outage"), ("granted", "no_refresh_token")]
    assert (await owner.connect())["refresh_token"]


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ({"kind": "wrong_state", "at": "token"}, "wrong_state strikes at authorize, not at 'token'"),
        ({"kind": "hang", "at": "authorize"}, "hang strikes at token or device or revoke"),
        ({"kind": "hang", "at": ["token"]}, "hang strikes at"),
        ({"kind": "no_refresh_token", "after_processing": False}, "has taken effect"),
        ({"kind": "error_redirect", "after_processing": True}, "always strikes before"),
        ({"kind": "hang", "error": "x"}, "error goes with error_redirect"),
        ({"kind": "error_redirect", "error": ""}, "error must be"),
        ({"kind": "error_redirect", "error": "a\nb"}, "error must be"),
        ({"kind": "error_redirect", "error": 7}, "error must be"),
    ],
    ids=str,
)
async def test_a_wrong_wish_for_such_a_fault_gets_a_sentence(owner: Owner, wish: Any, sentence: str) -> None:
    """A fault that can't strike would make a test prove nothing."""
    answer = await owner.peer.call("PUT", "/faults", json=wish, status=400)
    assert sentence in answer["error"]


async def test_a_fault_strikes_its_own_endpoint_only(owner: Owner) -> None:
    """A revocation that fails leaves renewals alone."""
    await owner.peer.fault(kind="outage", at="revoke")
    await owner.peer.fault(kind="outage", at="device")
    assert (await owner.peer.refresh((await owner.connect())["refresh_token"]))[0] == 200
