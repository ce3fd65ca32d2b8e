"""Attacks on a consent that an application began. None of them connects an account to the wrong user."""

import asyncio
import logging
import re
from urllib.parse import urlsplit

import pytest

from daemon.domain.authorization import code_challenge
from daemon.domain.consent_request import ConsentFailureKind, ConsentState
from tests.runtime.access_web.connect_service import (
    APP,
    PUBLIC,
    Answer,
    Service,
    service,
    unbound,
)

__all__ = ["service", "unbound"]
HOSTILE = "<script>alert(1)</script>\"'&lt;"


async def test_a_forwarded_link_binds_nothing(service: Service):
    """The attacker begins, the victim consents. The application has no session of the victim's for this consent."""
    begun = await service.begin(0)
    victim = service.browser()
    back = await victim.consent(await victim.open(begun))
    for code in ("x" * 43, begun["connect_url"].rpartition("/")[2]):
        assert (await service.complete(begun["id"], code, 0))[0] == 400  # the attacker has no connect code
    assert (await service.complete(begun["id"], back.query["connect_code"], 1))[0] == 400
    assert service.bound == []


async def test_a_forwarded_link_binds_nothing_to_a_victim_who_is_connecting_too(service: Service):
    """The application tries the code of the attacker's consent with all that the victim's session has."""
    attackers, victims = await service.begin(0), await service.begin(1)
    victim = service.browser()
    own = await victim.open(victims)
    back = await victim.consent(await victim.open(attackers))
    code = back.query["connect_code"]
    assert (await service.complete(attackers["id"], code, 1))[0] == 400
    assert (await service.complete(victims["id"], code, 1))[0] == 409  # it has no grant yet
    assert service.bound == []
    done = await victim.consent(own, code="code-2")
    assert (await service.complete(victims["id"], code, 1))[0] == 400
    assert (await service.complete(victims["id"], done.query["connect_code"], 1))[0] == 200
    assert service.bound == [("acme:me", "code-2")]


async def test_another_applications_key_completes_nothing(service: Service):
    begun = await service.begin()
    other = service.another_key("acme:*")
    browser = service.browser()
    back = await browser.consent(await browser.open(begun))
    assert (await service.complete(begun["id"], back.query["connect_code"], key=other))[0] == 404
    assert (await service.api("GET", f"/v1/connect/{begun['id']}", key=other))[0] == 404
    assert service.consents.rows[begun["id"]].tries == 0


async def test_a_replayed_callback_does_nothing(service: Service):
    begun = await service.begin()
    browser, other = service.browser(), service.browser()
    asked = await browser.open(begun)
    other.cookies = dict(browser.cookies)
    cookies = dict(browser.cookies)
    back = await browser.consent(asked)
    browser.cookies = cookies
    for again in (browser, other):
        answer = await again.consent(asked, code="code-2")
        assert answer.status == 400
        assert back.query["connect_code"] not in answer.text
    assert (await service.complete(begun["id"], back.query["connect_code"]))[0] == 200
    assert service.bound == [("acme:me", "code-1")]


async def test_two_callbacks_in_one_moment_give_one_code(service: Service):
    begun = await service.begin()
    browser = service.browser()
    asked = await browser.open(begun)
    tabs = [service.browser() for _ in range(5)]
    for tab in tabs:
        tab.cookies = dict(browser.cookies)
    answers = await asyncio.gather(*(tab.consent(asked) for tab in tabs))
    assert sorted(answer.status for answer in answers) == [303, 400, 400, 400, 400]


