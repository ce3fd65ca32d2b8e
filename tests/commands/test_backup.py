"""`refreshd backup`: what an archive holds, what a restore brings back, and one clear sentence for each mistake."""

import base64
import errno
import hashlib
import io
import json
import os
import signal
import stat
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import bson
import pyrage
import pytest
from bson import Binary, Code, DatetimeMS, Decimal128, Int64, ObjectId, Regex, Timestamp

from tests.support import wall_clock

HOUR = timedelta(hours=1)
# Types and texts that JSON doesn't have; the last has a name that extended JSON would read as a type.
ODD = [
    {"whole": 1, "long": Int64(1), "large": 2**40, "real": 1.0, "nan": float("inf")},
    {
        "decimal": Decimal128("1.10"),
        "id": ObjectId(),
        "binary": Binary(b"\0\xff", 4),
        "code": Code("x", {"a": 1}),
    },
    {
        "pattern": Regex("^a", "i"),
        "stamp": Timestamp(1, 2),
        "never": DatetimeMS(253402300800000),
        "none": None,
    },
    {"list": [{"a": [1, 2.5, "x"]}], "text": 'quote " line\n\u2028 \U0001f600', "": {"": ""}},
    {"nested": {"$date": "no date", "$numberInt": "7"}},
]


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    directory = tmp_path / "backups"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def key(cli, tmp_path: Path) -> Path:
    """An age identity, made by the command."""
    path = tmp_path / "backup.key"
    path.touch(mode=0o600)
    path.write_text(cli.run("backup", "key").out)
    return path


def created(cli, backups: Path, *options: str) -> dict[str, Any]:
    ran = cli.run("backup", "create", "--to", str(backups), *options, "--json")
    assert ran.code == 0, ran.err
    return ran.json()


def restored(cli, file: str, *options: str) -> dict[str, Any]:
    ran = cli.run("backup", "restore", file, *options, "--json")
    assert ran.code == 0, ran.err
    return ran.json()


def documents(database) -> dict[str, list[bytes]]:
    """Every document that a backup holds, byte for byte; not the audit, which grows."""
    raw = bson.CodecOptions(document_class=bson.raw_bson.RawBSONDocument)
    return {
        name: [one.raw for one in database[name].with_options(raw).find().sort("_id")]
        for name in ("tokens", "tokens_providers", "tokens_keys", "tokens_notes")
    }


def lose(database) -> None:
    for name in database.list_collection_names():
        database[name].drop()


def archived(database, name: str, **fields: Any) -> None:
    database.tokens.update_one({"_id": name}, {"$set": fields})


