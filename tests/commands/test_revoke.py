"""`refreshd revoke`, against the real MongoDB. The daemon's part is played by the test."""

from datetime import UTC, datetime

import pytest

from daemon.adapters.mongo.admin.revocations import Revocations
from daemon.domain.provider import Definition
from tests.commands.conftest import RESPONSE


@pytest.fixture
def tokens(cli, database):
    """Two tokens at a provider that revokes, and one at a provider that does not."""
    for number, name in enumerate(("xero:1", "xero:2")):
        cli.add(
            name, {**RESPONSE, "refresh_token": f"{RESPONSE['refresh_token']}{number}"}, "--subject", "ann"
        )
    cli.add("acme:1", {**RESPONSE, "refresh_token": "another"}, "--subject", "ann", "--var", "company=a")
    return database.tokens


def states(tokens):
    return {one["_id"]: one["state"] for one in tokens.find()}


def test_a_revocation_is_ordered_and_audited(cli, database, tokens):
    ran = cli.run("revoke", "xero:1", "--yes", "--reason", "ticket 7", "--json")
    assert (ran.code, ran.json()) == (0, {"id": "xero:1", "result": "revoking"})
    assert states(tokens) == {"xero:1": "revoking", "xero:2": "active", "acme:1": "active"}
    record = database.tokens_audit.find_one({"action": "revoke"})
    assert (record["token"], record["by"]["reason"]) == ("xero:1", "ticket 7")
    again = cli.run("revoke", "xero:1", "--yes", "--json")
    assert (again.code, again.json()["result"]) == (0, "revoking")
    assert database.tokens_audit.count_documents({"action": "revoke"}) == 1


def test_each_token_of_a_subject_has_a_result(cli, tokens):
    """A provider without a revocation keeps none of the others from theirs, and makes the exit code 1."""
    ran = cli.run("revoke", "--subject", "ann", "--yes", "--json")
    assert ran.code == 1
    assert [(one["id"], one["result"]) for one in ran.lines()] == [
        ("acme:1", "no_revocation"),
        ("xero:1", "revoking"),
        ("xero:2", "revoking"),
    ]
    assert states(tokens)["acme:1"] == "active"


def consents(database, *, subject="ann"):
    """One of each kind: it waits, it is held for its application, its code is being exchanged, it is done."""
    held = {"code_challenge": "c", "completed_at": None, "connect_code_hash": "h"}
    until = datetime(2099, 1, 1, tzinfo=UTC)
    database.tokens_consents.insert_many(
        [
            {"_id": "waits", "subject": subject, "state": "waiting", "code": "v1.a.b", "link_hash": "l"},
            {"_id": "held", "subject": subject, "state": "asked", "held_until": until, **held},
            {"_id": "asked", "subject": subject, "state": "asked", "held_until": None, **held},
            {"_id": "unbound", "subject": subject, "state": "asked"},
            {"_id": "done", "subject": subject, "state": "done"},
            {"_id": "other", "subject": "bob", "state": "waiting", "code": "v1.a.b"},
        ]
    )
    return {one["_id"]: one for one in database.tokens_consents.find()}


def test_the_unfinished_consents_of_a_subject_end_first(cli, database, tokens):
    """The code is gone, and no completion is accepted. What is stored already, or is another's, stays."""
    before = consents(database)
    ran = cli.run("revoke", "--subject", "ann", "--dry-run")
    assert "3 unfinished consents of this subject would be ended." in ran.err
    assert {one["_id"]: one for one in database.tokens_consents.find()} == before
    ended = {"action": "end_consents"}
    assert database.tokens_audit.count_documents(ended) == 0
    ran = cli.run("revoke", "--subject", "ann", "--yes")
    assert "3 unfinished consents of this subject were ended." in ran.err
    after = {one["_id"]: one for one in database.tokens_consents.find()}
    assert (after["waits"]["state"], after["waits"]["failure"]["kind"]) == ("failed", "revoking")
    assert after["waits"]["code"] is after["waits"]["link_hash"] is None
    assert after["held"]["held_until"] == after["held"]["grant_due_at"] < before["held"]["held_until"]
    assert after["held"]["connect_code_hash"] is after["asked"]["connect_code_hash"] is None
    assert (after["asked"]["state"], after["asked"]["held_until"]) == ("asked", None)
    assert {name: after[name] for name in ("unbound", "done", "other")} == {
        name: before[name] for name in ("unbound", "done", "other")
    }
    [record] = database.tokens_audit.find(ended)
    assert (record["subject"], record["count"], record["token"]) == ("ann", 3, None)


def test_consents_end_even_if_no_token_is_stored_yet(cli, database):
    consents(database)
    ran = cli.run("revoke", "--subject", "ann", "--yes")
    assert ran.code == 0
    assert "No token matches" in ran.err
    assert database.tokens_consents.find_one({"_id": "waits"})["state"] == "failed"


def test_a_declined_or_counted_revocation_ends_no_consent(cli, database, tokens, monkeypatch):
    consents(database)
    assert cli.run("revoke", "--subject", "ann", "--yes", "--expect", "9").code == 1
    assert cli.run("revoke", "--provider", "xero", "--yes").code == 0
    assert database.tokens_consents.find_one({"_id": "waits"})["state"] == "waiting"


