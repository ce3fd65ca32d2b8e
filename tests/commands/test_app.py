"""The command line as a whole: help, usage, keys, providers, the sandbox, and how a bug ends."""

import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from daemon.adapters.keyring import KeyRing
from daemon.commands import keys, run
from daemon.runtime.config.providers.definitions import shipped
from tests.support import wall_clock, writer

MASTER = hashlib.sha256(b"for these tests").digest()
OTHER_KEY = base64.b64encode(hashlib.sha256(b"an older key").digest()).decode()
COMMANDS = "run check status add list show refresh pause resume remove adopt audit journal providers keys access sandbox help version".split()  # noqa: SIM905


def test_help_names_every_command_without_importing_what_they_need(cli):
    """Quick: neither MongoDB's driver nor pydantic nor aiohttp is loaded for it."""
    script = (
        "import sys; sys.argv = ['refreshd', '--help']; import daemon.__main__ as m; code = m.main();"
        "heavy = {'pymongo', 'pydantic', 'aiohttp', 'cryptography'} & set(sys.modules);"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS)


def test_commands_import_only_what_every_result_needs():
    """Tables and the embedded MongoDB are imported by the results that need them."""
    script = (
        "import sys, daemon.__main__, daemon.commands.add, daemon.commands.list, daemon.commands.show;"
        "rest = {'rich', 'aiohttp', 'daemon.adapters.mongo.embedded_mongod', 'daemon.runtime.daemon'};"
        "sys.exit(str(rest & set(sys.modules)) if rest & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_names_of_commands_are_completed_without_importing_what_they_need():
    """A shell waits for that at each press of the key."""
    script = (
        "import atexit, sys; sys.argv = ['refreshd'];"
        "atexit.register(lambda: print('heavy', {'pymongo', 'aiohttp'} & set(sys.modules)));"
        "import daemon.__main__ as m; m.main()"
    )
    environment = {
        **os.environ,
        "COMP_WORDS": "refreshd re",
        "COMP_CWORD": "1",
        "_REFRESHD_COMPLETE": "complete_bash",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert done.stdout.split() == ["refresh", "resume", "remove", "revoke", "heavy", "set()"]


@pytest.mark.parametrize(
    ("arguments", "unused"),
    [
        (("keys", "generate", "--config", "/nowhere", "--env-file", "/nope"), ("config", "env-file")),
        (("--config", "/nowhere", "version"), ("config",)),
        (("help", "list", "--json"), ("json",)),
    ],
)
def test_an_option_without_effect_is_accepted_and_named(cli, arguments, unused):
    """Every command takes the common options, so that scripts can add them to all."""
    ran = cli.run(*arguments)
    command = " ".join(word for word in arguments if word in ("keys", "generate", "version", "help"))
    lines = [f"refreshd {command}: --{name} has no effect on this command" for name in unused]
    assert (ran.code, ran.err.splitlines()) == (0, lines)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("refresh", "xero:a", "--timeout", "1s"),
            "refreshd refresh: --timeout has no effect without --wait",
        ),
        (("show", "xero:a", "--reason", "why"), "refreshd show: --reason has no effect without --reveal"),
        (("keys", "check", "--reason", "why"), "refreshd keys check: --reason has no effect without --renew"),
    ],
)
def test_an_option_that_depends_on_another_says_so(cli, arguments, line):
    """The command does its work nevertheless."""
    cli.add("xero:a")
    ran = cli.run(*arguments)
    assert (ran.code, ran.err.splitlines()) == (0, [line])


def test_wrong_usage_is_2_and_says_what_was_meant(cli):
    """A misspelt command, a missing argument, no command at all."""
    ran = cli.run("lst")
    assert (ran.code, "Did you mean 'list'" in ran.err) == (2, True)
    ran = cli.run("show")
    assert (ran.code, "refreshd show: Missing argument 'ID'" in ran.err) == (2, True)
    assert cli.run().code == 2
    assert cli.run("--version").out.startswith("refreshd 0.")


@pytest.mark.parametrize("group", [(), ("keys",), ("journal",)], ids=["refreshd", "keys", "journal"])
def test_a_group_without_a_command_shows_its_help(cli, group):
    """Line by line, on standard error: the exit code is 2. For a program it is one short sentence."""
    ran = cli.run(*group)
    assert (ran.code, ran.out, ran.err) == (2, "", cli.run(*group, "--help").out)
    [error] = [one["error"] for one in map(json.loads, cli.run("--json", *group).err.splitlines())]
    name = " ".join(("refreshd", *group))
    assert (error["what"], error["code"]) == ("Missing command", 2)
    assert error["do"] == f"Try '{name} --help'"


