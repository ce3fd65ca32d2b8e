"""`refreshd import`: files and a collection of an application become paused tokens, and every fault is one sentence."""

import json
import os
import resource
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from daemon.domain.moving import in_first
from tests.support import wall_clock

KEY = sha256(b"the old application's").digest()
HOUR = timedelta(hours=1)


def later(hours=1):
    return int((wall_clock.now() + hours * HOUR).timestamp() * 1000)


def entry(account, **more):
    return {
        "accessToken": f"canary-old-access-{account}",
        "refreshToken": f"canary-old-refresh-{account}",
        "expiresAt": later(),
        "apiDomain": "https://acme.example",
        "tenantId": "t-1",
        **more,
    }


@pytest.fixture
def tokens(cli, tmp_path):
    """The application's file. Call it with its entries."""
    path = tmp_path / "tokens.json"

    def write(entries):
        path.write_text(json.dumps(entries, indent=2))
        return path

    write.path = path
    return write


@pytest.fixture
def run(cli, tokens):
    def run(*options):
        ran = cli.run("import", "token-files", str(tokens.path), "--provider", "xero", *options)
        assert "canary-old" not in ran.out + ran.err
        return ran

    return run


def states(database):
    return {one["_id"]: one["state"] for one in database.tokens.find()}


def test_a_file_becomes_paused_tokens(cli, database, tokens, run, tmp_path):
    """A dry run first, which reports the same and writes nothing; then the tokens, sealed, with a sealed copy."""
    tokens({"7": entry(7), "8": entry(8, expiresAt=None)})
    dry = run("--dry-run", "--json")
    assert database.list_collection_names() == []
    assert not (tmp_path / "state").exists()
    wet = run("--json")
    report = wet.json()
    copy = report.pop("backup")
    assert dry.json() == {**report, "dry_run": True, "backup": None}
    assert (wet.code, report) == (
        0,
        {
            "layout": "token-files",
            "source": str(tokens.path),
            "dry_run": False,
            "found": 2,
            "imported": 2,
            "updated": 0,
            "already_there": 0,
            "refused": [],
            "ignored_fields": {"apiDomain": 2, "tenantId": 2},
            "not_understood": {},
            "due_immediately": 1,
            "not_found": [],
            "activated": 0,
            "not_activated": [],
        },
    )
    assert states(database) == {"xero:7": "paused", "xero:8": "paused"}
    stored = database.tokens.find_one("xero:7")
    assert (
        cli.ring.open(stored["access_token"], token_id="xero:7", field="access_token")
        == "canary-old-access-7"
    )
    assert Path(copy).parent == tmp_path / "state" / "imports"
    assert Path(copy).stat().st_mode & 0o777 == 0o600
    (note,) = database.tokens_audit.find({"action": "import"})
    assert (note["result"], note["count"]) == (f"token-files from {tokens.path}", 2)


def test_the_report_for_people_adds_up(tokens, run):
    """Each refused row is named with its reason."""
    tokens(
        {"7": entry(7, expiresAt=None), "8": entry(8, refreshToken=None), "9": entry(9, refreshToken=None)}
    )
    ran = run()
    assert ran.code == 1
    assert "1 row without a clear end of the access token: such a token is renewed" in ran.err
    counts = "3 found = 1 imported + 0 updated + 0 already there + 2 refused"
    assert ran.out.startswith(f"{tokens.path}: {counts}")
    for account in "89":
        assert f"{account}: it has no refresh token, so nothing can renew it" in ran.err
    assert "apiDomain, tenantId" in ran.err
    assert "Sealed copy of the rows: " in ran.err
    assert "stay paused until you activate them: run the command again with --activate all" in ran.err
    assert "stay paused" not in run("--activate", "all").err
    tokens({"7": entry(7, expiresAt=None), "6": entry(6)})
    assert "stay paused" not in run("--dry-run").err


def test_a_second_import_changes_nothing_and_leaves_no_copy(database, tokens, run):
    """Until the application has renewed one."""
    tokens({"7": entry(7), "8": entry(8)})
    run()
    again = run("--json").json()
    assert (again["already_there"], again["backup"]) == (2, None)
    tokens({"7": entry(7, refreshToken="canary-old-newer"), "8": entry(8)})
    newer = run("--json").json()
    assert newer["updated"] >= 1
    assert newer["updated"] + newer["already_there"] == 2


