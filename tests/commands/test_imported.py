"""`refreshd resume --percent` and `pause --imported`, of tokens that an import has stored."""

import asyncio
from datetime import timedelta

import pytest

from daemon.adapters.mongo.admin.imported_slices import MongoSlices
from daemon.adapters.mongo.admin.imports import MongoImports
from daemon.adapters.mongo.connection import Mongo
from daemon.domain.moving import in_first
from daemon.domain.secret import Secret
from daemon.runtime.clock import Clock
from tests.migrating.moving import MemorySource, Mover, row
from tests.support import wall_clock


@pytest.fixture
def imported(cli, database):
    """Import so many rows of xero, as of now."""

    async def run(number):
        mongo = Mongo(
            uri=Secret(cli.uri),
            database=database.name,
            collection="tokens",
            clock=Clock(),
            observe=lambda _: None,
        )
        await mongo.adapt()
        mover = Mover(
            tokens=MongoImports(mongo, cli.ring), slices=MongoSlices(mongo, cli.ring), clock=mongo.clock
        )
        ends = int((wall_clock.now() + timedelta(hours=1)).timestamp())
        await mover.run(MemorySource(*(row(str(one), expires=ends) for one in range(number))))
        await mongo.close()

    return lambda number: asyncio.run(run(number))


def states(database):
    return {one["_id"]: one["state"] for one in database.tokens.find()}


def test_a_slice_is_activated(cli, database, imported):
    """By provider and percentage, once; audited with the number."""
    imported(30)
    chosen = {f"xero:{one}" for one in range(30) if in_first(30, f"xero:{one}")}
    ran = cli.run("resume", "--percent", "30", "xero", "--json")
    assert (ran.code, ran.json()) == (
        0,
        {"provider": "xero", "action": "activated", "tokens": len(chosen), "too_old": 0, "refused": []},
    )
    assert {name for name, state in states(database).items() if state == "active"} == chosen
    again = cli.run("resume", "--percent", "30", "xero")
    assert again.out == "xero: 0 imported tokens activated\n"
    notes = list(database.tokens_audit.find({"action": "activate 30%"}))
    assert [(one["token"], one["count"]) for one in notes] == [("xero", len(chosen)), ("xero", 0)]


def test_rows_that_were_read_long_ago_are_refused(cli, database, imported):
    """The number is named, and the command fails; a longer time lets them in."""
    imported(3)
    database.tokens.update_many({}, {"$set": {"origin.read_at": wall_clock.now() - timedelta(minutes=2)}})
    ran = cli.run("resume", "--percent", "100", "xero")
    assert ran.code == 1
    assert "3 tokens left paused, because their rows were read more than 60 s ago" in ran.err
    ran = cli.run("resume", "--percent", "100", "xero", "--read-within", "5m")
    assert (ran.code, ran.out) == (0, "xero: 3 imported tokens activated\n")


def test_a_time_without_a_share_is_refused_and_no_time_at_all_is_none(cli, database, imported):
    """Without --percent, everything that is paused would be resumed; and 0 s is a limit, not the default."""
    imported(1)
    ran = cli.run("resume", "xero", "--read-within", "5m")
    assert (ran.code, ran.out) == (2, "")
    assert "--read-within" in ran.err
    database.tokens.update_many({}, {"$set": {"origin.read_at": wall_clock.now() - timedelta(seconds=5)}})
    assert cli.run("resume", "--percent", "100", "xero", "--read-within", "0s").code == 1
    assert states(database) == {"xero:0": "paused"}


def test_imported_tokens_are_taken_back(cli, database, imported):
    """Others of the provider stay active; a resume of a single one puts it into use again."""
    imported(2)
    cli.add("xero:own", {"access_token": "a1", "refresh_token": "r-own", "expires_in": 3600})
    cli.run("resume", "--percent", "100", "xero")
    ran = cli.run("pause", "--imported", "xero", "--json")
    assert (ran.code, ran.json()) == (
        0,
        {"provider": "xero", "action": "paused", "tokens": 2, "in_flight": []},
    )
    assert states(database) == {"xero:0": "paused", "xero:1": "paused", "xero:own": "active"}
    assert database.tokens_audit.find_one({"action": "pause imported"})["count"] == 2
    cli.run("resume", "xero:0")
    assert cli.run("resume", "--percent", "100", "xero", "--json").json()["tokens"] == 1


def test_a_request_whose_outcome_is_unknown_is_named(cli, database, imported):
    """The old application must not present that token without a thought."""
    imported(1)
    cli.run("resume", "--percent", "100", "xero")
    database.tokens.update_one({}, {"$set": {"doubt": {"since": wall_clock.now(), "tries": 1}}})
    ran = cli.run("pause", "--imported", "xero")
    assert ran.code == 1
    assert "xero:0: a request for it got no answer, so its refresh token may be spent" in ran.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("resume", "--percent", "10", "xero:a"), "--percent: 'xero:a' is a token's ID"),
        (("pause", "--imported", "xero:a"), "--imported: 'xero:a' is a token's ID"),
        (("resume", "--percent", "10", "google"), "provider 'google' is not configured"),
        (("resume", "--percent", "0", "xero"), "greater than or equal to 1"),
        (("resume", "--percent", "10", "--rejected-since", "1h", "xero"), "exclude each other"),
        (("pause", "--imported", "xeroo"), "Did you mean xero?"),
    ],
)
def test_what_makes_no_sense_is_wrong_usage(cli, words, why):
    """One sentence, and nothing is done."""
    ran = cli.run(*words)
    assert (ran.code, why in ran.err) == (2, True), ran.err
