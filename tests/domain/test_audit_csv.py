"""The audit as a table: RFC 4180, one line a record, and no cell that a spreadsheet would compute."""

import csv
import io
from datetime import UTC, datetime

import pytest

from daemon.domain.audit_csv import COLUMNS, OF_AUTHOR, csv_head, csv_line

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def read_back(record: dict[str, object]) -> dict[str, str]:
    text = csv_head() + csv_line(record)
    names, row = csv.reader(io.StringIO(text, newline=""), strict=True)
    return dict(zip(names, row, strict=True))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
@pytest.mark.parametrize("ahead", ["", " ", "   ", '"', "'", ' "', '"" ', "\u201c", "''", "`"])
def test_no_cell_is_a_formula(start: str, ahead: str):
    """Also behind spaces and quotes, in every field of a record."""
    text = f"{ahead}{start}cmd|' /C calc'!A0"
    record = {name: text for name in COLUMNS if name not in ("at", "count", "revision")}
    found = read_back({**record, "by": dict.fromkeys(OF_AUTHOR, text)})
    for name in (*record, *OF_AUTHOR):
        assert found[name] == f"'{text}", name


@pytest.mark.parametrize(
    "control", ["\t", "\r", "\n", "\r\n", "\x00", "\x0b", "\xa0", "\u200b", "\ufeff", "\u202e"]
)
def test_a_character_that_is_not_seen_is_an_escape(control: str):
    """So each record is one line, and nothing invisible hides a formula."""
    line = csv_line({"token": f"{control}=1", "result": f"a{control}b"})
    assert line.count("\n") == line.count("\r") == 1
    found = read_back({"token": f"{control}=1"})
    assert found["token"].startswith("\\u")
    assert found["token"].endswith("=1")


@pytest.mark.parametrize(
    "text", ['a";=1+1', "a;=1+1", "a,=1+1", 'a"",=1', "a\n=1+1", "a|=1", "a; =1", 'a; "=1', "a;;-1"]
)
def test_no_separator_begins_a_further_cell(text: str):
    """Also for a spreadsheet that separates cells by semicolons, and so ignores most quotes."""
    line = csv_line({"token": text})
    for delimiter in ",;\t|":
        (row,) = csv.reader(io.StringIO(line), delimiter=delimiter, quotechar='"')
        assert not any(cell.lstrip(" \"'").startswith("=") and "'" not in cell for cell in row)


def test_numbers_instants_and_nothing_are_plain():
    found = read_back({"at": NOON, "count": -5, "revision": 7, "token": None, "result": "-5"})
    assert (found["at"], found["count"], found["revision"]) == ("2026-11-21T12:00:00.000Z", "-5", "7")
    assert (found["token"], found["result"]) == ("", "'-5")


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"by": None},
        {"by": "x"},
        {"by": {"name": ["=1"], "ip": {"a": 1}}},
        {"at": "yesterday", "count": 1.5},
    ],
)
def test_records_of_other_programs_are_rows_too(record: dict[str, object]):
    assert len(read_back(record)) == len(COLUMNS) + len(OF_AUTHOR)


def test_usual_texts_stay_as_they_are():
    found = read_back(
        {"token": "acme:Zoë & Söhne", "action": "add", "by": {"ip": "fd00::1", "reason": 'say "no"'}}
    )
    assert (found["token"], found["ip"], found["reason"]) == ("acme:Zoë & Söhne", "fd00::1", 'say "no"')