def test_an_id_in_two_words_is_refused_with_its_form(cli):
    """`connect xero acme` takes two words, so `show xero acme` is tried. A command without an ID has no hint."""
    ran = cli.run("show", "xero", "acme")
    assert ran.code == 2
    assert "A token's ID is one word, PROVIDER:ACCOUNT" in ran.err
    for command in ("add", "connect"):
        assert "as two words, like xero company-7" in cli.run(command, "xero:acme").err
        assert "two words" not in cli.run(command, "xero", "acme", "more").err
    assert "PROVIDER:ACCOUNT" not in cli.run("status", "acme").err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("list", "--state", "dead"), "Invalid value for '--state': 'dead' is not one of"),
        (("audit", "--since", "yesterday"), "'yesterday' is neither a time nor a duration. Write it like 20"),
        (("audit", "--since", "5x"), "'5x' is not a duration"),
        (("cleanup",), "refreshd: which tokens are over is not clear. "),
        (("revoke",), "refreshd: which tokens to revoke is not clear. "),
        (("remove",), "refreshd: which tokens to delete is not clear. "),
        (("journal", "discard", "--yes"), "refreshd: which entries to delete is not clear. "),
    ],
)
def test_wrong_usage_is_one_plain_sentence(cli, arguments, text):
    """Without the words of a library, and with the program's name once."""
    ran = cli.run(*arguments)
    assert ran.code == 2
    assert text in ran.err
    assert ran.err.count("refreshd: ") <= 1


def test_an_option_after_the_command_wins(cli):
    """The same options may stand before it too."""
    nowhere = str(cli.home / "nowhere.toml")
    assert cli.run("--config", nowhere, "list").code == 78
    assert cli.run("--config", nowhere, "list", "--config", str(cli.config)).code == 0
    assert cli.run("--config", str(cli.config), "list", "--config", nowhere).code == 78


def test_an_env_file_gives_what_the_environment_lacks(cli, monkeypatch):
    """Variables of secrets come from there too."""
    env_file = cli.home / "env"
    env_file.write_text(f"TEST_KEY={base64.b64encode(MASTER).decode()}\n")
    env_file.chmod(0o600)
    monkeypatch.delenv("TEST_KEY")
    assert cli.run("keys", "reader").code == 78
    assert cli.run("keys", "reader", "--env-file", str(env_file)).code == 0


def test_a_store_that_is_away_is_69(cli):
    """Within its timeout, in one sentence."""
    away = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"
    cli.write(cli.config.read_text().replace(cli.uri, away))
    ran = cli.real("list")
    assert ran.code == 69
    assert "refreshd check" in ran.err
    assert "Traceback" not in ran.err


def test_a_uri_that_leads_nowhere_is_78(cli):
    """An option's wrong value is seen only by the driver; no password is in its words."""
    cli.write(cli.config.read_text().replace(cli.uri, "mongodb://u:canary-pw@127.0.0.1/?tls=maybe"))
    ran = cli.run("list")
    assert ran.code == 78
    assert ran.err == "refreshd: store.uri: The value of tls must be 'true' or 'false'. Correct the URI.\n"
    assert "canary-pw" not in ran.err


def test_a_bug_is_one_line_and_a_masked_trace_with_debug(cli, monkeypatch):
    """Neither the exception's words nor a trace can carry a secret out."""
    secret = "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA"

    def broken(_size):
        raise RuntimeError(f"could not handle {secret}")

    monkeypatch.setattr(keys.os, "urandom", broken)
    ran = cli.run("keys", "generate")
    assert ran.code == 1
    assert ran.err.startswith("refreshd: internal error: RuntimeError: could not handle")
    assert "File" not in ran.err
    assert secret not in ran.err
    ran = cli.run("keys", "generate", "--debug")
    assert "in test_a_bug_is_one_line_and_a_masked_trace_with_debug.<locals>.broken" in ran.err
    assert secret not in ran.err


