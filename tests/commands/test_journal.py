"""`refreshd journal`: looking at it, throwing an entry away, and salvage of another instance's."""

import asyncio
import json
import sqlite3
from base64 import b64decode
from contextlib import closing
from datetime import datetime, timedelta

import pytest

from daemon.adapters.journal.journal import SqliteJournal
from daemon.adapters.keyring import KeyRing
from daemon.commands.support.state_directory import without_daemon
from daemon.domain.claim import Claim
from daemon.domain.consent_request import ConsentRequest, identified
from daemon.domain.journal_entry import EntryState, consent_claim
from daemon.domain.reply import Reply
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from tests.support import wall_clock

NEW_ACCESS, NEW_REFRESH = "canary-new-access-token-1", "canary-new-refresh-token-1"
GRANT = {"access_token": NEW_ACCESS, "refresh_token": NEW_REFRESH, "expires_in": 1800, "token_type": "Bearer"}


@pytest.fixture
def journal_file(cli):
    """This instance's journal."""
    (cli.home / "state").mkdir(mode=0o700)
    return cli.home / "state" / "journal.db"


def keep(path, ring, *kept, state=EntryState.WAITING, claim_id="dead-claim"):
    """Write replies into a journal as a daemon does: (token's id, what was spent, body, status)."""

    async def write():
        journal = SqliteJournal(path, keyring=lambda: ring)
        await journal.open()
        for name, spent, body, status in kept:
            provider, account = name.split(":")
            token = Token(id=name, provider=provider, account=account, state=State.ACTIVE, refresh_token=None)
            reply = Reply(
                status=status,
                content_type="application/json",
                retry_after=None,
                body=body if isinstance(body, bytes) else json.dumps(body).encode(),
                whole=True,
                asked_at=wall_clock.now() - timedelta(minutes=5),
            )
            claim = Claim(token=token, id=claim_id, spent=spent, deadline=timedelta(0))
            entry = await journal.keep(claim, reply)
            if state != EntryState.WAITING:
                journal.park(entry, EntryState(state))
        await journal.close()

    asyncio.run(write())


def stored(cli, database, name="xero:a"):
    """A token that is in the store, claimed by an instance that is gone; the sealed text that it spent."""
    cli.add(name)
    lease = {"owner": "gone", "claim": "dead-claim", "since": None, "until": None, "hold": None}
    database.tokens.update_one({"_id": name}, {"$set": {"lease": lease}})
    return database.tokens.find_one({"_id": name})["refresh_token"]


def states(path):
    with closing(sqlite3.connect(path)) as file:
        return file.execute("select key, state from entries order by key").fetchall()


def sizes(path):
    with closing(sqlite3.connect(path)) as file:
        return [size for (size,) in file.execute("select length(reply) from entries order by key")]


def altered(path, column, value):
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute(f"update entries set {column} = ?", (value,))


def of_an_earlier_version(path, ring):
    """Make the entries what versions before wrote: their columns are not sealed with the reply."""
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        for key, token, sealed in file.execute("select key, token, reply from entries").fetchall():
            head, body = ring.open(sealed, token_id=token, field="journal").split("\n")
            _, _, status, content_type, retry_after, _, whole = json.loads(head)
            old = [status, content_type, retry_after, whole, body]
            text = ring.seal(json.dumps(old), token_id=token, field="journal")
            file.execute("update entries set reply = ? where key = ?", (text, key))


def test_an_entry_of_an_earlier_version_is_listed_under_todays_name(cli, journal_file):
    """Earlier versions called `unparsed` `unread`."""
    keep(journal_file, cli.ring, ("xero:b", None, GRANT, 500), state="unparsed")
    with closing(sqlite3.connect(journal_file)) as file, file:
        file.execute("update entries set state = 'unread'")
    assert [one["state"] for one in cli.run("journal", "list", "--json").lines()] == ["unparsed"]
    assert cli.run("journal", "discard", "--state", "unparsed", "--yes").code == 0
    assert states(journal_file) == []


