"""`refreshd cleanup`, against the real MongoDB."""

import json
from datetime import datetime, timedelta

import pytest

from daemon.adapters.journal import inspection
from daemon.adapters.mongo.admin import cleanup
from daemon.commands.support import arguments
from tests.commands.conftest import RESPONSE
from tests.support import wall_clock

DEAD = ("cleanup", "--dead-for", "90d")
UNUSED = ("cleanup", "--unused-for", "365d")


def ago(days: float) -> datetime:
    return wall_clock.now() - timedelta(days=days)


@pytest.fixture
def store(cli, database):
    """Stores tokens: dead or unused for so many days."""

    class Store:
        def dead(self, name, days=100, **fields):
            failure = {"kind": "rejected", "code": "invalid_grant", "message": "no", "at": ago(days)}
            self._put(name, days, state="needs_reauth", due_at=None, last_failure=failure, **fields)

        def active(self, name, days=400, **fields):
            self._put(name, days, **fields)

        def _put(self, name, days, **fields):
            provider, _, account = name.partition(":")
            document = {
                "_id": name,
                "provider": provider,
                "account": account,
                "state": "active",
                "grant": "refresh_token",
                "refresh_token": "v1.one.sealed",
                "access_token": "v1.one.sealed",
                "lease": None,
                "doubt": None,
                "created_at": ago(days),
                "issued_at": ago(days),
                "updated_at": ago(days),
                "refreshed_at": None,
                "last_used_at": None,
                "expires_at": ago(days - 0.1),
                "due_at": ago(-0.1),
                "revision": 3,
            }
            database.tokens.insert_one({**document, **fields})

        def counted(self, days=500, *, used=True):
            """Uses are counted since then, if the key was used."""
            database.tokens_access.insert_one({"_id": "k", "created_at": ago(days)})
            if not used:
                return
            database.tokens_access_use.insert_one({"_id": "key k", "kind": "key", "key": "k"})

    return Store()


def ids(database):
    return sorted(one["_id"] for one in database.tokens.find())


def test_dead_tokens_are_shown_and_then_deleted(cli, database, store):
    """Counts by provider, the oldest first; nothing is written by a dry run."""
    store.dead("xero:b", 100)
    store.dead("xero:a", 120)
    store.dead("acme:a", 95)
    store.dead("xero:recent", 89)
    store.active("xero:alive", 400)
    ran = cli.run(*DEAD, "--dry-run")
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "acme: 1 dead",
        "xero: 2 dead",
        "  xero:a: dead for 120 d",
        "  xero:b: dead for 100 d",
        "  acme:a: dead for 95 d",
        "3 tokens would be deleted.",
    ]
    assert (database.tokens.count_documents({}), database.tokens_audit.count_documents({})) == (5, 0)
    ran = cli.run(*DEAD, "--yes", "--reason", "ticket 1", "--json")
    record = ran.json()
    assert (ran.code, record["found"], record["removed"], record["kept"]) == (0, 3, 3, [])
    assert record["providers"] == {"acme": {"dead": 1}, "xero": {"dead": 2}}
    assert [one["id"] for one in record["oldest"]] == ["xero:a", "xero:b", "acme:a"]
    assert ids(database) == ["xero:alive", "xero:recent"]
    notes = list(database.tokens_audit.find().sort("_id"))
    assert [(one["action"], one["token"], one["count"]) for one in notes[:2]] == [
        ("cleanup", "acme", 1),
        ("cleanup", "xero", 2),
    ]
    assert {(one["action"], one["token"], one["result"], one["revision"]) for one in notes[2:]} == {
        ("remove", name, "dead", 3) for name in ("acme:a", "xero:a", "xero:b")
    }
    assert {one["by"]["reason"] for one in notes} == {"ticket 1"}
    again = cli.run(*DEAD, "--yes")
    assert (again.code, again.out) == (0, "No token is long over.\n")
    assert database.tokens_audit.count_documents({}) == 5


