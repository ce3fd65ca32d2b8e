"""`refreshd add`: a consent on standard input becomes a complete document, or one clear sentence."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.support import wall_clock

ACCESS, REFRESH = "canary-access-token-71aa", "canary-refresh-token-42bb"
SECOND = timedelta(seconds=1)  # MongoDB's clock and ours differ a little
RESPONSE = {"access_token": ACCESS, "refresh_token": REFRESH, "expires_in": 3600, "token_type": "Bearer"}
FIELDS = set(
    re.findall(
        r"\w+",
        "_id provider account state grant access_token refresh_token token_type scope expires_at refresh_expires_at"
        " due_at lease doubt consent_ends_at grant_fingerprint revision failures last_failure created_at updated_at issued_at"
        " connected_at refreshed_at last_used_at vars extra meta",
    )
)


def test_a_consent_becomes_a_complete_document(cli, database):
    """Every field of the contract is there, the tokens sealed, the renewal planned, the deed audited."""
    hour = timedelta(hours=1)
    before = wall_clock.now() - SECOND
    ran = cli.add(
        "acme:Zoë & Söhne",
        {**RESPONSE, "scope": ["a", "b"], "api_domain": "x.acme.example"},
        "--var",
        "company=zs",
        "--meta",
        "owner=7",
    )
    assert (ran.code, ran.out) == (0, "acme:Zoë & Söhne\n")
    document = database.tokens.find_one()
    assert [one["type"] for one in document.pop("events")] == ["token.connected"]
    assert set(document) == FIELDS
    name = document["_id"]
    assert cli.ring.open(document["access_token"], token_id=name, field="access_token") == ACCESS
    assert cli.ring.open(document["refresh_token"], token_id=name, field="refresh_token") == REFRESH
    assert document["grant_fingerprint"] == cli.ring.fingerprint(REFRESH)
    assert {
        key: document[key] for key in ("state", "grant", "revision", "failures", "scope", "token_type")
    } == {
        "state": "active",
        "grant": "refresh_token",
        "revision": 1,
        "failures": 0,
        "scope": "a b",
        "token_type": "Bearer",
    }
    assert document["vars"] == {"company": "zs"}
    assert document["meta"] == {"owner": "7"}
    assert document["extra"] == {"api_domain": "x.acme.example"}
    assert before + hour < document["expires_at"] < wall_clock.now() + SECOND + hour
    assert (
        timedelta(minutes=5)
        <= document["expires_at"] - document["due_at"]
        <= timedelta(minutes=5, seconds=30)
    )
    audit = database.tokens_audit.find_one()
    assert (audit["action"], audit["token"], audit["revision"]) == ("add", name, 1)
    assert "@" in audit["actor"]


def test_a_response_with_only_a_refresh_token_is_due_at_once(cli, database):
    """There is nothing to use until it was renewed."""
    ran = cli.add("xero:a", {"refreshToken": REFRESH}, "--json")
    document = database.tokens.find_one()
    assert document["access_token"] is None
    assert document["due_at"] == document["expires_at"] < wall_clock.now() + timedelta(seconds=1)
    assert ran.json()["due_at"] == ran.json()["expires_at"]


def test_expires_in_counts_from_the_time_at_which_the_response_came(cli, database):
    """An hour from half an hour ago is in half an hour; a time to come is refused."""
    at = wall_clock.now() - timedelta(minutes=30)
    assert cli.add("xero:a", RESPONSE, "--received-at", at.isoformat()).code == 0
    left = database.tokens.find_one()["expires_at"] - wall_clock.now()
    assert timedelta(minutes=29) < left < timedelta(minutes=31)
    assert cli.add("xero:b", RESPONSE, "--received-at", "2199-01-01T00:00:00Z").code == 1
    assert cli.add("xero:b", RESPONSE, "--received-at", "tomorrow").code == 2


def test_a_second_consent_replaces_the_first_and_leaves_the_lease_alone(cli, database):
    """Active again, failures forgotten, the application's names kept, the claim of whoever holds it untouched."""
    cli.add("acme:a", RESPONSE, "--var", "company=one", "--meta", "kept=1")
    lease = {"owner": "other", "claim": None, "hold": datetime(2026, 1, 1, tzinfo=UTC)}
    spoiled = {
        "state": "needs_reauth",
        "due_at": None,
        "failures": 3,
        "last_failure": {"kind": "rejected"},
        "lease": lease,
    }
    database.tokens.update_one({}, {"$set": {**spoiled, "application": "own"}})
    ran = cli.add("acme:a", {**RESPONSE, "refresh_token": "canary-2"}, "--meta", "new=2")
    assert ran.code == 0
    assert "active again" in ran.err
    document = database.tokens.find_one()
    assert document["state"] == "active"
    assert document["revision"] == 2
    assert (document["failures"], document["last_failure"], document["lease"]) == (0, None, lease)
    assert document["application"] == "own"
    assert document["vars"] == {"company": "one"}
    assert document["meta"] == {"kept": "1", "new": "2"}
    assert cli.ring.open(document["refresh_token"], token_id="acme:a", field="refresh_token") == "canary-2"
    assert document["due_at"] > wall_clock.now()


