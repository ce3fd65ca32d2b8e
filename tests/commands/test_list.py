"""`refreshd list` and `show`: what is stored, for people and for programs, and never a secret unasked."""

import io
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest

from daemon.commands.support import completion
from daemon.commands.support.column import Column
from daemon.commands.support.output import Output
from tests.support import wall_clock

ACCESS, REFRESH = "canary-access-token-71aa", "canary-refresh-token-42bb"
LISTED = "id provider account state expires_at refresh_expires_at due_at refreshed_at failures last_failure revision lease consent_ends_at subject last_used_at"


def test_list_prints_one_object_a_line_with_the_promised_fields(cli):
    """Programs read these names; dates are RFC 3339 in UTC."""
    cli.add("xero:b")
    cli.add("xero:a", {"access_token": ACCESS})
    first, second = cli.run("list", "--json").lines()
    assert (first["id"], second["id"]) == ("xero:a", "xero:b")
    assert list(first) == LISTED.split()
    expires = datetime.fromisoformat(second["expires_at"])
    assert expires.tzinfo == UTC
    assert second["due_at"].endswith("Z")


def test_list_filters_by_provider_and_state(cli, database):
    """Both narrow the list; a state that doesn't exist is wrong usage."""
    for name in ("xero:a", "xero:b"):
        cli.add(name, {"refresh_token": name})
    cli.add("acme:a", {"refresh_token": "third"}, "--var", "company=one")
    database.tokens.update_one({"_id": "xero:b"}, {"$set": {"state": "needs_reauth"}})
    assert [row["id"] for row in cli.run("list", "--json", "--provider", "acme").lines()] == ["acme:a"]
    found = cli.run("--json", "list", "--provider", "xero", "--state", "needs_reauth").lines()
    assert [row["id"] for row in found] == ["xero:b"]
    assert cli.run("list", "--state", "gone").code == 2


def test_people_read_when_a_token_is_due_and_why_it_failed(cli, database):
    """Durations instead of dates; the last failure in words."""
    assert "No token is stored" in cli.run("list").err
    cli.add("xero:a")
    failure = {"kind": "unavailable", "code": "http_503", "message": "HTTP 503", "at": wall_clock.now()}
    due = wall_clock.now() + timedelta(minutes=20, seconds=30)
    database.tokens.update_one({}, {"$set": {"last_failure": failure, "failures": 2, "due_at": due}})
    ran = cli.run("list")
    assert ran.out.splitlines()[0].split()[:2] == ["ID", "State"]
    assert "in 20 min" in ran.out
    assert "unavailable: HTTP 503" in ran.out


def test_people_read_for_whom_a_due_token_is_held(cli, database):
    """Its asker is gone, and it may be spent: who that was, and when others may have it; not while he may be at it."""
    cli.add("xero:a")
    now, minute = wall_clock.now(), timedelta(minutes=1)
    lease = {"owner": "gone", "claim": "c", "until": now - minute, "hold": now + 10 * minute + minute / 2}
    database.tokens.update_one({}, {"$set": {"lease": lease, "due_at": now - minute}})
    assert "held for gone: others may renew it in 10 min" in " ".join(cli.run("list").out.split())
    database.tokens.update_one({}, {"$set": {"lease.until": now + minute}})
    assert "held" not in cli.run("list").out


def test_what_other_programs_wrote_does_not_break_the_list_or_the_terminal(cli, database):
    """InvalidValue types are shown as such; escape sequences in an id don't reach the terminal."""
    database.tokens.insert_many(
        [
            {
                "_id": "xero:\x1b[31mred\x07",
                "provider": "xero",
                "due_at": "soon",
                "failures": "many",
                "last_failure": 3,
            },
            {"_id": 7, "state": ["active"], "expires_at": datetime(1, 1, 1), "vars": 4, "lease": "x"},  # noqa: DTZ001
        ]
    )
    ran = cli.run("list")
    assert ran.code == 0
    assert "\x1b" not in ran.out
    assert "not a date" in ran.out
    assert len(cli.run("list", "--json").lines()) == 2
    assert "\x1b" not in cli.run("show", "xero:\x1b[31mred\x07").out