def test_a_new_key_fits_the_ring(cli):
    """32 random bytes in base64, another each time."""
    first, second = (cli.run("keys", "generate").out.strip() for _ in range(2))
    assert first != second
    assert len(base64.b64decode(first, validate=True)) == 32
    assert len(base64.b64decode(cli.run("keys", "generate", "--json").json()["key"])) == 32


def test_a_reader_key_is_the_access_token_key_of_the_ring(cli):
    """As {field, key_id, key}; a key that isn't on the ring is wrong usage."""
    ran = cli.run("keys", "reader", "one")
    key = KeyRing({"one": MASTER}, active="one").field_key("access_token")
    assert ran.json() == {"field": "access_token", "key_id": "one", "key": base64.b64encode(key).decode()}
    assert cli.run("keys", "reader").json() == ran.json()
    assert cli.run("keys", "reader", "two").code == 2


def test_all_reader_keys_are_one_line_each_the_active_one_first(cli):
    """For an application that must open texts of every key."""
    cli.write(cli.config.read_text().replace("[keys.ring]", f'[keys.ring]\nolder = "{OTHER_KEY}"'))
    lines = cli.run("keys", "reader", "--all").lines()
    assert [line["key_id"] for line in lines] == ["one", "older"]
    assert cli.run("keys", "reader", "one", "--all").code == 2


def test_a_writer_key_has_a_line_for_each_field_and_opens_nothing(cli):
    """What the daemon opens with its ring, and a key for fingerprints with the refresh token only."""
    lines = cli.run("keys", "writer").lines()
    assert [line["field"] for line in lines] == ["refresh_token", "code", "code_verifier"]
    assert [sorted(line) for line in lines[1:]] == [["field", "key_id", "mac_key", "public_key"]] * 2
    ring = KeyRing({"one": MASTER}, active="one")
    sealed = writer.seal(lines[0], "xero:a", "rt-1")
    assert ring.open(sealed, token_id="xero:a", field="refresh_token") == "rt-1"
    assert writer.fingerprint(lines[0], "rt-1") == ring.fingerprint("rt-1")


def test_no_writer_key_leaves_while_a_daemon_runs_that_can_not_open_its_texts(cli, database):
    """An older version, or one whose ring lacks the key; it is named, and nothing is printed."""
    now = wall_clock.now()
    database.tokens_instances.insert_one({"_id": "old", "kind": "run", "host": "app-2", "seen_at": now})
    ran = cli.run("keys", "writer")
    assert (ran.code, ran.out) == (1, "")
    assert "app-2" in ran.err
    database.tokens_instances.update_one({"_id": "old"}, {"$set": {"writer_key_ids": ["one"]}})
    assert cli.run("keys", "writer").code == 0


def test_providers_are_listed_and_explained(cli, monkeypatch):
    """Shipped and configured ones; how to configure one that isn't."""
    listed = {row["name"]: row for row in cli.run("providers", "--json").lines()}
    assert (listed["xero"]["configured"], listed["xero"]["shipped"]) == (True, True)
    assert (listed["acme"]["configured"], listed["acme"]["shipped"]) == (True, False)
    assert listed["google"]["configured"] is False
    assert "Xero" in cli.run("providers").out
    ran = cli.run("providers", "microsoft")
    assert "tenant (default common)" in ran.out
    assert "[providers.microsoft]" in ran.err
    assert cli.run("providers", "xero", "--json").json()["grace"] == 1800
    assert cli.run("providers", "nope").code == 2


def test_providers_are_searched_and_filtered(cli):
    """In a list of a hundred one looks for a few; the note says of how many."""
    assert [row["name"] for row in cli.run("providers", "--search", "intuit", "--json").lines()] == [
        "quickbooks"
    ]
    ran = cli.run("providers", "--configured", "--verified")
    assert "Xero" in ran.out
    assert "Google" not in ran.out
    assert f"1 of {len(shipped()) + 1} providers, 1 configured" in ran.err
    assert cli.run("providers", "--kind", "exchange", "--consent", "browser").code == 0
    nothing = cli.run("providers", "--search", "no-such-provider")
    assert (nothing.code, nothing.out) == (0, "")
    assert cli.run("providers", "xero", "--verified").code == 2
    assert cli.run("providers", "--kind", "nope").code == 2


