"""`refreshd access`, as an operator uses it. A key is printed once, and never again."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.access_key import parse_key, secret_hash
from daemon.domain.handle import handle_of, token_of
from tests.support import wall_clock

FIELDS = ["id", "key", "name", "tokens", "can", "where", "expires_at", "rate", "from"]


def create(cli, name="billing", *options):
    ran = cli.run("access", "create", name, "--tokens", "xero:*", "--can", "read", *options)
    assert ran.code == 0, ran.err
    return ran


def test_the_key_alone_goes_to_standard_output(cli, database):
    """So that a shell can put it into a file. What it allows is said beside it."""
    ran = create(cli, "billing", "--where", "meta.tenant=acme", "--from", "10.0.0.0/8", "--expires", "90d")
    text = ran.out.removesuffix("\n")
    presented = parse_key(text)
    stored = database.tokens_access.find_one()
    assert stored["_id"] == presented.id
    assert stored["secret_hash"] == secret_hash(presented.secret)
    assert text not in ran.err
    assert ran.err == (
        "billing allows read on xero:* where meta.tenant=acme from 10.0.0.0/8. It ends in 90 d, and is not shown again.\n"
    )


def test_the_document_holds_what_was_asked_for(cli, database):
    """Limits that were not asked for are there as null or empty, because a missing one is a fault."""
    create(cli)
    stored = database.tokens_access.find_one()
    assert stored.pop("created_at") > wall_clock.now() - timedelta(minutes=1)
    assert set(stored.pop("secret_hash")) <= set("0123456789abcdef")
    assert stored.pop("_id").isalnum()
    assert stored == {
        "name": "billing",
        "generation": 1,
        "tokens": ["xero:*"],
        "can": ["read"],
        "where": [],
        "from": [],
        "rate": None,
        "expires_at": None,
        "last_used_at": None,
        "revoked_at": None,
        "disabled_at": None,
    }


def test_programs_get_one_object(cli):
    """The fields of both `create` and `rotate`."""
    record = create(
        cli,
        "billing",
        *("--tokens", "hubspot:a", "--can", "refuse,write", "--where", "subject=u1", "--rate", "60/1m"),
        *("--from", "10.0.0.0/8,10.0.0.7", "--expires", "1h", "--json"),
    ).json()
    assert list(record) == FIELDS
    assert parse_key(record["key"]).id == record["id"]
    assert record["tokens"] == ["xero:*", "hubspot:a"]
    assert record["can"] == ["read", "refuse", "write"]
    assert (record["where"], record["rate"]) == ({"subject": "u1"}, "60/60s")
    assert record["from"] == ["10.0.0.0/8", "10.0.0.7/32"]
    assert datetime.fromisoformat(record["expires_at"]) > wall_clock.now()
    second = cli.run("access", "rotate", "billing", "--json").json()
    assert list(second) == FIELDS
    assert {name for name in FIELDS if second[name] == record[name]} == {
        *("name", "tokens", "can", "where", "rate", "from")
    }


def test_each_change_is_audited_with_its_reason(cli, database):
    """The record names the key's name, and the id of a new key."""
    create(cli, "billing", "--reason", "ticket 1")
    cli.run("access", "rotate", "billing", "--reason", "ticket 2")
    cli.run("access", "revoke", "billing", "--reason", "ticket 3")
    ids = {one["generation"]: one["_id"] for one in database.tokens_access.find()}
    ran = cli.run("audit", "--token", "billing", "--json")
    assert [(one["action"], one["result"], one["by"]["reason"]) for one in ran.lines()] == [
        ("access_revoke", None, "ticket 3"),
        ("access_rotate", ids[2], "ticket 2"),
        ("access_create", ids[1], "ticket 1"),
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("billing",), "Missing option '--tokens'"),
        (("billing", "--tokens", "xero:*"), "Missing option '--can'"),
        (("billing", "--can", "read"), "Missing option '--tokens'"),
        (("--tokens", "xero:*", "--can", "read"), "Missing argument 'NAME'"),
        (("a b", "--tokens", "xero:*", "--can", "read"), "NAME 'a b' is not a name for a key"),
        (("billing", "--tokens", "xero", "--can", "read"), "Write xero:* for all of its tokens"),
        (
            ("billing", "--tokens", "xeor:*", "--can", "read"),
            "provider 'xeor' is unknown. Did you mean xero?",
        ),
        (("billing", "--tokens", "xero:*", "--can", "raed"), "Did you mean read?"),
        (("billing", "--tokens", "xero:*", "--can", "read", "--where", "tenant=a"), "Write meta.tenant=a"),
        (("billing", "--tokens", "xero:*", "--can", "read", "--from", "10.1.1.1/8"), "Write 10.0.0.0/8"),
        (("billing", "--tokens", "xero:*", "--can", "read", "--rate", "60"), "is not a rate"),
        (("billing", "--tokens", "xero:*", "--can", "read", "--expires", "soon"), "is not a duration"),
    ],
)
def test_a_bad_value_is_named_and_nothing_is_stored(cli, database, arguments, sentence):
    """Exit 2, before MongoDB is asked. Without --tokens and --can there is no key: everything is denied."""
    ran = cli.run("access", "create", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert sentence in ran.err
    assert "Traceback" not in ran.err
    assert database.list_collection_names() == []


def test_programs_get_each_bad_value_as_an_object(cli):
    """On standard error, one a line."""
    ran = cli.run("access", "create", "billing", "--tokens", "xero", "--can", "raed", "--json")
    faults = [json.loads(line)["error"] for line in ran.err.splitlines()]
    assert [one["code"] for one in faults] == [2, 2]
    assert [bool(one["what"] and one["do"]) for one in faults] == [True, True]


def test_a_name_that_has_a_key_is_refused(cli, database):
    """A second key of other rights under one name would be confusing; the sentence names the ways out."""
    create(cli)
    ran = cli.run("access", "create", "billing", "--tokens", "*", "--can", "audit")
    assert (ran.code, ran.out) == (1, "")
    assert "access rotate billing" in ran.err
    assert database.tokens_access.count_documents({}) == 1
    assert database.tokens_audit.count_documents({}) == 1


def test_an_account_of_any_characters_can_be_named(cli, database):
    """As bytes: composed and decomposed letters are two accounts, and an escape is its character."""
    tokens = ("xero:caf\u00e9", "xero:cafe\u0301", "xero:\\u00ad", "xero:a\\u002cb")
    for token in tokens:
        assert (
            cli.run("access", "create", f"k{tokens.index(token)}", "--tokens", token, "--can", "read").code
            == 0
        )
    stored = [one["tokens"] for one in database.tokens_access.find().sort("name", 1)]
    assert stored == [["xero:caf\u00e9"], ["xero:cafe\u0301"], ["xero:\u00ad"], ["xero:a,b"]]


# ---------------------------------------------------------------- list


def test_the_list_shows_every_key_and_never_its_text(cli, database):
    """Also revoked, expired, disabled and ill-formed ones."""
    made = {name: create(cli, name).out.strip() for name in ("a", "b", "c", "d", "e")}
    cli.run("access", "revoke", "b")
    past = datetime(2026, 1, 1, tzinfo=UTC)
    database.tokens_access.update_one({"name": "c"}, {"$set": {"expires_at": past}})
    database.tokens_access.update_one({"name": "d"}, {"$set": {"disabled_at": past}})
    database.tokens_access.update_one({"name": "e"}, {"$set": {"can": "read\x1b[31m"}})
    ran = cli.run("access", "list", "--json")
    shown = {one["name"]: one for one in ran.lines()}
    assert {name: one["state"] for name, one in shown.items()} == {
        "a": "active",
        "b": "revoked",
        "c": "expired",
        "d": "disabled",
        "e": "invalid",
    }
    assert shown["a"]["last_used_at"] is shown["a"]["revoked_at"] is None
    assert shown["b"]["revoked_at"]
    assert "key" not in shown["a"]
    assert shown["e"]["why"] == "can is not a list of texts, or is empty"
    people = cli.run("access", "list")
    for name, text in made.items():
        assert parse_key(text).id in people.out
        assert name in people.out
        for printed in (people.out, ran.out):
            assert parse_key(text).secret.reveal() not in printed
            assert secret_hash(parse_key(text).secret) not in printed
    assert "\x1b" not in people.out


def test_an_empty_list_names_the_next_step(cli):
    """On standard error: a program reads no line."""
    ran = cli.run("access", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "refreshd access create" in ran.err
    assert cli.run("access", "list", "--json").out == ""


# ---------------------------------------------------------------- rotate, revoke, enable


def test_a_rotated_key_has_an_overlap(cli, database):
    """One hour, if nothing else is asked for."""
    first = parse_key(create(cli).out.strip())
    ran = cli.run("access", "rotate", "billing")
    second = parse_key(ran.out.strip())
    ends = {one["_id"]: one["expires_at"] for one in database.tokens_access.find()}
    assert timedelta(minutes=55) < ends[first.id] - wall_clock.now() < timedelta(minutes=61)
    assert ends[second.id] is None
    assert "the former key ends within 60 min. The new key never ends, and is not shown again." in ran.err


def test_an_overlap_of_zero_ends_the_former_key_immediately(cli, database):
    """Its document then shows it as expired."""
    create(cli)
    ran = cli.run("access", "rotate", "billing", "--overlap", "0s")
    assert "the former key has ended" in ran.err
    states = [one["state"] for one in cli.run("access", "list", "--json").lines()]
    assert states == ["expired", "active"]
    assert cli.run("access", "rotate", "billing", "--overlap", "soon").code == 2


def test_a_revoked_name_has_no_valid_key(cli):
    """The rotated one whose overlap has not ended included; once is enough."""
    create(cli)
    cli.run("access", "rotate", "billing")
    ran = cli.run("access", "revoke", "billing")
    assert (ran.code, ran.out) == (0, "billing: 2 keys revoked\n")
    assert cli.run("access", "revoke", "billing").out == "billing: was revoked already\n"
    assert cli.run("access", "revoke", "billing", "--json").json() == {
        "name": "billing",
        "action": "revoked",
        "keys": 0,
    }
    refused = cli.run("access", "rotate", "billing")
    assert (refused.code, "access create billing" in refused.err) == (1, True)


def test_a_disabled_key_is_enabled(cli, database):
    """A restore of a backup disables the keys that it brings back."""
    create(cli)
    database.tokens_access.update_one({}, {"$set": {"disabled_at": wall_clock.now()}})
    assert cli.run("access", "enable", "billing").out == "billing: 1 key enabled\n"
    assert cli.run("access", "enable", "billing").out == "billing: was not disabled\n"
    assert cli.run("access", "list", "--json").json()["state"] == "active"


@pytest.mark.parametrize("command", ["rotate", "revoke", "enable"])
@pytest.mark.parametrize("name", ["bililng", "\udc80", "", "*"])
def test_an_unknown_name_is_a_usage_error(cli, database, command, name):
    """A misspelt one is corrected. No record is written."""
    create(cli)
    ran = cli.run("access", command, "--", name)
    assert (ran.code, ran.out) == (2, "")
    assert "no access key has this name" in ran.err
    assert ("Did you mean billing?" in ran.err) == (name == "bililng")
    assert database.tokens_audit.count_documents({}) == 1


# ---------------------------------------------------------------- handle


def test_a_handle_needs_neither_configuration_nor_store(cli, tmp_path, monkeypatch):
    """It is the ID in another spelling."""
    monkeypatch.setenv("REFRESHD_CONFIG", str(tmp_path / "none.toml"))
    ran = cli.run("access", "handle", "xero:caf\u00e9")
    assert (ran.code, token_of(ran.out.strip())) == (0, "xero:caf\u00e9")
    ran = cli.run("access", "handle", "xero:\\u00ad", "--json")
    assert ran.json() == {"id": "xero:\u00ad", "handle": handle_of("xero:\u00ad")}


@pytest.mark.parametrize(
    "token", ["xero", "", ":a", "xero:", "XERO:a", "xero:\x01", "xero:\udc80", "xero:\\ud800"]
)
def test_a_text_that_is_not_an_id_has_no_handle(cli, token):
    """Exit 2, and a sentence."""
    ran = cli.run("access", "handle", "--", token)
    assert (ran.code, ran.out) == (2, "")
    assert "can't be a token's ID" in ran.err
    assert "Traceback" not in ran.err