def test_the_text_says_what_happens(cli, tokens):
    ran = cli.run("revoke", "xero:1", "acme:1", "xero:none", "--yes")
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "acme:1: the grant stays valid, because the definition of acme has no revocation",
        "xero:1: is being revoked",
        "xero:none: no such token is stored. `refreshd list` shows the stored IDs",
    ]


def test_a_dry_run_writes_nothing(cli, database, tokens):
    before = database.tokens_audit.count_documents({})
    ran = cli.run("revoke", "--provider", "xero", "--dry-run", "--json")
    assert ran.code == 0
    assert ran.lines() == [
        {"id": name, "result": "revoking", "dry_run": True} for name in ("xero:1", "xero:2")
    ]
    assert "would be revoked" in cli.run("revoke", "xero:1", "--dry-run").out
    assert set(states(tokens).values()) == {"active"}
    assert database.tokens_audit.count_documents({}) == before


@pytest.mark.parametrize(("expected", "code"), [("2", 0), ("3", 1), ("0", 1)])
def test_nothing_is_revoked_unless_as_many_are_found(cli, tokens, expected, code):
    ran = cli.run("revoke", "--provider", "xero", "--yes", "--expect", expected)
    assert ran.code == code
    assert (states(tokens)["xero:1"] == "revoking") is (code == 0)


def test_a_condition_selects_by_properties(cli, tokens):
    tokens.update_one({"_id": "xero:2"}, {"$set": {"meta.tenant": "a=b"}})
    ran = cli.run("revoke", "--where", "meta.tenant=a=b", "--where", "subject=ann", "--yes", "--json")
    assert (ran.code, ran.json()["id"]) == (0, "xero:2")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("xero",),
        ("xero:1", "--subject", "ann"),
        ("xero:1", "--provider", "xero"),
        ("--subject", ""),
        ("--provider", "xerox"),
        ("--where", "tenant=a"),
        ("--where", "meta.tenant"),
        ("--where", "meta.$ne=a"),
        ("--where", "meta.a=1", "--where", "meta.a=2"),
        ("--subject", "ann", "--where", "subject=ann"),
        ("--provider", "xero", "--expect", "-1"),
        ("xero:1", "--timeout", "soon"),
    ],
)
def test_a_wrong_use_is_refused_and_writes_nothing(cli, tokens, arguments):
    ran = cli.run("revoke", *arguments, "--yes")
    assert ran.code == 2
    assert set(states(tokens).values()) == {"active"}


def test_it_asks_before_it_revokes(cli, tokens, monkeypatch):
    assert cli.run("revoke", "xero:1").code == 2  # nobody to ask
    asked = []
    monkeypatch.setattr(
        "daemon.commands.revoke.confirmation", lambda *, yes: lambda text: asked.append(text) or False
    )
    ran = cli.run("revoke", "--provider", "xero")
    assert (ran.code, states(tokens)["xero:1"]) == (1, "active")
    assert asked == ["Revoke 2 tokens for good? The owners have to consent again to come back."]
    assert "xero: 2 tokens" in ran.err


def test_no_match_is_said(cli, tokens):
    ran = cli.run("revoke", "--subject", "bob", "--yes")
    assert (ran.code, ran.out) == (0, "")
    assert "No token matches" in ran.err


# ---------------------------------------------------------------- many


@pytest.fixture
def many(database):
    """A hundred and one tokens."""
    fields = {"provider": "xero", "state": "active", "refresh_token": "v1.one.x", "revision": 1}
    rows = [{"_id": f"xero:{n:03}", "account": f"{n:03}", **fields} for n in range(101)]
    database.tokens.insert_many(rows)
    return database.tokens


def test_more_than_a_hundred_wait_ten_minutes_and_can_be_undone(cli, many):
    ran = cli.run("revoke", "--provider", "xero", "--yes")
    assert ran.code == 0
    assert len(ran.out.splitlines()) == 5
    assert "xero: 101 tokens in all: revoking" in ran.err
    assert "--undo takes the orders back" in ran.err
    for one in many.find():
        waits = one["revocation"]["not_before"] - one["revocation"]["since"]
        assert abs(waits.total_seconds() - 600) < 5
        assert one["due_at"] == one["revocation"]["not_before"]
    many.update_one({"_id": "xero:007"}, {"$set": {"revocation.not_before": None}})
    undone = cli.run("revoke", "--provider", "xero", "--undo", "--json")
    assert undone.code == 1
    results = {one["id"]: one["result"] for one in undone.lines()}
    assert results.pop("xero:007") == "revoking"
    assert set(results.values()) == {"undone"}
    assert len(results) == 100
    assert states(many)["xero:000"] == "active"


def test_a_hundred_do_not_wait(cli, many):
    many.delete_one({"_id": "xero:100"})
    cli.run("revoke", "--provider", "xero", "--yes")
    assert many.count_documents({"state": "revoking", "revocation.not_before": None}) == 100


