"""`refreshd check`: every problem at once, for people and for programs."""

import base64
import hashlib
import os
import pty
import re
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pymongo import MongoClient

from daemon.adapters.mongo.connection import DUE_INDEX
from daemon.adapters.mongo.indexes import TOKEN_INDEXES
from tests.certificates import Certified
from tests.support import index_builds, wall_clock
from tests.support.ports import free_port


def whats(ran):
    report = ran.json()
    assert report["ok"] is (not report["problems"])
    assert all(set(problem) == {"where", "what", "do"} for problem in report["problems"])
    return [f"{problem['where']}: {problem['what']}" for problem in report["problems"]]


@pytest.fixture
def reachable(cli):
    """All token URLs lead to a server on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        config = cli.config.read_text().replace(
            "[providers.xero]", f'[providers.xero]\ntoken_url = "http://127.0.0.1:{port}/token"'
        )
        cli.write(config)
        yield port


def tried(ran):
    """What was tried, with its outcome."""
    return {(check["where"], check["result"]) for check in ran.json()["checks"]}


def test_what_is_in_order_passes(cli, database, reachable):
    """With a token stored, nothing is wrong; the store was written to, and nothing of that is left."""
    cli.add("xero:a")
    ran = cli.run("check", "--json")
    report = ran.json()
    assert (ran.code, report["ok"], report["problems"], warned(ran)) == (0, True, [], [])
    assert tried(ran) == {
        ("store.uri", "warning"),
        ("configuration", "ok"),
        ("keys.ring", "ok"),
        ("keys.ring.one", "ok"),
        ("providers", "ok"),
        ("providers.xero.token_url", "ok"),
        ("providers.acme.token_url", "not tried"),
        ("state.dir", "ok"),
        ("journal", "ok"),
        ("store.uri", "ok"),
        ("store.collection", "ok"),
        ("clock", "ok"),
    }
    *lines, last = cli.run("check").out.splitlines()
    assert last == "1 warning; everything else that was checked is in order."
    assert all(line.startswith(("ok: ", "not tried: ")) or NO_LOGIN in line for line in lines)
    assert database.tokens_providers.count_documents({}) == 0
    assert database.tokens_keys.count_documents({}) == 0


def test_a_terminal_gets_marks(cli, reachable):
    """A tick, a cross, an exclamation mark: one for each line."""
    cli.write(cli.config.read_text().replace('client_id = "client"', 'client_id = "..."', 1))
    leader, follower = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "check"],
            env={**os.environ, **cli.env, "PYTHONUTF8": "1", "TERM": "dumb"},
            stdin=subprocess.DEVNULL,
            stdout=follower,
            stderr=subprocess.DEVNULL,
        )
        assert process.wait(timeout=60) == 78
        shown = os.read(leader, 1 << 16).decode()
    finally:
        os.close(leader)
        os.close(follower)
    assert "✓ configuration: " in shown
    assert "✗ providers.xero.client_id: it is a placeholder from an example" in shown


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
    assert "the file does not exist" in ran.out


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
    key, duplicate, copy = whats(ran)
    assert "1 refresh tokens are sealed with key 'old-key'" in key
    assert "xero:a, xero:copy" in duplicate
    assert "xero:copy can't be renewed" in copy


def test_a_lost_key_has_a_way_out(cli, database):
    """Whoever has no copy of it can't add it."""
    cli.add("xero:a")
    database.tokens.update_one({}, {"$set": {"refresh_token": "v1.lost.xxxx"}})
    (lost,) = [
        one for one in cli.run("check", "--json").json()["problems"] if "not on the ring" in one["what"]
    ]
    assert lost["do"].endswith("If it is lost, let their owners consent again.")


def test_a_state_directory_that_is_a_file_is_a_problem(cli):
    """The journal could not be kept there."""
    (cli.home / "state").write_text("")
    ran = cli.run("check", "--json")
    assert ran.code == 78
    assert whats(ran)[0].startswith("state.dir: ")