def test_list_tells_of_every_entry_and_never_of_a_reply(cli, journal_file):
    """Also of those that are done with, and of those that no key here opens."""
    keep(journal_file, KeyRing({"lost": b"2" * 32}, active="lost"), ("xero:c", None, GRANT, 200))
    keep(journal_file, cli.ring, ("xero:a", None, GRANT, 200))
    keep(journal_file, cli.ring, ("xero:b", None, GRANT, 500), state="unparsed")
    ran = cli.run("journal", "list", "--json")
    found = [
        (one["entry"], one["token"], one["provider"], one["state"], one["status"]) for one in ran.lines()
    ]
    assert found == [
        (1, "xero:c", "xero", "unusable", None),
        (2, "xero:a", "xero", "waiting", 200),
        (3, "xero:b", "xero", "unparsed", 500),
    ]
    assert [one["bytes"] for one in ran.lines()] == sizes(journal_file)
    assert datetime.fromisoformat(ran.lines()[0]["asked_at"]).tzinfo is not None
    people = cli.run("journal", "list")
    assert all(word in people.out for word in ("xero:a", "unparsed", "(sealed)"))
    assert "canary" not in ran.out + people.out


def test_list_reads_beside_a_daemon_that_writes(cli, journal_file):
    """What it wrote last is listed, and its writing is not held up."""

    async def beside():
        journal = SqliteJournal(journal_file, keyring=lambda: cli.ring)
        await journal.open()
        token = Token(id="xero:a", provider="xero", account="a", state=State.ACTIVE, refresh_token=None)
        reply = Reply(
            status=200,
            content_type=None,
            retry_after=None,
            body=b"{}",
            whole=True,
            asked_at=wall_clock.now(),
        )
        claim = Claim(token=token, id="c", spent=None, deadline=timedelta(0))
        await journal.keep(claim, reply)
        seen = await asyncio.to_thread(cli.real, "journal", "list", "--json")
        await journal.keep(claim, reply)
        assert journal.writable
        await journal.close()
        return seen

    assert len(asyncio.run(beside()).lines()) == 1
    assert len(states(journal_file)) == 2


def test_no_journal_an_empty_one_and_a_damaged_one_are_three_things(cli, journal_file):
    """None of them is a traceback, and a damaged file is left as it is."""
    ran = cli.run("journal", "list")
    assert (ran.code, "journal.db: this file does not exist" in ran.err) == (1, True)
    keep(journal_file, cli.ring)
    ran = cli.run("journal", "list")
    assert (ran.code, ran.out, "empty" in ran.err) == (0, "", True)
    journal_file.write_bytes(b"no database at all" * 100)
    ran = cli.run("journal", "list")
    assert (ran.code, "can't read this as a journal" in ran.err) == (1, True)
    assert cli.run("journal", "replay", str(journal_file)).code == 1
    assert journal_file.read_bytes() == b"no database at all" * 100


def test_discard_deletes_one_entry_and_is_audited(cli, database, journal_file):
    """Only when told to; an entry that is not there is said."""
    keep(journal_file, cli.ring, ("xero:a", None, GRANT, 200), ("xero:b", None, GRANT, 200))
    assert cli.run("journal", "discard", "1").code == 2
    ran = cli.run("journal", "discard", "9", "--yes")
    assert (ran.code, "no entry 9" in ran.err) == (1, True)
    assert len(states(journal_file)) == 2
    ran = cli.run("journal", "discard", "1", "--yes", "--json")
    assert (ran.code, ran.json()["token"], ran.json()["action"]) == (0, "xero:a", "discarded")
    assert states(journal_file) == [(2, "waiting")]
    assert database.tokens_audit.find_one({"action": "discard"})["token"] == "xero:a"


def test_discard_keeps_its_hands_off_while_a_daemon_runs(cli, database, journal_file):
    """The daemon holds the entry in memory too; the process in the way is named by its lock, exit 75."""
    keep(journal_file, cli.ring, ("xero:a", None, GRANT, 200))
    (journal_file.parent / "lock").write_text("4711\n")
    with without_daemon(journal_file.parent):
        ran = cli.run("journal", "discard", "1", "--yes")
    assert (ran.code, "process 4711" in ran.err) == (75, True)
    assert states(journal_file) == [(1, "waiting")]
    assert database.tokens_audit.count_documents({}) == 0
    assert cli.run("journal", "discard", "1", "--yes").code == 0