def test_a_providers_consent_is_explained(cli):
    """The address to register stands where an operator prepares the app; so does what ends a consent."""
    shown = cli.run("providers", "google").out
    assert "http://127.0.0.1:8917/callback" in shown
    assert "https://accounts.google.com/o/oauth2/v2/auth" in shown
    assert "access_type=offline, prompt=consent" in shown
    assert "POST https://oauth2.googleapis.com/revoke, with the refresh token" in shown
    assert "only the owner can withdraw" in cli.run("providers", "spotify").out
    own = cli.run("providers", "zoom-server").out
    assert "8917" not in own
    assert "evocation" not in own


def test_a_providers_consent_can_be_read_by_programs(cli):
    """The keys as in the definition's file; null where there is none."""
    github = cli.run("providers", "github-app-oauth", "--json").json()
    assert github["redirect_uri"] == "http://127.0.0.1:8917/callback"
    assert github["revoke"]["url"] == "https://api.github.com/applications/${client_id}/grant"
    assert (github["revoke"]["method"], github["revoke"]["auth"]) == ("DELETE", "basic")
    ebay = cli.run("providers", "ebay", "--json").json()
    assert (ebay["redirect_uri"], ebay["revoke"], ebay["authorize_url"]) == (None, None, None)


def test_providers_are_listed_before_there_is_a_configuration(cli, monkeypatch):
    """It is how one begins; a configuration that was named must be there."""
    monkeypatch.delenv("REFRESHD_CONFIG")
    monkeypatch.chdir(cli.home / "..")
    ran = cli.run("providers", "--json")
    assert ran.code == 0
    assert not any(row["configured"] for row in ran.lines())
    assert cli.run("providers", "--config", "nowhere.toml").code == 78


def test_commands_work_without_a_file_and_say_so(cli, mongod, database_name, monkeypatch):
    """By the environment alone; a provider that is like another says that, too."""
    monkeypatch.delenv("REFRESHD_CONFIG")
    monkeypatch.chdir(cli.home / "..")
    for name, value in {
        "STORE__URI": mongod,
        "STORE__DATABASE": database_name,
        "STATE__DIR": str(cli.home / "state"),
        "KEYS__ACTIVE": "2026-11",
        "KEYS__RING__2026_11__ENV": "TEST_KEY",
        "PROVIDERS__ZOHO___EU__LIKE": "zoho",
        "PROVIDERS__ZOHO_EU__CLIENT_ID": "us",
        "PROVIDERS__ZOHO_EU__CLIENT_SECRET__ENV": "TEST_CLIENT_SECRET",
    }.items():
        monkeypatch.setenv(f"REFRESHD_{name}", value)
    assert cli.add("zoho-eu:company-7").code == 0
    assert "zoho-eu:company-7" in cli.run("list").out
    checked = cli.run("check").out
    assert "configuration: the environment, without a file, is valid" in checked
    assert "providers: 1 configured: zoho-eu (like zoho)" in checked
    shown = cli.run("providers", "zoho-eu", "--json").json()
    assert (shown["like"], shown["configured"], shown["shipped"]) == ("zoho", True, False)


def test_the_sandbox_tells_where_it_is_and_stops_at_a_signal(cli):
    """One line of JSON, then it serves; SIGTERM is a clean end."""
    process = cli.process("sandbox", "--lifetime", "5s", "--grace", "1s", "--reuse", "refuse")
    try:
        told = json.loads(process.stdout.readline())
        endpoints = {"token_url", "authorize_url", "device_url", "revoke_url"}
        assert set(told) == {"url", "client_id", "client_secret", *endpoints}
        request = urllib.request.Request(f"{told['url']}/grants?n=2", method="POST")
        with urllib.request.urlopen(request, timeout=10) as reply:
            assert [grant["expires_in"] for grant in json.load(reply)] == [5, 5]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        (("show", "xero:nobody", "--json"), 1, "no such token is stored"),
        (("--json", "show", "xero"), 2, "is not a token's ID"),
        (("show", "--json"), 2, "Missing argument"),
        (("list", "--json", "--state", "novel"), 2, "novel"),
        (("add", "xero", "acme", "--json"), 1, "it is empty"),
        (("keys", "reader", "two", "--json"), 2, "keys.ring: it has no key 'two'"),
    ],
)
def test_a_failure_is_json_for_programs(cli, arguments, code, what):
    """One object on standard error: what, where, what to do, and the exit code; nothing on standard output."""
    ran = cli.run(*arguments)
    failure = json.loads(ran.err)["error"]
    assert (ran.code, ran.out) == (code, "")
    assert set(failure) == {"what", "where", "do", "code"}
    assert failure["code"] == code
    assert what in failure["what"]
    assert failure["do"]