def test_a_slice_is_activated(database, tokens, run):
    """The rest stays paused; a repetition adds nothing."""
    tokens({str(number): entry(number) for number in range(40)})
    chosen = {f"xero:{number}" for number in range(40) if in_first(20, f"xero:{number}")}
    assert run("--activate", "20%", "--json").json()["activated"] == len(chosen)
    assert {name for name, state in states(database).items() if state == "active"} == chosen
    assert run("--activate", "20%", "--json").json()["activated"] == 0
    assert run("--activate", "all", "--json").json()["activated"] == 40 - len(chosen)
    assert database.tokens_audit.count_documents({"action": "activate 20%"}) == 2


def test_the_rows_that_an_activation_stores_are_copied(cli, database, tokens, run):
    """Also if the import before it has found nothing new."""
    tokens({"7": entry(7)})
    run()
    report = run("--activate", "all", "--json").json()
    assert (report["already_there"], report["activated"]) == (1, 1)
    assert report["backup"] is not None


def test_a_copy_is_a_source(cli, database, tokens, run, tmp_path):
    """The file is gone, and so is the store: the rows come back under their origin."""
    tokens({"7": entry(7), "8": entry(8)})
    copy = run("--backup", str(tmp_path / "copies"), "--json").json()["backup"]
    assert copy.startswith(str(tmp_path / "copies"))
    database.tokens.delete_many({})
    tokens.path.unlink()
    ran = cli.run("import", "token-files", copy, "--provider", "xero", "--json")
    assert (ran.code, ran.json()["imported"], ran.json()["source"]) == (0, 2, str(tokens.path))
    tokens({"7": entry(7), "8": entry(8)})
    assert run("--json").json()["found"] == 2
    ran = cli.run("import", "token-files", copy, "--provider", "xero", "--activate", "all")
    assert (ran.code, "is a copy, which can't show" in ran.err) == (1, True)
    ran = cli.run("import", "jsonl", copy)
    assert (ran.code, "copy of rows in the layout token-files" in ran.err) == (2, True)


def test_only_some_accounts_and_a_report_file(database, tokens, run, tmp_path):
    """A name that no row has fails the command; the report has everything."""
    tokens({"7": entry(7), "8": entry(8)})
    ran = run("--only", "8", "--only", "nobody", "--report", str(tmp_path / "report.json"))
    assert (ran.code, "--only nobody: no row belongs to it" in ran.err) == (1, True)
    assert states(database) == {"xero:8": "paused"}
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["found"], report["not_found"]) == (1, ["nobody"])
    assert (tmp_path / "report.json").stat().st_mode & 0o777 == 0o600


def test_the_consents_date_is_kept(database, tokens, run):
    """For rows that don't say it."""
    at = wall_clock.now() - timedelta(days=30)
    tokens({"7": entry(7)})
    assert run("--consented-at", at.isoformat()).code == 0
    assert run("--consented-at", "soon").code == 2
    assert run("--consented-at", (wall_clock.now() + HOUR).isoformat()).code == 2


def sealed(text):
    iv = os.urandom(16)
    made = AESGCM(KEY).encrypt(iv, text.encode(), None)
    parts = {"encrypted": made[:-16].hex(), "iv": iv.hex(), "authTag": made[-16:].hex()}
    return json.dumps(parts)


def document(company, **more):
    return {
        "companyId": company,
        "service": "xero",
        "encryptedAccessToken": sealed(f"canary-old-access-{company}"),
        "encryptedRefreshToken": sealed(f"canary-old-refresh-{company}"),
        "expiresAt": wall_clock.now() + HOUR,
        "apiDomain": "x",
        **more,
    }


@pytest.fixture
def encrypted(cli, mongod, database, monkeypatch):
    """Import the application's encrypted documents, with a key."""
    monkeypatch.setenv("TOKEN_ENCRYPTION_KEY", KEY.hex())
    monkeypatch.setenv("WRONG_KEY", "00" * 32)
    uri = mongod.replace("/?", f"/{database.name}?")

    def run(*options, key="TOKEN_ENCRYPTION_KEY"):
        ran = cli.run("import", "encrypted-mongodb", uri, "--key-env", key, *options)
        assert "canary-old" not in ran.out + ran.err
        return ran

    return run


def test_encrypted_documents_become_tokens(cli, database, encrypted):
    """Their other fields lie in the origin, sealed, with their types."""
    database.auth_tokens.insert_many([document(company) for company in (11, 12)])
    ran = encrypted("--activate", "all", "--json")
    assert (ran.code, ran.json()["imported"], ran.json()["activated"]) == (0, 2, 2)
    stored = database.tokens.find_one("xero:11")
    assert (
        cli.ring.open(stored["refresh_token"], token_id="xero:11", field="refresh_token")
        == "canary-old-refresh-11"
    )
    assert timedelta(minutes=50) < stored["due_at"] - wall_clock.now() < HOUR
    rest = cli.ring.open(stored["origin"]["rest"], token_id="xero:11", field="origin_rest")
    assert '"$oid"' in rest
    assert "$date" in rest