def test_discard_takes_many_by_number_or_all_of_a_provider_or_state(cli, database, journal_file):
    """One audit record for each. Numbers and a choice together, or neither, are wrong usage; none found is no failure."""
    names = ("xero:a", "xero:b", "xero:c", "demo:a", "demo:b")
    for name, state in zip(names, ("unparsed", "unparsed", "waiting", "unparsed", "superseded"), strict=True):
        keep(journal_file, cli.ring, (name, None, GRANT, 200), state=state)
    for wrong in ((), ("1", "--provider", "xero")):
        assert cli.run("journal", "discard", *wrong, "--yes").code == 2
    assert cli.run("journal", "discard", "1", "9", "--yes").code == 1
    assert len(states(journal_file)) == 5
    assert (
        cli.run("journal", "discard", "--provider", "nobody", "--yes").err
        == "The journal has no matching entry.\n"
    )
    ran = cli.run("journal", "discard", "--provider", "xero", "--state", "unparsed", "--yes", "--json")
    assert [one["token"] for one in ran.lines()] == ["xero:a", "xero:b"]
    assert states(journal_file) == [(3, "waiting"), (4, "unparsed"), (5, "superseded")]
    assert cli.run("journal", "discard", "3", "5", "--yes").code == 0
    assert cli.run("journal", "discard", "--state", "unparsed", "--yes").code == 0
    assert states(journal_file) == []
    noted = [one["token"] for one in database.tokens_audit.find({"action": "discard"}).sort("_id")]
    assert noted == ["xero:a", "xero:b", "xero:c", "demo:b", "demo:a"]


# ---------------------------------------------------------------- reveal


def test_reveal_prints_the_reply_as_it_came_once_it_is_audited(cli, database, journal_file):
    """Status, headers and body, for a grant that nothing here reads; standard error warns, and is no part of it."""
    keep(journal_file, cli.ring, ("xero:a", None, GRANT, 200), state="unparsed")
    ran = cli.run("journal", "reveal", "1")
    assert (ran.code, "live tokens" in ran.err) == (0, True)
    head, body = ran.out.split("\n\n")
    assert json.loads(body) == GRANT
    assert "unparsed reply for xero:a" in head
    assert "HTTP 200" in head
    assert "Content-Type: application/json" in head
    audited = database.tokens_audit.find_one()
    assert (audited["action"], audited["token"]) == ("reveal_reply", "xero:a")
    ran = cli.run("journal", "reveal", "1", "--json")
    assert json.loads(b64decode(ran.json()["body_base64"])) == json.loads(ran.json()["body"]) == GRANT
    assert {
        "entry",
        "status",
        "content_type",
        "retry_after",
        "location",
        "whole",
        "bytes",
    } < ran.json().keys()
    assert states(journal_file) == [(1, "unparsed")]


@pytest.mark.parametrize(
    ("state", "result"), [("asked", "recorded"), ("failed", "superseded"), (None, "superseded")]
)
def test_the_reply_to_a_code_is_salvaged_if_its_consent_still_waits(
    cli, database, journal_file, state, result
):
    """Otherwise its owner has started again, or the consent is gone."""
    request = identified(
        ConsentRequest(
            id="c1",
            provider="xero",
            account="a",
            redirect_uri="http://127.0.0.1:8917/callback",
            expires_at=wall_clock.now(),
        )
    )
    stored = {
        "_id": request.id,
        "state": state,
        "provider": "xero",
        "account": "a",
        "code": None,
        "redirect_uri": request.redirect_uri,
        "scopes": [],
        "replace": False,
        "failure": {"kind": "interrupted", "code": "interrupted", "message": "start again"},
        "expires_at": request.expires_at,
    }
    if state is not None:
        database.tokens_consents.insert_one(stored)
    keep(journal_file, cli.ring, ("xero:a", None, GRANT, 200), claim_id=consent_claim(request.id))
    assert [one["kind"] for one in cli.run("journal", "list", "--json").lines()] == ["consent"]
    ran = cli.run("journal", "replay", str(journal_file), "--json")
    assert (ran.code, ran.json()[result]) == (0, 1)
    assert database.tokens.count_documents({"_id": "xero:a", "consent": request.id}) == (state == "asked")
    if state == "asked":
        assert database.tokens_consents.find_one()["state"] == "done"


