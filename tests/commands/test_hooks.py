"""`refreshd hooks`, as an operator uses it."""

import base64
import hmac
import json
from datetime import timedelta
from typing import Any

import pytest

from daemon.adapters.mongo.notifying.outbox import delivery_document
from daemon.commands.support import completion
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType
from tests.support import wall_clock
from tests.support.receiver import Receiver

SECRET_KEY = b"s" * 32
SECRET = f"whsec_{base64.b64encode(SECRET_KEY).decode()}"
HOOK = '\n[[hooks]]\nname = "{name}"\nurl = "{url}"\nsecret = "{secret}"\nallow_private = true\n'
HOUR = timedelta(hours=1)


@pytest.fixture
def hooks(cli):
    """Configures hooks at this URL."""

    def configure(*names, url="http://127.0.0.1:1/"):
        cli.write(
            cli.config.read_text() + "".join(HOOK.format(name=name, url=url, secret=SECRET) for name in names)
        )

    return configure


def stored(database, name, hook="crm", *, ago=HOUR, unset=(), **fields: Any):
    now = wall_clock.now()
    event = OwnerEvent(
        id=name,
        type=OwnerEventType.NEEDS_REAUTH,
        at=now - ago,
        who_acts=Actor.OWNER,
        provider="xero",
        token="xero:acme",
    )
    document = {**delivery_document(event, hook, now - ago), **fields}
    database.tokens_outbox.insert_one({k: v for k, v in document.items() if k not in unset})


def delivered(database, name, hook="crm", **fields: Any):
    stored(database, name, hook, state="delivered", unset=("due_at",), attempts=1, **fields)


# ---------------------------------------------------------------- list


def test_without_hooks_the_list_says_where_to_read(cli):
    ran = cli.run("hooks", "list")
    assert (ran.code, ran.out) == (0, "")
    assert "docs/hooks.md" in ran.err


def test_the_list_shows_what_waits_and_for_whom(cli, hooks, database):
    hooks("crm", "mail", url="http://127.0.0.1:1/path/of/the/receiver")
    stored(database, "e1")
    stored(database, "e2", held=True)
    stored(database, "e3", "former")
    rows = {row["hook"]: row for row in cli.run("hooks", "list", "--json").lines()}
    assert {name: (row["state"], row["waiting"], row["held"]) for name, row in rows.items()} == {
        "crm": ("held", 2, 1),
        "mail": ("ok", 0, 0),
        "former": ("removed", 1, 0),
    }
    text = cli.run("hooks", "list").out
    assert "127.0.0.1" in text
    assert SECRET not in text


def test_a_disabled_hook_is_shown_until_its_configuration_changes(cli, hooks, database):
    hooks("crm")
    from daemon.runtime.config.settings import load

    configuration = load(cli.config, cli.env).hooks[0].configuration
    database.tokens_hooks.insert_one(
        {"_id": "crm", "disabled_at": wall_clock.now(), "configuration": configuration, "failures": 9}
    )
    assert cli.run("hooks", "list", "--json").json()["state"] == "disabled"
    cli.write(cli.config.read_text().replace("127.0.0.1:1/", "127.0.0.1:2/"))
    assert cli.run("hooks", "list", "--json").json()["state"] == "ok"


# ---------------------------------------------------------------- test


def test_a_test_event_arrives_signed(cli, hooks):
    with Receiver() as receiver:
        hooks("crm", url=receiver.url)
        ran = cli.run("hooks", "test", "crm")
    assert (ran.code, ran.out) == (0, "crm: accepted: the receiver answered with status 204\n")
    [(headers, body)] = receiver.requests
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signature = base64.b64encode(hmac.digest(SECRET_KEY, content, "sha256")).decode()
    assert headers["webhook-signature"] == f"v1,{signature}"
    assert json.loads(body)["type"] == "hook.test"


def test_a_receiver_that_refuses_is_exit_1(cli, hooks):
    with Receiver(lambda _body: 401) as receiver:
        hooks("crm", url=receiver.url)
        ran = cli.run("hooks", "test", "crm", "--json")
    assert (ran.code, ran.json()) == (1, {"hook": "crm", "outcome": "refused", "status": 401})


def test_a_receiver_that_is_away_is_exit_1(cli, hooks):
    hooks("crm")
    ran = cli.run("hooks", "test", "crm")
    assert (ran.code, ran.out) == (
        1,
        "crm: not accepted: no connection, or it ended without an answer\n",
    )


@pytest.mark.parametrize("command", [("test",), ("release",), ("replay", "--since", "1h", "--yes")])
def test_an_unknown_hook_is_wrong_usage(cli, hooks, command):
    hooks("crm")
    ran = cli.run("hooks", command[0], "crn", *command[1:])
    assert ran.code == 2
    assert "Did you mean crm?" in ran.err


