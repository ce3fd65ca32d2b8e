"""Who did it: what the records say, what the system's log gets, and `refreshd audit`."""

import csv
import io
import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.commands.support.audit_log import AuditLog
from daemon.runtime.who import who
from tests.support import wall_clock

ROOT = Path(__file__).parents[2]
REASON = "ticket 4711: customer asked"


def test_a_record_says_who_what_and_why_and_the_log_has_it_too(cli, database, syslog, monkeypatch):
    """The database's copy may be changed by a login that may write; the system's log is elsewhere."""
    monkeypatch.setenv("SUDO_UID", "54321")
    monkeypatch.setenv("SUDO_USER", "alice")
    cli.add("xero:a")
    assert cli.run("pause", "xero:a", "--reason", REASON).code == 0
    record = database.tokens_audit.find_one({"action": "pause"})
    assert record["by"]["reason"] == REASON
    assert {"at", "action", "token", "actor", "by", "kind", "result", "count"} <= set(record)
    assert (record["token"], record["kind"]) == ("xero:a", "operator")
    line = next(line for line in syslog if '"pause"' in line)
    assert line.startswith(f"<86>refreshd[{os.getpid()}]: {{")
    logged = json.loads(line.partition(": ")[2])
    assert (logged["event"], logged["by"]) == ("audit.recorded", record["by"])
    assert not [line for line in syslog if "canary" in line]


@pytest.mark.parametrize(
    ("login", "env", "person", "uid"),
    [
        ("0", {}, "root", 0),
        ("0", {"SUDO_UID": "54321", "SUDO_USER": "liar"}, "root", 0),
        ("4294967295", {"SUDO_UID": "0"}, "root", 0),
        ("4294967295", {"SUDO_UID": "54321", "SUDO_USER": "alice"}, "alice", 54321),
        ("4294967295", {"SUDO_UID": "54321"}, "54321", 54321),
        ("4294967295", {"SUDO_UID": "root", "SUDO_USER": "alice"}, None, None),
        ("4294967295", {"SUDO_UID": "9" * 5000}, None, None),
        (None, {"SUDO_UID": "0"}, "root", 0),
        (None, {}, None, None),
    ],
)
def test_the_person_is_who_logged_in_else_whom_the_wrapper_names(tmp_path, login, env, person, uid):
    """The kernel's number can't be set by the person; the wrapper's is asked only if there was no login."""
    if login is not None:
        (tmp_path / "loginuid").write_text(login)
    found = who(env, login=tmp_path / "loginuid")
    assert (found.person, found.uid) == (person, uid)
    assert "@" in found.actor


def test_without_a_system_log_the_line_goes_to_standard_error(tmp_path, capsys):
    """As in a container: a person sees that the deed is recorded, and nothing fails."""
    at = datetime(2026, 11, 1, tzinfo=UTC)
    AuditLog(tmp_path / "none")({"at": at, "action": "pause", "token": "xero:\x1b[31m"})
    said = capsys.readouterr().err
    assert '"at": "2026-11-01T00:00:00.000000Z"' in said or '"at": "2026-11-01' in said
    assert "\x1b" not in said


