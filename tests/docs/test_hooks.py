"""docs/hooks.md: its tables are the code's, its example is what is sent, and its receivers work."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon.domain.hook import Format, Outcome
from daemon.domain.hook_message import Message, message
from daemon.domain.owner_event import Actor, OwnerEvent, OwnerEventType
from daemon.runtime.config.hooks import HookTable
from tests.support import wall_clock

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "hooks.md").read_text()
KEY = b"k" * 32
SECRET = f"whsec_{b64encode(KEY).decode()}"
EVENT = OwnerEvent(
    id="e1",
    type=OwnerEventType.NEEDS_REAUTH,
    at=datetime(2026, 11, 2, 12, 0, 0, 250000, tzinfo=UTC),
    who_acts=Actor.OWNER,
    provider="xero",
    token="xero:acme",
    account="acme",
    subject="user-4711",
    kind="rejected",
    code="invalid_grant",
    revision=7,
)


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def first_column(title: str) -> list[str]:
    rows = re.findall(r"^\| (`[^|]+?) \|", section(title), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


def test_the_keys_are_those_of_the_configuration():
    assert first_column("Configure a hook") == [field.name for field in fields(HookTable)]


def test_every_type_of_an_event_is_explained():
    listed = [name for name in first_column("What a receiver gets") if not name.startswith("webhook-")]
    assert sorted(listed) == sorted(OwnerEventType)


def test_every_outcome_of_a_request_is_explained():
    assert sorted(first_column("What refreshd makes of an answer")) == sorted(
        set(Outcome) - {Outcome.MALFORMED, Outcome.DROPPED}
    )


def test_the_example_is_what_is_sent():
    [block] = re.findall(r"^```json\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert json.loads(block) == json.loads(signed(EVENT).body)


def signed(event: OwnerEvent, *, key: bytes = KEY, ago: timedelta = timedelta(0)) -> Message:
    return message(event, form=Format.STANDARD, keys=[key], sent_at=wall_clock.now() - ago)


def post(port: int, sent: Message) -> int:
    """Return the status of the answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", data=sent.body, headers=dict(sent.headers))
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@contextmanager
def running(program: Path, **environment: str) -> Iterator[int]:
    """Run a receiver on a free port, as long as the block lasts."""
    receiver = subprocess.Popen(
        [sys.executable, str(program)],
        cwd=program.parent,
        env={**os.environ, "HOOK_SECRET": SECRET, "PORT": "0", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert receiver.stdout is not None
        yield int(receiver.stdout.readline().rsplit(maxsplit=1)[-1])
    finally:
        receiver.kill()
        receiver.communicate()


def test_the_example_marks_a_customer_as_disconnected(tmp_path: Path):
    """As it stands in the document. It keeps to the order of revisions, and believes only what is signed."""
    [block] = re.findall(r"^```python\n(import base64.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    program, database = tmp_path / "receiver.py", tmp_path / "customers.db"
    program.write_text(block)
    assert len(block.splitlines()) < 60
    back = replace(EVENT, id="e2", type=OwnerEventType.RECOVERED, revision=9)
    with running(program, DATABASE=str(database)) as port, sqlite3.connect(database) as db:

        def connected() -> list[tuple[str, int]]:
            return db.execute("SELECT id, connected FROM customers").fetchall()

        assert post(port, signed(EVENT, key=b"x" * 32)) == 401
        assert post(port, signed(EVENT, ago=timedelta(hours=1))) == 401
        tampered = signed(EVENT)
        assert post(port, replace(tampered, body=tampered.body.replace(b"acme", b"evil"))) == 401
        assert connected() == []
        assert post(port, signed(EVENT)) == 204
        assert connected() == [("xero:acme", 0)]
        assert post(port, signed(back)) == 204
        assert post(port, signed(EVENT)) == 204  # once more, and late
        assert connected() == [("xero:acme", 1)]
    db.close()


MAILER = """#!/bin/sh
[ -e {directory}/full ] && exit 75
[ "$1 $2" = "-i -t" ] || exit 64
cat > {directory}/mail.$$
"""


@pytest.fixture
def mailer(tmp_path: Path) -> Path:
    """Stands for the system's mailer. Each mail is a file; it takes none while there is one named `full`."""
    program = tmp_path / "sendmail"
    program.write_text(MAILER.format(directory=tmp_path))
    program.chmod(0o700)
    return program


def test_the_mailer_mails_each_event_once(mailer: Path):
    program = ROOT / "deploy" / "hooks" / "mail.py"
    sly = replace(EVENT, id="e2", token="xero:a\r\nBcc: thief@example.com", account=None)
    with running(program, MAIL_TO="owner@example.com", SENDMAIL=str(mailer)) as port:
        full = mailer.with_name("full")
        full.touch()
        assert post(port, signed(EVENT)) == 503  # so refreshd sends it again
        full.unlink()
        assert post(port, signed(EVENT, key=b"x" * 32)) == 401
        assert post(port, signed(EVENT)) == 204
        assert post(port, signed(EVENT)) == 204
        [mail] = mailer.parent.glob("mail.*")
        text = mail.read_text()
        assert "To: owner@example.com\n" in text
        assert "Subject: refreshd: token.needs_reauth xero:acme\n" in text
        assert "The owner of the account has to consent again." in text
        mail.unlink()
        assert post(port, signed(sly)) == 204
        [mail] = mailer.parent.glob("mail.*")
        head = mail.read_text().partition("\n\n")[0]
        assert "\nBcc" not in head