def test_an_archive_is_encrypted_private_and_named_after_its_store(cli, database, backups: Path, key: Path):
    """It opens with the identity, by age's own library; the store's secrets are not in it, only sealed texts."""
    cli.add("xero:a")
    record = created(cli, backups, "--key", str(key))
    (file,) = backups.iterdir()
    assert (record["file"], record["tokens"], record["snapshot"]) == (str(file), 1, True)
    assert file.name.startswith(f"{database.name}.tokens-")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert record["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    identity = pyrage.x25519.Identity.from_str(key.read_text().split()[-1])
    text = pyrage.decrypt(file.read_bytes(), [identity])
    lines = [json.loads(line) for line in text.splitlines()]
    token = next(line for line in lines if line.get("_id") == "xero:a")
    assert token["refresh_token"].startswith("v1.one.")
    assert lines[-1]["key_ids"] == ["one"]
    assert lines[-1]["counts"]["tokens"] == 1
    assert b"canary" not in text.replace(b"v1.", b"")


def test_what_is_lost_comes_back_byte_for_byte(cli, database, backups: Path, key: Path):
    """Every type that MongoDB has, pauses, check values, and a collection that a later version may add."""
    cli.add("xero:a")
    cli.run("pause", "acme")
    for number, odd in enumerate(ODD):
        database.tokens.insert_one({"_id": f"odd {number}", "provider": "xero", **odd})
        database.tokens_notes.insert_one({"_id": odd.get("id", number), **odd})
    database.tokens_notes.insert_one({"_id": {"a": 1}, "text": "x"})
    database.tokens_instances.insert_one({"_id": "running"})
    before = documents(database)
    file = created(cli, backups, "--key", str(key))["file"]
    lose(database)
    report = restored(cli, file, "--identity", str(key), "--lost-at", "0s")
    assert (report["restored"], report["paused"], report["skipped"]) == (1 + len(ODD), [], [])
    assert documents(database) == before
    assert database.tokens_instances.find_one() is None
    again = restored(cli, file, "--identity", str(key), "--lost-at", "0s")
    assert (again["restored"], again["unchanged"], again["others"]) == (0, 1 + len(ODD), 0)


def test_access_keys_come_back_disabled(cli, database, backups: Path):
    """One may have been revoked after the backup. Nothing else of them changes, and a present key stays as it is."""
    for name in ("billing", "reports"):
        assert cli.run("access", "create", name, "--tokens", "xero:*", "--can", "read").code == 0
    raw = bson.encode({"_id": "odd", "name": {"a": [1]}, "can": "caf?"}).replace(b"caf?", b"caf\xe9")
    database.tokens_access.insert_one(bson.raw_bson.RawBSONDocument(raw))
    before = {one["name"]: one for one in database.tokens_access.find({"generation": 1})}
    file = created(cli, backups, "--unencrypted")["file"]
    database.tokens_access.delete_many({"name": {"$ne": "reports"}})
    trial = cli.run("backup", "restore", file, "--lost-at", "0s", "--dry-run")
    assert "2 access keys would come back disabled" in trial.err
    ran = cli.run("backup", "restore", file, "--lost-at", "0s")
    assert (ran.code, "2 access keys came back disabled" in ran.err) == (0, True)
    after = {one["name"]: one for one in database.tokens_access.find({"generation": 1})}
    assert after.pop("reports") == before.pop("reports")
    assert after["billing"].pop("disabled_at") > wall_clock.now() - HOUR
    assert after["billing"].items() <= before["billing"].items()
    assert cli.run("access", "enable", "billing").code == 0
    again = cli.run("backup", "restore", file, "--lost-at", "0s")
    assert (again.code, "access keys" in again.err) == (0, False)
    assert database.tokens_access.find_one({"name": "billing"}) == before["billing"]


def test_a_document_that_is_not_utf8_comes_back_too(cli, database, backups: Path):
    """A driver of another language wrote it."""
    raw = bson.encode({"_id": "xero:b", "provider": "xero", "meta": "caf?"}).replace(b"caf?", b"caf\xe9")
    database.tokens.insert_one(bson.raw_bson.RawBSONDocument(raw))
    file = created(cli, backups, "--unencrypted")["file"]
    lose(database)
    assert restored(cli, file, "--lost-at", "0s")["restored"] == 1
    assert documents(database)["tokens"] == [raw]


def test_a_token_that_may_be_spent_rests_and_can_be_resumed(cli, database, backups: Path):
    """Due before the loss, or asked for at the backup. Those that the provider still accepts, or that nothing replaces, go on."""
    for name in ("due", "later", "asked", "doubted", "dead", "watched"):
        cli.add(
            f"xero:{name}", {"access_token": f"a-{name}", "refresh_token": f"r-{name}", "expires_in": 1800}
        )
    for name in ("due", "new"):
        cli.add(
            f"acme:{name}", {"access_token": f"b-{name}", "refresh_token": f"s-{name}"}, "--var", "company=x"
        )
    now = wall_clock.now()
    past, since = now - 2 * HOUR, now - 3 * HOUR
    archived(database, "xero:due", due_at=past)
    lease = {"owner": "i", "claim": "c", "since": since, "until": since, "hold": since}
    archived(database, "xero:asked", lease=lease)
    archived(
        database, "xero:doubted", doubt={"since": since, "tries": 1, "asker": None}, issued_at=since - HOUR
    )
    archived(database, "xero:dead", state="needs_reauth", due_at=None)
    archived(database, "xero:watched", refresh_token=None, due_at=past)
    archived(database, "acme:due", due_at=past)
    archived(database, "acme:new", due_at=now + HOUR)
    before = {one["_id"]: one for one in database.tokens.find()}
    file = created(cli, backups, "--unencrypted")["file"]
    lose(database)
    resting = {"xero:due", "xero:asked", "xero:doubted", "acme:due"}
    dry = restored(cli, file, "--lost-at", "0s", "--dry-run")
    assert database.tokens.find_one() is None
    report = restored(cli, file, "--lost-at", "0s")
    assert {one["id"] for one in report["paused"]} == resting
    assert {one["why"] for one in report["paused"]} == {"maybe_spent"}
    assert {**dry, "dry_run": False} == report
    for one in database.tokens.find():
        if one["_id"] not in resting:
            assert one == before[one["_id"]]
            continue
        assert (one["state"], one["due_at"], one["revision"]) == ("paused", None, 2)
        assert (one["last_failure"]["kind"], one["last_failure"]["code"]) == ("in_doubt", "maybe_spent")
    assert "restored from a backup of" in cli.run("list", "--state", "paused").out
    again = restored(cli, file)
    assert ({one["id"] for one in again["paused"]}, again["restored"]) == (resting, 0)
    cli.run("resume", "xero:due")
    assert database.tokens.find_one({"_id": "xero:due"})["state"] == "active"
    after = restored(cli, file)
    assert ({one["id"] for one in after["paused"]}, after["newer_kept"]) == (resting - {"xero:due"}, 1)


def test_a_grace_that_has_not_ended_and_a_provider_that_is_not_configured(cli, database, backups: Path):
    """Within the grace the replaced token is still accepted. Nothing is known of a stranger, so its tokens rest."""
    cli.add("xero:a")  # Xero's grace is half an hour
    archived(database, "xero:a", due_at=wall_clock.now() - timedelta(minutes=10))
    database.tokens.insert_one(
        {"_id": "gone:a", "provider": "gone", "account": "a", "state": "active", "refresh_token": "x",
         "due_at": wall_clock.now() - timedelta(minutes=1)}
    )  # fmt: skip
    file = created(cli, backups, "--unencrypted")["file"]
    lose(database)
    report = restored(cli, file, "--lost-at", "0s")
    assert [one["id"] for one in report["paused"]] == ["gone:a"]
    assert "revision" not in database.tokens.find_one({"_id": "gone:a"})
    assert [one["id"] for one in restored(cli, file)["paused"]] == ["gone:a"]


def test_nothing_newer_is_replaced_and_what_is_older_is(cli, database, backups: Path):
    """By revision; where an application wrote no revision, by its date."""
    for name in ("same", "newer", "older", "gone"):
        cli.add(
            f"xero:{name}", {"access_token": f"a-{name}", "refresh_token": f"r-{name}", "expires_in": 3600}
        )
    database.tokens.update_many({}, {"$unset": {"events": ""}})  # as if a daemon had relayed them
    archived(database, "xero:older", revision=5)
    mark = wall_clock.now()
    for name, at in (("by-date", mark), ("by-date-newer", mark), ("no-date", None)):
        plain = {"provider": "xero", "account": name, "state": "paused", "text": "archived"}
        database.tokens.insert_one({"_id": f"xero:{name}", **plain, **({"updated_at": at} if at else {})})
    file = created(cli, backups, "--unencrypted")["file"]
    archived(database, "xero:newer", revision=2, scope="new")
    archived(database, "xero:older", revision=4, scope="old")
    archived(database, "xero:by-date", text="changed", updated_at=mark - HOUR)
    archived(database, "xero:by-date-newer", text="changed", updated_at=mark + HOUR)
    archived(database, "xero:no-date", text="changed")
    database.tokens.delete_one({"_id": "xero:gone"})
    report = restored(cli, file)
    assert (report["restored"], report["newer_kept"], report["unchanged"]) == (3, 3, 1)
    found = {one["_id"]: one for one in database.tokens.find()}
    assert (found["xero:newer"]["scope"], found["xero:older"].get("scope")) == ("new", None)
    assert (found["xero:older"]["revision"], found["xero:by-date"]["text"]) == (5, "archived")
    assert (found["xero:by-date-newer"]["text"], found["xero:no-date"]["text"]) == ("changed", "changed")


def test_what_has_ended_or_is_stored_under_another_id_stays_out(cli, database, backups: Path, tmp_path: Path):
    """Two documents would present one refresh token."""
    for name in ("moved", "ended", "printed", "fine"):
        cli.add(
            f"xero:{name}", {"access_token": f"a-{name}", "refresh_token": f"r-{name}", "expires_in": 3600}
        )
    file = created(cli, backups, "--unencrypted")["file"]
    print_ = database.tokens.find_one({"_id": "xero:printed"})["grant_fingerprint"]
    database.tokens.delete_many({})
    cli.add("xero:elsewhere", {"access_token": "b", "refresh_token": "r-moved", "expires_in": 3600})
    ended = tmp_path / "ended"
    ended.write_text(f"xero:ended\n\n{print_}\n")
    report = restored(cli, file, "--ended", str(ended))
    assert {one["id"]: one["why"] for one in report["skipped"]} == {
        "xero:moved": "duplicate_grant",
        "xero:ended": "ended",
        "xero:printed": "ended",
    }
    assert {one["_id"] for one in database.tokens.find()} == {"xero:elsewhere", "xero:fine"}


def test_what_was_revoked_since_the_backup_does_not_come_back(cli, database, backups: Path):
    """Neither beside its tombstone nor under another id, nor after the tombstone. An empty store shows nothing of it."""
    for name in ("buried", "copied", "forgotten", "going"):
        cli.add(
            f"xero:{name}", {"access_token": f"a-{name}", "refresh_token": f"r-{name}", "expires_in": 3600}
        )
    prints = [database.tokens.find_one({"_id": "xero:copied"})["grant_fingerprint"]]
    assert cli.run("revoke", "xero:going", "--yes").code == 0
    file = created(cli, backups, "--unencrypted")["file"]
    assert cli.run("revoke", "xero:buried", "xero:forgotten", "--yes").code == 0
    later = wall_clock.now() + HOUR
    tombstone = {"provider": "xero", "state": "revoked", "forget_at": later, "updated_at": later}
    for name, fingerprints in (("buried", []), ("elsewhere", prints)):
        database.tokens.replace_one(
            {"_id": f"xero:{name}"},
            {**tombstone, "account": name, "revision": 3, "fingerprints": fingerprints},
            upsert=True,
        )
    database.tokens.delete_many({"_id": {"$in": ["xero:copied", "xero:forgotten", "xero:going"]}})
    report = restored(cli, file)
    assert {one["id"]: (one["why"], one.get("detail", "")) for one in report["skipped"]} == {
        "xero:copied": ("ended", "xero:elsewhere"),
        "xero:forgotten": ("ended", ""),
    }
    assert report["newer_kept"] == 1
    states = {one["_id"]: one["state"] for one in database.tokens.find()}
    assert states == {"xero:buried": "revoked", "xero:elsewhere": "revoked", "xero:going": "revoking"}
    lose(database)
    assert restored(cli, file, "--lost-at", "0s")["restored"] == 4
    assert database.tokens.count_documents({"state": "active"}) == 3


def test_an_empty_store_needs_the_time_of_its_loss(cli, database, backups: Path):
    """And one that can be right."""
    cli.add("xero:a")
    file = created(cli, backups, "--unencrypted")["file"]
    lose(database)
    for options, word in (((), "contains no token"), (("--lost-at", "2h"), "between"),
                          (("--lost-at", "2999-01-01T00:00:00Z"), "between")):  # fmt: skip
        ran = cli.run("backup", "restore", file, *options)
        assert (ran.code, word in ran.err, "--lost-at" in ran.err) == (2, True, True)
    assert database.tokens.find_one() is None


def test_a_missing_or_wrong_key_of_the_ring_is_named_and_nothing_written(cli, database, backups: Path):
    """Before anything is stored."""
    cli.add("xero:a")
    file = created(cli, backups, "--unencrypted")["file"]
    lose(database)
    config = cli.config.read_text()
    cli.write(config.replace('active = "one"', 'active = "two"').replace("one = {", "two = {"))
    ran = cli.run("backup", "restore", file, "--lost-at", "0s")
    assert (ran.code, "lacks key 'one'" in ran.err) == (1, True)
    cli.write(config.replace('env = "TEST_KEY"', 'env = "OTHER_KEY"'))
    cli._monkeypatch.setenv("OTHER_KEY", base64.b64encode(hashlib.sha256(b"other").digest()).decode())
    ran = cli.run("backup", "restore", file, "--lost-at", "0s")
    assert (ran.code, "key 'one' can't open" in ran.err) == (1, True), ran.err
    assert database.tokens.find_one() is None


def test_an_archive_of_another_collection_is_said(cli, database, backups: Path):
    cli.add("xero:a")
    file = created(cli, backups, "--unencrypted")["file"]
    cli.write(cli.config.read_text().replace("[state]", 'collection = "others"\n[state]'))
    ran = cli.run("backup", "restore", file, "--lost-at", "0s")
    assert (ran.code, f"the backup is of {database.name}.tokens" in ran.err) == (0, True)
    assert database.others.count_documents({}) == 1


@pytest.fixture
def whole(cli, database, backups: Path, key: Path) -> Path:
    """An archive of several of age's chunks."""
    database.tokens.insert_many(
        [{"_id": f"gone:{number}", "provider": "gone", "text": "x" * 500} for number in range(300)]
    )
    return Path(created(cli, backups, "--key", str(key))["file"])


def test_a_whole_archive_is_verified(cli, whole: Path, key: Path):
    """Without configuration."""
    cli.config.unlink()
    ran = cli.run("backup", "verify", str(whole), "--identity", str(key), "--json")
    assert (ran.json()["ok"], ran.json()["tokens"]) == (True, 300)
    assert "is whole: 300 tokens" in cli.run("backup", "verify", str(whole), "--identity", str(key)).out


def test_one_token_is_not_several(cli, database, backups: Path, key: Path):
    """The first backup of a trial holds one."""
    database.tokens.insert_one({"_id": "gone:1", "provider": "gone"})
    file = str(created(cli, backups, "--key", str(key))["file"])
    assert "is whole: 1 token. " in cli.run("backup", "verify", file, "--identity", str(key)).out


def test_a_damaged_archive_is_named(cli, database, whole: Path, key: Path):
    """Cut, altered, of another kind: exit 1, one sentence, nothing stored."""
    good = whole.read_bytes()
    database.tokens.delete_many({})
    middle = len(good) // 2
    damaged = {
        "cut": good[:-20],
        "cut at a chunk": good[: 65536 + 16 + good.index(b"\n---")],
        "altered": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "header only": good[:60],
        "another kind": b"PK" + good,
        "empty": b"",
    }
    for name, content in damaged.items():
        whole.write_bytes(content)
        for command in ("verify", "restore"):
            more = ("--lost-at", "0s") if command == "restore" else ()
            ran = cli.run("backup", command, str(whole), "--identity", str(key), *more)
            assert (ran.code, len(ran.err.splitlines())) == (1, 1), (name, ran.err)
            assert "damaged" in ran.err or "not a backup" in ran.err, (name, ran.err)
        ran = cli.run("backup", "verify", str(whole), "--identity", str(key), "--json")
        assert (ran.code, ran.json()["ok"]) == (1, False)
    assert database.tokens.find_one() is None


def test_plain_text_that_was_changed_is_not_what_its_manifest_says(cli, backups: Path, database):
    cli.add("xero:a")
    file = Path(created(cli, backups, "--unencrypted")["file"])
    text = file.read_text()
    for changed in (text.replace("xero:a", "xero:b"), text[: text.rindex("{")], text.replace('"format": 1', '"format": 2'),
                    text + "{}\n", text.replace('"refreshd": "collection"', '"refreshd": "x"')):  # fmt: skip
        file.write_text(changed)
        ran = cli.run("backup", "verify", str(file))
        assert (ran.code, "damaged" in ran.err or "has format 2" in ran.err) == (1, True), ran.err


def test_a_wrong_or_missing_identity_is_said(cli, whole: Path, tmp_path: Path):
    other = tmp_path / "other.key"
    other.touch(mode=0o600)
    other.write_text(cli.run("backup", "key").out)
    assert "encrypted for other keys" in cli.run("backup", "verify", str(whole), "--identity", str(other)).err
    ran = cli.run("backup", "verify", str(whole))
    assert (ran.code, "--identity" in ran.err) == (2, True)
    other.write_text("nothing")
    ran = cli.run("backup", "verify", str(whole), "--identity", str(other))
    assert (ran.code, "no age identity" in ran.err) == (2, True)
    ran = cli.run("backup", "verify", str(tmp_path / "none.age"))
    assert (ran.code, "can't be read" in ran.err) == (1, True)


def test_a_file_that_changes_while_it_is_read_is_said(
    cli, whole: Path, key: Path, monkeypatch: pytest.MonkeyPatch
):
    """A copy that has not ended, say."""
    decrypt = pyrage.decrypt_io

    def grows(*given: Any) -> None:
        decrypt(*given)
        with whole.open("ab") as file:
            file.write(b"x")

    monkeypatch.setattr(pyrage, "decrypt_io", grows)
    ran = cli.run("backup", "verify", str(whole), "--identity", str(key))
    assert (ran.code, "changed while it was read" in ran.err) == (1, True)


@pytest.mark.parametrize("encrypted", [True, False])
@pytest.mark.parametrize(
    ("where", "code"), [("write", errno.ENOSPC), ("fsync", errno.ENOSPC), ("write", errno.EIO)]
)
def test_a_full_disk_leaves_nothing_behind(
    cli,
    database,
    backups: Path,
    key: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    code: int,
    encrypted: bool,
):
    """In the middle, or at the end."""
    database.tokens.insert_many(
        [{"_id": f"gone:{n}", "provider": "gone", "text": "x" * 4000} for n in range(500)]
    )
    if where == "fsync":
        monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(code, os.strerror(code))))
    else:
        real = os.fdopen

        def full(descriptor: int, mode: str = "r", *more: Any) -> Any:
            file = real(descriptor, mode, *more)
            if mode == "wb" and stat.S_ISREG(os.fstat(descriptor).st_mode):
                return Full(file, code)
            return file

        monkeypatch.setattr(os, "fdopen", full)
    options = ("--key", str(key)) if encrypted else ("--unencrypted",)
    ran = cli.run("backup", "create", "--to", str(backups), *options)
    word = "disk is full" if code == errno.ENOSPC else "can't be written"
    assert (ran.code, word in ran.err, len(ran.err.splitlines())) == (1, True, 1), ran.err
    assert list(backups.iterdir()) == []


