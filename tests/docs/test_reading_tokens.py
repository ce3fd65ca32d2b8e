"""The code in docs/reading-tokens.md, run as it stands there."""

import ast
import base64
import hashlib
import importlib
import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from pymongo import MongoClient
from pymongo.collection import Collection

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.token_document import token_of
from daemon.domain.due import Moment, Timing, first_look
from daemon.domain.provider import Provider
from daemon.domain.token import State
from daemon.runtime.config.providers.definitions import shipped
from tests.support import wall_clock

DOCUMENT = "reading-tokens.md"
VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors", "sealed.json").read_text())
MASTER = hashlib.sha256(b"for these tests").digest()
ID = "xero:company-7"
NOW = wall_clock.now().replace(microsecond=0)
RING = KeyRing({"2026-11": MASTER}, active="2026-11")
READER = {
    "field": "access_token",
    "key_id": "2026-11",
    "key": base64.b64encode(RING.field_key("access_token")).decode(),
}
_SEAL = RING.writer_seal("refresh_token")
WRITER = {
    "field": "refresh_token",
    "key_id": "2026-11",
    "public_key": base64.b64encode(_SEAL.public_key).decode(),
    "mac_key": base64.b64encode(_SEAL.mac_key).decode(),
    "fingerprint_key": base64.b64encode(RING.field_key("grant_fingerprint")).decode(),
}
LIFETIME, WINDOW = timedelta(days=1), timedelta(minutes=5)  # no run of the tests outlasts them

Document = dict[str, Any]
Sheets = Callable[[str], ModuleType]


@pytest.fixture
def sheets(
    tmp_path: Path, write_files: Callable[[str, Path], list[str]], monkeypatch: pytest.MonkeyPatch
) -> Sheets:
    """Imports the document's Python files by name."""
    written = [*write_files(DOCUMENT, tmp_path), *write_files("sealing.md", tmp_path)]
    names = [Path(name).stem for name in written if name.endswith(".py")]
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module


@pytest.fixture
def node(tmp_path: Path, write_files: Callable[[str, Path], list[str]]) -> Callable[..., Any]:
    """Runs a piece of JavaScript beside the document's files, with JSON in and out."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed")
    write_files(DOCUMENT, tmp_path)

    def run(code: str, given: object = None) -> Any:
        Path(tmp_path, "test.mjs").write_text(
            "import { readFileSync } from 'node:fs'\n"
            "const given = JSON.parse(readFileSync(0, 'utf8'))\n"
            f"let result\n{code}\nconsole.log(JSON.stringify(result))\n"
        )
        done = subprocess.run(
            [program, "test.mjs"],
            cwd=tmp_path,
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def tokens(mongod: str, database_name: str) -> Iterator[Collection[Document]]:
    """The collection, as an application sees it."""
    with MongoClient[Document](mongod, tz_aware=True) as client:
        yield client[database_name]["tokens"]


@pytest.fixture
def keyring() -> KeyRing:
    return KeyRing({"2026-11": MASTER}, active="2026-11")


@pytest.fixture
def readers(keyring: KeyRing) -> Document:
    return {"2026-11": reader_of("2026-11", keyring.field_key("access_token"), "access_token")}


def reader_of(key_id: str, field_key: bytes, field: str) -> Document:
    """What `refreshd keys reader` prints."""
    return {"field": field, "key_id": key_id, "key": base64.b64encode(field_key).decode()}


def vector_reader(case: Document) -> Document:
    ring = KeyRing({case["key_id"]: bytes.fromhex(case["master_hex"])}, active=case["key_id"])
    return reader_of(case["key_id"], ring.field_key(case["field"]), case["field"])


def stored(keyring: KeyRing, **other: object) -> Document:
    """A document as refreshd keeps it."""
    return {
        "_id": ID,
        "provider": "xero",
        "account": "company-7",
        "state": "active",
        "grant": "refresh_token",
        "access_token": keyring.seal("at-1", token_id=ID, field="access_token"),
        "refresh_token": keyring.seal("rt-1", token_id=ID, field="refresh_token"),
        "issued_at": NOW,
        "expires_at": NOW + LIFETIME,
        "refresh_expires_at": None,
        "due_at": NOW + LIFETIME - WINDOW,
        "lease": None,
        "doubt": None,
        "revision": 7,
        "failures": 0,
        "last_failure": None,
        "vars": {},
        "meta": {"mine": 1},
        **other,
    }


def response(name: str, *, expires_in: int = 86_400) -> Document:
    """A provider's token response."""
    return {"access_token": f"at-{name}", "refresh_token": f"rt-{name}", "expires_in": expires_in}