def test_reveal_lets_no_reply_steer_the_terminal(cli, database, journal_file):
    """A provider may send anything: only the JSON holds what a terminal obeys, and that in base64."""
    keep(journal_file, cli.ring, ("xero:a", None, b"\x1b]0;owned\x07 \xff\xc2\x9b2J", 200))
    ran = cli.run("journal", "reveal", "1")
    assert ran.out.endswith("\n\n\\u001b]0;owned\\u0007 \\xff\\u009b2J\n")
    ran = cli.run("journal", "reveal", "1", "--json")
    assert ran.json()["body"] is None
    assert b64decode(ran.json()["body_base64"]).startswith(b"\x1b]0;")
    assert "\x1b" not in ran.out


def test_reveal_is_refused_where_it_cannot_be_audited(cli, journal_file):
    """MongoDB away: nothing of the reply is printed."""
    keep(journal_file, cli.ring, ("xero:a", None, GRANT, 200))
    away = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"
    cli.write(cli.config.read_text().replace(cli.uri, away))
    ran = cli.real("journal", "reveal", "1")
    assert (ran.code, "canary" in ran.out + ran.err) == (69, False)


def test_reveal_says_what_it_cannot_show(cli, database, journal_file):
    """No such entry, a missing key, an altered row: a sentence each, nothing printed, nothing audited."""
    keep(journal_file, KeyRing({"lost": b"2" * 32}, active="lost"), ("xero:a", None, GRANT, 200))
    ran = cli.run("journal", "reveal", "2")
    assert (ran.code, "no entry 2" in ran.err) == (1, True)
    ran = cli.run("journal", "reveal", "1")
    assert (ran.code, "key 'lost'" in ran.err, ran.out) == (1, True, "")
    assert database.tokens_audit.count_documents({}) == 0


def test_discard_is_refused_where_it_cannot_be_audited(cli, journal_file):
    """MongoDB away: the entry stays."""
    keep(journal_file, cli.ring, ("xero:a", None, GRANT, 200))
    away = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"
    cli.write(cli.config.read_text().replace(cli.uri, away))
    assert cli.real("journal", "discard", "1", "--yes").code == 69
    assert states(journal_file) == [(1, "waiting")]


