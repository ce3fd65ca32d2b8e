"""`refreshd export` and `refreshd compare`: tokens in an application's layout, and where they differ."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support import wall_clock

TOKEN = {"refresh_token": "rt-1", "access_token": "at-1", "expires_in": 3600}


@pytest.fixture
def stored(cli: Any) -> None:
    """Two tokens of one provider and one of another."""
    for name, number in (("xero:a", 1), ("xero:Zoë", 2), ("acme:a", 3)):
        response = {**TOKEN, "refresh_token": f"rt-{number}", "access_token": f"at-{number}"}
        cli.add(name, response, *(("--var", "company=one") if name.startswith("acme") else ()))


def test_an_export_of_files_is_one_file_for_each_provider(cli: Any, stored: None, tmp_path: Path) -> None:
    """With the names and the kind of date that such files have, readable by their owner alone."""
    (tmp_path / "tokens").mkdir()
    ran = cli.run("export", "token-files", str(tmp_path / "tokens"), "--json")
    assert (ran.code, ran.json()) == (0, {"written": 3, "unchanged": 0, "left": 0, "refused": []})
    found = json.loads((tmp_path / "tokens" / "xero.json").read_text())
    assert set(found) == {"a", "Zoë"}
    assert found["a"].keys() == {"accessToken", "refreshToken", "expiresAt", "issuedAt"}
    assert (found["a"]["accessToken"], found["a"]["refreshToken"]) == ("at-1", "rt-1")
    assert abs(found["a"]["expiresAt"] - (wall_clock.timestamp() + 3600) * 1000) < 60_000
    assert oct((tmp_path / "tokens" / "xero.json").stat().st_mode)[-3:] == "600"
    assert (tmp_path / "tokens" / "acme.json").exists()
    again = cli.run("export", "token-files", str(tmp_path / "tokens"), "--json").json()
    assert again == {"written": 0, "unchanged": 3, "left": 0, "refused": []}


def test_a_single_file_is_for_one_provider(cli: Any, stored: None, tmp_path: Path) -> None:
    file = tmp_path / "xero_tokens.json"
    assert cli.run("export", "token-files", str(file)).code == 2
    assert cli.run("export", "token-files", str(file), "--provider", "xero").code == 0
    assert set(json.loads(file.read_text())) == {"a", "Zoë"}


def test_lines_hold_every_field(cli: Any, stored: None, tmp_path: Path) -> None:
    """What `export jsonl` writes, for programs and for another refreshd."""
    file = tmp_path / "all.jsonl"
    assert cli.run("export", "jsonl", str(file)).code == 0
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert {(line["provider"], line["account"]) for line in lines} == {
        ("xero", "a"),
        ("xero", "Zoë"),
        ("acme", "a"),
    }
    assert {line["refresh_token"] for line in lines} == {"rt-1", "rt-2", "rt-3"}


def test_a_row_that_another_program_has_changed_is_refused(cli: Any, stored: None, tmp_path: Path) -> None:
    """It is left alone, the others are written, and the exit code says so."""
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps({"a": {"accessToken": "theirs", "refreshToken": "newer"}}))
    ran = cli.run("export", "token-files", str(file), "--provider", "xero", "--json")
    assert ran.code == 1
    assert [one["id"] for one in ran.json()["refused"]] == ["xero:a"]
    found = json.loads(file.read_text())
    assert found["a"] == {"accessToken": "theirs", "refreshToken": "newer"}
    assert found["Zoë"]["refreshToken"] == "rt-2"


def test_an_export_is_audited_and_warns_of_active_tokens(
    cli: Any, stored: None, tmp_path: Path, database: Any
) -> None:
    file = tmp_path / "tokens.json"
    ran = cli.run("export", "token-files", str(file), "--provider", "xero", "--reason", "moving out")
    assert "2 of these tokens are active" in ran.err
    (record,) = database.tokens_audit.find({"action": "export"})
    assert (record["token"], record["by"]["reason"]) == ("xero", "moving out")
    assert str(file) in record["result"]


def test_a_token_in_flight_is_not_exported(cli: Any, stored: None, tmp_path: Path, database: Any) -> None:
    """Its refresh token may be spent in a moment."""
    database.tokens.update_one({"_id": "xero:a"}, {"$set": {"lease": {"owner": "i", "claim": "c"}}})
    ran = cli.run("export", "token-files", str(tmp_path / "t.json"), "--provider", "xero", "--json")
    assert (ran.code, [one["id"] for one in ran.json()["refused"]]) == (1, ["xero:a"])


@pytest.mark.parametrize("state", ["revoked", "removed"])
def test_a_token_that_is_gone_is_in_no_export_and_no_comparison(
    cli: Any, stored: None, tmp_path: Path, database: Any, state: str
) -> None:
    """Its document stays for a while without secrets. It is no token, and its row must not look like one."""
    secrets = {"access_token": None, "refresh_token": None, "due_at": None, "grant_fingerprint": None}
    database.tokens.update_one({"_id": "xero:a"}, {"$set": {"state": state, **secrets}})
    file = tmp_path / "xero.json"
    ran = cli.run("export", "token-files", str(file), "--provider", "xero", "--json")
    assert (ran.code, ran.json()) == (0, {"written": 1, "unchanged": 0, "left": 0, "refused": []})
    assert set(json.loads(file.read_text())) == {"Zoë"}
    compared = cli.run("compare", "token-files", str(file), "--provider", "xero", "--json")
    assert compared.code == 0
    assert (compared.json()["equal"], compared.json()["only_here"]) == (1, 0)
    file.write_text(json.dumps({"a": {"accessToken": "at-1", "refreshToken": "rt-1"}}))
    compared = cli.run("compare", "token-files", str(file), "--provider", "xero", "--json")
    assert compared.code == 0
    assert compared.json()["ids"]["only_there"] == ["xero:a"]


def test_a_token_that_is_being_revoked_is_not_exported(
    cli: Any, stored: None, tmp_path: Path, database: Any
) -> None:
    """Its grant is to end, so no other program gets it."""
    database.tokens.update_one({"_id": "xero:a"}, {"$set": {"state": "revoking"}})
    file = tmp_path / "xero.json"
    ran = cli.run("export", "token-files", str(file), "--provider", "xero", "--json")
    assert (ran.code, ran.json()["written"]) == (1, 1)
    assert ran.json()["refused"] == [{"id": "xero:a", "why": "it is being revoked"}]
    assert set(json.loads(file.read_text())) == {"Zoë"}


def test_nothing_to_export_is_a_failure(cli: Any, tmp_path: Path) -> None:
    ran = cli.run("export", "jsonl", str(tmp_path / "all.jsonl"))
    assert ran.code == 1
    assert "no token is stored" in ran.err


@pytest.mark.parametrize("obstacle", ["directory", "link", "no right"])
def test_a_target_that_can_not_be_written_is_one_sentence(
    cli: Any, stored: None, tmp_path: Path, obstacle: str
) -> None:
    target = tmp_path / "there" / "tokens.json"
    if obstacle != "directory":
        target.parent.mkdir()
    if obstacle == "link":
        Path(tmp_path, "real.json").write_text("{}")
        target.symlink_to(tmp_path / "real.json")
    if obstacle == "no right":
        if os.geteuid() == 0:
            pytest.skip("root may write everywhere")
        target.parent.chmod(0o500)
    ran = cli.run("export", "token-files", str(target), "--provider", "xero")
    assert ran.code == 1
    assert len(ran.err.strip().splitlines()) == 1
    assert "Traceback" not in ran.err


def test_a_comparison_shows_where_tokens_differ_and_no_secret(cli: Any, stored: None, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    cli.run("export", "token-files", str(file), "--provider", "xero")
    compare = ("compare", "token-files", str(file), "--provider", "xero", "--json")
    assert cli.run(*compare).json()["equal"] == 2
    rows = json.loads(file.read_text())
    rows["a"] = {
        **rows["a"],
        "accessToken": "at-9",
        "refreshToken": "rt-9",
        "expiresAt": rows["a"]["expiresAt"] + 9000,
    }
    rows["b"] = rows.pop("Zoë")
    file.write_text(json.dumps(rows))
    ran = cli.run(*compare)
    assert ran.code == 0
    found = ran.json()
    assert (found["newer_there"], found["only_there"], found["only_here"], found["equal"]) == (1, 1, 1, 0)
    assert found["ids"]["newer_there"] == ["xero:a"]
    rows["a"]["expiresAt"] = "no date"
    file.write_text(json.dumps(rows))
    assert cli.run(*compare).code == 1
    ran = cli.run(*compare[:-1])
    assert "diverged" in ran.out
    assert "rt-9" not in ran.out + ran.err


def test_an_unknown_layout_is_wrong_usage(cli: Any, tmp_path: Path) -> None:
    ran = cli.run("compare", "token-file", str(tmp_path))
    assert ran.code == 2
    assert "Did you mean token-files?" in ran.err