def test_unused_tokens_are_deleted_only_if_that_is_asked_for(cli, database, store):
    """Dead ones, too; a use or an audited deed since then keeps a token."""
    store.counted()
    store.active("xero:never")
    store.active("xero:long-ago", 500, last_used_at=ago(370))
    store.active("xero:used", last_used_at=ago(3))
    store.active("xero:handled")
    store.active("xero:handled-before")
    store.dead("xero:dead", 400)
    note = {"kind": "operator", "actor": "me@here", "action": "add", "token": "xero:handled"}
    database.tokens_audit.insert_one({**note, "at": ago(10)})
    database.tokens_audit.insert_one({**note, "at": ago(380), "token": "xero:handled-before"})
    database.tokens_audit.insert_one({**note, "at": ago(10), "token": "xero"})
    ran = cli.run(*UNUSED, "--yes", "--json")
    assert ran.json()["providers"] == {"xero": {"unused": 4}}
    assert ids(database) == ["xero:handled", "xero:used"]
    assert database.tokens_audit.find_one({"token": "xero:never"})["result"] == "unused"


KEPT = {
    "paused by an operator": {"state": "paused", "paused_by": {"kind": "operator"}},
    "paused": {"state": "paused"},
    "marked as removed": {"state": "removed", "refresh_token": None, "removed_at": ago(100)},
    "revoking": {"state": "revoking"},
    "leased": {"lease": {"owner": "i", "claim": "c", "hold": ago(90)}},
    "leased by nobody": {"lease": {}},
    "in doubt": {"doubt": {"since": ago(300), "tries": 1}},
    "waiting for an activation": {"origin": {"key": "k", "activated": None}},
    "with an odd origin": {"origin": "elsewhere"},
    "with an odd date": {"expires_at": "yesterday"},
    "with dates in a list": {"last_used_at": [ago(500)]},
    "with a reply in a journal": {
        "last_failure": {"kind": "unparsed", "code": "", "message": "", "at": ago(300)}
    },
    "another program's": {"account": "else"},
    "without a provider": {"provider": None},
    "without a beginning": {"created_at": None, "last_failure": {"kind": "rejected", "at": None}},
}


def test_what_is_uncertain_is_kept(cli, database, store):
    """However long ago it died, or was used."""
    store.counted()
    for number, fields in enumerate(KEPT.values()):
        store.dead(f"xero:dead-{number}", 400)
        store.active(f"xero:active-{number}", 400)
        which = {"_id": {"$in": [f"xero:dead-{number}", f"xero:active-{number}"]}}
        database.tokens.update_many(which, {"$set": fields})
    store.active("xero:unused")
    ran = cli.run("cleanup", "--dead-for", "90d", "--unused-for", "365d", "--dry-run", "--json")
    assert [one["id"] for one in ran.json()["oldest"]] == ["xero:unused"]
    assert cli.run("cleanup", "--dead-for", "90d", "--unused-for", "365d", "--yes").code == 0
    assert database.tokens.count_documents({}) == 2 * len(KEPT)


def test_a_token_with_an_entry_in_the_journal_is_kept(cli, database, store, monkeypatch):
    """It may hold the token's newest refresh token. An unreadable journal deletes nothing."""
    store.dead("xero:a")
    store.dead("xero:b")
    (cli.home / "state").mkdir(mode=0o700, exist_ok=True)
    journal = cli.home / "state" / "journal.db"
    journal.write_bytes(b"no database" * 100)
    journal.chmod(0o600)
    ran = cli.run(*DEAD, "--yes")
    assert (ran.code, str(journal) in ran.err, ids(database)) == (1, True, ["xero:a", "xero:b"])
    entry = inspection.Listed(
        key=1, token="xero:a", provider="xero", state="superseded", asked_at="", bytes=1, status=200
    )
    with monkeypatch.context() as patched:
        patched.setattr("daemon.commands.support.journaled.listed", lambda *_: [entry])
        assert cli.run(*DEAD, "--yes").code == 0
    assert ids(database) == ["xero:a"]


