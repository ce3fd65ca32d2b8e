"""What people do to tokens, against the real MongoDB, and against a daemon that works at the same time."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.admin.consents import Contended, Refused
from daemon.adapters.mongo.admin.lookup import NoSuchToken, TokenLookup
from daemon.adapters.mongo.admin.preflight import (
    may_follow_wishes,
    missing_access_key_rights,
    missing_consent_rights,
    missing_hook_rights,
    missing_rights,
    missing_service_rights,
    missing_streams,
)
from daemon.adapters.mongo.admin.provider_pauses import ProviderPauses
from daemon.adapters.mongo.admin.refresh_requests import RefreshRequests
from daemon.adapters.mongo.admin.tokens import TokenAdmin
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.embedded_mongod import EmbeddedMongod
from daemon.adapters.mongo.indexes import GRANT_INDEX
from daemon.domain.claim import StoreLost
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from tests.support.clocks import SetClock

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class MeddlingRing(KeyRing):
    """Lets somebody else write between what the admin reads and what it writes."""

    def __init__(self) -> None:
        super().__init__({"one": b"1" * 32, "old": b"0" * 32}, active="one")
        self.meddle = lambda: None
        self.times = 0

    def seal(self, text, *, token_id, field):
        if self.times and field == "refresh_token":
            self.times -= 1
            self.meddle()
        return super().seal(text, token_id=token_id, field=field)


@pytest.fixture
def ring():
    return MeddlingRing()


@pytest.fixture
def outside(mongod, database_name):
    with MongoClient[dict[str, Any]](mongod, tz_aware=True) as client:
        yield client[database_name]


@pytest.fixture
async def admin(mongod, database_name, ring):
    store = Mongo(
        uri=Secret(mongod),
        database=database_name,
        collection="tokens",
        clock=SetClock(NOW),
        observe=lambda _: None,
    )
    await store.prepare()
    yield TokenAdmin(store, ring, Audit(store, who=Who(actor="me@here"), log=lambda _: None))
    await store.close()


def consent(name="xero:a", refresh="refresh", **more):
    return Token(
        id=name,
        provider=name.split(":")[0],
        account=name.split(":")[1],
        state=State.ACTIVE,
        refresh_token=refresh and Secret(refresh),
        access_token=Secret("access"),
        issued_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        due_at=NOW + timedelta(minutes=50),
        **more,
    )


async def test_a_consent_wins_over_a_result_that_came_in_between(admin, ring, outside):
    """The daemon records a successor after the admin has read: the write is swapped onto that, once."""
    await admin.add(consent())
    successor = {"$set": {"refresh_token": "v1.one.successor"}, "$inc": {"revision": 1}}
    ring.times, ring.meddle = 1, lambda: outside.tokens.update_one({}, successor)
    added = await admin.add(consent(refresh="newer"))
    assert (added.replaced, added.revision) == (True, 3)
    stored = outside.tokens.find_one()
    assert ring.open(stored["refresh_token"], token_id="xero:a", field="refresh_token") == "newer"
    assert [note["revision"] for note in outside.tokens_audit.find()] == [1, 3]


async def test_two_who_add_the_same_id_end_with_one_document(admin, ring, outside):
    """The slower one's insertion becomes a re-consent."""
    ring.times, ring.meddle = 1, lambda: outside.tokens.insert_one({"_id": "xero:a", "revision": 1})
    added = await admin.add(consent())
    assert (added.replaced, added.revision) == (True, 2)
    assert outside.tokens.count_documents({}) == 1


async def test_a_document_that_never_holds_still_is_given_up(admin, ring, outside):
    """After a few swaps it says so, and has written nothing."""
    await admin.add(consent())
    ring.times, ring.meddle = 100, lambda: outside.tokens.update_one({}, {"$inc": {"revision": 1}})
    with pytest.raises(Contended, match="kept changing"):
        await admin.add(consent(refresh="newer"))
    assert outside.tokens.find_one()["grant_fingerprint"] == ring.fingerprint("refresh")