# ---------------------------------------------------------------- Python: opening and reading


def test_the_python_needs_nothing_but_cryptography_and_pymongo(
    blocks: Callable[[str, str], list[str]],
) -> None:
    """Above all it doesn't import this package."""
    code = [block for block in blocks(DOCUMENT, "python") if "refreshd_reader" not in block]
    own = {"read_token", "seal_writer"}
    imported = set()
    for block in code:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(str(node.module).partition(".")[0])
    assert len(code) == 4
    assert imported - own - set(sys.stdlib_module_names) == {"cryptography", "pymongo"}


@pytest.mark.parametrize("case", VECTORS["opens"], ids=lambda case: case["token_id"][:12])
def test_the_python_opens_every_vector(sheets: Sheets, case: Document) -> None:
    """With the field's key alone."""
    reader = vector_reader(case)
    assert base64.b64decode(reader["key"]).hex() == case["field_key_hex"]
    opened = sheets("read_token").open_sealed(case["sealed"], case["token_id"], {case["key_id"]: reader})
    assert opened == case["plaintext"]


@pytest.mark.parametrize("case", VECTORS["refused"], ids=lambda case: case["why"])
def test_the_python_refuses_what_must_be_refused(sheets: Sheets, case: Document) -> None:
    """An altered, moved or badly encoded text doesn't open."""
    readers = {case["key_id"]: vector_reader(case)}
    with pytest.raises((ValueError, InvalidTag)):
        sheets("read_token").open_sealed(case["sealed"], case["token_id"], readers)


def test_a_reader_key_opens_no_refresh_token(sheets: Sheets, keyring: KeyRing, readers: Document) -> None:
    """Even when somebody copies the sealed refresh token to where the access token stands."""
    sealed = keyring.seal("rt-1", token_id=ID, field="refresh_token")
    with pytest.raises(InvalidTag):
        sheets("read_token").open_sealed(sealed, ID, readers)


def test_the_python_example_reads_a_token(
    sheets: Sheets,
    tokens: Collection[Document],
    mongod: str,
    keyring: KeyRing,
    readers: Document,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole of it: the URI from the environment, the readers' file, the token, the header."""
    tokens.insert_one(stored(keyring))
    other_key = {**readers["2026-11"], "key_id": "2027-05"}
    lines = [json.dumps(reader) for reader in (other_key, readers["2026-11"])]
    Path("readers.jsonl").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("MONGODB_URI", mongod.replace("/?", f"/{tokens.database.name}?"))
    sheets("read_token")
    ran = runpy.run_path("use_token.py")
    ran["client"].close()
    assert ran["headers"] == {"Authorization": "Bearer at-1"}


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"state": "needs_reauth"}, "needs_reauth"),
        ({"state": "paused"}, "paused"),
        ({"expires_at": NOW - timedelta(seconds=1)}, "expired"),
        ({"_id": "xero:another"}, "not stored"),
    ],
)
def test_the_python_gives_no_token_that_may_not_be_used(
    sheets: Sheets,
    tokens: Collection[Document],
    keyring: KeyRing,
    readers: Document,
    other: Document,
    why: str,
) -> None:
    """It says why instead."""
    tokens.insert_one(stored(keyring, **other))
    with pytest.raises(LookupError, match=why):
        sheets("read_token").read_token(tokens, ID, readers)


def test_a_token_that_never_expires_may_be_used(
    sheets: Sheets, tokens: Collection[Document], keyring: KeyRing, readers: Document
) -> None:
    """Null means never."""
    tokens.insert_one(stored(keyring, expires_at=None))
    assert sheets("read_token").read_token(tokens, ID, readers)[0] == "at-1"


# ---------------------------------------------------------------- after a 401


def test_after_a_401_the_token_is_due_now_and_nothing_else_has_changed(
    sheets: Sheets, tokens: Collection[Document], keyring: KeyRing, readers: Document
) -> None:
    """The lease and the revision are the daemon's."""
    before = stored(keyring)
    tokens.insert_one(before)
    with pytest.raises(TimeoutError):
        sheets("after_401").renewed(tokens, ID, before["access_token"], readers, patience=0)
    after = tokens.find_one({"_id": ID}) or {}
    assert NOW <= after.pop("due_at") <= wall_clock.now()
    before.pop("due_at")
    assert after == before


