"""`refreshd check`: every problem at once, for people and for programs."""

import sqlite3

import pytest

from daemon.adapters.mongo import DUE_INDEX


def whats(ran):
    report = ran.json()
    assert report["ok"] is (not report["problems"])
    assert all(set(problem) == {"where", "what", "do"} for problem in report["problems"])
    return [f"{problem['where']}: {problem['what']}" for problem in report["problems"]]


def test_what_is_in_order_passes(cli, database):
    """With a token stored, nothing is wrong; the store was written to, and nothing of that is left."""
    cli.add("xero:a")
    ran = cli.run("check", "--json")
    assert (ran.code, ran.json()) == (0, {"ok": True, "problems": [], "warnings": []})
    assert cli.run("check").out == "Everything that was checked is in order.\n"
    assert database.tokens_providers.count_documents({}) == 0


def test_every_problem_of_the_configuration_is_told(cli):
    """Not the first only; exit 78."""
    cli.write(
        cli.config.read_text().replace("[state]", "[statte]").replace('active = "one"', 'active = "two"')
    )
    ran = cli.run("check", "--json")
    assert ran.code == 78
    assert len(whats(ran)) == 2
    assert any("statte" in what for what in whats(ran))
    ran = cli.run("check", "--config", str(cli.home / "nowhere.toml"))
    assert ran.code == 78
    assert "there is no such file" in ran.out


def test_a_store_that_is_away_is_69_and_the_rest_is_told_too(cli):
    """Nobody listens there; the damaged journal is found all the same, and no password is printed."""
    away = "mongodb://user:canary-password@127.0.0.1:1/?serverSelectionTimeoutMS=200"
    cli.write(cli.config.read_text().replace(cli.uri, away))
    (cli.home / "state").mkdir()
    (cli.home / "state" / "journal.db").write_bytes(b"SQLite format 3\x00 but not really" * 100)
    ran = cli.real("check", "--json")
    assert ran.code == 69
    journal, store = whats(ran)
    assert journal.startswith("journal: ")
    assert store.startswith("store.uri: ")
    assert "canary-password" not in ran.out + ran.err


def test_a_whole_journal_is_no_problem(cli):
    """Also while its owner writes to it."""
    (cli.home / "state").mkdir()
    owner = sqlite3.connect(cli.home / "state" / "journal.db")
    owner.execute("pragma journal_mode = wal")
    owner.execute("create table entries (key integer)")
    assert cli.run("check").code == 0
    owner.close()


def test_duplicates_and_lost_keys_are_found_in_the_store(cli, database):
    """Two documents with one refresh token, and one sealed with a key that is not on the ring."""
    cli.add("xero:a")
    copy = database.tokens.find_one()
    database.tokens.insert_one({**copy, "_id": "xero:copy"})
    database.tokens.insert_many(
        [
            {"_id": "xero:old", "refresh_token": "v1.old-key.AAAA"},
            {"_id": "xero:odd", "refresh_token": ["v1.x.AAAA"], "grant_fingerprint": 7},
            {"_id": "xero:odder", "refresh_token": "nothing", "grant_fingerprint": ["a"]},
        ]
    )
    ran = cli.run("check", "--json")
    assert ran.code == 78
    key, duplicate = whats(ran)
    assert "1 refresh tokens are sealed with key 'old-key'" in key
    assert "xero:a, xero:copy" in duplicate


def test_a_state_directory_that_is_a_file_is_a_problem(cli):
    """The journal could not be kept there."""
    (cli.home / "state").write_text("")
    ran = cli.run("check", "--json")
    assert ran.code == 78
    assert whats(ran)[0].startswith("state.dir: ")


def test_an_index_that_was_tampered_with_is_found(cli, database):
    """A hidden index serves no sweep."""
    database["tokens"].create_indexes([DUE_INDEX])
    database.command({"collMod": "tokens", "index": {"name": "due", "hidden": True}})
    ran = cli.run("check", "--json")
    assert (ran.code, "'due'" in whats(ran)[0]) == (1, True)


@pytest.mark.parametrize("text", ["...", "YOUR-CLIENT-ID"])
def test_a_client_id_out_of_an_example_is_found(cli, text):
    """It was copied and never filled in."""
    cli.write(cli.config.read_text().replace('client_id = "client"', f'client_id = "{text}"', 1))
    ran = cli.run("check", "--json")
    assert ran.code == 78
    assert whats(ran)[0].startswith("providers.xero.client_id")
