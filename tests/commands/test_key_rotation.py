"""`refreshd keys status`, `reseal` and `retire`, from the command line over a real MongoDB."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from bson import ObjectId

from daemon.adapters.keyring import KeyRing
from tests.support import wall_clock

KMS_KEY = "aws:arn:aws:kms:eu-central-1:123456789012:key/one"
NEW = hashlib.sha256(b"a newer key for these tests").digest()
BOTH = 'one = {{ env = "TEST_KEY", created = {created}, use = "{use}" }}\ntwo = {{ env = "TEST_NEW_KEY" }}'


@pytest.fixture
def rotated(cli, monkeypatch):
    """A store with one token under the old key, and a configuration whose active key is the new one."""
    assert cli.add("xero:1").code == 0
    monkeypatch.setenv("TEST_NEW_KEY", base64.b64encode(NEW).decode())
    first = cli.config.read_text().replace('one = { env = "TEST_KEY" }', "RING")

    def configure(*, use="open", created="2026-01-15", active="two", keys="", provider=""):
        text = first.replace('active = "one"', f'active = "{active}"\n{keys}')
        text = text.replace('client_id = "client"', f'client_id = "client"\n{provider}', 1)
        cli.write(text.replace("RING", BOTH.format(created=created, use=use)))

    configure()
    return configure


def instance(
    database, name="i-1", *, seen=timedelta(0), kind="run", one=("open", 0, 0), writers=("two",), **fields
):
    """A daemon's row, as the daemon writes it."""
    use, journal, kept = one
    keys = {
        "one": {"use": use, "journal": journal, "kept": kept},
        "two": {"use": "all", "journal": 0, "kept": 0},
    }
    row = {"kind": kind, "host": f"{name}.example", "seen_at": wall_clock.now() - seen, "keys": keys}
    database["tokens_instances"].replace_one(
        {"_id": name}, {**row, "writer_key_ids": list(writers), **fields}, upsert=True
    )


def test_a_rotation_from_end_to_end(cli, database, rotated):
    """reseal, then retire: refused with counts first, allowed afterwards, and each is audited."""
    instance(database)
    refused = cli.run("keys", "retire", "one", "--json")
    assert refused.code == 1
    assert refused.json() == {
        "key_id": "one",
        "may_leave": False,
        "needed_by": {
            "values": 3,
            "consents": 0,
            "journal": 0,
            "kept": 0,
            "writers": [],
            "in_use": [],
            "silent_instances": [],
        },
    }
    some = cli.run("keys", "reseal", "--json")
    assert some.json() == {"resealed": 1, "already": 0, "skipped": 0, "failed": [], "dry_run": False}
    assert cli.run("keys", "retire", "one", "--json").json()["needed_by"]["values"] == 1  # the access token
    rest = cli.run("keys", "reseal", "--readers-have-it")
    assert (rest.code, rest.out) == (0, "1 document re-sealed under key 'two'; 0 unchanged\n")
    allowed = cli.run("keys", "retire", "one")
    assert (allowed.code, allowed.err) == (0, "")
    assert "[keys.ring]" in allowed.out
    document = database["tokens"].find_one()
    ring = KeyRing({"two": NEW}, active="two")
    assert ring.open(document["refresh_token"], token_id="xero:1", field="refresh_token").startswith("canary")
    actions = [one["action"] for one in database["tokens_audit"].find().sort("at")]
    assert actions[1:] == ["retire_key", "reseal", "retire_key", "reseal", "retire_key"]


@pytest.mark.parametrize(
    ("row", "need"),
    [
        ({"one": ("open", 2, 0)}, {"journal": 2}),
        ({"one": ("open", 0, 1)}, {"kept": 1}),
        ({"one": ("all", 0, 0)}, {"in_use": ["i-1.example"]}),
        ({"writers": ["one", "two"]}, {"writers": ["i-1.example"]}),
        ({"one": ("all", 0, 0), "seen": timedelta(days=8)}, {"silent_instances": ["i-1 on i-1.example"]}),
        ({"keys": {"one": {"journal": 0, "kept": 0}}}, {"in_use": ["i-1.example"]}),
        ({"keys": {"one": 7}}, {"in_use": ["i-1.example"]}),
        ({"one": ("all", 0, 0), "seen_at": "yesterday"}, {"in_use": ["i-1.example"]}),
    ],
    ids=[
        *("journal", "kept", "in use", "writers", "silent"),
        *("a row of an earlier version", "a strange row", "a strange date"),
    ],
)
def test_retire_refuses_while_an_instance_needs_the_key(cli, database, rotated, row, need):
    cli.run("keys", "reseal", "--readers-have-it")
    instance(database, **row)
    refused = cli.run("keys", "retire", "one", "--json")
    assert refused.code == 1
    needed = refused.json()["needed_by"]
    assert {name: one for name, one in needed.items() if one} == need
    assert cli.run("keys", "retire", "one").code == 1