def test_show_tells_all_but_secrets(cli, database):
    """The contract's further fields are there; sealed texts in them are not."""
    cli.add(
        "acme:a", {"access_token": ACCESS, "refresh_token": REFRESH}, "--var", "company=one", "--meta", "k=v"
    )
    sealed = cli.ring.seal("x" * 20, token_id="acme:a", field="extra")
    lease = {"owner": "i-1", "claim": "c", "until": wall_clock.now()}
    database.tokens.update_one({}, {"$set": {"extra.id_token": sealed, "lease": lease}})
    shown = cli.run("show", "acme:a", "--json").json()
    assert list(shown)[: len(LISTED.split())] == LISTED.split()
    assert shown["vars"] == {"company": "one"}
    assert shown["meta"] == {"k": "v"}
    assert shown["extra"] == {"id_token": "(sealed)"}
    assert shown["lease"]["owner"] == "i-1"
    assert shown["doubt"] is None
    assert shown["has_refresh_token"] is True
    text = cli.run("show", "acme:a").out
    assert "owner i-1" in text
    assert "v1." not in text


@pytest.mark.parametrize(
    ("fields", "author"),
    [
        ({"paused_by": {"kind": "operator"}}, "paused by an operator"),
        ({"paused_by": {"kind": "application"}}, "paused by its application"),
        ({"last_failure": {"kind": "duplicate"}}, "paused by refreshd, for the last failure"),
        ({"origin": {"key": "row", "activated": None}}, "paused since its import, until"),
    ],
)
def test_show_says_who_paused_a_token(cli, database, fields, author):
    """Only that one knows when it may go on. Programs get the fields that they were promised."""
    cli.add("xero:a")
    before = cli.run("show", "xero:a", "--json").json()
    database.tokens.update_one({}, {"$set": {"state": "paused", **fields}})
    assert author in cli.run("show", "xero:a").out
    assert cli.run("show", "xero:a", "--json").json().keys() == before.keys()


@pytest.mark.parametrize(("state", "at"), [("revoked", "revoked_at"), ("removed", "removed_at")])
def test_show_says_of_a_token_that_is_gone_only_how_and_when(cli, database, state, at):
    """It expires no more and is never due, so no "never" and no missing refresh token may worry anybody."""
    now = wall_clock.now()
    gone = {"_id": "xero:gone", "provider": "xero", "account": "gone", "state": state, "revision": 4}
    database.tokens.insert_one({**gone, at: now, "forget_at": now + timedelta(days=90)})
    ran = cli.run("show", "xero:gone")
    titles = [line.split("  ")[0] for line in ran.out.splitlines()]
    assert titles == ["ID", "State", "Ended", "Forgotten", "Revision"]
    assert f"{state}: " in ran.out
    assert "in 89 d" in ran.out
    assert "never" not in ran.out
    assert cli.run("show", "xero:gone", "--json").json()["state"] == state


def test_show_leaves_out_what_a_claim_or_a_doubt_does_not_have(cli, database):
    """After an inconclusive reply no request runs, so the claim has no id; "None" would be a riddle at night."""
    cli.add("xero:a")
    now = wall_clock.now()
    lease = {"owner": "i-1", "claim": None, "until": now, "hold": now}
    database.tokens.update_one(
        {}, {"$set": {"lease": lease, "doubt": {"since": now, "tries": 1, "asker": None}}}
    )
    text = cli.run("show", "xero:a").out
    assert "None" not in text
    assert "owner i-1, until 20" in text
    assert ", tries 1" in text
    assert cli.run("show", "xero:a", "--json").json()["lease"]["claim"] is None