def test_replay_brings_the_successor_home_and_leaves_the_file(cli, database, tmp_path):
    """The document still held what was spent: it has the new tokens now. A second time does no harm."""
    spent = stored(cli, database)
    file = tmp_path / "salvaged.db"
    keep(file, cli.ring, ("xero:a", spent, GRANT, 200))
    before = file.read_bytes()
    ran = cli.run("journal", "replay", str(file), "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.json() == {"file": str(file), "recorded": 1, "superseded": 0, "unparsed": 0, "unusable": 0}
    document = database.tokens.find_one()
    opened = cli.ring.open(document["refresh_token"], token_id="xero:a", field="refresh_token")
    assert Secret(opened) == Secret(NEW_REFRESH)
    assert (document["lease"], document["revision"]) == (None, 2)
    assert database.tokens_audit.find_one({"action": "replay"})["token"] == "xero:a"
    assert cli.run("journal", "replay", str(file)).out == "1 recorded, 0 superseded, 0 unparsed, 0 unusable\n"
    assert database.tokens.find_one() == document
    assert file.read_bytes() == before


def test_replay_reads_what_only_the_write_ahead_log_holds(cli, database, tmp_path):
    """The files of a daemon that was killed: what it kept last stands beside its journal.db."""
    spent = stored(cli, database)
    live = tmp_path / "journal.db"
    keep(live, cli.ring, ("xero:a", spent, GRANT, 200))
    salvaged = tmp_path / "salvaged"
    salvaged.mkdir()
    with closing(sqlite3.connect(live, isolation_level=None)) as file:
        file.execute("update entries set state = 'waiting'")
        file.execute(
            "insert into entries select 2, 'xero:gone', provider, claim, null, asked_at, reply, state from entries"
        )
        for name in ("journal.db", "journal.db-wal"):
            (salvaged / name).write_bytes((tmp_path / name).read_bytes())
    ran = cli.run("journal", "replay", str(salvaged / "journal.db"), "--json")
    assert (ran.json()["recorded"], ran.json()["unusable"]) == (1, 1)
    assert sorted(path.name for path in salvaged.iterdir()) == ["journal.db", "journal.db-wal"]


def test_replay_follows_a_chain_of_one_token_in_order(cli, database, tmp_path):
    """The second reply was brought by what the first one gave."""
    spent = stored(cli, database)
    second = cli.ring.seal(NEW_REFRESH, token_id="xero:a", field="refresh_token")
    last = {**GRANT, "refresh_token": "canary-last-refresh-token"}
    keep(tmp_path / "x.db", cli.ring, ("xero:a", spent, GRANT, 200), ("xero:a", second, last, 200))
    assert cli.run("journal", "replay", str(tmp_path / "x.db"), "--json").json()["recorded"] == 2
    sealed = database.tokens.find_one()["refresh_token"]
    assert cli.ring.open(sealed, token_id="xero:a", field="refresh_token") == "canary-last-refresh-token"


def test_replay_never_beats_a_newer_consent(cli, database, tmp_path):
    """What is stored by now was not what that request had spent; only the dead claim is given back."""
    spent = stored(cli, database)
    keep(tmp_path / "x.db", cli.ring, ("xero:a", spent, GRANT, 200), ("xero:removed", spent, GRANT, 200))
    cli.add("xero:a", {"access_token": "canary-newer", "refresh_token": "canary-newest", "expires_in": 60})
    document = database.tokens.find_one()
    ran = cli.run("journal", "replay", str(tmp_path / "x.db"), "--json")
    assert (ran.code, ran.json()["superseded"]) == (0, 2)
    assert database.tokens.find_one() == {**document, "lease": None}


def test_replay_leaves_a_revocation_to_the_daemon(cli, database, tmp_path):
    """A token that is being revoked gets the successor, and stays revoking. For one that is revoked, the reply's tokens may
    be alive: the command sends nothing, and says so.
    """
    spent = stored(cli, database)
    file = tmp_path / "x.db"
    keep(file, cli.ring, ("xero:a", spent, GRANT, 200))
    order = {"state": "revoking", "revocation": {"since": wall_clock.now(), "tries": 0}}
    database.tokens.update_one({"_id": "xero:a"}, {"$set": order})
    ran = cli.run("journal", "replay", str(file), "--json")
    assert (ran.code, ran.json()["recorded"]) == (0, 1)
    document = database.tokens.find_one()
    assert (document["state"], document["refresh_token"] == spent) == ("revoking", False)
    assert document["due_at"] <= wall_clock.now()
    tombstone = {"_id": "xero:a", "provider": "xero", "account": "a", "state": "revoked", "revision": 9}
    database.tokens.replace_one({"_id": "xero:a"}, tombstone)
    ran = cli.run("journal", "replay", str(file), "--json")
    assert (ran.code, ran.json()["unusable"]) == (1, 1)
    assert "only a daemon with this journal in its state directory revokes them" in ran.err
    assert database.tokens.find_one() == tombstone


def test_replay_counts_what_it_cannot_use_and_says_why(cli, database, tmp_path):
    """A provider without a client, a key that is not on the ring: each is named, the others are recorded, exit 1."""
    spent = stored(cli, database)
    file = tmp_path / "x.db"
    keep(file, cli.ring, ("nobody:a", None, GRANT, 200), ("xero:a", spent, GRANT, 200))
    keep(file, KeyRing({"lost": b"2" * 32}, active="lost"), ("xero:c", None, GRANT, 200))
    ran = cli.run("journal", "replay", str(file), "--json")
    assert (ran.code, ran.json()["recorded"], ran.json()["unusable"]) == (1, 1, 2)
    assert "provider nobody is not configured" in ran.err
    assert "1 of the entries can't be opened: journal is sealed with key 'lost'" in ran.err


def test_a_reply_that_replay_cannot_parse_is_named_and_exits_with_one(cli, database, tmp_path):
    """The definition promises a new refresh token, and the reply has none: a script must not go on."""
    spent = stored(cli, database)
    without = {name: value for name, value in GRANT.items() if name != "refresh_token"}
    file = tmp_path / "x.db"
    keep(file, cli.ring, ("xero:a", spent, without, 200), state="unparsed")
    ran = cli.run("journal", "replay", str(file), "--all", "--json")
    assert (ran.code, ran.json()["unparsed"], ran.json()["unusable"]) == (1, 1, 0)
    assert "entry 1, xero:a: " in ran.err


def test_replay_lays_no_old_reply_over_what_is_stored_now(cli, database, tmp_path):
    """Somebody wrote into its row the sealed text that the document holds now: the row does not open any more."""
    stored(cli, database)
    document = database.tokens.find_one()
    file = tmp_path / "x.db"
    keep(file, cli.ring, ("xero:a", "v1.k1.long-spent", GRANT, 200))
    altered(file, "spent", document["refresh_token"])
    ran = cli.run("journal", "replay", str(file), "--json")
    assert (ran.code, ran.json()["unusable"], "its row was altered" in ran.err) == (1, 1, True)
    assert database.tokens.find_one() == document


def test_replay_takes_entries_of_an_earlier_version_only_when_told_to(cli, database, tmp_path):
    """Their rows could have been changed by anybody who had the file; that nobody did is for an operator to know."""
    spent = stored(cli, database)
    document = database.tokens.find_one()
    file = tmp_path / "x.db"
    keep(file, cli.ring, ("xero:a", spent, GRANT, 200))
    of_an_earlier_version(file, cli.ring)
    ran = cli.run("journal", "replay", str(file), "--json")
    assert (ran.code, ran.json()["unusable"]) == (1, 1)
    assert "--old-entries" in ran.err
    assert database.tokens.find_one() == document
    ran = cli.run("journal", "replay", str(file), "--old-entries", "--json")
    assert (ran.code, ran.json()["recorded"]) == (0, 1)


def test_replay_refuses_what_is_no_journal_in_one_sentence(cli, tmp_path):
    """A link, a file of holes, another's tables: no SQL of theirs runs, nothing is copied whole, no traceback."""
    keep(tmp_path / "real.db", cli.ring, ("xero:a", None, GRANT, 200))
    (tmp_path / "link.db").symlink_to(tmp_path / "real.db")
    with (tmp_path / "holes.db").open("wb") as holes:
        holes.truncate(1 << 40)
    with closing(sqlite3.connect(tmp_path / "view.db")) as view:
        view.execute("create view entries as select 1 as key")
    said = {
        "link.db": "it is a link",
        "holes.db": "it is mostly holes",
        "view.db": "'entries' in it does not belong to a journal",
    }
    for name, words in said.items():
        ran = cli.run("journal", "replay", str(tmp_path / name))
        assert (ran.code, words in ran.err, ran.err.count("\n")) == (1, True, 1), ran.err


def test_replay_takes_up_what_was_done_with_only_when_told_to(cli, database, tmp_path):
    """An entry that was unread waits for a definition that knows its reply, and for --all."""
    spent = stored(cli, database)
    file = tmp_path / "x.db"
    keep(file, cli.ring, ("xero:a", spent, GRANT, 200), state="unparsed")
    assert cli.run("journal", "replay", str(file), "--json").json()["recorded"] == 0
    assert cli.run("journal", "replay", str(file), "--all", "--json").json()["recorded"] == 1
    assert states(file) == [(1, "unparsed")]


def test_a_file_that_is_not_there_is_wrong_usage(cli, tmp_path):
    """And nothing is made in its place."""
    assert cli.run("journal", "replay", str(tmp_path / "nowhere.db")).code == 2
    assert not (tmp_path / "nowhere.db").exists()
