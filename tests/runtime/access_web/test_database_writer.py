"""An attacker with write access to the database and no key, who has forwarded a link: no step stores the victim's grant.

The attacker's own session of the application has begun the consent, so its verifier is known. The connect code is not: it
went to the victim's browser.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from daemon.domain.consent_request import HELD_FOR, ConsentRequest, identified
from daemon.domain.secret import Secret
from daemon.domain.session_proof import hashed
from tests.runtime.access_web.connect_service import RETURN, Answer
from tests.runtime.access_web.connect_stage import Stage, bench, stage

__all__ = ["bench", "stage"]
KNOWN = Secret("k" * 43)  # a connect code that the attacker has made up
SPENT = ("browser_hash", "state_hash", "link_hash")


class Attacker:
    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.consents = stage.bench.database["tokens_consents"]

    async def begin(self, account: str = "attacker") -> dict[str, Any]:
        return await self.stage.service.begin(0, account=account)

    async def walk(self, begun: dict[str, Any]) -> Answer:
        """Somebody consents in a browser of their own, and is sent back to the application."""
        browser = self.stage.service.browser()
        asked = await browser.open(begun)
        return await browser.consent(asked, code=self.stage.provider.consent(asked))

    def read(self, begun: dict[str, Any]) -> dict[str, Any]:
        found = self.consents.find_one({"_id": begun["id"]})
        assert found is not None
        return found

    def write(self, begun: dict[str, Any], **fields: object) -> None:
        self.consents.update_one({"_id": begun["id"]}, {"$set": fields})

    def put_back(self, begun: dict[str, Any], document: dict[str, Any]) -> None:
        """Put an earlier document in the place of the one that is stored."""
        self.consents.replace_one({"_id": begun["id"]}, document)

    async def complete(self, begun: dict[str, Any], code: str) -> dict[str, Any]:
        return (await self.stage.service.complete(begun["id"], code, 0))[1]

    async def wait(self) -> None:
        """Let the daemon work for the ten minutes and longer."""
        for _ in range(15):
            self.stage.bench.pass_time(timedelta(minutes=1))
            await self.stage.daemon.look()

    def failure(self, begun: dict[str, Any]) -> str:
        return str(self.read(begun)["failure"]["kind"])


@pytest.fixture
def attacker(stage: Stage) -> Attacker:
    return Attacker(stage)


async def test_marking_a_consent_as_completed_stores_nothing(stage: Stage, attacker: Attacker):
    """As the application's completion marks it, or with a due date only."""
    begun = await attacker.begin()
    await attacker.walk(begun)
    now = stage.bench.clock.now()
    attacker.write(begun, completed_at=now, grant_due_at=now)
    await attacker.wait()
    assert stage.tokens() == {}
    assert attacker.failure(begun) == "abandoned"


async def test_a_connect_code_of_the_attackers_own_stores_nothing(stage: Stage, attacker: Attacker):
    """The service compares with the hash in the document, which the attacker has written."""
    begun = await attacker.begin()
    await attacker.walk(begun)
    attacker.write(begun, connect_code_hash=hashed(KNOWN))
    said = await attacker.complete(begun, KNOWN.reveal())
    assert said.get("failure", {}).get("kind") == "unreadable", said
    await attacker.wait()
    assert stage.tokens() == {}
    assert attacker.failure(begun) == "unreadable"


async def test_a_grant_in_another_consent_stores_nothing(stage: Stage, attacker: Attacker):
    """The attacker completes a consent of their own, in which the victim's grant lies."""
    own, begun = await attacker.begin("own"), await attacker.begin()
    back = await attacker.walk(own)
    await attacker.walk(begun)
    attacker.write(own, grant=attacker.read(begun)["grant"])
    await attacker.complete(own, back.query["connect_code"])
    await attacker.wait()
    assert stage.tokens() == {}
    assert attacker.failure(own) == "unreadable"


async def test_an_earlier_grant_of_the_same_consent_stores_nothing(stage: Stage, attacker: Attacker):
    """The victim has consented, and its grant is set aside. The attacker consents to the same, and puts it back."""
    begun = await attacker.begin()
    fresh = attacker.read(begun)
    await attacker.walk(begun)
    victims = attacker.read(begun)["grant"]
    attacker.put_back(begun, fresh)
    back = await attacker.walk(begun)
    attacker.write(begun, grant=victims)
    said = await attacker.complete(begun, back.query["connect_code"])
    assert said.get("failure", {}).get("kind") == "unreadable", said
    await attacker.wait()
    assert stage.tokens() == {}


