"""A thousand forwarded links, with real MongoDB, the service's routes and the daemon's exchange: none binds anything."""

import json
from datetime import timedelta

import pytest

from daemon.domain.consent_request import HELD_FOR
from tests.runtime.access_web.connect_service import VERIFIERS
from tests.runtime.access_web.connect_stage import Stage, bench, stage

__all__ = ["bench", "stage"]


@pytest.mark.parametrize("links", [50, pytest.param(1000, marks=pytest.mark.long)])
async def test_forwarded_links_bind_nothing(stage: Stage, links: int):
    """No grant goes to the wrong user, and no stored one is touched: neither at first nor after the time is over."""
    for number in range(0, links, 2):
        stage.bench.insert(f"acme:user-{number}", subject=f"user-{number}")
    before = stage.tokens()
    for number in range(links):
        await stage.forward(number)
    assert len(stage.provider.granted) == links  # every victim has consented
    assert stage.tokens() == before
    stage.bench.pass_time(HELD_FOR + timedelta(seconds=1))
    consents = stage.bench.database["tokens_consents"]
    for _ in range(links):
        await stage.daemon.look()
        if not consents.count_documents({"state": "asked"}):
            break
    assert stage.tokens() == before
    states = {one["state"] for one in consents.find({}, {"state": 1})}
    assert states <= {"abandoned", "waiting"}


async def test_the_right_session_completes(stage: Stage):
    begun = await stage.service.begin(account="me", subject="user-17")
    browser = stage.service.browser()
    asked = await browser.open(begun)
    code = stage.provider.consent(asked)
    back = await browser.consent(asked, code=code)
    assert stage.tokens() == {}
    status, said = await stage.service.complete(begun["id"], back.query["connect_code"])
    assert (status, said["state"]) == (200, "done")
    assert stage.bench.opened("acme:me") == (f"at-{code}", f"rt-{code}")
    assert stage.bench.document("acme:me")["subject"] == "user-17"
    stored = json.dumps(list(stage.bench.database["tokens_consents"].find()), default=str)
    secret = [
        VERIFIERS[0].reveal(),
        back.query["connect_code"],
        code,
        *browser.cookies.values(),
        asked["state"],
    ]
    assert [one for one in secret if one in stored] == []


async def test_an_injected_code_is_refused_by_the_provider(stage: Stage):
    """The code of another authorization request meets this consent's verifier."""
    victims, attackers = await stage.service.begin(0), await stage.service.begin(1, account="evil")
    victim, attacker = stage.service.browser(), stage.service.browser()
    asked, other = await victim.open(victims), await attacker.open(attackers)
    back = await victim.consent(asked, code=stage.provider.consent(other))
    assert back.query == {"connect": victims["id"], "error": "invalid_grant"}
    assert stage.tokens() == {}