async def test_a_copy_is_found_under_an_older_key_too(admin, ring, outside):
    """The fingerprint depends on the key that was active then."""
    await admin.add(consent())
    outside.tokens.update_one({}, {"$set": {"grant_fingerprint": ring.fingerprint("refresh", "old")}})
    with pytest.raises(Refused, match="xero:a already stores this refresh token"):
        await admin.add(consent("xero:b"))


async def test_a_consent_repairs_an_ill_typed_document(admin, outside):
    """Texts for objects and numbers are replaced by what they ought to be."""
    outside.tokens.insert_one({"_id": "xero:a", "revision": "x", "vars": None, "meta": "m", "due_at": "soon"})
    added = await admin.add(consent(vars={"tenant": "t"}), meta={"a": "b"})
    stored = outside.tokens.find_one()
    assert (added.revision, stored["revision"]) == (1, 1)
    assert (stored["vars"], stored["meta"], stored["extra"]) == ({"tenant": "t"}, {"a": "b"}, {})


def fail_once(mongod, **data):
    failing = {"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": data}
    with MongoClient[dict[str, Any]](mongod) as client:
        client.admin.command(failing)


@pytest.mark.parametrize("command", ["insert", "update"])
async def test_an_ambiguous_write_that_was_done_counts_as_done(admin, outside, mongod, command):
    """MongoDB could not confirm it with a majority; the document is read, and it is there."""
    if command == "update":
        await admin.add(consent(refresh="earlier"))
    unsure = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}
    namespace = f"{outside.name}.tokens"
    fail_once(mongod, failCommands=[command], namespace=namespace, writeConcernError=unsure)
    added = await admin.add(consent())
    assert added.replaced is (command == "update")
    assert outside.tokens.count_documents({}) == 1


async def test_a_write_of_unknown_outcome_says_so(admin, outside, mongod):
    """Adding once more, later, could put a spent token back: look first."""
    fail_once(mongod, failCommands=["insert"], namespace=f"{outside.name}.tokens", errorCode=8000)
    with pytest.raises(StoreLost, match="xero:a was stored is unknown"):
        await admin.add(consent())


async def test_what_cannot_be_audited_is_not_done(admin, outside):
    """The record comes first."""
    await admin.add(consent())
    outside.command({"collMod": "tokens_audit", "validator": {"never": True}})
    before = outside.tokens.find_one()
    for deed in (admin.pause("xero:a"), admin.remove("xero:a"), admin.reveal("xero:a", "access_token"),
                 admin.add(consent(refresh="newer")), ProviderPauses(admin._mongo, admin._audit).pause("xero")):  # fmt: skip
        with pytest.raises(StoreLost):
            await deed
    assert outside.tokens.find_one() == before
    assert outside.tokens_providers.find_one() is None
    assert outside.tokens_providers.count_documents({}) == 0


async def test_a_change_is_swapped_onto_what_the_daemon_wrote_meanwhile(admin, outside):
    """A pause of a token whose revision moves is tried again, and audited once, with the revision it got."""
    await admin.add(consent())
    noted = admin._audit.note

    async def meddling(*arguments, **more):
        admin._audit.note = noted
        outside.tokens.update_one({}, {"$inc": {"revision": 1}})
        await noted(*arguments, **more)

    admin._audit = type("Meddling", (), {"note": staticmethod(meddling)})()
    assert await admin.pause("xero:a")
    assert outside.tokens.find_one()["revision"] == 3
    assert [note["revision"] for note in outside.tokens_audit.find({"action": "pause"})] == [3]


async def test_a_resumed_token_looks_for_its_copy_by_the_index_of_fingerprints(admin, outside):
    """Millions of other tokens don't slow it."""
    outside.tokens.create_indexes([GRANT_INDEX])
    await admin.add(consent())
    await admin.pause("xero:a")
    others = [{"_id": f"xero:{n}", "state": "active", "grant_fingerprint": f"one.{n}"} for n in range(500)]
    outside.tokens.insert_many(others)
    outside.command({"profile": 2})
    assert await admin.resume("xero:a")
    outside.command({"profile": 0})
    asked = list(outside["system.profile"].find({"command.filter.grant_fingerprint": {"$exists": True}}))
    assert [one["planSummary"] for one in asked] == ["IXSCAN { grant_fingerprint: 1 }"]