def test_one_secret_is_revealed_and_that_is_audited(cli, database):
    """Only the secret on standard output, and a record of who saw it."""
    cli.add("xero:a")
    assert cli.run("show", "xero:a", "--reveal", "access_token", may_reveal=True).out == ACCESS + "\n"
    ran = cli.run("show", "xero:a", "--reveal", "refresh_token", "--json", may_reveal=True)
    assert ran.json() == {"id": "xero:a", "field": "refresh_token", "value": REFRESH}
    notes = list(database.tokens_audit.find({"action": "reveal"}))
    assert [(note["token"], note["revision"]) for note in notes] == [("xero:a", 1)] * 2
    assert cli.run("show", "xero:a", "--reveal", "grant_fingerprint").code == 2


def test_a_reveal_that_cannot_be_audited_is_refused(cli, database):
    """Where the record can't be written, nothing is shown."""
    cli.add("xero:a")
    database.command(
        {"collMod": "tokens_audit", "validator": {"action": {"$ne": "reveal"}}, "validationLevel": "strict"}
    )
    ran = cli.run("show", "xero:a", "--reveal", "access_token")
    assert ran.code == 69
    assert ran.out == ""


def test_what_is_not_there_or_does_not_open_is_said(cli, database):
    """An unknown id, a provider instead of an id, no secret in that field, a sealed text of another key."""
    cli.add("xero:a", {"access_token": ACCESS})
    assert "no such token" in cli.run("show", "xero:b").err
    assert cli.run("show", "xero:b").code == 1
    ran = cli.run("show", "xero")
    assert ran.code == 2
    assert "xero:ACCOUNT" in ran.err
    ran = cli.run("show", "xero:a", "--reveal", "refresh_token")
    assert (ran.code, "contains no refresh token" in ran.err) == (1, True)
    database.tokens.update_one({}, {"$set": {"refresh_token": "v1.two." + "A" * 60}})
    ran = cli.run("show", "xero:a", "--reveal", "refresh_token")
    assert ran.code == 1
    assert "'two', which is not on the key ring" in ran.err


def test_a_misspelt_provider_is_wrong_usage(cli, database):
    """Unless tokens of that name are stored: their provider was configured once."""
    cli.add("xero:a")
    for options in ([], ["--json"]):
        ran = cli.run("list", "--provider", "xeroo", *options)
        assert (ran.code, ran.out) == (2, "")
        assert "provider 'xeroo' is unknown" in ran.err
        assert "Did you mean xero?" in ran.err
    database.tokens.insert_one({"_id": "gone:a", "provider": "gone", "account": "a", "state": "active"})
    assert [row["id"] for row in cli.run("list", "--json", "--provider", "gone").lines()] == ["gone:a"]


def test_an_empty_filter_says_how_many_there_are_in_all(cli):
    """Else it would look as if nothing were stored."""
    cli.add("xero:a")
    assert cli.run("list", "--provider", "google").err == "No token of google. In all, 1 is stored.\n"
    ran = cli.run("list", "--provider", "xero", "--state", "paused")
    assert (ran.code, ran.err) == (0, "No token of xero in state paused. In all, 1 is stored.\n")


def test_tombstones_are_not_counted_as_tokens(cli, database):
    """They are hidden, so a sum that has them would be one that nobody can check."""
    forget = {"forget_at": wall_clock.now() + timedelta(days=30)}
    database.tokens.insert_one({"_id": "xero:gone", "provider": "xero", "state": "revoked", **forget})
    assert cli.run("list").err == "No token is stored here. `refreshd add` stores one.\n"
    cli.add("xero:a")
    assert cli.run("list", "--account", "b").err == "No token of account b. In all, 1 is stored.\n"


def test_a_wrong_id_is_told_how_ids_are_made(cli):
    """Without a colon, a provider's name, and one that is not stored."""
    for name, code in (("company-7", 2), ("xero", 2), ("xero:nobody", 1)):
        ran = cli.run("show", name)
        assert (ran.code, "PROVIDER:ACCOUNT" in ran.err) == (code, True)