# ---------------------------------------------------------------- failed


def test_failed_shows_what_waits_for_another_attempt_and_what_was_given_up(cli, hooks, database):
    hooks("crm")
    now = wall_clock.now()
    stored(database, "fresh")
    stored(database, "again", attempts=3, last={"at": now, "outcome": "refused", "status": 500})
    stored(database, "old", state="dropped", attempts=9, unset=("due_at",))
    stored(database, "bad", state="malformed", type=7, unset=("due_at",))
    delivered(database, "done")
    rows = cli.run("hooks", "failed", "--json").lines()
    assert {(row["state"], row["outcome"], row["status"], row["attempts"]) for row in rows} == {
        ("waiting", "refused", 500, 3),
        ("dropped", "dropped", None, 9),
        ("malformed", "malformed", None, 0),
    }
    assert cli.run("hooks", "failed", "mail", "--json").lines() == []
    assert "refused 500" in cli.run("hooks", "failed", "crm").out


def test_failed_refuses_a_name_that_is_not_configured_and_has_no_failures(cli, hooks, database):
    """A misspelt name must not look like a hook without failures. One that left the configuration may have some."""
    hooks("crm")
    stored(database, "again", hook="former", attempts=3)
    ran = cli.run("hooks", "failed", "crn", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert "Did you mean crm?" in ran.err
    assert len(cli.run("hooks", "failed", "former", "--json").lines()) == 1
    assert cli.run("hooks", "failed", "crm").code == 0


# ---------------------------------------------------------------- replay, release


def test_replay_sends_again_what_happened_since_then(cli, hooks, database):
    hooks("crm", "mail")
    delivered(database, "new")
    delivered(database, "old", ago=30 * HOUR)
    delivered(database, "other", "mail")
    stored(database, "waiting", attempts=2)
    stored(database, "dropped", state="dropped", unset=("due_at",))
    ran = cli.run("hooks", "replay", "crm", "--since", "24h", "--yes", "--json", "--reason", "it lost them")
    assert (ran.code, ran.json()) == (0, {"hook": "crm", "action": "replayed", "events": 2})
    states = {one["event"]: one["state"] for one in database.tokens_outbox.find({})}
    assert states == {
        "new": "waiting",
        "old": "delivered",
        "other": "delivered",
        "waiting": "waiting",
        "dropped": "waiting",
    }
    record = database.tokens_audit.find_one({"action": "replay_hook"})
    assert (record["token"], record["count"], record["by"]["reason"]) == ("crm", 2, "it lost them")


def test_replay_asks_first(cli, hooks, database):
    hooks("crm")
    delivered(database, "e1")
    ran = cli.run("hooks", "replay", "crm", "--since", "24h")
    assert ran.code == 2
    assert "--yes" in ran.err
    assert database.tokens_outbox.count_documents({"state": "delivered"}) == 1


def test_release_lets_go_what_a_restore_holds_and_enables(cli, hooks, database):
    hooks("crm", "mail")
    stored(database, "e1", held=True, ago=900 * HOUR)
    stored(database, "e2", "mail", held=True)
    database.tokens_hooks.insert_one({"_id": "crm", "disabled_at": wall_clock.now(), "configuration": "c"})
    ran = cli.run("hooks", "release", "crm", "--json")
    assert (ran.code, ran.json()) == (0, {"hook": "crm", "action": "released", "events": 1})
    released = database.tokens_outbox.find_one({"event": "e1"})
    assert released["held"] is None
    assert wall_clock.now() - released["added_at"] < timedelta(minutes=1)  # else it would be dropped at once
    assert database.tokens_outbox.find_one({"event": "e2"})["held"] is True
    assert database.tokens_hooks.find_one()["disabled_at"] is None
    assert database.tokens_audit.find_one({"action": "release_hook"})["token"] == "crm"


# ---------------------------------------------------------------- check


def test_check_reaches_each_receiver(cli, hooks):
    with Receiver() as receiver:
        hooks("crm", url=receiver.url)
        found = cli.run("check", "--json").json()
        assert receiver.requests == []
    assert "hook crm" in [one["where"] for one in found["checks"] if one["result"] == "ok"]


def test_check_warns_of_a_receiver_that_is_away(cli, hooks):
    hooks("crm")
    found = cli.run("check", "--json").json()
    assert "hook crm" in [one["where"] for one in found["warnings"]]


def test_a_shell_completes_the_names_of_hooks(cli, hooks):
    """Without a word if the configuration can't be read."""
    hooks("crm", "mail")
    assert completion.hooks(cli.config, "c") == ["crm"]
    assert completion.hooks(cli.config, "") == ["crm", "mail"]
    assert completion.hooks(cli.home / "nowhere.toml", "") == []