def test_a_state_directory_that_others_can_enter_is_a_problem(cli, tmp_path):
    """The daemon's next start closes it; until then whoever writes there is believed."""
    (tmp_path / "state").mkdir(mode=0o777)
    (tmp_path / "state").chmod(0o777)
    ran = cli.run("check", "--json")
    assert ran.code == 78
    (problem,) = [one for one in ran.json()["problems"] if one["where"] == "state.dir"]
    assert problem["do"] == f"chmod 700 {tmp_path / 'state'}"


def test_an_index_that_was_tampered_with_is_found(cli, database):
    """A hidden index serves no sweep."""
    database["tokens"].create_indexes([DUE_INDEX])
    database.command({"collMod": "tokens", "index": {"name": "due", "hidden": True}})
    ran = cli.run("check", "--json")
    assert (ran.code, "'due'" in whats(ran)[0]) == (1, True)


def test_an_index_that_is_missing_or_still_being_built_is_a_warning(cli, database, mongo_client):
    """Each with what waits for it. Renewals need neither."""
    database["tokens"].insert_one({"_id": "xero:a", "provider": "xero"})
    database["tokens"].create_indexes([DUE_INDEX])
    missing = [one for one in warned(cli.run("check", "--json")) if "is missing" in one]
    assert len(missing) == len(TOKEN_INDEXES)
    assert "its index 'events' is missing, so events for hooks read every token" in missing[-1]
    with ThreadPoolExecutor() as beside:
        with index_builds.held(mongo_client):
            building = beside.submit(database["tokens"].create_indexes, list(TOKEN_INDEXES))
            while "events" not in database["tokens"].index_information():
                assert not building.done()
            found = [one for one in warned(cli.run("check", "--json")) if "still building" in one]
        building.result()
    assert len(found) == len(TOKEN_INDEXES)
    assert "renewals go on; until then events for hooks wait, or read every token" in found[-1]
    assert ("store.collection", "ok") in tried(cli.run("check", "--json"))


@pytest.mark.parametrize("text", ["...", "YOUR-CLIENT-ID"])
def test_a_client_id_out_of_an_example_is_found(cli, text):
    """It was copied and never filled in."""
    cli.write(cli.config.read_text().replace('client_id = "client"', f'client_id = "{text}"', 1))
    ran = cli.run("check", "--json")
    assert ran.code == 78
    assert whats(ran)[0].startswith("providers.xero.client_id")


NO_LOGIN = "requires no login, so every user of this machine can change tokens"


def warned(ran):
    """The warnings; one is of the MongoDB of these tests, which has no logins."""
    told = [f"{warning['where']}: {warning['what']}" for warning in ran.json()["warnings"]]
    ours = [one for one in told if NO_LOGIN in one]
    assert len(ours) == 1 or "embedded" in "".join(told)
    return [one for one in told if one not in ours]


def test_a_key_that_did_not_seal_the_store_is_a_problem(cli, database, reachable, monkeypatch):
    """Exit 1, whether tokens tell or a check value; `add` refuses to seal with it, and `keys check` shows it."""
    cli.add("xero:a")
    monkeypatch.setenv("TEST_KEY", base64.b64encode(hashlib.sha256(b"another key").digest()).decode())
    ran = cli.run("check", "--json")
    assert (ran.code, whats(ran)) == (
        1,
        ["keys.ring.one: key 'one' is not the key that this store was sealed with"],
    )
    refused = cli.add("xero:b")
    assert (refused.code, "not the key that this store was sealed with" in refused.err) == (1, True)
    assert database.tokens.count_documents({}) == 1
    assert cli.run("keys", "check").code == 1