async def test_two_presses_in_one_moment_spend_one_link(service: Service):
    path = urlsplit((await service.begin())["connect_url"]).path
    answers = await asyncio.gather(*(service.browser().press(path) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [303, 404, 404, 404, 404]


async def test_the_callback_of_another_browser_ends_the_consent(service: Service):
    """An attacker sends the victim the callback of their own consent (login CSRF)."""
    begun = await service.begin()
    attacker, victim = service.browser(), service.browser()
    asked = await attacker.open(begun)
    assert (await victim.consent(asked)).status == 400
    row = service.consents.rows[begun["id"]]
    assert (row.state, row.failure and row.failure.kind) == (
        ConsentState.FAILED,
        ConsentFailureKind.MIXED_UP,
    )
    assert (await attacker.consent(asked)).status == 400
    assert row.code is None


async def test_the_state_of_another_flow_is_refused(service: Service):
    first, second = service.browser(), service.browser()
    one, two = await service.begin(0), await service.begin(1)
    asked, other = await first.open(one), await second.open(two)
    answer = await first.call_back(asked["redirect_uri"], state=other["state"], code="code-1")
    assert answer.status == 400
    assert service.consents.rows[two["id"]].code is None
    assert (await first.consent(asked)).status == 303


async def test_the_cookie_of_another_flow_is_refused(service: Service):
    first, second = service.browser(), service.browser()
    one, two = await service.begin(0), await service.begin(1)
    await first.open(one)
    other = await second.open(two)
    (value,), (name,) = first.cookies.values(), second.cookies.keys()
    first.cookies = {name: value}
    assert (await first.consent(other)).status == 400
    assert service.consents.rows[two["id"]].code is None


@pytest.mark.parametrize("value", ["", '""', "x" * 43, "=", ";", "\\303"])
async def test_a_cookie_that_is_none(service: Service, value: str):
    browser = service.browser()
    asked = await browser.open(await service.begin())
    (name,) = browser.cookies
    browser.cookies = {name: value}
    assert (await browser.consent(asked)).status == 400


async def test_a_hostile_provider_gets_no_code_of_an_honest_one(service: Service):
    """Mix-up: the hostile provider sends the browser on to the honest one, with its own flow's state (RFC 9700 §4.4)."""
    begun = await service.begin(provider="evil")
    browser = service.browser()
    asked = await browser.open(begun)
    assert asked["redirect_uri"] == f"{PUBLIC}/connect/callback/evil"
    answer = await browser.call_back(f"{PUBLIC}/connect/callback/acme", state=asked["state"], code="honest")
    assert answer.status == 400
    row = service.consents.rows[begun["id"]]
    assert (row.code, row.state) == (None, ConsentState.FAILED)


async def test_an_injected_code_meets_the_verifier_of_this_consent(service: Service):
    """The provider compares the verifier with the challenge of the code's own request, and refuses (RFC 7636)."""
    begun = await service.begin()
    browser = service.browser()
    asked = await browser.open(begun)
    await browser.consent(asked, code="stolen")
    verifier = service.consents.rows[begun["id"]].request.code_verifier
    assert verifier is not None
    assert code_challenge(verifier) == asked["code_challenge"]
    others = await service.browser().open(await service.begin(1))
    assert others["code_challenge"] != asked["code_challenge"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "code=code-1",
        "state=&code=code-1",
        "state=STATE&state=STATE&code=code-1",
        "state=STATE%00&code=code-1",
        "state=%ff&code=code-1",
        "state[]=STATE&code=code-1",
        "State=STATE&code=code-1",
        "state=short&code=code-1",
        "&".join(f"a{one}=1" for one in range(60)) + "&state=STATE&code=code-1",
    ],
)
async def test_a_callback_without_one_state_changes_nothing(service: Service, query: str):
    begun = await service.begin()
    browser = service.browser()
    asked = await browser.open(begun)
    answer = await browser.get(f"/connect/callback/acme?{query.replace('STATE', asked['state'])}")
    assert answer.status == 400
    assert (await browser.consent(asked)).status == 303


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"code": ""},
        {"code": "a\nb"},
        {"code": "x" * 5000},
        {"code": "code-1", "error": "access_denied"},
    ],
)
async def test_a_callback_without_a_code_is_a_refusal(service: Service, parameters: dict[str, str]):
    begun = await service.begin()
    browser = service.browser()
    asked = await browser.open(begun)
    back = await browser.call_back(asked["redirect_uri"], state=asked["state"], **parameters)
    assert set(back.query) == {"connect", "error"}
    assert service.consents.rows[begun["id"]].code is None


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/connected",
        "//evil.example/",
        "https://app.example.com/connectedx",
        "https://app.example.com/back/../admin",
        "https://app.example.com/back/%2e%2e/admin",
        "https://app.example.com\\@evil.example/back/",
        "https://app.example.com@evil.example/back/",
        "https://user:word@app.example.com/connected",
        "https://app.example.com/connected#x",
        "https://app.example.com/back/?connect_code=mine",
        "javascript:alert(1)",
        "data:text/html,x",
        "/connected",
        "http://app.example.com/connected",
        "https://app.example.com:8443/connected",
        "https://app.example.com/back/\r\nLocation: https://evil.example",
        7,
        "",
    ],
)
async def test_a_browser_is_sent_nowhere_else(service: Service, url: object):
    status, said = await service.refused(return_url=url)
    assert (status, [fault["where"] for fault in said["faults"]]) == (400, ["return_url"])


