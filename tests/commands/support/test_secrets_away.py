"""A command whose secret has not come: its exit code and sentence, and the commands that don't need it."""

import json
from pathlib import Path

import pytest

from daemon.commands.support.access import read_settings
from daemon.commands.support.failure import Exit, explained, in_json
from daemon.commands.support.options import Options
from daemon.runtime.config.problems import SecretsAway
from daemon.runtime.config.secret_places import STORE_ONLY, Use

CANARY = "cAnArY-90ac-must-never-be-printed"


@pytest.fixture
def options(tmp_path: Path):
    """Options whose configuration has a store URI from a program with this body, and a client's secret that is away."""

    def made(body: str) -> Options:
        programs = {"uri": body, "client": f"echo {CANARY}; exit 1"}
        for name, text in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o700)
        file = tmp_path / "config.toml"
        file.touch(mode=0o600)
        file.write_text(
            f'[store]\nuri = {{ command = ["{tmp_path}/uri"] }}\n'
            '[keys]\nactive = "a"\n[keys.ring]\na = "zP9Xo7vN3q1Jm8o2K0xW9b1s5y3d7e9f1g3h5j7k2mQ="\n'
            f'[providers.xero]\nclient_id = "me"\nclient_secret = {{ command = ["{tmp_path}/client"] }}\n'
        )
        return Options(config=file)

    return made


ENDS = {
    "away": (f"echo {CANARY}; exit 1", Exit.UNAVAILABLE, "exit code 1"),
    "missing": ("exit 66", Exit.CONFIG, "does not exist"),
    "half": (f"printf '{CANARY}'", Exit.CONFIG, "is not a MongoDB URI"),
}


@pytest.mark.parametrize("case", ENDS.values(), ids=ENDS)
def test_the_exit_code_shows_whether_another_attempt_helps(options, case: tuple[str, Exit, str]):
    """69 if the source is away, 78 if it answers without the secret. No value is printed."""
    body, code, words = case
    with pytest.raises(SecretsAway) as raised:
        read_settings(options(body))
    found = explained(raised.value)
    assert found is not None
    assert found[0] is code
    assert words in found[1][0]
    assert CANARY not in found[1][0]
    error = json.loads(in_json(raised.value, *found))["error"]
    assert error["code"] == code
    assert error["where"].endswith("store.uri")
    assert error["do"]


def test_a_command_works_without_the_secrets_that_it_does_not_use(options):
    """A client's secret is read by the commands that use it only."""
    given = options("echo mongodb://h/db")
    assert read_settings(given).store.database == "db"
    with pytest.raises(SecretsAway, match="client_secret"):
        read_settings(given, STORE_ONLY | {Use.CLIENTS})
