"""`refreshd adopt`: the claims of an instance that is gone for good."""

import json
import select
from datetime import timedelta

import pytest

from tests.support import wall_clock


@pytest.fixture
def claimed(cli, database):
    """Two tokens that the instance `gone` holds for an hour yet, and one that `other` holds."""
    now = wall_clock.now().replace(microsecond=0)
    for name, owner in (("xero:a", "gone"), ("xero:b", "gone"), ("xero:c", "other")):
        cli.add(name, {"access_token": "a", "refresh_token": f"r-{name}", "expires_in": 3600})
        lease = {
            "owner": owner,
            "claim": "c",
            "since": now - timedelta(minutes=3),
            "until": now - timedelta(minutes=1),
            "hold": now + timedelta(hours=1),
        }
        database.tokens.update_one({"_id": name}, {"$set": {"lease": lease}})
    return now


def test_the_hold_of_its_claims_ends_now_and_nothing_else_changes(cli, database, claimed):
    """The claims stay, so that whoever takes them counts the doubt; others' claims are not touched; it is audited."""
    before = {document["_id"]: document for document in database.tokens.find()}
    ran = cli.run("adopt", "gone", "--yes", "--json")
    assert (ran.code, ran.json()) == (0, {"instance": "gone", "action": "adopted", "claims": 2})
    for document in database.tokens.find():
        hold = document["lease"].pop("hold")
        held_before = before[document["_id"]]["lease"].pop("hold")
        assert document == before[document["_id"]]
        if document["lease"]["owner"] == "gone":
            assert hold <= wall_clock.now() + timedelta(seconds=1)
        else:
            assert hold == held_before
    note = database.tokens_audit.find_one({"action": "adopt"})
    assert (note["token"], note["revision"], "@" in note["actor"]) == ("gone", None, True)


def test_an_instance_without_claims_is_told_from_those_that_have_some(cli, database, claimed):
    """A misspelt id must not look like a success."""
    ran = cli.run("adopt", "gnoe", "--yes")
    assert ran.code == 1
    assert "gnoe holds no claim" in ran.err
    assert "gone, other" in ran.err
    assert database.tokens.count_documents({"lease.hold": {"$gt": wall_clock.now()}}) == 3


def test_nobody_to_ask_and_no_yes_is_wrong_usage(cli, database, claimed):
    """It can't be undone."""
    ran = cli.run("adopt", "gone")
    assert (ran.code, "--yes" in ran.err) == (2, True)
    assert database.tokens.count_documents({"lease.hold": {"$gt": wall_clock.now()}}) == 3


def test_asked_on_a_terminal_no_means_no(cli, database, claimed, monkeypatch):
    """The question says what is at stake, and that an instance which claimed moments ago may be alive."""
    later = wall_clock.now() + timedelta(minutes=1)
    database.tokens.update_one({"_id": "xero:a"}, {"$set": {"lease.until": later}})
    asked = []
    monkeypatch.setattr(
        "daemon.commands.adopt.confirmation", lambda yes: lambda text: asked.append(text) or yes
    )
    ran = cli.run("adopt", "gone")
    assert (ran.code, "nothing was adopted" in ran.err) == (1, True)
    assert "It made 1 of its claims moments ago" in asked[0]
    assert database.tokens.count_documents({"lease.hold": {"$gt": wall_clock.now()}}) == 3
    assert database.tokens_audit.count_documents({"action": "adopt"}) == 0


def test_the_daemon_that_runs_here_is_not_gone(cli, database, mongod):
    """Told by the lock on the state directory; once it has ended, its id is like any other."""
    config = (
        cli.config.read_text() + '[server]\nport = 0\nbearer_token = "0123456789abcdef0123456789abcdef"\n'
    )
    cli.write(config)
    daemon = cli.process("run")
    try:
        assert select.select([daemon.stdout], [], [], 20)[0]
        daemon.stdout.readline()
        instance = json.loads((cli.home / "state" / "instance.json").read_text())["id"]
        ran = cli.run("adopt", instance, "--yes")
        assert ran.code == 1
        assert "so it is not lost" in ran.err
    finally:
        daemon.terminate()
        daemon.communicate(timeout=20)
    assert "holds no claim" in cli.run("adopt", instance, "--yes").err