class Full(io.BufferedWriter):
    """A file on a disk with room for 300 KB."""

    def __init__(self, file: Any, code: int) -> None:
        super().__init__(file.detach())
        self._left, self._code = 300_000, code

    def write(self, data: Any) -> int:
        self._left -= len(data)
        if self._left < 0:
            raise OSError(self._code, os.strerror(self._code))
        return super().write(data)


def test_a_target_that_cannot_be_written_is_said(cli, tmp_path: Path):
    for target in (tmp_path / "none", Path("/proc")):
        ran = cli.run("backup", "create", "--to", str(target), "--unencrypted")
        assert (ran.code, "can't be written" in ran.err, len(ran.err.splitlines())) == (1, True, 1), ran.err


def test_a_store_that_cannot_keep_one_moment_is_read_without(cli, database, backups: Path):
    """MongoDB keeps five minutes of history. The archive says that its documents are not of one moment."""
    cli.add("xero:a")
    fault = {
        "failCommands": ["find"],
        "appName": "refreshd",
        "errorCode": 239,
        "namespace": f"{database.name}.tokens",
    }
    database.client.admin.command({"configureFailPoint": "failCommand", "mode": {"times": 1}, "data": fault})
    try:
        record = created(cli, backups, "--unencrypted")
    finally:
        database.client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})
    assert (record["snapshot"], record["tokens"]) == (False, 1)
    assert cli.run("backup", "verify", record["file"], "--json").json()["snapshot"] is False