def test_one_refresh_token_is_not_stored_under_two_ids(cli, database):
    """The other document is named; the same token under its own id is no second copy."""
    cli.add("xero:a")
    ran = cli.add("xero:b")
    assert ran.code == 1
    assert "xero:a already stores this refresh token" in ran.err
    assert database.tokens.count_documents({}) == 1
    assert cli.add("xero:a").code == 0


def test_a_response_without_a_refresh_token_never_replaces_one(cli, database):
    """The stored refresh token would be lost; where there is none, the token is watched, and it is said."""
    cli.add("xero:a")
    ran = cli.add("xero:a", {"access_token": "other"})
    assert ran.code == 1
    assert "it was not changed" in ran.err
    assert database.tokens.find_one()["revision"] == 1
    ran = cli.add("xero:b", {"access_token": "other", "expires_in": 60})
    assert ran.code == 0
    assert "only watched" in ran.err
    assert database.tokens.find_one({"_id": "xero:b"})["due_at"] is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nope", "a"], "is unknown. Configured: acme, xero."),
        (["google", "a"], "[providers.google]"),
        (["acme", "a"], "has no variable 'company'"),
        (["acme", "a", "--var", "company=EVIL/"], "does not match the pattern in acme's definition"),
        (["acme", "a", "--var", "tenant=x"], "acme has no such variable. Its variables: company"),
        (["xero", "a", "--meta", "x"], "NAME=VALUE"),
        (["xero", "a", "--meta", "$x=1"], "NAME=VALUE"),
        (["xero", ""], "must not be empty"),
        (["xero", "a\nb"], "control characters"),
        (["xero", "a" * 513], "at most 512"),
        (["xero", "\udcff"], "valid Unicode"),
        (["xero"], "ACCOUNT"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_2(cli, database, arguments, told):
    """Unknown or unconfigured providers, missing variables, odd accounts: told what to do, and nothing is stored."""
    ran = cli.run("add", *arguments, stdin=RESPONSE)
    assert ran.code == 2
    assert told.lower() in ran.err.lower()
    assert ran.out == ""
    assert database.tokens.count_documents({}) == 0
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "stdin",
    ["", " \n", ACCESS, '{"access_token": "' + ACCESS, [RESPONSE], {}, {"error": ACCESS}, {"access_token": 7, "x": ACCESS}, {"access_token": ACCESS + " "}, "\udcff\udcfe", "[" * 100_000, " " * (2 << 20)],
    ids=["nothing", "blank", "bare", "cut", "list", "empty", "error", "number", "blank-in-token", "binary", "deep", "huge"],
)  # fmt: skip
def test_malformed_input_is_one_sentence_and_exit_1(cli, database, stdin):
    """It says that standard input is wrong and what to give instead, and repeats nothing of it."""
    ran = cli.run("add", "xero", "a", stdin=stdin)
    assert ran.code == 1
    assert ran.err.startswith("refreshd: standard input: ")
    assert ran.err.count("\n") == 1
    assert database.tokens.count_documents({}) == 0