def test_every_document_that_no_claim_can_use_is_named(cli, database, reachable):
    """Compound ids, foreign names, wrong types, sizes that leave no room: each with its reason; the others pass."""
    cli.add("xero:a")
    good, now = database.tokens.find_one(), wall_clock.now()
    odd = {
        "xero:number": {"revision": 1.5},
        "xero:vars": {"vars": {"company": 7}},
        "xero:state": {"state": "alive"},
        "xero:date": {"expires_at": "tomorrow"},
        "xero:name": {"account": "other"},
        "xero:grant": {"grant": "client_credentials"},
        "xero:large": {"meta": {"text": "x" * (15_900_000)}},
    }
    for name, fields in odd.items():
        account = name.partition(":")[2]
        database.tokens.insert_one(
            {**good, "_id": name, "account": account, "grant_fingerprint": None, **fields}
        )
    database.tokens.insert_one(
        {**good, "_id": {"provider": "xero", "account": "b"}, "grant_fingerprint": None}
    )
    fine = {"refresh_token": None, "access_token": None, "grant_fingerprint": None, "due_at": now}
    for account, fields in {"floats": {"revision": 2.0, "failures": 0.0}, "php": {"vars": []}}.items():
        database.tokens.insert_one({**good, **fine, "_id": f"xero:{account}", "account": account, **fields})
    ran = cli.run("check", "--json")
    assert ran.code == 1
    named = [what for what in whats(ran) if "can't be renewed" in what]
    assert len(named) == len(odd) + 1
    assert all(any(name in what for what in named) for name in [*odd, "dict {'provider': 'xero'"])
    assert any("15.2 MiB" in what for what in named)


def test_active_tokens_without_a_date_are_counted_with_the_way_out(cli, database, reachable):
    """No sweep finds them. Only those that a daemon doesn't repair are a problem; a rest on purpose is none."""
    cli.add("xero:a")
    good = {**database.tokens.find_one(), "grant_fingerprint": None}

    def store(name, **fields):
        provider, _, account = name.partition(":")
        row = {**good, "_id": name, "provider": provider, "account": account, **fields}
        database.tokens.replace_one({"_id": name}, row, upsert=True)

    store("xero:resting", state="paused", due_at=None)
    store("xero:watched", refresh_token=None, due_at=None)
    assert "every active token that can be renewed has a due_at" in cli.run("check").out
    for number in range(4):
        store(f"xero:{number}", due_at=(None, "soon", 7, wall_clock.now().isoformat())[number])
    store("xero:read", due_at=None, last_failure={"kind": "unparsed"})
    store("xero:unread", refresh_token=None, due_at="soon", last_failure={"kind": "unread"})
    ran = cli.run("check", "--json")
    assert ran.code == 0
    repaired, withheld = [text for text in warned(ran) if "due_at" in text]
    assert "4 active tokens (xero:0, xero:1, xero:2, …) have no usable due_at" in repaired
    assert "2 active tokens (xero:read, xero:unread) have no due_at, because" in withheld
    store("xero:lost", refresh_token=None, due_at="soon")
    ran = cli.run("check", "--json")
    assert ran.code == 1
    (lost,) = [one for one in ran.json()["problems"] if "due_at" in one["what"]]
    assert "1 active token (xero:lost) has no usable due_at, and no daemon" in lost["what"]
    assert "`refreshd refresh ID`" in lost["do"]


def test_a_token_that_is_issued_without_a_refresh_token_needs_a_date(cli, database, reachable):
    """The daemon's repair looks at refresh tokens alone, so nothing would ever issue it again."""
    cli.add("xero:a")
    cli.write(
        cli.config.read_text().replace('client_auth = "none"', 'client_auth = "none"\ngrant = "exchange"')
    )
    good = {
        **database.tokens.find_one(),
        "grant_fingerprint": None,
        "provider": "acme",
        "refresh_token": None,
    }
    database.tokens.insert_one({**good, "_id": "acme:a", "account": "a", "due_at": None, "grant": None})
    database.tokens.insert_one({**good, "_id": "acme:b", "account": "b", "due_at": None, "grant": "none"})
    (lost,) = [what for what in whats(cli.run("check", "--json")) if "due_at" in what]
    assert "1 active token (acme:a) has no usable due_at, and no daemon" in lost


