"""Requests of hooks, verified by the libraries of Standard Webhooks in Python and Node, while the secret changes."""

import json
import os
import re
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.hook import Format
from daemon.domain.hook_message import message
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType
from tests.support import wall_clock

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PAGE = (ROOT / "docs" / "hooks.md").read_text()
PYTHON = ROOT / ".venv" / "doors" / "bin" / "python"
PACKAGES = HERE.parent / "node_modules"
OLD, NEW, OTHER = b"o" * 24, b"n" * 64, b"x" * 32
ACCOUNTS = ["acme", "Zoë & Söhne", 'a.b:c/"d"\\', "\u202e\U0001f600", ""]
Line = dict[str, Any]
Verify = Callable[[list[Line]], list[Line]]


def present(language: str) -> list[str]:
    """Return the command of a language's interpreter. Skips if it or its library is missing."""
    there = (
        PYTHON.exists()
        if language == "py"
        else shutil.which("node") and (PACKAGES / "standardwebhooks").exists()
    )
    if not there:
        text = f"missing: the library of Standard Webhooks for {language}"
        pytest.fail(text) if os.environ.get("REFRESHD_TEST_DOORS") else pytest.skip(text)
    return [str(PYTHON)] if language == "py" else ["node"]


def run(command: list[str], text: str = "", cwd: Path = HERE) -> str:
    done = subprocess.run(
        command, cwd=cwd, input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(params=["py", "mjs"])
def verify(request: pytest.FixtureRequest) -> Verify:
    command = [*present(request.param), f"verify.{request.param}"]

    def verified(lines: list[Line]) -> list[Line]:
        return [
            json.loads(one)
            for one in run(command, "".join(f"{json.dumps(line)}\n" for line in lines)).splitlines()
        ]

    return verified


def text_of(key: bytes) -> str:
    return f"whsec_{b64encode(key).decode()}"


def sent(
    *keys: bytes, account: str = "acme", form: Format = Format.STANDARD, at: datetime | None = None
) -> Line:
    event = OwnerEvent(
        id=f"token.needs_reauth:xero:{account}:7",
        type=OwnerEventType.NEEDS_REAUTH,
        at=datetime(2026, 11, 2, 12, tzinfo=UTC),
        who_acts=Actor.OWNER,
        provider="xero",
        token=f"xero:{account}",
        account=account,
        revision=7,
    )
    made = message(event, form=form, keys=keys, sent_at=at or wall_clock.now())
    return {"body": made.body.decode(), "headers": dict(made.headers)}


def test_before_while_and_after_the_secret_changes(verify: Verify) -> None:
    """With two secrets a receiver may have either one, and with one nobody else's."""
    lines = [
        {"secret": text_of(secret), **sent(*keys)}
        for keys in ((OLD,), (OLD, NEW), (NEW,))
        for secret in (OLD, NEW, OTHER)
    ]
    accepted = ["type" in one for one in verify(lines)]
    assert accepted == [True, False, False, True, True, False, False, True, False]


@pytest.mark.parametrize("form", Format)
def test_whatever_an_account_is_called(verify: Verify, form: Format) -> None:
    lines = [{"secret": text_of(OLD), **sent(OLD, account=name, form=form)} for name in ACCOUNTS]
    assert verify(lines) == [{"type": "token.needs_reauth"}] * len(ACCOUNTS)


def test_a_changed_request_and_one_of_another_time_are_refused(verify: Verify) -> None:
    """Clocks may be five minutes apart."""
    now = wall_clock.now()
    changed = sent(OLD)
    renamed = sent(OLD)
    lines = [
        {**changed, "body": changed["body"].replace("acme", "evil")},
        {**renamed, "headers": renamed["headers"] | {"webhook-id": "evt_other"}},
        sent(OLD, at=now - timedelta(minutes=6)),
        sent(OLD, at=now + timedelta(minutes=6)),
        sent(OLD, at=now - timedelta(minutes=4)),
        sent(OLD, at=now + timedelta(minutes=4)),
    ]
    accepted = ["type" in one for one in verify([{"secret": text_of(OLD), **line} for line in lines])]
    assert accepted == [False, False, False, False, True, True]


@pytest.mark.parametrize(("language", "fence"), [("py", "python"), ("mjs", "js")])
def test_the_five_lines_of_the_document_verify(language: str, fence: str, tmp_path: Path) -> None:
    """As they stand there, with a request in the variables that they use."""
    command = present(language)
    found = re.search(
        rf"^```{fence}\n((?:from|import)[^\n]*standardwebhooks.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
    )
    assert found
    block = found[1]
    assert len([line for line in block.splitlines() if line]) <= 5
    given = {"secret": text_of(NEW), **sent(OLD, NEW)}
    if language == "py":
        before = f"import json\nglobals().update(json.loads({json.dumps(json.dumps(given))}))\n"
    else:
        before = f"const {{ secret, body, headers }} = {json.dumps(given)};\n"
        (tmp_path / "node_modules").symlink_to(PACKAGES)
    program = tmp_path / f"five_lines.{language}"
    program.write_text(before + block)
    assert run([*command, program.name], cwd=tmp_path) == "token.needs_reauth xero:acme\n"