def test_after_a_401_a_renewal_that_has_happened_meanwhile_is_used_and_none_is_asked_for(
    sheets: Sheets, tokens: Collection[Document], keyring: KeyRing, readers: Document
) -> None:
    """Many workers get the same 401; the first one asks for all."""
    renewed = stored(keyring)
    tokens.insert_one(renewed)
    earlier = keyring.seal("at-0", token_id=ID, field="access_token")
    found = sheets("after_401").renewed(tokens, ID, earlier, readers, patience=0)
    assert found == ("at-1", renewed["access_token"])
    assert tokens.find_one({"_id": ID}) == renewed


@pytest.mark.parametrize(
    "other",
    [
        {"state": "needs_reauth", "due_at": None},
        {"state": "paused", "due_at": None},
        {"last_failure": {"kind": "unparsed", "code": "unparsed", "message": "?", "at": NOW}, "due_at": None},
        {"last_failure": {"kind": "unavailable", "code": "429", "message": "slow down", "at": NOW}},
    ],
)
def test_after_a_401_a_token_that_rests_is_left_alone(
    sheets: Sheets, tokens: Collection[Document], keyring: KeyRing, readers: Document, other: Document
) -> None:
    """It waits for a person, or for the time that the daemon has set."""
    resting = stored(keyring, **other)
    tokens.insert_one(resting)
    with pytest.raises((LookupError, TimeoutError)):
        sheets("after_401").renewed(tokens, ID, resting["access_token"], readers, patience=0)
    assert tokens.find_one({"_id": ID}) == resting


# ---------------------------------------------------------------- after a consent


def test_a_new_token_is_one_that_the_daemon_reads_and_schedules(
    sheets: Sheets, tokens: Collection[Document], keyring: KeyRing, readers: Document
) -> None:
    """It is not refreshed at once, since it is fresh."""
    sheets("write_token").write_consent(tokens, "xero", "company-7", response("new"), NOW, READER, WRITER)
    document = tokens.find_one({"_id": ID}) or {}
    token = token_of(document, keyring)
    assert (token.provider, token.account, token.state) == ("xero", "company-7", State.ACTIVE)
    assert token.refresh_token is not None
    assert token.refresh_token.reveal() == "rt-new"
    assert (token.expires_at, token.due_at) == (NOW + LIFETIME, NOW + LIFETIME - WINDOW)
    assert sheets("read_token").read_token(tokens, ID, readers)[0] == "at-new"
    provider = Provider(definition=shipped()["xero"], client_id="c", client_secret=None, share=1)
    change = first_look(provider, token, moment=Moment(NOW, 0.0, Timing()))
    assert change is not None
    assert change.due_at == NOW + LIFETIME - WINDOW


def test_a_new_consent_replaces_exactly_the_ten_fields_of_the_old_grant(
    sheets: Sheets, tokens: Collection[Document], keyring: KeyRing, readers: Document
) -> None:
    """The lease, the revision and the application's own fields stay."""
    failure = {"kind": "rejected", "code": "invalid_grant", "message": "revoked", "at": NOW}
    lease = {"owner": "i", "claim": "c", "since": NOW, "until": NOW, "hold": NOW}
    before = stored(
        keyring,
        state="needs_reauth",
        due_at=None,
        failures=3,
        last_failure=failure,
        lease=lease,
        refresh_expires_at=NOW,
        issued_at=NOW - timedelta(days=1),
        expires_at=NOW - timedelta(hours=23),
    )
    tokens.insert_one(before)
    sheets("write_token").write_consent(tokens, "xero", "company-7", response("again"), NOW, READER, WRITER)
    after = tokens.find_one({"_id": ID}) or {}
    assert {name for name in after if after[name] != before.get(name)} == {
        "access_token",
        "refresh_token",
        "grant_fingerprint",
        "expires_at",
        "issued_at",
        "refresh_expires_at",
        "state",
        "failures",
        "last_failure",
        "due_at",
    }
    assert after.keys() == before.keys() | {"grant_fingerprint"}
    token = token_of(after, keyring)
    assert token.refresh_token is not None
    assert token.refresh_token.reveal() == "rt-again"
    assert sheets("read_token").read_token(tokens, ID, readers)[0] == "at-again"