async def test_a_path_with_two_slashes_leads_nowhere(service: Service):
    for path in ("//evil.example/connect/x", "/connect//evil.example", "/connect/callback//evil.example"):
        answer = await service.ask("GET", path, {})
        assert answer.status in (400, 404)
        assert "Location" not in answer.headers


async def every_page(service: Service) -> dict[str, Answer]:
    """One of each page and redirect that a browser can see."""
    begun = await service.begin(code_challenge=None, return_url=None)
    link = urlsplit(begun["connect_url"]).path
    browser, other = service.browser(), service.browser()
    pages = {"question": await browser.get(link), "other site": await browser.press(link, Origin=APP)}
    pages["button"] = await browser.press(link)
    pages["used link"] = await browser.press(link)
    asked = pages["button"].query
    pages["done"] = await browser.consent(asked)
    pages["other browser"] = await other.consent(asked)
    begun = await service.begin(code_challenge=None, return_url=None)
    asked = await browser.open(begun)
    pages["denied"] = await browser.call_back(
        asked["redirect_uri"], state=asked["state"], error="access_denied", error_description=HOSTILE
    )
    service.world.lost = True
    link = urlsplit((await service_begin_while_lost(service))["connect_url"]).path
    pages["away"] = await browser.get(link)
    service.world.lost = False
    return pages


async def service_begin_while_lost(service: Service) -> dict[str, str]:
    service.world.lost = False
    begun = await service.begin(code_challenge=None, return_url=None)
    service.world.lost = True
    return begun


async def test_no_page_can_be_framed_kept_or_scripted(unbound: Service):
    for name, page in (await every_page(unbound)).items():
        headers = page.headers
        assert headers["Cache-Control"] == "no-store", name
        assert headers["Referrer-Policy"] == "no-referrer", name
        assert headers["X-Content-Type-Options"] == "nosniff", name
        policy = headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy, name
        assert "default-src 'none'" in policy, name
        assert "unsafe" not in policy
        assert "script-src" not in policy
        assert not re.search(r"<script|\son\w+=|javascript:|<meta http-equiv", page.text), name
        if page.status != 303:
            assert headers["X-Frame-Options"] == "DENY", name


async def test_forms_lead_to_the_provider_and_back_only(service: Service):
    begun = await service.begin()
    page = await service.browser().get(urlsplit(begun["connect_url"]).path)
    policy = page.headers["Content-Security-Policy"]
    assert f"form-action 'self' https://login.acme.example {APP};" in policy
    gone = await service.browser().get(f"/connect/{'x' * 43}")
    assert "form-action 'none'" in gone.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {"Origin": "null", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "null", "Sec-Fetch-Site": "same-site"},
        {"Origin": PUBLIC, "Sec-Fetch-Site": "cross-site"},
        {"Origin": PUBLIC.replace("https", "http")},
        {"Origin": f"{PUBLIC}:8443"},
        {"Origin": f"{PUBLIC}.evil.example"},
        {"Origin": f"{PUBLIC}, https://evil.example"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "same-origin, cross-site"},
        {"Referer": f"{PUBLIC}/connect/x"},
        {},
    ],
)
async def test_no_other_site_presses_the_button(service: Service, headers: dict[str, str]):
    path = urlsplit((await service.begin())["connect_url"]).path
    browser = service.browser()
    answer = await browser.ask("POST", path, headers)
    assert (answer.status, browser.cookies) == (403, {})
    assert (await browser.press(path)).status == 303  # the link is unspent


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": PUBLIC},
        {"Origin": PUBLIC, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin"},
    ],
)
async def test_the_page_itself_does(service: Service, headers: dict[str, str]):
    path = urlsplit((await service.begin())["connect_url"]).path
    assert (await service.browser().ask("POST", path, headers)).status == 303


