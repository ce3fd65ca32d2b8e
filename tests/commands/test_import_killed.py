"""`refreshd import` killed at random moments, as a real process: the next run ends as an undisturbed one."""

import json
import random
import signal
import subprocess
import time
from datetime import timedelta

import pytest

from daemon.adapters.row_copy import read_rows
from daemon.domain.moving import in_first
from tests.support import wall_clock

ROWS = 1100  # three batches
PERCENT = 30
SHORTEST = 0.3  # of an undisturbed run: the interpreter is still starting


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "tokens.jsonl"
    ends = (wall_clock.now() + timedelta(hours=1)).isoformat()
    with path.open("w") as file:
        for number in range(ROWS):
            row = {
                "provider": "xero",
                "account": str(number),
                "access_token": f"access-{number}",
                "refresh_token": f"refresh-{number}",
                "expires_at": ends,
                "colour": "green",
            }
            file.write(json.dumps(row) + "\n")
    return path


@pytest.fixture
def start(cli, source):
    def start():
        words = ("import", "jsonl", str(source), "--activate", f"{PERCENT}%", "--json")
        return cli.process(*words)

    return start


def finished(process):
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


def content(cli, database):
    """What is stored, without what differs from run to run."""

    def opened(one, field):
        return cli.ring.open(one[field], token_id=one["_id"], field=field)

    return {
        one["_id"]: (
            opened(one, "access_token"),
            opened(one, "refresh_token"),
            one["state"],
            one["due_at"] is not None,
            one["revision"],
            one["origin"]["key"],
            one["origin"]["activated"] is not None,
        )
        for one in database.tokens.find()
    }


def copied(cli, tmp_path):
    """The accounts in all copies, of killed runs too."""
    return {
        json.loads(row.cells)["account"]
        for path in (tmp_path / "state" / "imports").glob("*.rows*")
        for row in read_rows(path, cli.ring)
    }


def check_kills(number, cli, database, start, tmp_path):
    began = time.monotonic()
    finished(start())
    whole = time.monotonic() - began
    undisturbed = content(cli, database)
    assert len(undisturbed) == ROWS
    assert sum(one[2] == "active" for one in undisturbed.values()) == sum(
        in_first(PERCENT, name) for name in undisturbed
    )
    partly = 0
    for _ in range(number):
        database.tokens.drop()
        process = start()
        try:
            process.wait(timeout=random.uniform(SHORTEST, 1.05) * whole)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
        stored = database.tokens.count_documents({})
        partly += (
            0 < stored < ROWS
            or 0 < database.tokens.count_documents({"state": "active"}) < ROWS * PERCENT / 100
        )
        assert {one["account"] for one in database.tokens.find()} <= copied(cli, tmp_path)
        report = finished(start())
        assert report["found"] == report["imported"] + report["already_there"] == ROWS
        assert report["already_there"] >= stored  # MongoDB may have finished a command after the kill
        assert content(cli, database) == undisturbed
        grants = database.tokens.distinct("grant_fingerprint")
        assert len(grants) == ROWS
    return partly


@pytest.mark.slow
def test_four_kills_change_nothing_in_the_end(cli, database, start, tmp_path):
    """Every token once, none missing, the slice active; and what was stored at the kill is in a copy."""
    check_kills(4, cli, database, start, tmp_path)


@pytest.mark.long
def test_fifty_kills_change_nothing_in_the_end(cli, database, start, tmp_path):
    """Some of them hit it in the middle."""
    assert check_kills(50, cli, database, start, tmp_path) > 0