def test_the_real_command_reads_its_real_standard_input(cli, database):
    """As operators type it: the id on standard output, no secret in what is printed."""
    ran = cli.real("add", "xero", "real", stdin="\ufeff" + json.dumps(RESPONSE))
    assert (ran.code, ran.out) == (0, "xero:real\n")
    assert ACCESS not in ran.err
    assert database.tokens.find_one()["_id"] == "xero:real"


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"expiry": "2026-01-01T00:00:00Z"}, "Its access token ended"),
        ({"created_at": 1_700_000_000, "expires_in": 3600}, "Its access token ended"),
        ({}, "doesn't say clearly when its access token ends"),
        ({"expires_at": "next week"}, "'expires_at' has an unknown form"),
    ],
)
def test_a_token_that_may_have_ended_is_renewed_now(cli, database, kept, said):
    """Taken for one that lives another hour, it would fail whoever reads it."""
    ran = cli.add("xero:a", {"access_token": ACCESS, "refresh_token": REFRESH, **kept})
    assert ran.code == 0
    assert said in ran.err
    assert "renewed now" in ran.err
    assert database.tokens.find_one()["due_at"] < wall_clock.now() + SECOND


@pytest.mark.parametrize("subject", ["user-7", "a/b", "..", "$gt", "\U0001f600", "é" * 256, "=1"])
def test_a_subject_is_stored_and_found(cli, database, subject):
    """A consent without one leaves it, and another one replaces it."""
    assert cli.add("xero:a", RESPONSE, "--subject", subject).code == 0
    assert (
        cli.add(
            "xero:b", {"access_token": ACCESS}, "--subject", f"{subject}x" if len(subject) < 99 else "x"
        ).code
        == 0
    )
    assert database.tokens.find_one({"_id": "xero:a"})["subject"] == subject
    (found,) = cli.run("list", "--json", "--subject", subject).lines()
    assert (found["id"], found["subject"], found["last_used_at"]) == ("xero:a", subject, None)
    assert cli.add("xero:a", RESPONSE).code == 0
    assert database.tokens.find_one({"_id": "xero:a"})["subject"] == subject
    assert cli.add("xero:a", RESPONSE, "--subject", "other").code == 0
    assert cli.run("list", "--json", "--subject", subject).out == ""
    assert f"of subject {subject}" in cli.run("list", "--subject", subject).err


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ("", "must not be empty"),
        ("x" * 513, "more than 512 bytes"),
        ("é" * 257, "more than 512 bytes"),
        ("a\nb", "control character"),
        ("a\\u0000b", "control character"),
        ("\udcff", "not valid Unicode"),
    ],
)
def test_a_text_that_can_be_no_subject_stores_nothing(cli, database, subject, why):
    ran = cli.add("xero:a", RESPONSE, "--subject", subject)
    assert (ran.code, f"--subject: the value {why}" in ran.err or why in ran.err) == (2, True)
    assert database.tokens.count_documents({}) == 0


def test_people_read_whose_token_it_is_and_when_it_was_used(cli, database):
    cli.add("xero:a", RESPONSE, "--subject", "user-7")
    shown = cli.run("show", "xero:a").out
    assert "user-7" in shown
    assert "Last used" not in shown
    database.tokens.update_one({}, {"$set": {"last_used_at": wall_clock.now() - timedelta(hours=3)}})
    assert "3 h ago" in next(
        line for line in cli.run("show", "xero:a").out.splitlines() if "Last used" in line
    )
    assert cli.run("show", "xero:a", "--json").json()["last_used_at"].endswith("Z")
