"""`refreshd pause`, `resume` and `remove`."""

from datetime import datetime, timedelta

from daemon.adapters.mongo.admin import consents, tokens
from tests.support import wall_clock


def test_a_token_is_paused_and_resumed(cli, database):
    """Paused it is never due; resumed it is due now, its failures forgotten; both are audited, a repetition is not."""
    cli.add("xero:a")
    assert cli.run("pause", "xero:a", "--json").json() == {
        "id": "xero:a",
        "action": "paused",
        "changed": True,
    }
    document = database.tokens.find_one()
    assert (document["state"], document["due_at"], document["revision"]) == ("paused", None, 2)
    assert cli.run("pause", "xero:a", "--json").json()["changed"] is False
    database.tokens.update_one({}, {"$set": {"failures": 3}})
    assert cli.run("resume", "xero:a").out == "xero:a resumed\n"
    document = database.tokens.find_one()
    assert (document["state"], document["failures"], document["revision"]) == ("active", 0, 3)
    assert document["due_at"] < wall_clock.now() + timedelta(seconds=1)
    assert "was not paused" in cli.run("resume", "xero:a").out
    notes = database.tokens_audit.find({}, {"_id": 0, "action": 1, "revision": 1}).sort("_id")
    assert [tuple(note.values()) for note in notes] == [("add", 1), ("pause", 2), ("resume", 3)]


def test_a_dead_grant_is_not_hidden_by_a_pause_but_can_be_tried_again(cli, database):
    """needs_reauth stays visible until its owner consents, or the operator insists."""
    cli.add("xero:a")
    database.tokens.update_one({}, {"$set": {"state": "needs_reauth", "due_at": None}})
    ran = cli.run("pause", "xero:a")
    assert (ran.code, "needs a new consent" in ran.err) == (1, True)
    assert cli.run("resume", "xero:a").code == 0
    assert database.tokens.find_one()["state"] == "active"


def test_a_provider_is_paused_by_name_and_any_pause_of_it_ended(cli, database):
    """Its document says why, since when and by whom; resuming also ends a pause that the daemon made."""
    assert cli.run("pause", "xero").out == "xero paused\n"
    paused = database.tokens_providers.find_one({"_id": "xero"})["paused"]
    assert (paused["reason"], paused["next_probe_at"]) == ("operator", None)
    assert "@" in paused["by"]
    assert isinstance(paused["since"], datetime)
    assert "already" in cli.run("pause", "xero").out
    cli.add("xero:a")
    assert "its provider is paused: operator" in cli.run("show", "xero:a").out
    database.tokens_providers.update_one({}, {"$set": {"paused.reason": "outage"}})
    assert cli.run("resume", "xero", "--json").json() == {
        "provider": "xero",
        "action": "resumed",
        "changed": True,
    }
    found = database.tokens_providers.find_one({"_id": "xero"})
    assert (found["paused"], set(found["resumed"])) == (None, {"since", "at"})
    assert cli.run("resume", "xero", "--json").json()["changed"] is False


def test_one_unknown_id_keeps_none_of_the_others_from_it(cli, database):
    """What can be done is done, and the exit code tells of the rest; a misspelt provider is seen before anything."""
    cli.add("xero:a")
    ran = cli.run("pause", "xero:nope", "xero:a")
    assert ran.code == 1
    assert "xero:nope: no such token" in ran.err
    assert database.tokens.find_one()["state"] == "paused"
    ran = cli.run("resume", "xero:a", "xerro")
    assert ran.code == 2
    assert "'xerro' is unknown" in ran.err
    assert database.tokens.find_one()["state"] == "paused"


def test_a_token_that_keeps_changing_is_no_loss_of_mongodb(cli, database, monkeypatch):
    """The command fails for this token only, with exit code 1: 69 would say that MongoDB is down."""
    cli.add("xero:a")
    with monkeypatch.context() as patched:
        patched.setattr(tokens, "SWAPS", 0)  # as if each attempt had found another revision
        patched.setattr(consents, "SWAPS", 0)
        paused, added = (
            cli.run("pause", "xero:a", "xero"),
            cli.add("xero:b", {"access_token": "other", "refresh_token": "another", "expires_in": 1800}),
        )
    assert (paused.code, added.code) == (1, 1)
    assert "xero:a kept changing during the write. Try again" in paused.err
    assert "xero:b kept changing during the write. Try again" in added.err
    assert database.tokens_providers.find_one({"_id": "xero"})["paused"]["reason"] == "operator"
    assert [one["state"] for one in database.tokens.find()] == ["active"]


