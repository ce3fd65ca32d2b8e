"""Streams that are closed or full, numbers and names that are too large: one sentence, and never an internal error."""

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

HUGE = "99999999999999999999"  # no number of MongoDB's, nor of SQLite's


def shell(cli, line: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run refreshd with the redirections in `line`, in which a process of Python can't hold its own streams."""
    command = f'"$0" -m daemon "$@" {line}'
    return subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, *arguments],
        env={**os.environ, **cli.env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "arguments",
    [("list",), ("list", "--json"), ("show", "xero:7"), ("providers",), ("version",), ("keys", "generate")],
)
def test_a_result_that_can_not_be_written_is_no_internal_error(cli, arguments: Sequence[str]):
    """A full disk behind a redirection; whether the work was done has to be looked up."""
    cli.add("xero:7")
    done = shell(cli, ">/dev/full", *arguments)
    assert done.returncode == 1
    assert "standard output: No space left on device" in done.stderr
    assert "internal error" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("arguments", [("list",), ("providers",), ("version",), ("show", "xero:7")])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_change_no_result(cli, closed: str, arguments: Sequence[str]):
    """As cron jobs and supervisors start programs. Nothing is printed into a connection that takes the number."""
    cli.add("xero:7")
    done = shell(cli, closed, *arguments)
    assert done.returncode == 0, done.stderr
    assert "internal error" not in done.stderr


def test_a_closed_standard_input_is_an_empty_one(cli):
    done = shell(cli, "<&-", "add", "xero", "7")
    assert done.returncode == 1
    assert "standard input: it is empty" in done.stderr
    assert "Pass --yes" in shell(cli, "<&-", "adopt", "instance").stderr


def test_without_standard_error_a_failure_has_its_exit_code(cli):
    assert shell(cli, "2>/dev/full", "show", "xero:none").returncode == 1
    assert shell(cli, "2>&-", "show", "xero:none").returncode == 1
    assert shell(cli, "2>/dev/full", "no-command").returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--limit"),
        ("audit", "--limit"),
        ("cleanup", "--dead-for", "30d", "--dry-run", "--limit"),
        ("cleanup", "--dead-for", "30d", "--yes", "--expect"),
        ("revoke", "--provider", "xero", "--yes", "--expect"),
        ("backup", "prune", "--to", ".", "--keep"),
        ("journal", "discard", "--yes"),
        ("journal", "reveal"),
    ],
)
def test_a_number_that_no_store_can_hold_is_wrong_usage(cli, arguments: Sequence[str]):
    ran = cli.run(*arguments, HUGE)
    assert ran.code == 2, ran
    assert "Invalid value" in ran.err


@pytest.mark.parametrize("command", ["show", "pause", "resume", "refresh", "remove", "revoke"])
def test_an_id_that_is_too_long_to_be_one_is_not_printed_whole(cli, command: str):
    """100 kB of a name in an error would fill a screen, and a log."""
    more = ("--yes",) if command in {"remove", "revoke"} else ()
    ran = cli.run(command, "xero:" + "a" * 100_000, *more)
    assert ran.code == 2
    assert "it has 100,005 characters" in ran.err
    assert len(ran.out + ran.err) < 400


def test_a_file_that_does_not_fit_into_memory_is_no_internal_error(cli, tmp_path):
    """An application's JSON is read as a whole."""
    large = tmp_path / "tokens.json"
    with large.open("wb") as file:
        file.truncate(700 << 20)  # sparse: it takes no disk
    large.chmod(0o600)
    line = f'ulimit -v 1000000; exec "{sys.executable}" -m daemon import token-files "{large}" --provider xero --dry-run'
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        env={**os.environ, **cli.env},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "not enough memory" in done.stderr, done.stderr


def test_a_response_that_gives_a_token_twice_is_refused(cli):
    """Either may be the current one."""
    twice = '{"access_token": "a", "refresh_token": "old", "refresh_token": "new", "expires_in": 60}'
    ran = cli.run("add", "xero", "7", stdin=twice)
    assert ran.code == 1
    assert "it gives a name twice, with different values" in ran.err
    same = '{"access_token": "a", "refresh_token": "one", "refresh_token": "one", "expires_in": 60}'
    assert cli.run("add", "xero", "7", stdin=same).code == 0