def test_several_problems_are_one_object_for_programs(cli):
    """The first one, and all of them beside it."""
    cli.write("[store]\nuri = 'x'\n[novel]\n")
    ran = cli.run("list", "--json")
    failure = json.loads(ran.err)["error"]
    assert (ran.code, failure["code"]) == (78, 78)
    assert len(failure["problems"]) > 2
    assert failure["problems"][0] == {name: failure[name] for name in ("what", "where", "do")}


@pytest.mark.parametrize(("style", "in_json"), [("json", True), ("console", False), ("auto", True)])
def test_a_start_that_fails_speaks_as_the_log_does(cli, style, in_json):
    """Whatever else is wrong with the configuration; a log that is not on a terminal is JSON."""
    cli.write(f"[log]\nformat = '{style}'\n[store]\nuri = 'x'\n")
    ran = cli.run("run")
    assert ran.code == 78
    lines = ran.err.splitlines()
    assert len(lines) > 1
    for line in lines:
        if in_json:
            assert json.loads(line)["event"] == "daemon.failed"
        else:
            assert line.startswith("refreshd: ")


def test_a_start_that_fails_names_its_places_whole(cli):
    """In a log, too: a key or a directory whose name looks random is where an operator has to go."""
    name = "xero-production-uk-3a8f1b9c4d"
    cli.write(f"[log]\nformat = 'json'\n[providers.{name}]\nlike = 'xero'\nclient_idd = 'x'\n")
    lines = [json.loads(line)["where"] for line in cli.run("run").err.splitlines()]
    assert f"{cli.config}: providers.{name}.client_idd" in lines


def test_json_was_asked_for_and_json_it_is(cli, database, monkeypatch):
    """Whatever the log looks like, when some of several things fail, and when a start meets a bug."""
    cli.add("xero:a")
    ran = cli.run("pause", "xero:nope", "xero:a", "--json")
    assert (ran.code, ran.json()["id"]) == (1, "xero:a")
    assert json.loads(ran.err)["error"] == {
        "what": "xero:nope: no such token is stored",
        "where": None,
        "do": "`refreshd list` shows the stored IDs",
        "code": 1,
    }
    monkeypatch.setattr(run, "take", lambda _directory: 1 / 0)
    failed = json.loads(cli.run("run", "--json").err)
    assert (failed["event"], failed["code"]) == ("daemon.failed", 1)
    assert "ZeroDivisionError" in failed["exception"]
    cli.write("[log]\nformat = 'console'\n[store]\nuri = 'x'\n")
    assert all(json.loads(line)["code"] == 78 for line in cli.run("run", "--json").err.splitlines())


def test_the_sandbox_names_who_holds_its_port(cli):
    """75, with the process; impossible wishes are wrong usage."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = cli.run("sandbox", "--port", str(taken.getsockname()[1]))
    assert ran.code == 75
    assert "in use by pid" in ran.err
    assert cli.run("sandbox", "--as", "nobody").code == 2
    assert cli.run("sandbox", "--lifetime", "1ms").code == 2
    assert cli.run("sandbox", "--lifetime", "long").code == 2


def test_a_reader_that_has_had_enough_is_no_error(cli, database):
    """`refreshd list | head -1` ends without a trace."""
    database.tokens.insert_many([{"_id": f"xero:{number:06}", "state": "active"} for number in range(5000)])
    process = cli.process("list", "--json")
    assert "xero:000000" in process.stdout.readline()
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=20) in (0, 1)
    process.stderr.close()


def test_commands_start_an_embedded_mongodb_for_their_own_duration(cli):
    """No daemon runs: what one command stores, the next one finds, and none is left behind."""
    cli.write(cli.config.read_text().replace(f'"{cli.uri}"', '"embedded"'))
    stored = cli.real("add", "xero", "a", stdin='{"refresh_token": "r"}')
    assert (stored.code, stored.out) == (0, "xero:a\n"), stored.err
    assert "xero:a" in cli.real("list").out
    assert not (cli.home / "state" / "mongodb.uri").exists()