def test_readers_must_be_named(cli, backups: Path, key: Path):
    for options in (
        (),
        ("--unencrypted", "--key", str(key)),
        ("--recipient", "age1nobody"),
        ("--key", "/nowhere"),
    ):
        ran = cli.run("backup", "create", "--to", str(backups), *options)
        assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert list(backups.iterdir()) == []


def test_a_backup_that_was_killed_is_made_by_the_next_run(cli, database, backups: Path):
    """Its remains are removed."""
    database.tokens.insert_many(
        [{"_id": f"gone:{n}", "provider": "gone", "text": "x" * 4000} for n in range(20_000)]
    )
    process = cli.process("backup", "create", "--to", str(backups), "--unencrypted")
    limit = time.monotonic() + 30
    while not any(one.name.endswith(".partial") and one.stat().st_size for one in backups.iterdir()):
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [one.name.endswith(".partial") for one in backups.iterdir()] == [True]
    record = created(cli, backups, "--unencrypted")
    assert [str(one) for one in backups.iterdir()] == [record["file"]]
    assert record["tokens"] == 20_000


@pytest.mark.parametrize("share", [0.01, 0.3, 0.8])
def test_a_restore_that_was_killed_is_finished_by_the_next_run(cli, database, backups: Path, share: float):
    """The end is that of an undisturbed run: the same documents, and every token that may be spent rests."""
    count, now = 4000, wall_clock.now()
    ring = cli.ring
    database.tokens.insert_many(
        [
            {
                "_id": name,
                "provider": "xero",
                "account": name[5:],
                "state": "active",
                "refresh_token": ring.seal(f"r-{name}", token_id=name, field="refresh_token"),
                "due_at": now + timedelta(hours=1 if n % 2 else -1),
                "revision": 1,
            }
            for n, name in enumerate(f"xero:{n}" for n in range(count))
        ]
    )
    before = {one["_id"]: one for one in database.tokens.find()}
    file = created(cli, backups, "--unencrypted")["file"]
    lose(database)
    at = wall_clock.now().isoformat()
    process = cli.process("backup", "restore", file, "--lost-at", at)
    limit = time.monotonic() + 60
    while database.tokens.estimated_document_count() < share * count:
        assert process.poll() is None
        assert time.monotonic() < limit
    process.send_signal(signal.SIGKILL)
    process.communicate()
    already = database.tokens.count_documents({})
    assert already < count
    report = restored(cli, file, "--lost-at", at)
    assert (report["restored"], report["unchanged"], report["newer_kept"]) == (count - already, already, 0)
    assert len(report["paused"]) == count // 2
    for one in database.tokens.find():
        old = before[one["_id"]]
        assert one == old or (one["state"], one["refresh_token"]) == ("paused", old["refresh_token"])
    assert database.tokens.count_documents({"state": "paused", "due_at": None}) == count // 2
    assert database.tokens.count_documents({}) == count


