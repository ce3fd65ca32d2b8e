"""`refreshd refresh`: a date in the store, and what comes of it. Here the test plays the daemon."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support import wall_clock

SECOND = timedelta(seconds=1)  # MongoDB's clock and ours differ a little


def failed(kind, **more):
    return {
        "last_failure": {"kind": kind, "code": kind, "message": "told so", "at": wall_clock.now()},
        **more,
    }


def test_a_token_or_a_whole_provider_is_made_due_and_nothing_else_changes(cli, database):
    """Only due_at, and only of active tokens that have a date; resting ones are named."""
    for name in ("xero:a", "xero:b", "xero:c"):
        cli.add(name, {"access_token": "t", "refresh_token": name, "expires_in": 3600})
    database.tokens.update_one({"_id": "xero:b"}, {"$set": {"state": "paused", "due_at": None}})
    before = {document["_id"]: document for document in database.tokens.find()}
    assert cli.run("refresh", "xero", "--json").json() == {"provider": "xero", "due": 2}
    for name in ("xero:a", "xero:c"):
        after = database.tokens.find_one({"_id": name})
        assert after.pop("due_at") < wall_clock.now() + SECOND < before[name].pop("due_at")
        assert after == before[name]
    assert database.tokens.find_one({"_id": "xero:b"}) == before["xero:b"]
    assert "xero:b is paused" in cli.run("refresh", "xero:b").err
    assert cli.run("refresh", "xero:nope").code == 1
    assert cli.run("refresh", "nope").code == 2


def test_a_paused_provider_is_named(cli, database):
    """Its tokens are due, and nothing comes of it: "due now" alone would send an operator elsewhere."""
    cli.add("xero:a")
    assert "paused" not in cli.run("refresh", "xero:a").err
    row = {"_id": "xero", "paused": {"reason": "wrong_client", "since": wall_clock.now()}}
    database.tokens_providers.insert_one(row)
    for arguments in (["xero:a"], ["xero"], ["xero:a", "--wait", "--timeout", "0s"]):
        ran = cli.run("refresh", *arguments)
        assert ran.err.count("xero is paused (wrong_client), so its tokens wait. `refreshd resume xero`") == 1


def test_a_token_that_is_being_revoked_is_refused_and_the_others_are_due(cli, database):
    """It is never renewed again, so `due now` would be untrue, and a script must see that."""
    for name in ("xero:a", "xero:b"):
        cli.add(name, {"access_token": "t", "refresh_token": name, "expires_in": 3600})
    database.tokens.update_one({"_id": "xero:a"}, {"$set": {"state": "revoking"}})
    before = database.tokens.find_one({"_id": "xero:a"})
    ran = cli.run("refresh", "xero:a", "xero:b")
    assert (ran.code, ran.out) == (1, "xero:b due now\n")
    assert ran.err.count("xero:a") == 1
    assert "xero:a is being revoked, so it is not refreshed" in ran.err
    assert database.tokens.find_one({"_id": "xero:a"}) == before
    assert database.tokens.find_one({"_id": "xero:b"})["due_at"] < wall_clock.now() + SECOND


def test_what_was_withheld_is_made_due_by_provider_or_id(cli, database):
    """Only active tokens that rest because a reply could not be read; and the others are left to their time."""
    for name in ("xero:a", "xero:b", "xero:c", "xero:d"):
        cli.add(name, {"access_token": "t", "refresh_token": name, "expires_in": 3600})
    for name in ("xero:a", "xero:b", "xero:c"):
        database.tokens.update_one({"_id": name}, {"$set": failed("unparsed", due_at=None)})
    database.tokens.update_one({"_id": "xero:c"}, {"$set": {"state": "paused"}})
    before = {document["_id"]: document for document in database.tokens.find()}
    assert cli.run("refresh", "xero:a", "--withheld").out == "xero:a due now: 1 withheld token\n"
    assert cli.run("refresh", "xero", "--withheld", "--json").json() == {"provider": "xero", "due": 1}
    for name in ("xero:a", "xero:b"):
        after = database.tokens.find_one({"_id": name})
        assert after["due_at"] < wall_clock.now() + SECOND
        assert {**after, "due_at": None} == before[name]
    for name in ("xero:c", "xero:d"):
        assert database.tokens.find_one({"_id": name}) == before[name]
    assert cli.run("refresh", "xero:d", "--withheld", "--json").json() == {"id": "xero:d", "due": 0}
    assert cli.run("refresh", "xero:nope", "--withheld").code == 1


@pytest.mark.parametrize(
    ("led_to", "code", "outcome"),
    [
        ({"refreshed_at": datetime(2026, 1, 1, tzinfo=UTC), "last_failure": None}, 0, "renewed"),
        (failed("rejected", state="needs_reauth"), 1, "failed"),
        (failed("misconfigured"), 1, "failed"),
        (failed("unparsed"), 1, "failed"),
        (failed("unparsed", refreshed_at=datetime(2026, 1, 1, tzinfo=UTC)), 1, "failed"),
        (failed("unavailable"), 69, "unavailable"),
    ],
    ids=["renewed", "rejected", "misconfigured", "unparsed", "unparsed in part", "unavailable"],
)
def test_waiting_ends_with_the_outcome(cli, database, led_to, code, outcome):
    """0 renewed, 1 rejected or misconfigured, 69 unavailable; told as soon as it is known."""
    cli.add("xero:a")
    with database.tokens.watch() as changes:
        process = cli.process("--json", "refresh", "--wait", "xero:a")
        assert "due_at" in next(changes)["updateDescription"]["updatedFields"]
        database.tokens.update_one({}, {"$set": led_to})
    out, _ = process.communicate(timeout=20)
    assert process.returncode == code
    assert f'"outcome": "{outcome}"' in out


def test_a_token_whose_provider_asked_for_a_wait_is_named(cli, database):
    """Its date is set, and the daemon keeps to the provider's; --wait says the same in the end."""
    cli.add("xero:a")
    until = (wall_clock.now() + timedelta(minutes=9)).replace(microsecond=0)
    waiting = failed("unavailable", failures=1)
    waiting["last_failure"]["not_before"] = until
    database.tokens.update_one({}, {"$set": waiting})
    expected = f"the provider asked for no request before {until:%Y-%m-%dT%H:%M:%S}"
    assert expected in cli.run("refresh", "xero:a").err
    ran = cli.run("refresh", "xero:a", "--wait", "--timeout", "300ms")
    assert (ran.code, expected in ran.out) == (69, True)
    waiting["last_failure"]["not_before"] = wall_clock.now() - SECOND
    database.tokens.update_one({}, {"$set": waiting})
    assert "asked for" not in cli.run("refresh", "xero:a").err


def test_waiting_in_vain_says_what_may_be_wrong(cli, database):
    """No daemon is 69, and so is a doubt that nobody has resolved; a paused token is not waited for."""
    cli.add("xero:a")
    ran = cli.run("refresh", "xero:a", "--wait", "--timeout", "300ms")
    assert ran.code == 69
    assert "Check that the daemon runs" in ran.out
    cli.run("pause", "xero:a")
    ran = cli.run("refresh", "xero:a", "--wait")
    assert (ran.code, "refreshd resume" in ran.out) == (1, True)
    assert cli.run("refresh", "xero:a", "--wait", "--timeout", "soon").code == 2


def test_a_wait_without_time_ends(cli, database):
    """The limit also ends a wait that it finds in the middle of a question to MongoDB."""
    cli.add("xero:a")
    process = cli.process("--json", "refresh", "xero:a", "--wait", "--timeout", "0s")
    try:
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, '"outcome": "unavailable"' in out) == (69, True)
