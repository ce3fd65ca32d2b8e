"""`refreshd keys check`: which keys of the ring open what the store holds, and a check value that is replaced."""

import base64
import hashlib

OTHER = base64.b64encode(hashlib.sha256(b"another key").digest()).decode()


def states(ran):
    return [
        (key["key_id"], key["check_value"], key["opened"], key["looked_at"], key["wrong"])
        for key in ran.json()["keys"]
    ]


def test_each_key_is_shown_with_what_it_opens(cli, monkeypatch):
    """Exit 1 as soon as one is not the key of this store."""
    cli.add("xero:a")
    ran = cli.run("keys", "check", "--json")
    assert (ran.code, states(ran)) == (0, [("one", "none", 2, 2, False)])
    assert "right" in cli.run("keys", "check").out
    monkeypatch.setenv("TEST_KEY", OTHER)
    ran = cli.run("keys", "check", "--json")
    assert (ran.code, states(ran)) == (1, [("one", "none", 0, 2, True)])
    assert "not the key of this store" in cli.run("keys", "check").out


def test_a_check_value_is_replaced_by_the_operators_word(cli, database, monkeypatch):
    """It must be confirmed, it is audited, and then the ring's key is the one of this store."""
    assert cli.run("keys", "check", "--renew", "one", "--yes").code == 0
    monkeypatch.setenv("TEST_KEY", OTHER)
    assert cli.run("keys", "check").code == 1
    unasked = cli.run("keys", "check", "--renew", "one")
    assert (unasked.code, "--yes" in unasked.err) == (2, True)
    ran = cli.run("--json", "keys", "check", "--renew", "one", "--yes")
    assert (ran.code, ran.json()) == (0, {"key_id": "one", "opened": 0, "looked_at": 0})
    assert states(cli.run("keys", "check", "--json")) == [("one", "opens", 0, 0, False)]
    assert [record["action"] for record in database.tokens_audit.find()] == ["renew_check_value"] * 2


def test_a_key_that_is_not_on_the_ring_has_no_check_value_to_replace(cli, database):
    """InvalidValue usage, and nothing is written."""
    ran = cli.run("keys", "check", "--renew", "two", "--yes")
    assert (ran.code, "it has no key 'two'. Use one of: one" in ran.err) == (2, True)
    assert database.tokens_keys.count_documents({}) == 0