async def test_no_page_completes_a_consent(service: Service):
    """A browser sends cookies along and no access key, and a form is no JSON."""
    begun = await service.begin()
    browser = service.browser()
    back = await browser.consent(await browser.open(begun))
    path = f"/v1/connect/{begun['id']}/complete"
    body = {"connect_code": back.query["connect_code"], "code_verifier": "a" * 43}
    assert (await service.ask("POST", path, {"Origin": "https://evil.example"}, body)).status == 401
    key = {"Authorization": f"Bearer {service.key_text}"}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = await service.ask("POST", path, {**key, "Content-Type": kind}, body)
        assert answer.status == 415
    answer = await service.ask("OPTIONS", path, {"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("Access-Control")]
    assert service.consents.rows[begun["id"]].tries == 0


@pytest.mark.parametrize("field", ["error", "error_description"])
async def test_providers_words_are_shown_as_text(unbound: Service, field: str):
    begun = await unbound.begin(code_challenge=None, return_url=None)
    browser = unbound.browser()
    asked = await browser.open(begun)
    said = {"error": "access_denied", field: HOSTILE}
    answer = await browser.call_back(asked["redirect_uri"], state=asked["state"], **said)
    assert "Not connected" in answer.text
    assert "<script" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text


async def test_names_are_shown_as_text(unbound: Service):
    key, kept = unbound.world.key("acme:*")
    object.__setattr__(kept, "name", HOSTILE)
    begun = await unbound.begin(
        key=key, account=f"me {HOSTILE}", subject=f"\u202e{HOSTILE}", code_challenge=None, return_url=None
    )
    page = await unbound.browser().get(urlsplit(begun["connect_url"]).path)
    assert page.status == 200
    assert "<script" not in page.text
    assert page.text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3
    assert "\u202e" not in page.text
    assert "\\u202e" in page.text


async def test_a_bound_page_names_account_and_subject(service: Service):
    page = await service.browser().get(
        urlsplit((await service.begin(account="company-7", subject="user-17"))["connect_url"]).path
    )
    for said in ("app", "Acme", "company-7", "user-17", "login.acme.example", "app.example.com"):
        assert said in page.text
    assert "works in any browser" not in page.text


async def test_an_unbound_page_warns(unbound: Service):
    page = await unbound.browser().get(
        urlsplit((await unbound.begin(code_challenge=None, subject="user-17"))["connect_url"]).path
    )
    assert "works in any browser" in page.text
    assert "user-17" in page.text


@pytest.mark.parametrize("megabyte", ["code", "state", "error_description"])
async def test_a_callback_of_a_megabyte_is_refused(service: Service, megabyte: str):
    begun = await service.begin()
    browser = service.browser()
    asked = await browser.open(begun)
    query = f"state={asked['state']}&code=code-1&{megabyte}={'x' * 1_000_000}"
    assert await status_of(service, f"GET /connect/callback/acme?{query} HTTP/1.1\r\n") in (
        400,
        413,
        414,
        431,
    )
    assert (await browser.consent(asked)).status == 303


async def test_a_button_with_a_megabyte_is_not_read(service: Service):
    path = urlsplit((await service.begin())["connect_url"]).path
    head = f"POST {path} HTTP/1.1\r\nOrigin: {PUBLIC}\r\nContent-Length: 1000000\r\n"
    assert await status_of(service, head, body=b"x" * 200_000) in (303, 413, 431)


async def status_of(service: Service, head: str, body: bytes = b"") -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.server.port)
    try:
        writer.write(f"{head}Host: tokens.example.com\r\n\r\n".encode() + body)
        line = await asyncio.wait_for(reader.readline(), 5)
    finally:
        writer.close()
    return int(line.split()[1])


async def test_the_host_of_another_site_is_refused(service: Service):
    """A site that points its own name at the service sees no page."""
    path = urlsplit((await service.begin())["connect_url"]).path
    answer = await service.ask("GET", path, {"Host": "evil.example"})
    assert answer.status == 421


@pytest.mark.parametrize(
    "link", ["x" * 42, "x" * 44, "x" * 42 + "%00", "%7B%7D", "callback", "..%2f" + "x" * 37, "$ne"]
)
async def test_what_is_no_link_is_not_looked_up(service: Service, link: str):
    async def looked_up(_hash: str) -> None:
        pytest.fail("was looked up")

    service.consents.by_link = looked_up  # type: ignore[assignment]
    assert (await service.browser().get(f"/connect/{link}")).status == 404
    assert (await service.browser().press(f"/connect/{link}")).status == 404


async def test_the_secrets_of_a_consent_are_in_no_log_line(
    service: Service, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    begun = await service.begin()
    browser = service.browser()
    asked = await browser.open(begun)
    (cookie,) = browser.cookies.values()
    back = await browser.consent(asked)
    await browser.consent(asked)
    await status_of(service, f"GET {urlsplit(begun['connect_url']).path} HTTP/9.9\r\n")
    await service.complete(begun["id"], back.query["connect_code"])
    secrets = [begun["connect_url"].rpartition("/")[2], asked["state"], cookie, back.query["connect_code"]]
    lines = "\n".join([caplog.text, *service.log, repr(service.deeds.records)])
    assert "connect_page 200" in lines
    assert not [one for one in secrets if one in lines]
