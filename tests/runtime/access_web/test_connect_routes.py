"""An application connects an account: the link, the owner's browser, the proof of its session."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from daemon.domain.access_key import Verb
from daemon.domain.consent_request import ConsentFailureKind, ConsentState, is_identified
from daemon.domain.stored_grant import StoredGrant
from daemon.serving.following import FOLLOWED_FOR
from daemon.serving.link_rules import LinkRules
from tests.runtime.access_web.connect_service import (
    APP,
    PUBLIC,
    RETURN,
    Service,
    service,
    unbound,
)
from tests.serving.fakes import token

__all__ = ["service", "unbound"]


async def test_an_account_is_connected(service: Service):
    begun = await service.begin(subject="user-17", meta={"plan": "x"}, scopes=["a", "b"])
    browser = service.browser()
    asked = await browser.open(begun)
    assert asked["client_id"] == "client-1"
    assert asked["scope"] == "a b"
    assert asked["redirect_uri"] == f"{PUBLIC}/connect/callback/acme"
    assert asked["code_challenge_method"] == "S256"
    back = await browser.consent(asked)
    assert back.status == 303
    assert back.location.startswith(f"{RETURN}?")
    assert set(back.query) == {"connect", "connect_code"}
    assert back.query["connect"] == begun["id"]
    assert service.bound == []
    status, state = await service.api("GET", f"/v1/connect/{begun['id']}")
    assert (status, state["state"], state["held"]) == (200, "asked", True)
    status, said = await service.complete(begun["id"], back.query["connect_code"])
    assert (status, said["state"], said["scope"]) == (200, "done", "a")
    assert service.bound == [("acme:me", "code-1")]
    assert service.deeds.records == [
        ("app", "connect", "acme:me", None, "user-17"),
        ("app", "connect_complete", "acme:me", None, "user-17"),
    ]
    row = service.consents.rows[begun["id"]]
    assert is_identified(row.request)
    assert row.request.meta == {"plan": "x"}


async def test_the_answer_to_the_application(service: Service):
    begun = await service.begin()
    assert set(begun) == {"id", "connect_url", "expires_at"}
    assert begun["connect_url"].startswith(f"{PUBLIC}/connect/")
    assert begun["expires_at"] == "2026-11-29T12:15:00.000Z"
    row = service.consents.rows[begun["id"]]
    assert row.link_hash is not None
    assert row.link_hash not in begun["connect_url"]
    assert row.state_hash is None


async def test_an_unbound_consent_needs_no_completion(unbound: Service):
    begun = await unbound.begin(code_challenge=None)
    browser = unbound.browser()
    back = await browser.consent(await browser.open(begun))
    assert back.query == {"connect": begun["id"]}
    assert unbound.bound == [("acme:me", "code-1")]
    assert unbound.deeds.records[0][3] == "unbound"
    assert (await unbound.complete(begun["id"], "c" * 43))[0] == 409


async def test_without_a_return_url_the_browser_ends_on_a_page(unbound: Service):
    begun = await unbound.begin(code_challenge=None, return_url=None)
    browser = unbound.browser()
    back = await browser.consent(await browser.open(begun))
    assert back.status == 200
    assert "Acme consent received" in back.text
    assert browser.cookies == {}


async def test_an_unbound_link_is_refused_without_the_setting(service: Service):
    status, said = await service.refused(code_challenge=None)
    assert status == 400
    assert "code_challenge is required" in said["detail"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"provider": None}, "provider"),
        ({"provider": 7}, "provider"),
        ({"account": ""}, "account"),
        ({"account": "a\nb"}, "account"),
        ({"scopes": "read"}, "scopes"),
        ({"scopes": ["a b"]}, "scopes"),
        ({"scopes": ["x"] * 101}, "scopes"),
        ({"vars": {"shop": "x"}}, "vars.shop"),
        ({"provider": "shop"}, "vars"),
        ({"provider": "shop", "vars": {"shop": "evil.example/"}}, "vars"),
        ({"meta": {"a.b": "x"}}, "meta"),
        ({"meta": {f"n{one}": "x" * 1000 for one in range(10)}}, "meta"),
        ({"subject": ""}, "subject"),
        ({"return_url": None}, "return_url"),
        ({"code_challenge": "short"}, "code_challenge"),
        ({"code_challenge": "a" * 44}, "code_challenge"),
        ({"replace": "yes"}, "replace"),
        ({"nonsense": 1}, "body"),
        ({"provider": "silent"}, "provider"),
        ({"provider": "nameless"}, "provider"),
    ],
)
async def test_each_fault_of_a_request_is_named(service: Service, body: dict[str, object], where: str):
    status, said = await service.refused(**body)
    assert (status, said["type"]) == (400, "urn:refreshd:problem:invalid-request")
    assert where in [fault["where"] for fault in said["faults"]]
    assert service.consents.rows == {}
    assert service.deeds.records == []


async def test_an_unknown_provider(service: Service):
    key = service.another_key("*")
    assert (await service.refused(provider="elsewhere", key=key))[0] == 404


@pytest.mark.parametrize("public", ["", "https://tokens.example.com"])
async def test_a_service_that_lacks_something_says_so(public: str):
    service = Service(public=public, can_seal=not public)
    await service.start()
    try:
        status, said = await service.refused()
    finally:
        await service.stop()
    assert (status, "public_url" in said["detail"]) == ((501, True) if not public else (503, False))


async def test_a_key_without_the_verb_sees_nothing(service: Service):
    key = service.another_key("acme:*", can=tuple(set(Verb) - {Verb.CONNECT}))
    assert (await service.refused(key=key))[0] == 404
    begun = await service.begin()
    assert (await service.api("GET", f"/v1/connect/{begun['id']}", key=key))[0] == 404
    assert (await service.complete(begun["id"], "c" * 43, key=key))[0] == 404


async def test_a_key_connects_only_what_it_names(service: Service):
    key = service.another_key("acme:others")
    assert (await service.refused(key=key))[0] == 404


async def test_where_is_filled_in_and_demanded(service: Service):
    key = service.another_key("acme:*", where={"meta.tenant": "a", "subject": "u"})
    begun = await service.begin(key=key)
    request = service.consents.rows[begun["id"]].request
    assert (request.meta, request.subject) == ({"tenant": "a"}, "u")
    assert (await service.refused(key=key, meta={"tenant": "b"}))[0] == 404
    assert (await service.refused(key=key, subject="other"))[0] == 404


def stored(name: str = "acme:me", **fields: object) -> StoredGrant:
    return StoredGrant(token=token(name, **fields), has_refresh_token=True, vars={"shop": "mine"})


async def test_a_stored_token_of_another_tenant_is_not_there(service: Service):
    key = service.another_key("acme:*", where={"meta.tenant": "a"})
    service.writes.tokens["acme:me"] = stored(selected={"meta.tenant": "b"})
    assert (await service.refused(key=key))[0] == 404
    service.writes.tokens["acme:me"] = stored(selected={"meta.tenant": "a"})
    await service.begin(key=key)


async def test_another_owner_needs_the_verb_replace(service: Service):
    service.writes.tokens["acme:me"] = stored(subject="first", selected={"subject": "first"})
    key = service.another_key("acme:*", can=(Verb.CONNECT,))
    assert (await service.refused(key=key, subject="second"))[0] == 404
    assert (await service.refused(key=key, replace=True))[0] == 404
    assert not service.consents.rows[(await service.begin(key=key))["id"]].request.replace
    assert service.consents.rows[(await service.begin(subject="second", replace=True))["id"]].request.replace


async def test_a_token_that_is_being_revoked_is_not_connected(service: Service):
    service.writes.tokens["acme:me"] = stored(state="revoking")
    assert (await service.refused())[0] == 409


async def test_a_revoked_token_is_connected_as_a_new_one(service: Service):
    service.writes.tokens["shop:me"] = stored("shop:me", state="revoked")
    assert (await service.refused(provider="shop"))[0] == 400  # its vars are gone as well
    service.writes.tokens["shop:me"] = stored("shop:me")
    begun = await service.begin(provider="shop")
    asked = await service.browser().open(begun)
    assert service.consents.rows[begun["id"]].request.vars == {"shop": "mine"}
    assert asked["redirect_uri"].endswith("/shop")


async def test_permission_is_asked_again_at_the_end(service: Service):
    """A token that came to another tenant while its owner consented stays as it is."""
    key = service.another_key("acme:*", where={"meta.tenant": "a"})
    begun = await service.begin(key=key)
    browser = service.browser()
    back = await browser.consent(await browser.open(begun))
    service.writes.tokens["acme:me"] = stored(selected={"meta.tenant": "b"})
    assert (await service.complete(begun["id"], back.query["connect_code"], key=key))[0] == 404
    assert service.bound == []


async def test_the_owner_refuses(service: Service):
    begun = await service.begin()
    browser = service.browser()
    asked = await browser.open(begun)
    back = await browser.call_back(
        asked["redirect_uri"], state=asked["state"], error="access_denied", error_description="no"
    )
    assert back.query == {"connect": begun["id"], "error": "access_denied"}
    status, state = await service.api("GET", f"/v1/connect/{begun['id']}")
    assert (state["state"], state["failure"]) == ("failed", {"kind": "denied", "code": "access_denied"})
    assert service.deeds.records[-1][1:4] == ("connect_refused", "acme:me", "denied")
    status, said = await service.complete(begun["id"], "c" * 43)
    assert (status, said["failure"]["kind"]) == (409, "denied")


async def test_an_error_spends_the_state(service: Service):
    begun = await service.begin()
    browser = service.browser()
    asked = await browser.open(begun)
    cookies = dict(browser.cookies)
    await browser.call_back(asked["redirect_uri"], state=asked["state"], error="access_denied")
    browser.cookies = cookies
    assert (await browser.consent(asked)).status == 400
    assert service.consents.rows[begun["id"]].code is None


async def test_a_daemon_that_does_not_come_ends_the_consent(service: Service):
    service.consents.daemon = lambda _row: None
    begun = await service.begin()
    browser = service.browser()
    before = service.world.clock.boot()
    back = await browser.consent(await browser.open(begun))
    assert service.world.clock.boot() - before >= FOLLOWED_FOR
    assert back.query == {"connect": begun["id"], "error": "unavailable"}
    assert service.consents.rows[begun["id"]].state is ConsentState.FAILED


async def test_a_slow_provider_does_not(service: Service):
    def asked(row: object) -> None:
        row.state = ConsentState.ASKED  # type: ignore[attr-defined]

    service.consents.daemon = asked
    begun = await service.begin()
    browser = service.browser()
    back = await browser.consent(await browser.open(begun))
    assert set(back.query) == {"connect", "connect_code"}
    status, said = await service.complete(begun["id"], back.query["connect_code"])
    assert (status, said["state"]) == (202, "asked")


async def test_a_failed_exchange_reaches_the_application(service: Service):
    service.consents.daemon = lambda row: row.end(ConsentFailureKind.REFUSED, "invalid_grant")
    begun = await service.begin()
    browser = service.browser()
    back = await browser.consent(await browser.open(begun))
    assert back.query == {"connect": begun["id"], "error": "invalid_grant"}


async def test_an_error_that_no_url_should_carry_becomes_its_kind(service: Service):
    begun = await service.begin()
    browser = service.browser()
    asked = await browser.open(begun)
    back = await browser.call_back(asked["redirect_uri"], state=asked["state"], error="<b>&x=1")
    assert back.query["error"] == "denied"


async def test_five_wrong_proofs_end_a_consent(service: Service):
    begun = await service.begin()
    browser = service.browser()
    back = await browser.consent(await browser.open(begun))
    for _ in range(5):
        status, said = await service.complete(begun["id"], "x" * 43)
        assert (status, said["type"]) == (400, "urn:refreshd:problem:invalid-request")
    assert (await service.complete(begun["id"], back.query["connect_code"]))[0] == 409
    assert service.bound == []
    assert [record[3] for record in service.deeds.records].count("wrong") == 5


async def test_a_consent_is_completed_once(service: Service):
    begun = await service.begin()
    browser = service.browser()
    back = await browser.consent(await browser.open(begun))
    assert (await service.complete(begun["id"], back.query["connect_code"]))[0] == 200
    assert (await service.complete(begun["id"], back.query["connect_code"]))[0] == 409
    assert len(service.bound) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"connect_code": "x" * 43},
        {"connect_code": "x" * 43, "code_verifier": "short"},
        {"connect_code": 1, "code_verifier": "v" * 43},
        {"connect_code": "x" * 43, "code_verifier": "v" * 129},
        {"connect_code": "x" * 43, "code_verifier": "v" * 43, "more": 1},
    ],
)
async def test_a_malformed_proof_is_no_try(service: Service, body: dict[str, object]):
    begun = await service.begin()
    browser = service.browser()
    await browser.consent(await browser.open(begun))
    status, _ = await service.api("POST", f"/v1/connect/{begun['id']}/complete", body)
    assert status == 400
    assert service.consents.rows[begun["id"]].tries == 0


@pytest.mark.parametrize("consent", ["nothing", "a%2Fb", "%00", "x" * 300, "{id}", "%24ne"])
async def test_an_unknown_consent(service: Service, consent: str):
    assert (await service.api("GET", f"/v1/connect/{consent}"))[0] == 404
    assert (await service.complete(consent, "c" * 43))[0] == 404


async def test_a_link_expires(service: Service):
    begun = await service.begin()
    path = urlsplit(begun["connect_url"]).path
    service.pass_time(minutes=15)
    browser = service.browser()
    assert (await browser.get(path)).status == 404
    assert (await browser.press(path)).status == 404


async def test_the_link_of_a_revoked_key_leads_nowhere(service: Service):
    begun = await service.begin()
    path = urlsplit(begun["connect_url"]).path
    key = service.world.keys[service.key.id]
    service.world.keys[key.id] = replace(key, revoked_at=service.world.clock.now())
    assert (await service.browser().press(path)).status == 404


async def test_what_the_configuration_no_longer_allows_is_not_used(unbound: Service):
    """Neither a link nor a callback: its document may be older than the configuration, or somebody else's."""
    begun, opened, moved = [
        await unbound.begin(code_challenge=None, return_url=None),
        await unbound.begin(code_challenge=None, return_url=None),
        await unbound.begin(),
    ]
    browser = unbound.browser()
    asked = await browser.open(opened)
    unbound.owner_browser._rules = LinkRules(return_urls=(), unbound=False)
    for one in (begun, moved):
        assert (await browser.press(urlsplit(one["connect_url"]).path)).status == 404
    assert (await browser.consent(asked)).status == 400
    assert unbound.bound == []