CHANGES = {
    "claimed": {"$set": {"lease": {"owner": "i", "claim": "c"}}},
    "in doubt": {"$set": {"doubt": {"since": ago(0), "tries": 1}}},
    "used": {"$set": {"last_used_at": ago(0)}},
    "resumed": {"$set": {"state": "active"}},
    "taken back": {"$set": {"origin": {"activated": None}}},
    "activated again": {"$set": {"origin": {"activated": ago(0)}}},
    "failed again": {"$set": {"last_failure.at": ago(0)}},
    "touched": {"$set": {"updated_at": ago(0)}},
}
WRITES = {
    "written": {"$inc": {"revision": 1}},
    "given another refresh token": {"$set": {"refresh_token": "v1.one.other"}},
    "given another access token": {"$set": {"access_token": "v1.one.other"}},
}


def meddle(monkeypatch, target, name, deed):
    """Do something before this method."""
    before = getattr(target, name)

    def meddled(self, *arguments):
        deed()
        return before(self, *arguments)

    monkeypatch.setattr(target, name, meddled)


def changing(database, store, changes):
    """Store a token for each change, and return what makes all the changes."""
    names = {f"xero:{number:02}": change for number, change in enumerate(changes.values())}
    for name in names:
        store.dead(name, origin={"activated": ago(100)})

    def deed():
        for name, change in names.items():
            database.tokens.update_one({"_id": name}, change)

    return sorted(names), deed


def test_a_token_that_changes_while_the_operator_is_asked_stays(cli, database, store, monkeypatch):
    """And no more is deleted than what was shown."""
    store.dead("xero:a")
    names, deed = changing(database, store, CHANGES)
    meddle(monkeypatch, cleanup.Cleanup, "remove", lambda: (deed(), store.dead("xero:later")))
    ran = cli.run(*DEAD, "--yes", "--json")
    assert (ran.code, ran.json()["removed"], sorted(ran.json()["kept"])) == (0, 1, names)
    assert ids(database) == [*names, "xero:later"]
    audited = database.tokens_audit.find({"action": "remove"})
    assert [one["token"] for one in audited] == ["xero:a"]


def test_a_token_that_changes_after_the_audit_of_its_removal_stays(cli, database, store, monkeypatch):
    """The deletion compares everything that decides."""
    store.dead("xero:a")
    names, deed = changing(database, store, {**CHANGES, **WRITES})
    meddle(monkeypatch, cleanup.Audit, "note_each", deed)
    ran = cli.run(*DEAD, "--yes")
    assert (ran.code, f"{len(names)} tokens changed in the meantime and stayed: xero:00, " in ran.out) == (
        0,
        True,
    )
    assert ids(database) == names


def test_many_tokens_go_in_batches_and_each_is_audited_before(cli, database, store, monkeypatch):
    monkeypatch.setattr(cleanup, "BATCH", 2)
    for number in range(5):
        store.dead(f"xero:{number}", 100 + number)
    ran = cli.run(*DEAD, "--yes")
    assert ran.out.endswith("5 tokens deleted. A grant that is still valid stays valid at its provider.\n")
    assert database.tokens_audit.count_documents({"action": "remove"}) == 5
    assert ids(database) == []


def test_without_an_audit_nothing_is_deleted(cli, database, store):
    store.dead("xero:a")
    database.create_collection("tokens_audit", validator={"action": {"$ne": "remove"}})
    assert cli.run(*DEAD, "--yes").code == 69
    assert ids(database) == ["xero:a"]


def test_a_limit_takes_those_that_are_over_the_longest(cli, database, store):
    for days in (100, 300, 200):
        store.dead(f"xero:{days}", days)
    assert cli.run(*DEAD, "--limit", "2", "--expect", "2", "--yes").code == 0
    assert ids(database) == ["xero:100"]


@pytest.mark.parametrize("expected", ["0", "1", "3"])
def test_another_number_than_expected_deletes_nothing(cli, database, store, expected):
    store.dead("xero:a")
    store.dead("xero:b")
    for more in ("--yes", "--dry-run"):
        ran = cli.run(*DEAD, "--expect", expected, more)
        assert (ran.code, f"and not {expected}" in ran.err) == (1, True)
    assert len(ids(database)) == 2


def test_only_the_named_providers_are_cleaned(cli, database, store):
    store.dead("xero:a")
    store.dead("acme:a")
    store.dead("former:a")
    assert cli.run(*DEAD, "--provider", "acme", "--provider", "former", "--yes").code == 0
    assert ids(database) == ["xero:a"]


