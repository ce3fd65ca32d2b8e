"""A revoked grant that comes back, on a real MongoDB: by an operator, an application, an import or a restore."""

from datetime import timedelta
from typing import Any

import bson.json_util
import pytest

from daemon.adapters.mongo.admin.consents import GrantRevoked
from daemon.adapters.mongo.admin.imports import MongoImports
from daemon.adapters.mongo.admin.restores import MongoRestoreTarget
from daemon.adapters.mongo.admin.revocations import Revocations, RevocationSelection
from daemon.adapters.mongo.admin.tokens import TokenAdmin
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.connecting.consented_tokens import ConsentedTokens
from daemon.adapters.mongo.tombstones import revoked_grants
from daemon.domain.backup import Standing
from daemon.domain.change import Revoked
from daemon.domain.claim import Recorded
from daemon.domain.consent_request import Binding, Bound
from daemon.domain.moving import Candidate, Origin
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from tests.adapters.mongo.mongo_bench import NOON, RING, Bench, bench, claim_one, database

__all__ = ["bench", "database"]

LATER = NOON + timedelta(days=30)


@pytest.fixture
async def revoked(bench: Bench) -> Bench:
    """The tombstone of acme:1, whose refresh token was refresh-0. `archived` is its document of before."""
    bench.insert(grant_fingerprint=RING.fingerprint("refresh-0"))
    store = bench.store()
    await order(bench)
    change = Revoked(revoked_at=NOON, forget_at=LATER)
    assert await store.record(await claim_one(store), change) is Recorded.STORED
    return bench


def audit(bench: Bench) -> Audit:
    return Audit(bench.mongos[0], who=Who(actor="ann@host"), log=lambda _record: None)


async def order(bench: Bench, *, minutes: int = 0) -> None:
    orders = Revocations(bench.mongos[0], audit(bench))
    found = await orders.find(RevocationSelection(ids=["acme:1"]))
    await orders.order(found, not_before=NOON + timedelta(minutes=minutes) if minutes else None)


def token(account: str = "1", refresh: str = "refresh-0") -> Token:
    return Token(
        id=f"acme:{account}",
        provider="acme",
        account=account,
        state=State.ACTIVE,
        refresh_token=Secret(refresh),
        access_token=Secret("access-9"),
    )


async def test_tombstones_are_found_by_the_fingerprints_of_any_key(revoked: Bench):
    mongo = revoked.mongos[0]
    prints = [*RING.fingerprints("refresh-other"), *RING.fingerprints("refresh-0")]
    assert await revoked_grants(mongo, prints) == {RING.fingerprint("refresh-0"): "acme:1"}
    assert await revoked_grants(mongo, RING.fingerprints("refresh-other")) == {}
    assert await revoked_grants(mongo, []) == {}


async def test_a_tombstone_of_another_form_is_passed_over(revoked: Bench):
    """Other programs write documents, too."""
    revoked.set("acme:1", fingerprints=[RING.fingerprint("refresh-0"), 7, None])
    mongo = revoked.mongos[0]
    assert list(await revoked_grants(mongo, RING.fingerprints("refresh-0"))) == [
        RING.fingerprint("refresh-0")
    ]
    revoked.set("acme:1", fingerprints="text")
    assert await revoked_grants(mongo, RING.fingerprints("refresh-0")) == {}


@pytest.mark.parametrize("account", ["1", "2"])
async def test_a_revoked_refresh_token_is_not_added_again(revoked: Bench, account: str):
    """Under no id: it is of no use, and its owner wanted it to end."""
    tokens = TokenAdmin(revoked.mongos[0], RING, audit(revoked))
    with pytest.raises(GrantRevoked, match="revoked as acme:1, so nothing was stored"):
        await tokens.add(token(account))
    await tokens.add(token(account, "refresh-new"))
    assert revoked.document(f"acme:{account}")["state"] == "active"