async def test_an_application_s_document_can_be_paused_and_resumed(admin, outside):
    """It has neither a revision nor most of the fields."""
    outside.tokens.insert_one({"_id": "xero:a", "provider": "xero", "state": "active", "due_at": "soon"})
    assert await admin.pause("xero:a")
    assert await admin.resume("xero:a")
    stored = outside.tokens.find_one()
    assert (stored["revision"], stored["state"]) == (2, "active")
    assert isinstance(stored["due_at"], datetime)


async def test_what_is_not_there_is_told(admin):
    """By one exception, whatever is asked."""
    mongo = admin._mongo
    for deed in (TokenLookup(mongo).get("x:1"), admin.pause("x:1"), admin.resume("x:1"), admin.remove("x:1"),
                 admin.reveal("x:1", "access_token"), RefreshRequests(mongo, admin._audit).progress("x:1")):  # fmt: skip
        with pytest.raises(NoSuchToken):
            await deed


async def test_missing_rights_are_named(mongod, database_name, tmp_path):
    """Where there are no logins nothing is missing, nor for the daemon's own; a reader lacks what writes."""

    async def missing(uri):
        store = Mongo(
            uri=Secret(uri),
            database=database_name,
            collection="tokens",
            clock=SetClock(NOW),
            observe=lambda _: None,
        )
        try:
            return [
                *await missing_rights(store),
                *([] if await may_follow_wishes(store) else ["no stream"]),
                *(f"service: {one}" for one in await missing_service_rights(store, writes=True)),
                *(f"reading service: {one}" for one in await missing_service_rights(store, writes=False)),
                *(f"stream: {one}" for one in await missing_streams(store)),
                *(f"consents: {one}" for one in await missing_consent_rights(store)),
                *(f"hooks: {one}" for one in await missing_hook_rights(store)),
                *(f"keys: {one}" for one in await missing_access_key_rights(store)),
            ]
        finally:
            await store.close()

    assert await missing(mongod) == []
    embedded = EmbeddedMongod(data_dir=tmp_path / "db", uri_file=tmp_path / "uri")
    uri = await embedded.start()
    try:
        assert await missing(uri) == []
        key, address = (tmp_path / "db" / "keyfile").read_text(), uri.partition("@")[2].partition("/")[0]
        with MongoClient[dict[str, Any]](
            address, username="__system", password=key, authSource="local"
        ) as client:
            roles = [{"role": "read", "db": database_name}]
            client.admin.command("createUser", "reader", pwd="pw", roles=roles)
            tokens = {"resource": {"db": database_name, "collection": "tokens"}, "actions": ["find"]}
            client.admin.command("createRole", "finder", privileges=[tokens], roles=[])
            client.admin.command("createUser", "finder", pwd="pw", roles=["finder"])
        found = await missing(f"mongodb://finder:pw@{address}/?authSource=admin")
        assert "no stream" in found
        assert f"stream: changeStream on {database_name}.tokens_access" in found
        assert f"service: find on {database_name}.tokens_keys" in found
        assert f"hooks: createIndex on {database_name}.tokens_outbox" in found
        assert f"hooks: find on {database_name}.tokens_hooks" in found
        assert f"consents: insert on {database_name}.tokens_consents" in found
        told = await missing(f"mongodb://reader:pw@{address}/?authSource=admin")
    finally:
        await embedded.stop()
    assert f"find on {database_name}.tokens" not in told
    assert "no stream" not in told
    of_tokens = {one for one in told if one.endswith(f"on {database_name}.tokens") and ": " in one}
    assert of_tokens == {
        f"service: update on {database_name}.tokens",
        f"service: insert on {database_name}.tokens",
        f"reading service: update on {database_name}.tokens",
    }
    assert f"service: insert on {database_name}.tokens_access_use" in told
    assert f"keys: createIndex on {database_name}.tokens_access" in told
    assert {f"update on {database_name}.tokens", f"insert on {database_name}.tokens_audit"} <= set(told)