def test_a_person_is_asked_and_may_decline(cli, database, store, monkeypatch):
    """With the number of tokens, and that their grants may live on."""
    store.dead("xero:a")
    asked = []
    monkeypatch.setattr(
        "daemon.commands.cleanup.confirmation", lambda *, yes: lambda text: asked.append(text) or False
    )
    ran = cli.run(*DEAD)
    assert (ran.code, "declined" in ran.err, ids(database)) == (1, True, ["xero:a"])
    assert asked == ["Delete 1 token for good? A grant that is still valid stays valid at its provider."]
    assert arguments.confirmation(yes=True) is None


@pytest.mark.parametrize("began", [None, 10, "with a key that was never used"])
def test_where_uses_were_not_counted_unused_tokens_are_not_deleted_without_yes(
    cli, database, store, monkeypatch, began
):
    """Every token would look unused. A dry run says so."""
    if began == 10:
        store.counted(began)
    elif began is not None:
        store.counted(used=False)
    store.active("xero:a")
    with monkeypatch.context() as patched:
        patched.setattr("daemon.commands.cleanup.confirmation", lambda *, yes: lambda _: True)
        ran = cli.run(*UNUSED)
        assert (ran.code, "every token looks unused" in ran.err) == (2, True)
        assert ("ever counted" in ran.err, "since 20" in ran.err) == (began != 10, began == 10)
    ran = cli.run(*UNUSED, "--dry-run")
    assert (ran.code, "1 token would be deleted." in ran.out, "looks unused" in ran.err) == (0, True, True)
    assert ids(database) == ["xero:a"]
    assert cli.run(*UNUSED, "--yes").code == 0
    assert ids(database) == []


def test_tokens_that_a_mirror_copies_are_never_unused(cli, database, store):
    store.counted()
    store.active("xero:a")
    store.active("acme:a")
    text = cli.config.read_text()
    place = json.dumps(str(cli.home / "mirror.json"))
    cli.write(text + f'\n[[mirrors]]\nlayout = "jsonl"\npath = {place}\nproviders = ["xero"]\n')
    ran = cli.run(*UNUSED, "--yes")
    assert (ran.code, "keeps the tokens of xero" in ran.err) == (0, True)
    assert ids(database) == ["xero:a"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "Give --dead-for or --unused-for"),
        (("--yes",), "Give --dead-for or --unused-for"),
        (("--provider", "xero", "--dry-run"), "Give --dead-for or --unused-for"),
        (("--dead-for", "90d"), "Pass --yes"),
        (("--dead-for", "23h", "--yes"), "too short"),
        (("--dead-for", "0s", "--yes"), "too short"),
        (("--unused-for", "0d", "--yes"), "too short"),
        (("--dead-for", "-90d", "--yes"), "not a duration"),
        (("--dead-for", "90", "--yes"), "not a duration"),
        (("--dead-for", "", "--yes"), "not a duration"),
        (("--dead-for", "99999d", "--yes"), "hundred years"),
        (("--dead-for", "90d", "--provider", "xerro", "--yes"), "'xerro' is unknown"),
        (("--dead-for", "90d", "--provider", "xero:a", "--yes"), "Name its provider"),
        (("--dead-for", "90d", "--limit", "0", "--yes"), "--limit"),
        (("--dead-for", "90d", "--expect", "-1", "--yes"), "--expect"),
        (("--dead-for", "90d", "xero:a", "--yes"), "xero:a"),
    ],
)
def test_what_is_not_clear_deletes_nothing(cli, database, store, arguments, words):
    store.dead("xero:a", 400)
    ran = cli.run("cleanup", *arguments)
    assert (ran.code, words in ran.err) == (2, True), ran.err
    assert ids(database) == ["xero:a"]


def test_a_consent_after_the_cleanup_is_a_new_token(cli, database, store):
    store.dead("xero:a")
    cli.run(*DEAD, "--yes")
    assert cli.run("add", "xero", "a", stdin=RESPONSE).code == 0
    assert database.tokens.find_one()["revision"] == 1