def test_a_dry_run_takes_no_order_back(cli, many, database):
    """It shows which orders would be taken back, and writes nothing, not even to the audit."""
    cli.run("revoke", "--provider", "xero", "--yes")
    many.update_one({"_id": "xero:007"}, {"$set": {"revocation.not_before": None}})
    before = list(many.find())
    tried = cli.run("revoke", "--provider", "xero", "--undo", "--dry-run", "--json")
    assert list(many.find()) == before
    assert database.tokens_audit.count_documents({"action": "revoke undo"}) == 0
    results = {one["id"]: one["result"] for one in tried.lines()}
    assert results.pop("xero:007") == "revoking"
    assert set(results.values()) == {"undone"}
    assert all(one["dry_run"] for one in tried.lines())
    assert tried.code == 1
    assert "xero:000: would be taken back" in cli.run("revoke", "xero:000", "--undo", "--dry-run").out


@pytest.mark.parametrize("option", [("--wait",), ("--expect", "101")])
def test_what_has_no_meaning_for_an_undo_is_refused(cli, many, option):
    """An operator who wrote --expect relies on it."""
    cli.run("revoke", "--provider", "xero", "--yes")
    assert cli.run("revoke", "--provider", "xero", "--undo", *option).code == 2
    assert set(states(many).values()) == {"revoking"}


def test_there_may_be_nothing_to_undo(cli, tokens):
    ran = cli.run("revoke", "xero:1", "--undo")
    assert ran.code == 0
    assert "None of these tokens is being revoked" in ran.err


# ---------------------------------------------------------------- wait


@pytest.mark.parametrize(
    ("fields", "code", "result"),
    [
        ({"state": "revoked"}, 0, "revoked"),
        (
            {"state": "revoking", "revocation.tries": 1, "last_failure.kind": "misconfigured"},
            1,
            "no_revocation",
        ),
    ],
)
def test_the_outcome_is_waited_for(cli, tokens, monkeypatch, fields, code, result):
    """The daemon's work is done while the command looks."""
    genuine = Revocations.progress

    async def progress(self, ids):
        failure = {"kind": "unavailable", "code": "x", "message": "no", "at": tokens.find_one()["updated_at"]}
        tokens.update_one({"_id": "xero:1"}, {"$set": {"last_failure": failure}})
        tokens.update_one({"_id": "xero:1"}, {"$set": fields})
        return await genuine(self, ids)

    cli.run("revoke", "xero:1", "--yes")
    monkeypatch.setattr("daemon.commands.revoke.Revocations.progress", progress)
    ran = cli.run("revoke", "xero:1", "--yes", "--wait", "--json")
    assert (ran.code, ran.json()["result"]) == (code, result)
    if result == "no_revocation":
        ran = cli.run("revoke", "xero:1", "--yes", "--wait")
        assert "because its revocation is refused; `refreshd show xero:1` has the reason" in ran.out


def test_a_token_of_a_provider_that_is_not_configured_names_that_reason(cli, tokens):
    """Its definition may well have a revocation."""
    stored = tokens.find_one({"_id": "xero:1"})
    tokens.insert_one(
        {**stored, "_id": "google:1", "provider": "google", "account": "1", "grant_fingerprint": None}
    )
    ran = cli.run("revoke", "google:1", "--yes")
    assert ran.code == 1
    assert "google:1: the grant stays valid, because no provider google is configured" in ran.out


def test_a_wait_ends(cli, tokens):
    """With code 69, and the reason if there is one."""
    ran = cli.run("revoke", "xero:1", "--yes", "--wait", "--timeout", "0s")
    assert ran.code == 69
    assert "no outcome within 0 s" in ran.err
    assert states(tokens)["xero:1"] == "revoking"


def test_a_wait_that_ends_too_early_still_has_a_line_for_each_token(cli, tokens, monkeypatch):
    """What was revoked is not to be asked for again, and what is late is still being revoked."""
    genuine = Revocations.progress

    async def progress(self, ids):
        tokens.update_one({"_id": "xero:1", "state": "revoking"}, {"$set": {"state": "revoked"}})
        return await genuine(self, ids)

    cli.run("revoke", "xero:1", "xero:2", "--yes")
    monkeypatch.setattr("daemon.commands.revoke.Revocations.progress", progress)
    ran = cli.run("revoke", "xero:1", "xero:2", "--yes", "--wait", "--timeout", "50ms", "--json")
    assert ran.code == 69
    assert {one["id"]: one["result"] for one in ran.lines()} == {"xero:1": "revoked", "xero:2": "revoking"}
    assert "xero:2: no outcome" in ran.err


def test_a_page_for_the_owner_is_shown_if_the_definition_has_one(cli, tokens, monkeypatch):
    """In the text and in the record."""
    page = "https://acme.example/apps"
    known = {"acme": Definition(name="acme", title="Acme", token_url="https://acme.example", manage_url=page)}
    monkeypatch.setattr("daemon.commands.support.revocation_results.known_providers", lambda settings: known)
    ran = cli.run("revoke", "acme:1", "--yes", "--json")
    assert ran.json() == {"id": "acme:1", "result": "no_revocation", "manage_url": page}
    assert page in cli.run("revoke", "acme:1", "--yes").out