def test_an_empty_store_does_not_push_its_backups_out(cli, database, backups: Path):
    """A store that was lost and not noticed would otherwise fill the directory with empty archives."""
    (backups / f"{database.name}.tokens-20250101T120000Z.age").touch()
    ran = cli.run("backup", "create", "--to", str(backups), "--unencrypted")
    assert (ran.code, "contains no token" in ran.err) == (1, True)
    assert len(list(backups.iterdir())) == 1
    elsewhere = backups / "new"
    elsewhere.mkdir()
    assert created(cli, elsewhere, "--unencrypted")["tokens"] == 0


def test_the_newest_backups_of_this_store_are_kept(cli, database, backups: Path):
    """Of another store, and other files, none is touched. The names say the age, not the files' dates."""
    store = f"{database.name}.tokens"
    ours = [f"{store}-2026010{day}T120000Z.age" for day in range(1, 6)]
    others = [
        "other.tokens-20250101T120000Z.age",
        "notes.txt",
        f"{store}-20269901T120000Z.age",
        f"{store}.age",
    ]
    for name in (*reversed(ours), *others):
        (backups / name).touch()
    ran = cli.run("backup", "prune", "--to", str(backups), "--keep", "2", "--json")
    assert [Path(line["file"]).name for line in ran.lines()] == ours[:3]
    assert {one.name for one in backups.iterdir()} == {*ours[3:], *others}
    assert "none was removed" in cli.run("backup", "prune", "--to", str(backups)).err
    rows = cli.run("backup", "list", str(backups), "--json").lines()
    assert [Path(row["file"]).name for row in rows] == [others[0], *ours[3:]]
    assert ours[3] in cli.run("backup", "list", str(backups)).out
    assert "can't be read" in cli.run("backup", "list", str(backups / "none")).err