def test_filters_find_what_fails_and_what_has_expired(cli, database):
    """By failure, expiry, account and number; the last line says how many of how many."""
    hour, now = timedelta(hours=1), wall_clock.now()
    failed = {"kind": "unavailable", "code": "http_503", "message": "HTTP 503", "at": now}
    rows = {
        "xero:a": {"expires_at": now + hour},
        "xero:b": {"expires_at": now - hour},
        "google:b": {"expires_at": now + hour, "failures": 3, "last_failure": failed},
        "google:c": {"expires_at": now - hour, "state": "needs_reauth", "last_failure": failed},
    }
    for name, fields in rows.items():
        provider, account = name.split(":")
        database.tokens.insert_one(
            {"_id": name, "provider": provider, "account": account, "state": "active", **fields}
        )
    for options, found, said in (
        (
            ["--failing"],
            ["google:b", "google:c"],
            "2 tokens that failed last time: 1 active, 1 needs_reauth.",
        ),
        (["--expired"], ["xero:b"], "1 token past expiry: 1 active."),
        (["--account", "b"], ["google:b", "xero:b"], "2 tokens of account b: 2 active."),
        (["--limit", "2"], ["google:b", "google:c"], "The first 2 of 4 tokens: 1 active, 1 needs_reauth."),
        (["--failing", "--state", "active"], ["google:b"], "1 token in state active that failed last time"),
        (
            ["--expired", "--state", "paused"],
            [],
            "No token in state paused past expiry. In all, 4 are stored.",
        ),
    ):
        assert [row["id"] for row in cli.run("list", "--json", *options).lines()] == found
        assert cli.run("list", *options).err.startswith(said)
    assert "3 x unavailable: HTTP 503" in cli.run("list", "--failing").out
    assert cli.run("list", "--limit", "0").code == 2


class Narrow(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_a_row_is_one_line_and_its_id_whole(monkeypatch):
    """At 80 columns the failure is cut, never the id; a pipe gets all of it."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    long = "xero:" + "a" * 90
    rows = [
        ["xero:a", "active", "rejected: " + "word " * 40],
        [long, "active", "short"],
        ["xero:\u5f35", "x", ""],
    ]
    columns = [Column("ID"), Column("State", width=12), Column("Last failure")]
    for stream, cut in ((Narrow(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stdout", stream)
        Output(as_json=False).table(columns, rows)
        head, first, second, third = stream.getvalue().splitlines()
        assert head.split() == ["ID", "State", "Last", "failure"]
        assert (len(first) <= 80 and first.endswith("\u2026")) == cut
        assert second.split()[0] == long
        assert third.split() == ["xero:\u5f35", "x"]


def test_an_accounts_tokens_are_removed_together(cli, database):
    """At every provider, once somebody agreed; nothing is removed for an account that is not there."""
    for name in ("xero:a", "google:a", "xero:b"):
        provider, account = name.split(":")
        database.tokens.insert_one({"_id": name, "provider": provider, "account": account, "state": "active"})
    assert cli.run("remove", "--account", "nobody", "--yes").code == 1
    assert cli.run("remove", "xero:b", "--account", "a", "--yes").code == 2
    assert cli.run("remove", "--yes").code == 2
    ran = cli.run("remove", "--account", "a", "--yes")
    assert ran.out == "google:a removed\nxero:a removed\n"
    assert [row["_id"] for row in database.tokens.find()] == ["xero:b"]


def test_a_shell_completes_ids(cli, database, monkeypatch):
    """Those that begin with what was typed, as a list prints them; nothing, and no word, if anything is wrong."""
    for name in ("xero:co\u00adop", "xero:cup", "google:a"):
        database.tokens.insert_one({"_id": name, "provider": "xero", "state": "active"})
    assert completion.ids(cli.config, "xero:c") == ["xero:co\\u00adop", "xero:cup"]
    assert completion.ids(None, "xero:co\\u00ad") == ["xero:co\\u00adop"]
    assert completion.ids(cli.home / "nowhere.toml", "xero:") == []
    cli.write(cli.config.read_text().replace(json.dumps(cli.uri), '"embedded"'))
    assert completion.ids(cli.config, "xero:") == []
    assert not (cli.home / "state").exists()