def test_a_refresh_token_that_another_token_holds_is_not_written(
    sheets: Sheets, tokens: Collection[Document]
) -> None:
    """Two documents would spend it twice."""
    write = sheets("write_token").write_consent
    write(tokens, "xero", "company-7", response("new"), NOW, READER, WRITER)
    with pytest.raises(LookupError):
        write(tokens, "xero", "company-8", response("new"), NOW, READER, WRITER)
    write(tokens, "xero", "company-7", response("new"), NOW, READER, WRITER)
    assert tokens.count_documents({}) == 1


def test_a_short_lived_consent_is_not_due_at_once(sheets: Sheets, tokens: Collection[Document]) -> None:
    """A third of a short life is its window."""
    fresh = response("short", expires_in=60)
    sheets("write_token").write_consent(tokens, "xero", "company-7", fresh, NOW, READER, WRITER)
    assert (tokens.find_one({"_id": ID}) or {})["due_at"] == NOW + timedelta(seconds=40)


def test_a_response_without_a_refresh_token_is_not_written(
    sheets: Sheets, tokens: Collection[Document]
) -> None:
    """It would put nothing where a refresh token stands."""
    fresh = {"access_token": "at", "expires_in": 60}
    with pytest.raises(KeyError):
        sheets("write_token").write_consent(tokens, "xero", "company-7", fresh, NOW, READER, WRITER)
    assert tokens.count_documents({}) == 0


# ---------------------------------------------------------------- Node


def test_node_opens_every_vector_and_refuses_what_must_be_refused(node: Callable[..., Any]) -> None:
    """The same as the Python does."""
    cases = VECTORS["opens"] + VECTORS["refused"]
    opened = node(
        """
        const { openSealed } = await import('./read-token.mjs')
        const attempt = ({ sealed, token_id, reader }) => {
          try { return openSealed(sealed, token_id, new Map([[reader.key_id, reader]])) } catch { return null }
        }
        result = given.map(attempt)
        """,
        [{**case, "reader": vector_reader(case)} for case in cases],
    )
    assert opened == [case["plaintext"] for case in VECTORS["opens"]] + [None] * len(VECTORS["refused"])


def test_node_reads_only_what_may_be_used(
    node: Callable[..., Any], tmp_path: Path, keyring: KeyRing, readers: Document
) -> None:
    """A stand-in for the driver's collection gives what is stored; it has the driver's types."""
    Path(tmp_path, "readers.jsonl").write_text(json.dumps(readers["2026-11"]) + "\n")
    sealed = stored(keyring)["access_token"]
    results = node(
        """
        const { loadReaders, readToken } = await import('./read-token.mjs')
        const readers = loadReaders('readers.jsonl')
        const ahead = new Date(Date.now() + 60000), past = new Date(Date.now() - 1000)
        const documents = [
          { state: 'active', expires_at: ahead }, { state: 'active', expires_at: null },
          { state: 'active', expires_at: past }, { state: 'needs_reauth', expires_at: ahead }, null,
        ]
        result = []
        for (const found of documents) {
          const tokens = { findOne: async ({ _id }) => found && { _id, access_token: given.sealed, ...found } }
          try { result.push(await readToken(tokens, given.id, readers)) } catch (why) { result.push(why.message) }
        }
        """,
        {"sealed": sealed, "id": ID},
    )
    good = {"token": "at-1", "sealed": sealed}
    assert results == [good, good, f"{ID}: expired", f"{ID}: needs_reauth", f"{ID}: not stored"]


def test_what_node_seals_opens_here(node: Callable[..., Any], keyring: KeyRing) -> None:
    """Under the field's own key, at its own place."""
    sealed = node(
        """
        const { sealAccessToken } = await import('./seal.mjs')
        result = sealAccessToken(given.reader, given.id, given.text)
        """,
        {"text": "värde-€-𝄞", "id": ID, "reader": READER},
    )
    assert keyring.open(sealed, token_id=ID, field="access_token") == "värde-€-𝄞"


def test_the_node_example_that_needs_the_driver_is_well_formed(node: Callable[..., Any]) -> None:
    """The driver isn't installed here, so this much is checked of it: node reads it, up to the missing driver."""
    error = node("result = await import('./use-token.mjs').then(() => '', (why) => why.message)")
    assert "'mongodb'" in error
