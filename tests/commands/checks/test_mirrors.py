"""`refreshd check` on mirrors: a place that can't be read or written is said before the daemon needs it."""

import json
from pathlib import Path
from typing import Any

import pytest

MIRROR = '\n[[mirrors]]\nlayout = "token-files"\nprovider = "xero"\npath = "{path}"\n'


def outcome(cli: Any, mirror: str, kind: str = "checks") -> list[str]:
    """What the check says of the mirror."""
    whole = cli.config.read_text()
    cli.write(whole + mirror)
    found = json.loads(cli.run("check", "--json").out)
    cli.write(whole)
    return [f"{one['what']}" for one in found[kind] if one["where"].startswith("mirror")]


def test_a_place_that_can_be_written_is_in_order_and_plain_text_is_said(cli: Any, tmp_path: Path) -> None:
    """Also one that is not there yet."""
    mirror = MIRROR.format(path=tmp_path / "tokens.json")
    assert outcome(cli, mirror, "problems") == []
    assert outcome(cli, mirror, "warnings") == ["access tokens are in plain text there"]
    (tmp_path / "tokens.json").write_text('{"a": {"accessToken": "at", "refreshToken": "rt"}}')
    assert outcome(cli, mirror, "problems") == []


@pytest.mark.parametrize("obstacle", ["directory", "link", "half", "other"])
def test_a_place_that_can_not_be_used_is_a_problem(cli: Any, tmp_path: Path, obstacle: str) -> None:
    file = tmp_path / "tokens.json"
    said = {
        "directory": "this user may not write files there",
        "link": "is a symbolic link",
        "half": "is not complete JSON",
        "other": "can't be read",
    }
    if obstacle == "directory":
        file = tmp_path / "missing" / "tokens.json"
    elif obstacle == "link":
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.write_text('{"a": ' if obstacle == "half" else '{"": {"accessToken": "at"}}')
    (problem,) = outcome(cli, MIRROR.format(path=file), "problems")
    assert said[obstacle] in problem