def test_remove_forgets_tokens_when_told_to(cli, database):
    """With nobody to ask it wants --yes; a provider is no token; what is not there is said."""
    cli.add("xero:a")
    database.tokens.update_one({}, {"$unset": {"events": ""}})  # as if a daemon had relayed it
    assert cli.run("remove", "xero:a").code == 2
    assert cli.run("remove", "xero", "--yes").code == 2
    assert database.tokens.count_documents({}) == 1
    assert cli.run("remove", "xero:a", "--yes", "--json").json() == {
        "id": "xero:a",
        "action": "removed",
        "changed": True,
    }
    assert database.tokens.count_documents({}) == 0
    assert database.tokens_audit.find_one({"action": "remove"})["revision"] == 1
    assert cli.run("remove", "xero:a", "--yes").code == 1


def test_what_a_provider_rejected_since_a_time_is_resumed_together(cli, database):
    """A mass verdict that was none: those of its hours are active and due now, in one audited deed; no other token is."""
    now = wall_clock.now().replace(microsecond=0)
    hours = {"xero:old": 5, "xero:one": 2, "xero:two": 1, "xero:text": 1, "xero:broken": 1, "xero:paused": 1}
    for name, ago in hours.items():
        cli.add(name, {"access_token": "t", "refresh_token": name, "expires_in": 3600})
        rejected = {
            "kind": "rejected",
            "code": "invalid_grant",
            "message": "",
            "at": now - timedelta(hours=ago),
        }
        rests = {"state": "needs_reauth", "due_at": None, "failures": 2, "last_failure": rejected}
        database.tokens.update_one({"_id": name}, {"$set": rests})
    database.tokens.update_one({"_id": "xero:paused"}, {"$set": {"state": "paused"}})
    database.tokens.update_one({"_id": "xero:text"}, {"$set": {"revision": "seven"}})
    database.tokens.update_one({"_id": "xero:broken"}, {"$set": {"last_failure.kind": "misconfigured"}})
    at = (now - timedelta(hours=3)).isoformat()
    assert cli.run("resume", "xero", "--rejected-since", at).out == "xero: 3 rejected tokens resumed\n"
    for name, revision in (("xero:one", 2), ("xero:two", 2), ("xero:text", 1)):
        found = database.tokens.find_one({"_id": name})
        assert (found["state"], found["failures"], found["revision"]) == ("active", 0, revision)
        assert found["due_at"] < wall_clock.now() + timedelta(seconds=1)
    assert database.tokens.count_documents({"state": "needs_reauth"}) == 2
    assert database.tokens.find_one({"_id": "xero:paused"})["state"] == "paused"
    notes = list(database.tokens_audit.find({"action": {"$regex": "^resume"}}))
    assert [(note["action"], note["token"]) for note in notes] == [(f"resume rejected since {at}", "xero")]
    assert cli.run("resume", "xero", "--rejected-since", "6h", "--json").json() == {
        "provider": "xero",
        "action": "resumed",
        "tokens": 1,
    }


def test_rejected_since_takes_a_time_that_can_be_read_and_providers(cli):
    """An instant with its offset, or a duration; and no token's id."""
    for wrong in ("yesterday", "2026-01-31T12:00:00", "2", ""):
        assert cli.run("resume", "xero", "--rejected-since", wrong).code == 2
    assert cli.run("resume", "xero:a", "--rejected-since", "2h").code == 2
    assert cli.run("resume", "nope", "--rejected-since", "2h").code == 2
    assert cli.run("resume", "xero", "--rejected-since", "2026-01-31T12:00:00Z").code == 0


def test_a_token_is_not_resumed_beside_another_with_its_refresh_token(cli, database):
    """Two active tokens would both present it."""
    cli.add("xero:a")
    stored = database.tokens.find_one({"_id": "xero:a"})
    twin = {**stored, "_id": "xero:b", "account": "b", "state": "paused", "due_at": None}
    database.tokens.insert_one(twin)
    ran = cli.run("resume", "xero:b")
    assert ran.code == 1
    assert "xero:a is active and holds the same refresh token" in ran.err
    assert database.tokens.find_one({"_id": "xero:b"})["state"] == "paused"
    cli.run("remove", "xero:a", "--yes")
    assert cli.run("resume", "xero:b").code == 0