def test_an_adoption_after_it_was_last_seen_frees_the_key_of_a_lost_instance(cli, database, rotated):
    cli.run("keys", "reseal", "--readers-have-it")
    instance(database, one=("all", 3, 1), seen=timedelta(hours=1))
    before = {"action": "adopt", "token": "i-1", "at": wall_clock.now() - timedelta(hours=2)}
    database["tokens_audit"].insert_one(before)
    assert cli.run("keys", "retire", "one").code == 1
    database["tokens_audit"].insert_one({**before, "_id": 1, "at": wall_clock.now()})
    assert cli.run("keys", "retire", "one").code == 0


def test_retire_asks_this_configuration_too(cli, rotated):
    """It may be the one that a daemon reads next."""
    cli.run("keys", "reseal", "--readers-have-it")
    rotated(use="all")
    needed = cli.run("keys", "retire", "one", "--json").json()["needed_by"]
    assert needed["in_use"] == needed["writers"] == ["this configuration"]
    rotated(keys='writers = ["one", "two"]')
    needed = cli.run("keys", "retire", "one", "--json").json()["needed_by"]
    assert (needed["in_use"], needed["writers"]) == ([], ["this configuration"])


def test_retire_refuses_for_a_waiting_consent(cli, database, rotated):
    cli.run("keys", "reseal", "--readers-have-it")
    database["tokens_consents"].insert_one({"_id": "c", "code": "w1.one.xxx"})
    refused = cli.run("keys", "retire", "one", "--json")
    assert (refused.code, refused.json()["needed_by"]["consents"]) == (1, 1)


def test_the_active_key_may_never_leave(cli, rotated):
    """And resealing, which is the way out for another key, would seal with it again: it isn't what is advised first."""
    ran = cli.run("keys", "retire", "two")
    assert ran.code == 1
    first, then, *_ = ran.out.splitlines()
    assert "'two' is the active one" in first
    assert then.startswith("Make another key active first")
    assert "still needed" not in ran.out
    refused = cli.run("keys", "retire", "two", "--json").json()
    assert (refused["may_leave"], refused["needed_by"]["in_use"]) == (False, ["this configuration"])


@pytest.mark.parametrize("key_id", ["three", "", "o.ne", "$one"])
def test_retire_refuses_a_key_that_is_not_on_the_ring(cli, rotated, key_id):
    assert cli.run("keys", "retire", key_id).code == 2


def test_reseal_waits_until_every_daemon_has_the_active_key(cli, database, rotated):
    """One without it could neither renew these tokens nor store an answer."""
    instance(database, keys={"one": {"use": "all"}})
    refused = cli.run("keys", "reseal")
    assert refused.code == 1
    assert "i-1.example" in refused.err
    assert database["tokens"].find_one()["refresh_token"].startswith("v1.one.")
    instance(database, keys={"one": {"use": "all"}}, seen=timedelta(minutes=6))
    assert cli.run("keys", "reseal").code == 0


def test_reseal_refuses_a_key_that_is_not_the_stores(cli, database, rotated):
    row = KeyRing({"two": b"\x07" * 31 + b"\x01"}, active="two")
    place = "refreshd:two"
    check = {"_id": "two", "check_v1": row.seal(place, token_id=place, field="access_token")}
    database["tokens_keys"].insert_one(check)
    refused = cli.run("keys", "reseal")
    assert refused.code == 1
    assert "two" in refused.err
    assert database["tokens"].find_one()["refresh_token"].startswith("v1.one.")


def test_a_dry_run_is_not_audited(cli, database, rotated):
    before = database["tokens_audit"].count_documents({})
    ran = cli.run("keys", "reseal", "--dry-run", "--json")
    assert (ran.json()["resealed"], ran.json()["dry_run"]) == (1, True)
    assert database["tokens_audit"].count_documents({}) == before
    assert database["tokens"].find_one()["refresh_token"].startswith("v1.one.")


def test_a_value_that_does_not_open_is_named_and_the_exit_code_is_1(cli, database, rotated):
    text = database["tokens"].find_one()["refresh_token"]
    database["tokens"].update_one({}, {"$set": {"refresh_token": text[:-4] + "AAAA"}})
    ran = cli.run("keys", "reseal", "--json")
    assert ran.code == 1
    (failed,) = ran.json()["failed"]
    assert (failed["id"], failed["field"]) == ("xero:1", "refresh_token")
    assert "xero:1" in cli.run("keys", "reseal").err


