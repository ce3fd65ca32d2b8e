"""The position of the next page: a text that is read back, and no text that makes a query of its own."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta

import pytest

from daemon.domain.audit_position import DEEDS, USES, Position, read_position, text_of

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "position",
    [
        Position(NOON, DEEDS, "65f0c0ffee65f0c0ffee65f0"),
        Position(NOON + timedelta(milliseconds=1), USES, "read kkkk 2026-11-21T00  acme:Zoë 7"),
        Position(NOON, USES, None),
        Position(datetime(9999, 12, 31, tzinfo=UTC), USES, None),
    ],
)
def test_a_position_is_read_back(position: Position):
    text = text_of(position)
    assert text.replace("-", "").replace("_", "").isalnum()
    assert read_position(text) == position


def encoded(text: bytes) -> str:
    return urlsafe_b64encode(text).decode().rstrip("=")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "é",
        "====",
        "a" * 5000,
        encoded(b"\xff\xfe"),
        encoded(b"1 x id"),
        encoded(b"-1 d id"),
        encoded(b"1 d"),
        encoded(b"1 d a\x00b"),
        encoded("\u0661 d id".encode()),
        encoded(b"999999999999999 d id"),
        encoded(b'{"$gt": 1}'),
    ],
)
def test_any_other_text_is_refused(text: str):
    assert read_position(text) is None