async def test_a_consent_that_the_provider_has_just_granted_is_stored(revoked: Bench):
    """Even with the same refresh token: the provider has given it out again."""
    consented = ConsentedTokens(revoked.mongos[0], lambda: RING, audit(revoked))
    binding = Binding(consent="c1", asked_at=NOON)
    assert await consented.bind(token(), binding) is Bound.STORED
    assert revoked.document()["state"] == "active"


def candidate(account: str, refresh: str) -> Candidate:
    origin = Origin(
        layout="l",
        source="s",
        key=account,
        row=Secret("row"),
        rest=Secret("{}"),
        read_at=NOON,
        end_is_known=True,
    )
    return Candidate(label=account, token=token(account, refresh), origin=origin)


@pytest.mark.parametrize(
    ("account", "refresh", "expected"),
    [
        ("1", "refresh-0", "acme:1"),
        ("1", "refresh-new", "acme:1"),
        ("2", "refresh-0", "acme:1"),
        ("2", "refresh-new", None),
    ],
)
async def test_an_import_sees_a_revoked_grant(
    revoked: Bench, account: str, refresh: str, expected: str | None
):
    """By its id, since the application's row may hold an older refresh token, or by its fingerprint."""
    one = candidate(account, refresh)
    standing = await MongoImports(revoked.mongos[0], RING).standing([one])
    assert standing[one.token.id].revoked == expected


def line(document: dict[str, Any]) -> bytes:
    return bson.json_util.dumps(document, json_options=bson.json_util.CANONICAL_JSON_OPTIONS).encode()


def archived(bench: Bench, **fields: Any) -> bytes:
    """The line of acme:1 in a backup, as it was before the revocation."""
    name = bench.insert("9")
    document = bench.document(name)
    bench.tokens.delete_one({"_id": name})
    return line({**document, "_id": "acme:1", "account": "1"} | fields)


async def ended(bench: Bench, text: bytes) -> tuple[Standing, dict[str, str]]:
    target = MongoRestoreTarget(bench.mongos[0], RING)
    [one] = target.read([text])
    assert one.token is not None
    [stored] = await target.stored([one])
    return stored.standing, dict(await target.ended([one.token], since=NOON - timedelta(days=1)))


async def test_a_restore_keeps_the_tombstone(revoked: Bench):
    """The archived token is older."""
    text = archived(revoked, grant_fingerprint=RING.fingerprint("refresh-0"))
    standing, over = await ended(revoked, text)
    assert standing is Standing.KEPT
    assert over == {"acme:1": "acme:1"}


async def test_a_restore_leaves_a_revoked_grant_out_under_another_id(revoked: Bench):
    prints = {"grant_fingerprint": RING.fingerprint("refresh-0")}
    standing, over = await ended(revoked, archived(revoked, _id="acme:2", account="2", **prints))
    assert standing is Standing.MISSING
    assert over == {"acme:2": "acme:1"}


async def test_after_the_tombstone_the_audit_shows_a_revocation(revoked: Bench):
    """30 days later, the tombstone is forgotten."""
    revoked.tokens.delete_many({})
    standing, over = await ended(revoked, archived(revoked))
    assert standing is Standing.MISSING
    assert over == {"acme:1": "acme:1"}


async def test_an_order_that_was_taken_back_or_is_older_than_the_backup_ended_nothing(bench: Bench):
    bench.insert()
    bench.store()
    await order(bench, minutes=10)
    orders = Revocations(bench.mongos[0], audit(bench))
    bench.clock.passed += timedelta(seconds=1)
    assert await orders.undo(await orders.find(RevocationSelection(ids=["acme:1"]))) == {"acme:1"}
    bench.tokens.delete_many({})
    text = archived(bench)
    assert (await ended(bench, text))[1] == {}
    bench.database["tokens_audit"].delete_many({"action": "revoke undo"})
    assert (await ended(bench, text))[1] == {"acme:1": "acme:1"}
    bench.database["tokens_audit"].update_many({}, {"$set": {"at": NOON - timedelta(days=2)}})
    assert (await ended(bench, text))[1] == {}