async def test_a_link_that_is_only_looked_at_stays_good(service: Service):
    begun = await service.begin()
    path = urlsplit(begun["connect_url"]).path
    for method in ("GET", "HEAD", "GET"):
        assert (await service.ask(method, path, {})).status == 200
    await service.browser().open(begun)


async def test_a_link_is_used_once(service: Service):
    begun = await service.begin()
    path = urlsplit(begun["connect_url"]).path
    first, second = service.browser(), service.browser()
    assert (await first.press(path)).status == 303
    again = await second.press(path)
    assert (again.status, second.cookies) == (404, {})
    assert "does not work" in again.text


async def test_mongodb_is_away(service: Service):
    service.world.lost = True
    begun = service.browser()
    assert (await service.ask("GET", f"/connect/{'x' * 43}", {})).status == 404
    service.world.lost = False
    link = urlsplit((await service.begin())["connect_url"]).path
    service.world.lost = True
    for answer in (await begun.get(link), await begun.press(link)):
        assert answer.status == 503
        assert "text/html" in answer.headers["Content-Type"]


@pytest.fixture
async def local() -> AsyncIterator[Service]:
    one = Service(public="http://127.0.0.1:9465")
    await one.start()
    yield one
    await one.stop()


async def test_the_cookie_belongs_to_this_host_alone(service: Service):
    browser = service.browser()
    await browser.open(await service.begin())
    (cookie,) = browser.set
    assert cookie.startswith("__Host-refreshd-connect-")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax", "Max-Age=900"} <= set(cookie.split("; "))
    assert "Domain" not in cookie