def at_the_first_code(
    attacker: Attacker, begun: dict[str, Any], then: Callable[[dict[str, Any]], None]
) -> None:
    """Meddle once, between the callback and the daemon."""

    def meddle() -> None:
        document = attacker.read(begun)
        if document["code"] is not None:
            attacker.stage.daemon.meddle = lambda: None
            then(document)

    attacker.stage.daemon.meddle = meddle


async def test_an_earlier_code_of_the_same_consent_stores_nothing(stage: Stage, attacker: Attacker):
    """The victim's code is set aside before the daemon takes it, and comes with the attacker's connect code."""
    begun = await attacker.begin()
    fresh, seen = attacker.read(begun), {}

    def set_aside(document: dict[str, Any]) -> None:
        seen.update({name: document[name] for name in ("code", "code_verifier")})
        attacker.put_back(begun, fresh)

    at_the_first_code(attacker, begun, set_aside)
    await attacker.walk(begun)
    attacker.put_back(begun, fresh)
    at_the_first_code(attacker, begun, lambda _: attacker.write(begun, **seen))
    back = await attacker.walk(begun)
    assert len(stage.provider.granted) == 1  # the victim's
    said = await attacker.complete(begun, back.query["connect_code"])
    assert said.get("failure", {}).get("kind") == "unreadable", said
    await attacker.wait()
    assert stage.tokens() == {}
    assert attacker.failure(begun) == "unreadable"


async def test_a_code_in_another_consent_is_not_presented(stage: Stage, attacker: Attacker):
    """It doesn't open there."""
    own, begun = await attacker.begin("own"), await attacker.begin()

    def move(document: dict[str, Any]) -> None:
        attacker.write(own, **{name: document[name] for name in ("code", "code_verifier")}, state_hash=None)
        attacker.write(begun, code=None)

    at_the_first_code(attacker, begun, move)
    await attacker.walk(begun)
    await attacker.wait()
    assert stage.provider.granted == []
    assert stage.tokens() == {}
    assert attacker.failure(own) == "unreadable"


@pytest.mark.parametrize("kind", ["code", "another consent's proof", "plain"])
async def test_another_text_is_no_proof(stage: Stage, attacker: Attacker, kind: str):
    """A sealed code is sealed for the same field, and the attacker's own proof for another consent."""
    own, begun = await attacker.begin("own"), await attacker.begin()
    seen: dict[str, Any] = {"plain": KNOWN.reveal()}
    back = await attacker.walk(own)
    stage.daemon.meddle = lambda: seen.update({"another consent's proof": attacker.read(own).get("proof")})
    await attacker.complete(own, back.query["connect_code"])
    stored = set(stage.tokens())
    at_the_first_code(attacker, begun, lambda document: seen.update(code=document["code"]))
    await attacker.walk(begun)
    assert seen[kind]
    now = stage.bench.clock.now()
    attacker.write(begun, proof=seen[kind], completed_at=now, grant_due_at=now)
    await attacker.wait()
    assert set(stage.tokens()) == stored == {"acme:own"}
    assert attacker.failure(begun) == "unreadable"


@pytest.mark.parametrize("key", ["the application's", None])
async def test_a_consent_without_a_session_gets_no_code(stage: Stage, attacker: Attacker, key: str | None):
    """Its id belongs to its fields, since that needs no key. The victim's own callback is led to it."""
    begun = await attacker.begin()
    victim = stage.service.browser()
    asked = await victim.open(begun)
    document = attacker.read(begun)
    planted = identified(
        ConsentRequest(
            id="planted",
            provider="acme",
            account="attacker",
            redirect_uri=document["redirect_uri"],
            scopes=tuple(document["scopes"]),
            key=document["key"] if key else None,
            return_url=RETURN,
            nonce=document["nonce"],
            expires_at=document["expires_at"],
        )
    )
    fields = {
        "_id": planted.id,
        "key": planted.key,
        "account": "attacker",
        "code_challenge": None,
        "return_url": RETURN,
    }
    attacker.consents.insert_one({**document, **fields, "code_verifier": None})
    attacker.write(begun, **dict.fromkeys(SPENT))
    answer = await victim.consent(asked, code=stage.provider.consent(asked))
    assert answer.status != 303
    await attacker.wait()
    assert stage.provider.granted == []
    assert stage.tokens() == {}


async def test_the_session_that_began_it_completes_after_all_of_this(stage: Stage, attacker: Attacker):
    """The counterpart: the rules above refuse no application."""
    begun = await attacker.begin("own")
    back = await attacker.walk(begun)
    stage.bench.pass_time(HELD_FOR - timedelta(minutes=1))
    assert (await attacker.complete(begun, back.query["connect_code"]))["state"] == "done"
    assert set(stage.tokens()) == {"acme:own"}
    document = attacker.read(begun)
    assert (document["proof"], document["grant"]) == (None, None)