def test_what_is_done_is_audited(cli, database, backups: Path):
    """With its reason. A dry run and a look are nothing done."""
    cli.add("xero:a")
    file = created(cli, backups, "--unencrypted", "--reason", "weekly")["file"]
    restored(cli, file, "--dry-run")
    cli.run("backup", "verify", file)
    restored(cli, file)
    (backups / f"{database.name}.tokens-20250101T120000Z.age").touch()
    cli.run("backup", "prune", "--to", str(backups), "--keep", "1")
    notes = [(one["action"], one["token"], one["count"]) for one in database.tokens_audit.find().sort("at")]
    name = Path(file).name
    assert notes[1:] == [("backup", name, None), ("restore", name, 1), ("prune", str(backups), 1)]
    assert database.tokens_audit.find_one({"action": "backup"})["by"]["reason"] == "weekly"


def test_the_time_of_the_last_success_is_a_metric(cli, backups: Path, tmp_path: Path):
    """node_exporter, another user, reads it."""
    file = tmp_path / "refreshd.prom"
    before = wall_clock.now().timestamp()
    created(cli, backups, "--unencrypted", "--textfile", str(file))
    *_, line = file.read_text().splitlines()
    name, value = line.split()
    assert name == "refreshd_backup_last_success_timestamp_seconds"
    assert before - 1 < float(value) < wall_clock.now().timestamp() + 1
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [one.name for one in tmp_path.glob(".*")] == []