async def test_on_this_machine_the_cookie_comes_without_tls(local: Service):
    browser = local.browser()
    asked = await browser.open(await local.begin())
    (cookie,) = browser.set
    assert cookie.startswith("refreshd-connect-")
    assert "Secure" not in cookie
    assert asked["redirect_uri"] == "http://127.0.0.1:9465/connect/callback/acme"
    assert (await browser.consent(asked)).status == 303


async def test_two_tabs_of_one_browser_do_not_disturb_each_other(service: Service):
    browser = service.browser()
    first, second = await service.begin(0), await service.begin(1, account="you")
    asked, other = await browser.open(first), await browser.open(second)
    assert len(browser.cookies) == 2
    for begun, tab, session in ((second, other, 1), (first, asked, 0)):
        back = await browser.consent(tab, code=f"code-{session}")
        assert (await service.complete(begun["id"], back.query["connect_code"], session))[0] == 200
    assert service.bound == [("acme:you", "code-1"), ("acme:me", "code-0")]
    assert browser.cookies == {}


async def test_a_return_url_keeps_its_own_query(service: Service):
    begun = await service.begin(return_url=f"{APP}/back/here?tab=1")
    browser = service.browser()
    back = await browser.consent(await browser.open(begun))
    assert back.location.startswith(f"{APP}/back/here?tab=1&connect=")


async def test_no_answer_to_an_application_has_a_secret_of_the_browser(service: Service):
    begun = await service.begin()
    browser = service.browser()
    asked = await browser.open(begun)
    (cookie,) = browser.cookies.values()
    back = await browser.consent(asked)
    said = [await service.api("GET", f"/v1/connect/{begun['id']}")]
    said.append(await service.complete(begun["id"], back.query["connect_code"]))
    said.append(await service.api("GET", f"/v1/connect/{begun['id']}"))
    for secret in (cookie, asked["state"], back.query["connect_code"], "code-1"):
        assert secret not in json.dumps(said)


def test_the_wait_is_ten_seconds():
    assert timedelta(seconds=10) == FOLLOWED_FOR