def test_indexes_that_eat_or_block_tokens_are_named(cli, database, reachable):
    """One that deletes, and one that makes two tokens with equal fields impossible; what is unique anyway is not."""
    database.tokens.create_index("expires_at", expireAfterSeconds=0, name="clean-up")
    database.tokens.create_index("grant_fingerprint", unique=True, name="one-grant")
    database.tokens.create_index([("provider", 1), ("account", 1)], unique=True, name="harmless")
    database.tokens.create_index("meta.user", unique=True, sparse=True, name="theirs")
    ran = cli.run("check", "--json")
    assert ran.code == 1
    eats, blocks = whats(ran)
    assert "'clean-up' on expires_at MongoDB deletes tokens" in eats
    assert "unique index 'one-grant' on grant_fingerprint" in blocks


def test_a_collection_of_another_program_is_a_warning(cli, database, reachable):
    """Its documents name no provider and account."""
    database.tokens.insert_many([{"user": n, "token": "x"} for n in range(5)])
    (warning,) = warned(cli.run("check", "--json"))
    assert "documents that are not tokens" in warning


@pytest.mark.parametrize(
    "text",
    [
        "arn:aws:secretsmanager:eu-west-1:1:secret:xero",
        "vault:secret/data/xero#client_secret",
        "op://vault/xero/secret",
        "projects/1/secrets/xero/versions/latest",
        "changeme",
        "CHANGE_ME",
        "xxx",
        "XXXXXXXX",
        "...",
        "your-client-secret",
        "<client secret>",
        "${XERO_SECRET}",
        "{{ xero_secret }}",
        "TODO",
        "password",
        " really-secret-1f2e3d ",
    ],
)
def test_a_secret_that_nobody_filled_in_is_a_warning(cli, reachable, monkeypatch, text):
    """Without a word of it."""
    monkeypatch.setenv("TEST_CLIENT_SECRET", text)
    ran = cli.run("check", "--json")
    assert ran.code == 0
    (warning,) = warned(ran)
    assert warning.startswith("providers.xero.client_secret: it ")
    assert text.strip() not in "".join(warned(ran)) or len(text.strip()) < 4


def test_a_token_url_that_can_t_be_reached_is_a_warning(cli, reachable):
    """It may come back; the daemon goes on without."""
    closed = free_port()
    cli.write(cli.config.read_text().replace(f":{reachable}/", f":{closed}/"))
    ran = cli.run("check", "--json")
    assert ran.code == 0
    assert warned(ran) == [f"providers.xero.token_url: 127.0.0.1:{closed}: no connection: Connection refused"]
    assert cli.run("check").out.splitlines()[-1] == (
        "2 warnings; everything else that was checked is in order."
    )


