"""docs/access-service.md: every setting, problem and route that it lists, and no other."""

import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

from daemon.runtime.access_web.openapi.document import document
from daemon.runtime.config.access_sections import AccessTable
from daemon.runtime.config.fields import duration
from daemon.serving.problems import STATUS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "access-service.md").read_text()
EXAMPLE = (ROOT / "config.example.toml").read_text()
UNIT = (ROOT / "deploy" / "systemd" / "refreshd-access.service").read_text()


def section(name: str) -> str:
    found = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_every_setting_is_listed_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section("Settings"), re.MULTILINE))
    assert list(rows) == [one.name for one in fields(AccessTable)]
    table = AccessTable()
    for name, shown in rows.items():
        value, text = getattr(table, name), shown.strip("`").strip('"')
        if isinstance(value, timedelta):
            assert duration(text) == value, name
        elif isinstance(value, int | str):
            assert text == (str(value).lower() if isinstance(value, bool) else str(value)), name
    assert rows["rate"] == f'`"{table.rate.count}/1m"`'


def test_the_example_shows_the_same_defaults() -> None:
    section_ = EXAMPLE.partition("[access]\n")[2].partition("\n\n")[0]
    shown = dict(re.findall(r'^#(\w+) = "?([^"#\s]+)"?(?!.*not the default)', section_, re.MULTILINE))
    table = AccessTable()
    assert set(shown) > {"host", "port", "max_wait", "fresh_for", "offline_for", "rate"}
    for name, text in shown.items():
        value = getattr(table, name)
        if isinstance(value, timedelta):
            assert duration(text) == value, name
        elif isinstance(value, int | str):
            assert text == (str(value).lower() if isinstance(value, bool) else str(value)), name


def test_every_problem_is_listed_with_its_status() -> None:
    rows = re.findall(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \| (\d+) \|", section("Routes"), re.MULTILINE)
    listed = {name: int(status) for names, status in rows for name in re.findall(r"`([a-z-]+)`", names)}
    assert listed == STATUS


def test_the_routes_that_it_names_exist() -> None:
    paths = document("http://localhost")["paths"]
    assert isinstance(paths, dict)
    known = {re.sub(r"\{\w+\}", "X", path) for path in paths}
    named = {
        re.sub(r"\b[A-Z]{2,}\b", "X", path.partition("?")[0])
        for path in re.findall(r"`(?:GET|POST|PUT) (/[^`]+)`", section("Routes"))
    }
    assert named
    assert named <= known


def test_the_unit_gives_the_service_no_key_ring_and_no_state() -> None:
    assert re.findall(r"^LoadCredential=([a-z-]+):", UNIT, re.MULTILINE) == [
        "readers",
        "writer",
        "mongodb-uri",
    ]
    assert "StateDirectory" not in UNIT
    assert re.search(r"^User=refreshd-access$", UNIT, re.MULTILINE)


def test_the_unit_has_the_daemons_sandbox() -> None:
    """But for what would hide the user id of a caller on the unix socket."""
    daemon = (ROOT / "deploy" / "systemd" / "refreshd.service").read_text()

    def sandbox(unit: str) -> list[str]:
        return [
            line
            for line in unit.partition("AmbientCapabilities=")[2].splitlines()
            if not line.startswith("#")
        ]

    assert sandbox(UNIT) == [line for line in sandbox(daemon) if line != "PrivateUsers=yes"]