@pytest.mark.parametrize("collection", ["tokens", "tokens_consents"])
@pytest.mark.parametrize("strange", [7, ObjectId("6565f0c0a1b2c3d4e5f60718"), 2.5, {"a": 1}], ids=str)
def test_a_document_that_names_no_token_is_named_with_the_way_out(
    cli, database, rotated, strange, collection
):
    """retire counts it, so reseal must not pass over it in silence."""
    field = "refresh_token" if collection == "tokens" else "code"
    database[collection].insert_one({"_id": strange, field: "v1.one." + "A" * 60})
    ran = cli.run("keys", "reseal", "--readers-have-it", "--json")
    assert ran.code == 1
    [failed] = ran.json()["failed"]
    assert (failed["id"], failed["field"]) == (str(strange), "_id")
    assert "Delete the document" in failed["why"]
    assert cli.run("keys", "retire", "one").code == 1
    database[collection].delete_one({"_id": strange})
    assert cli.run("keys", "reseal", "--readers-have-it").code == 0
    assert cli.run("keys", "retire", "one").code == 0


@pytest.mark.parametrize("rate", ["", "0/s", "200", "fast", "-5/s", "5/h", "1e3/s", "9999999/s", "5/2m"])
def test_a_rate_that_is_none_is_refused(cli, rotated, rate):
    assert cli.run("keys", "reseal", "--rate", rate).code == 2


@pytest.mark.parametrize("rate", ["200/s", "600/m", "600/1m"])
def test_a_rate_in_seconds_or_minutes_is_understood(cli, rotated, rate):
    assert cli.run("keys", "reseal", "--dry-run", "--rate", rate).code == 0


def test_status_shows_values_journals_and_ages(cli, database, rotated):
    rotated(provider="client_secret_created = 2026-01-15")
    instance(database, one=("open", 2, 1))
    found = cli.run("keys", "status", "--json").json()
    assert found["exact"]
    two, one = found["keys"]
    assert (two["key_id"], two["active"], two["values"]["refresh_token"]) == ("two", True, 0)
    assert two["age_seconds"] is None
    assert (one["key_id"], one["active"], one["journal"], one["kept"]) == ("one", False, 2, 1)
    assert one["values"] == {"access_token": 1, "refresh_token": 1, "origin.rest": 0, "grant_fingerprint": 1}
    days = (wall_clock.now() - datetime(2026, 1, 15, tzinfo=UTC)).days
    assert one["age_seconds"] // 86_400 == days
    assert one["created"].startswith("2026-01-15")
    assert {row["provider"]: row["age_seconds"] // 86_400 for row in found["client_secrets"]} == {
        "xero": days
    }
    shown = cli.run("keys", "status").out
    assert "rotate it" in shown
    assert shown.count("one") >= 1


def test_status_names_a_key_that_the_ring_lacks(cli, database, rotated):
    database["tokens"].update_one({}, {"$set": {"access_token": "v1.lost.xxxx"}})
    found = cli.run("keys", "status", "--json").json()
    assert [(one["key_id"], one["use"]) for one in found["keys"]] == [
        ("two", "active"),
        ("one", "open"),
        ("lost", "missing"),
    ]


def test_a_check_value_dates_a_key_without_a_date(cli, database, rotated):
    database["tokens_keys"].insert_one({"_id": "two", "created_at": wall_clock.now() - timedelta(days=3)})
    two = cli.run("keys", "status", "--json").json()["keys"][0]
    assert two["age_seconds"] // 86_400 == 3


def test_a_date_to_come_is_no_negative_age(cli, rotated):
    rotated(created="2126-01-15")
    assert cli.run("keys", "status", "--json").json()["keys"][1]["age_seconds"] == 0
    assert cli.run("keys", "status").out.count("yet to come") == 1
    rotated(created="2126-01-15", provider="client_secret_created = 2126-01-15")
    assert cli.run("keys", "status").out.count("yet to come") == 2


def test_check_warns_of_old_keys_and_of_dates_to_come(cli, rotated):
    """And stays at exit code 0, since nothing stops working."""
    days = (wall_clock.now() - datetime(2026, 1, 15, tzinfo=UTC)).days
    rotated(provider="client_secret_created = 2026-01-15")
    ran = cli.run("check", "--json").json()
    warned = {one["where"]: one["what"] for one in ran["warnings"]}
    assert warned["keys.ring.one"] == f"it is {days} days old"
    (do,) = [one["do"] for one in ran["warnings"] if one["where"] == "keys.ring.one"]
    assert do == "Retire it: `refreshd keys retire one`."
    assert f"{days} d, retire it" in cli.run("keys", "status").out
    assert warned["providers.xero.client_secret"] == f"it is {days} days old"
    rotated(created="2126-01-15", keys='max_age = "36500d"')
    warned = {one["where"]: one["what"] for one in cli.run("check", "--json").json()["warnings"]}
    assert "yet to come" in warned["keys.ring.one"]


@pytest.mark.parametrize("arguments", [("one", "--kms", "bad"), ("a b", "--new", "--kms", KMS_KEY)])
def test_a_wrong_argument_of_wrap_is_wrong_usage(cli, arguments):
    """The configuration is right, so its exit code would lead the operator astray."""
    assert cli.run("keys", "wrap", *arguments).code == 2
