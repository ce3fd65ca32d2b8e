"""docs/operate.md names every alert and every log event, its links lead somewhere, and its commands are real."""

import re
import subprocess
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
import typer
import yaml
from prometheus_client.parser import text_string_to_metric_families
from typer.core import TyperGroup

from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.metrics import Metrics
from daemon.commands.app import app
from daemon.domain.statistics import Statistics
from tests.e2e.daemon_process import Installation
from tests.support import wall_clock

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "operate.md"
TEXT = DOCUMENT.read_text()
ALERTS = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_COMMAND = re.compile(r"`(refreshd [^`]+)`|^(refreshd .+)$", re.MULTILINE)


def anchors(text: str) -> set[str]:
    """What a heading is called in a link, as GitHub makes it."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(text))
    return {heading.replace(" ", "-") for heading in plain}


def test_every_alert_says_what_a_person_needs():
    """How grave it is, what happened, and where in this document it is explained: under a heading of its own name."""
    for rule in ALERTS:
        name, notes = rule["alert"], rule["annotations"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert set(notes) == {"summary", "description", "runbook"}
        assert all(notes.values())
        file, _, anchor = notes["runbook"].partition("#")
        assert (ROOT / file).samefile(DOCUMENT)
        assert anchor == name.lower()
        assert anchor in anchors(TEXT)


def test_the_document_has_every_alert_and_no_other():
    """With the severity that the rule has."""
    explained = dict(re.findall(r"^### (Refreshd\w+)\n\n\*(\w+)\.\*", TEXT, re.MULTILINE))
    assert explained == {rule["alert"]: rule["labels"]["severity"] for rule in ALERTS}


def test_every_alert_says_what_to_check_and_what_to_do():
    """Both words stand in each of their sections."""
    for name, section in re.findall(r"^### (Refreshd\w+)\n(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL):
        assert re.search(r"\*\*check\*\*", section, re.IGNORECASE), name
        assert re.search(r"\*\*do\*\*", section, re.IGNORECASE), name


def test_the_document_has_every_log_event_and_no_other():
    """A row for each name in the table, with its levels."""
    rows = re.findall(r"^\| `([a-z]+\.[a-z_]+)` \| ([a-z, ]+) \|", TEXT, re.MULTILINE)
    assert len(rows) == len(dict(rows))
    levels = [(name, level) for name, listed in rows for level in listed.split(", ")]
    assert sorted(levels) == sorted((line.event, line.level) for line in log_lines.ALL)
    assert len(rows) > 20


def test_every_link_leads_somewhere():
    """To a file that there is, and to a heading in it."""
    for link in _LINK.findall(TEXT):
        name, _, anchor = link.partition("#")
        file = DOCUMENT.parent / name if name else DOCUMENT
        assert file.exists(), link
        assert not anchor or anchor in anchors(file.read_text()), link


def test_the_gauges_and_how_to_add_them_up_are_all_there():
    """Every gauge of ours that a daemon can show."""
    made = Metrics(providers=(), version="0")
    made.set_clock_skew(timedelta(0))
    made.set_statistics(Statistics(at=wall_clock.now()))
    named = set(re.findall(r"refreshd_\w+", TEXT))
    shown = {
        family.name
        for family in text_string_to_metric_families(made.expose("")[0].decode())
        if family.type == "gauge" and family.name.startswith("refreshd_")
    }
    assert shown - {"refreshd_build_info"} <= named


def test_its_commands_are_real():
    """Each is one that refreshd takes, with these options and as many arguments."""
    commands = {inline or line for inline, line in _COMMAND.findall(TEXT)} - {"refreshd add --var"}
    assert len(commands) > 10
    for command in commands:
        words = [
            "1" if word == "ENTRY" else "README.md" if word == "FILE" else word for word in command.split()
        ]
        program, words = typer.main.get_command(app), words[1:]
        with typer.Context(program) as ctx:
            while isinstance(program, TyperGroup):
                _, program, words = program.resolve_command(
                    ctx, words
                )  # raises for a command that is not there
        program.make_context(command, words)  # raises for what it doesn't take


async def test_what_is_typed_first_works(mongod: str, database_name: str, tmp_path: Path):
    """The first block's commands, on a real store."""
    place = Installation(tmp_path / "place", uri=mongod, database=database_name, providers={})
    async with place.running() as daemon:
        url = await daemon.ready()
        [block] = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
        lines = block.splitlines()
        assert len(lines) == 5
        async with aiohttp.ClientSession() as session:
            for line in lines:
                if line.startswith("refreshd "):
                    done = await place.refreshd(*line.split()[1:])
                    assert done.code == 0, done
                else:
                    address = line.removeprefix("curl --silent ").replace("http://127.0.0.1:9464", url)
                    async with session.get(address) as answer:
                        assert answer.status == 200


@pytest.mark.parametrize("language", ["sh", "console"])
def test_its_blocks_are_shell(language: str):
    """Read by a shell, not run: some are for root."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        text = block.replace("$ ", "") if language == "console" else block
        subprocess.run(["bash", "-n"], input=text, text=True, check=True, timeout=10)