def test_the_wrapper_hands_on_who_calls_it(tmp_path):
    """systemd-run starts a process without a login, so the person would be lost."""
    for name, does in {
        "id": 'case $1 in -u) echo 0;; -un) echo "name-of-$2";; esac',
        "systemctl": "",
        "cat": "echo 4294967295",
        "systemd-run": 'printf "%s\\n" "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SUDO_UID": "54321"}
    script = ROOT / "deploy/systemd/refreshd.sh"
    ran = subprocess.run(["sh", script, "pause", "xero"], env=env, capture_output=True, text=True, check=True)
    arguments = ran.stdout.splitlines()
    assert {"--setenv=SUDO_UID=54321", "--setenv=SUDO_USER=name-of-54321"} <= set(arguments)
    assert arguments[-2:] == ["pause", "xero"]


def test_each_deed_leaves_a_record(cli, database):
    """Also those that only set a date or print a key."""
    cli.add("xero:a")
    assert cli.run("refresh", "xero:a", "xero", "--reason", "look").code == 0
    assert cli.run("keys", "reader", "--reason", "new application").code == 0
    found = database.tokens_audit.find({}, {"_id": 0, "action": 1, "token": 1, "by.reason": 1}).sort("at")
    assert [(one["action"], one["token"], one["by"]["reason"]) for one in found] == [
        ("add", "xero:a", None),
        ("refresh", "xero:a", "look"),
        ("refresh", "xero", "look"),
        ("reader_key", "one", "new application"),
    ]


def test_a_reader_key_that_cannot_be_recorded_is_not_printed(cli, database):
    """As with every other secret."""
    cli.add("xero:a")
    database.command({"collMod": "tokens_audit", "validator": {"never": True}, "validationLevel": "strict"})
    ran = cli.run("keys", "reader")
    assert (ran.code, ran.out) == (69, "")


def records(database, *records):
    now = wall_clock.now()
    rows = [
        {"at": now - timedelta(hours=hours), "action": action, "token": token, "actor": actor, "by": by}
        for hours, action, token, actor, by in records
    ]
    database.tokens_audit.insert_many(rows)


@pytest.fixture
def some(database):
    """Three records of two people, one of an earlier version among them."""
    alice = {"person": "alice", "uid": 1000, "reason": REASON}
    records(
        database,
        (3, "add", "xero:a", "bob@vm", None),
        (2, "pause", "xero", "refreshd@vm", alice),
        (1, "reveal", "xero-2:a.c", "refreshd@vm", {"person": None, "uid": None, "reason": None}),
    )


@pytest.mark.parametrize(
    ("options", "actions"),
    [
        ((), ["reveal", "pause", "add"]),
        (("--limit", "1"), ["reveal"]),
        (("--who", "alice"), ["pause"]),
        (("--who", "refreshd"), ["reveal", "pause"]),
        (("--actor", "bob@vm"), ["add"]),
        (("--who", "b"), []),
        (("--action", "add"), ["add"]),
        (("--token", "xero:a"), ["add"]),
        (("--provider", "xero"), ["pause", "add"]),
        (("--provider", "xero-2"), ["reveal"]),
        (("--since", "150m"), ["reveal", "pause"]),
        (("--until", "90m", "--since", "1d"), ["pause", "add"]),
        (("--who", ".*"), []),
    ],
)
def test_records_are_chosen_newest_first(cli, some, options, actions):
    """Every filter is taken literally."""
    ran = cli.run("audit", *options, "--json")
    assert [record["action"] for record in ran.lines()] == actions
    assert ran.code == 0


def test_people_read_when_what_who_and_why_at_80_columns(cli, some):
    """An id stands whole; how many records there are in all is said."""
    ran = cli.run("audit", "--limit", "2")
    first, by, second, person, why = ran.out.splitlines()
    assert first[19:] == "Z reveal             xero-2:a.c"
    assert by == f"{' ' * 21}by refreshd@vm"
    assert second.endswith("Z pause              xero")
    assert (person.strip(), why.strip()) == ("by alice as refreshd@vm", f'"{REASON}"')
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "newest 2 of 3" in ran.err
    assert "No record matches, of 3" in cli.run("audit", "--who", "nobody").err


def test_people_read_where_an_owner_ends_a_grant_that_stays_valid(cli, database):
    """As --json has it: nobody else can end the grant."""
    page = "https://accounts.example.com/permissions"
    row = {"at": wall_clock.now(), "action": "left_alive", "token": "xero:a", "actor": "refreshd@vm"}
    database.tokens_audit.insert_one({**row, "result": "the provider has no revocation", "manage_url": page})
    ran = cli.run("audit")
    assert ran.out.splitlines()[2].strip() == f"the owner can end the grant at {page}"
    assert cli.run("audit", "--json").lines()[0]["manage_url"] == page


def test_a_table_for_spreadsheets_has_the_same_records_and_no_formula(cli, database, some):
    """As the access service prints it."""
    row = {"at": wall_clock.now(), "action": "pause", "token": "xero:=a\r\n", "by": {"reason": ' "=cmd()'}}
    database.tokens_audit.insert_one(row)
    ran = cli.run("audit", "--csv", "--limit", "3")
    found = list(csv.DictReader(io.StringIO(ran.out, newline="")))
    assert [one["action"] for one in found] == ["pause", "reveal", "pause"]
    assert (found[0]["token"], found[0]["reason"]) == ("xero:=a\\u000d\\u000a", "' \"=cmd()")
    assert found[2]["reason"] == REASON
    assert (ran.out.count("\n"), ran.err) == (4, "")
    assert cli.run("audit", "--csv", "--who", "nobody").out.count("\n") == 1
    both = cli.run("audit", "--csv", "--json")
    assert (both.code, both.out, "--csv and --json exclude each other" in both.err) == (2, "", True)


def test_deeds_and_uses_are_one_list_newest_first(cli, database, some):
    """Whichever of the two collections ends first; rows about keys are not records."""
    now = wall_clock.now()
    database.tokens_access_use.insert_many(
        [
            {
                "_id": f"u{hours}",
                "at": now - timedelta(hours=hours),
                "action": f"u{hours}",
                "kind": "access",
                "count": 2,
            }
            for hours in (0.5, 1.5, 4, 5)
        ]
    )
    database.tokens_access_use.insert_one({"_id": "key k", "kind": "key", "last_used_at": now})
    order = ["u0.5", "reveal", "u1.5", "pause", "add", "u4", "u5"]
    for limit in (1, 3, 7, 50):
        ran = cli.run("audit", "--json", "--limit", str(limit))
        assert [one["action"] for one in ran.lines()] == order[:limit]
        assert not any({"_id", "since", "ends_at"} & one.keys() for one in ran.lines())


def test_a_single_use_is_not_several(cli, database):
    """An access key's first read is the first thing that a newcomer looks up."""
    row = {"at": wall_clock.now(), "action": "read", "kind": "access", "token": "xero:a"}
    database.tokens_access_use.insert_many([{"_id": f"u{count}", "count": count} | row for count in (1, 2)])
    shown = cli.run("audit").out
    assert ", once\n" in shown
    assert ", 2 times\n" in shown


def test_a_reason_is_bounded(cli):
    """It is a sentence, not a file."""
    ran = cli.run("pause", "xero:a", "--reason", "x" * 501)
    assert (ran.code, "'--reason': the reason has 501 characters. Write at most 500" in ran.err) == (2, True)