def test_a_wrong_key_is_said_once_and_nothing_is_stored(database, encrypted, tmp_path):
    """Not once for each row. A truncated tag is one row's fault."""
    database.auth_tokens.insert_many([document(company) for company in range(10)])
    for options in ((), ("--dry-run",)):
        ran = encrypted(*options, key="WRONG_KEY")
        assert (ran.code, ran.err.count("\n")) == (1, 1)
        assert "the key opens none of the 10 rows" in ran.err
    assert database.tokens.count_documents({}) == 0
    assert not (tmp_path / "state" / "imports").exists()
    short = json.loads(sealed("canary-old-x"))
    short["authTag"] = short["authTag"][:24]
    database.auth_tokens.update_one({"companyId": 3}, {"$set": {"encryptedRefreshToken": json.dumps(short)}})
    report = encrypted("--json").json()
    assert report["imported"] == 9
    (refused,) = report["refused"]
    assert refused["row"] == "xero:3"
    assert "encryptedRefreshToken" in refused["why"]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ('{"7": {"accessToken": "canary-old', "it is not complete JSON"),
        ("", "it is not complete JSON"),
        ("{}", "there are no rows in"),
        ('{"7": 1}', "7: "),
        ("[1, 2]", "it is not an object of entries"),
        (json.dumps({str(n): {"text": "x" * 1000} for n in range(10_000)}), "10,000"),
    ],
    ids=["half", "empty", "none", "number", "list", "other data"],
)
def test_other_data_is_refused_with_a_sentence(database, tokens, run, content, why):
    """Half-written, empty, of another shape, ten megabytes of something else: nothing is stored."""
    tokens.path.write_text(content)
    ran = run()
    assert ran.code == 1
    assert why in ran.out + ran.err
    assert database.tokens.count_documents({}) == 0


def test_a_full_disk_stores_nothing_that_is_not_copied(cli, database, tokens, run):
    """The sentence names the directory; with room again, the same command finishes."""
    tokens({str(number): entry(number, note="x" * 500) for number in range(600)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (580_000, before[1]))
    try:
        ran = run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert ran.code == 1
    assert "the sealed copy of the rows can't be written to" in ran.err
    assert database.tokens.count_documents({}) == 500
    report = run("--json").json()
    assert (report["imported"], report["already_there"]) == (100, 500)


@pytest.mark.parametrize(
    ("options", "code", "why"),
    [
        (("nope", "x.json"), 2, "layout 'nope' is unknown. Known: "),
        (("token-files", "missing.json", "--provider", "xero"), 1, "there is no such file"),
        (("token-files", "mongodb://localhost/x"), 2, "reads files"),
        (("encrypted-mongodb", "mongodb://127.0.0.1:1/app?serverSelectionTimeoutMS=100"), 2, "--key-env"),
        (
            (
                "encrypted-mongodb",
                "mongodb://127.0.0.1:1/app?serverSelectionTimeoutMS=100",
                "--key-env",
                "OLD_KEY",
            ),
            69,
            "127.0.0.1:1",
        ),
        (("token-files", "x.json", "--activate", "110%"), 2, "is not a share"),
        (("token-files", "x.json", "--activate", "some"), 2, "is not a share"),
    ],
)
def test_what_can_not_be_opened_is_one_sentence(cli, monkeypatch, options, code, why):
    """With the exit code of its kind."""
    monkeypatch.setenv("OLD_KEY", KEY.hex())
    ran = cli.run("import", *options)
    assert (ran.code, why in ran.err) == (code, True), ran.err


@pytest.mark.parametrize(
    ("provider", "why"),
    [
        ("google", "provider 'google' is not configured; add a section [providers.google]"),
        ("gogle", "provider 'gogle' is unknown; --map FIELD.gogle=NAME"),
    ],
)
def test_a_provider_that_nothing_can_renew_is_refused(cli, database, tokens, provider, why):
    """Each row, with what to do."""
    tokens({"7": entry(7)})
    ran = cli.run("import", "token-files", str(tokens.path), "--provider", provider, "--json")
    assert (ran.code, ran.json()["refused"][0]["why"].startswith(why)) == (1, True), ran.out
