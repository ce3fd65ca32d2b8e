"""An application connects an account: the real service and the real daemon, the sandbox as provider, and plain HTTP in the
place of a browser.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.connected_application import Session, connecting
from tests.e2e.service import Place, placed


@pytest.fixture
async def place(mongod: str, tmp_path: Path) -> AsyncIterator[Place]:
    async with placed(mongod, tmp_path / "place") as one:
        yield one


async def test_an_application_connects_an_account(place: Place):
    """The token is stored after the completion and not before, and no secret on the way is logged or audited."""
    async with connecting(place) as (service, daemon):
        session, other = Session(service), Session(service)
        begun = await session.begin(meta={"plan": "x"})
        back = await session.consent(begun)
        assert set(back) == {"connect", "connect_code"}
        assert (await service.get("/v1/tokens/acme/new")).status == 404
        assert (await other.complete(begun["id"], back["connect_code"])).problem == "invalid-request"
        done = await session.complete(begun["id"], back["connect_code"])
        assert (done.status, done.json["state"]) == (200, "done"), done
        token = await service.get("/v1/tokens/acme/new")
        assert token.status == 200
        assert token.json["subject"] == "user-17"

        denied = Session(service)
        begun = await denied.begin()
        assert await denied.consent(begun, "deny") == {"connect": begun["id"], "error": "access_denied"}
        state = await service.get(f"/v1/connect/{begun['id']}")
        assert state.json["failure"] == {"kind": "denied", "code": "access_denied"}

        unbound = Session(service)
        begun = await unbound.begin("third", code_challenge=None)
        assert await unbound.consent(begun) == {"connect": begun["id"]}
        assert (await service.get("/v1/tokens/acme/third")).status == 200

        audit = (await service.get("/v1/audit")).json["items"]
        seen = [(one["action"], one["token"], one["result"]) for one in audit if one["token"]]
        for record in (
            ("connect", "acme:new", None),
            ("connect_complete", "acme:new", None),
            ("connect_complete", "acme:new", "wrong"),
            ("connect_refused", "acme:new", "denied"),
            ("connect", "acme:third", "unbound"),
        ):
            assert record in seen, record
        said = json.dumps(audit) + service.process.logs + daemon.logs
        used = [*session.secrets, *denied.secrets, *unbound.secrets]
        assert len(used) > 15
        assert [one for one in used if one in said] == []
        assert not service.process.seen("internal.error")
