"""The text of `refreshd keys status`, for people at a terminal of 80 columns."""

from datetime import UTC, datetime, timedelta

from daemon.adapters.mongo.counting.sealed_values import FIELDS, SealedValues
from daemon.commands.support.key_status import KeyStatus, show
from daemon.commands.support.output import Output

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def test_a_large_estimated_store_fits_80_columns(capsys):
    values = dict.fromkeys(FIELDS, 12_345_678)
    status = KeyStatus(
        key_id="2026-11-29",
        use="missing",
        created=NOW,
        age=timedelta(days=365),
        old=True,
        values=values,
        journal=10_000,
        kept=10_000,
        oldest=NOW - timedelta(days=365),
    )
    counted = SealedValues(values={"2026-11-29": values}, documents=12_345_678, exact=False)
    ages = {"a-provider-with-a-name": timedelta(days=365)}
    show(Output(as_json=False), [status], counted, ages, now=NOW, max_age=timedelta(days=90))
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if len(line) > 80] == []
    shown = "\n".join(lines)
    assert shown.count("~12,345,678") == len(FIELDS)
    assert "365 d, rotate it" in shown