def test_a_token_url_whose_certificate_is_not_trusted_is_a_problem(cli, tmp_path):
    """Somebody must correct it. No request is sent."""
    made = Certified.made("localhost")
    (tmp_path / "cert.pem").write_bytes(made.public + made.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem")
    received = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            try:
                with context.wrap_socket(server.accept()[0], server_side=True) as connection:
                    received.append(connection.recv(1))
            except OSError as why:
                received.append(why)

        serving = threading.Thread(target=serve)
        serving.start()
        url = f'[providers.xero]\ntoken_url = "https://localhost:{server.getsockname()[1]}/token"'
        cli.write(cli.config.read_text().replace("[providers.xero]", url))
        ran = cli.run("check", "--json")
        serving.join(10)
    assert ran.code == 1
    (problem,) = whats(ran)
    assert "its certificate is not accepted: self-signed certificate" in problem
    assert not any(isinstance(one, bytes) and one for one in received)


def test_what_is_asked_through_a_proxy_is_not_tried_but_the_proxy_is(cli):
    """This machine may have no other way out."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        port = proxy.getsockname()[1]
        cli.write(cli.config.read_text() + f'[refresh]\nproxy = "http://127.0.0.1:{port}"\n')
        ran = cli.run("check", "--json")
    assert (ran.code, warned(ran)) == (0, [])
    assert {("refresh.proxy", "ok"), ("providers.xero.token_url", "not tried")} <= tried(ran)


def test_the_embedded_mongodb_is_a_warning(cli, reachable):
    """It is past its end of life, and for trying only."""
    cli.write(re.sub(r"uri = .*", 'uri = "embedded"', cli.config.read_text()))
    ran = cli.run("check", "--json")
    assert (ran.code, [warning for warning in warned(ran) if "July 2025" in warning]) == (0, warned(ran))


def test_a_refused_login_is_named(cli, reachable):
    """MongoDB answers: nobody is sent to start it, and its own words are not repeated."""
    host = cli.uri.partition("://")[2].partition("/")[0]
    uri = cli.uri.replace("mongodb://", "mongodb://refreshd:canary-pw@") + "&authSource=app"
    cli.write(cli.config.read_text().replace(cli.uri, uri))
    ran = cli.real("check", "--json")
    assert ran.code == 69
    (problem,) = ran.json()["problems"]
    assert problem["what"] == f"MongoDB at {host} rejected the credentials of refreshd (authSource app)"
    assert "Start MongoDB" not in ran.out
    assert "canary-pw" not in ran.out + ran.err
    listed = cli.real("list")
    assert (listed.code, f"MongoDB at {host} rejected the credentials of refreshd" in listed.err) == (
        69,
        True,
    )


def test_tokens_in_another_database_than_the_uris_are_found(cli, reachable, database_name):
    """The database "refreshd" held them, whatever the path said: both are named, and `add` makes no second place."""
    cli.write(
        cli.config.read_text()
        .replace(cli.uri, cli.uri.replace("/?", f"/{database_name}?"))
        .replace(f'database = "{database_name}"', 'collection = "test_misplaced"')
    )
    with MongoClient(cli.uri) as client:
        former = client["refreshd"]["test_misplaced"]
        former.insert_one({"_id": "xero:a", "provider": "xero", "account": "a"})
        try:
            ran, refused = cli.run("check", "--json"), cli.add("xero:b")
        finally:
            former.drop()
        told = f"{database_name}.test_misplaced is empty, and refreshd.test_misplaced holds tokens"
        assert (ran.code, whats(ran)) == (1, [f"store.uri: {told}"])
        assert (refused.code, told in refused.err) == (1, True)
        assert cli.add("xero:b").code == 0
        assert client[database_name]["test_misplaced"].count_documents({}) == 1


@pytest.mark.parametrize(
    ("scopes", "lacking"),
    [
        ('["openid", "offline_access", "accounting"]', []),
        ('["accounting", "openid"]', ["offline_access"]),
        ('["accounting"]', ["offline_access", "openid"]),
        ("[]", ["offline_access", "openid"]),
    ],
)
def test_scopes_without_those_that_renewals_need_are_a_warning(cli, reachable, scopes, lacking):
    """The definition's others may be left out."""
    text = cli.config.read_text()
    keys = f'[providers.xero]\nscopes = {scopes}\naccount_from = "id_token.sub"'
    cli.write(text.replace("[providers.xero]", keys))
    ran = cli.run("check", "--json")
    assert ran.code == 0
    found = [one.partition(" lack ")[2].partition(",")[0] for one in warned(ran) if ".scopes: " in one]
    assert found == lacking
    assert all("providers.xero.scopes" in one for one in warned(ran))


def test_scopes_in_one_text_are_a_warning(cli, reachable):
    """They would be sent as one scope, and the owner would meet the provider's error page."""
    keys = '[providers.xero]\nscopes = ["openid", "offline_access", "a+b"]'
    cli.write(cli.config.read_text().replace("[providers.xero]", keys))
    ran = cli.run("check", "--json")
    assert ran.code == 0
    assert [one for one in warned(ran) if "providers.xero.scopes: contain 'a+b'" in one]
