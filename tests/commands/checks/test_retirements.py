"""`refreshd check` warns of a provider that is to be off, while there is time to act."""

from datetime import date

import pytest

from daemon.commands.checks.providers import check_retirements
from daemon.commands.checks.report import Report
from daemon.domain.provider import Definition, Provider

TODAY = date(2026, 11, 2)


@pytest.mark.parametrize(
    ("retires", "words"),
    [
        (None, None),
        (date(2027, 11, 2), None),
        (date(2027, 3, 1), "Fit is to be off from 2027-03-01"),
        (date(2026, 11, 2), "Fit was to be off from 2026-11-02"),
    ],
)
def test_half_a_year_before_its_day_a_provider_is_warned_of(retires, words):
    """And afterwards, until its section is gone."""
    known = Definition(name="fit", title="Fit", token_url="https://fit.example/token", retires=retires)
    report = Report()
    check_retirements([Provider(definition=known, client_id="me")], report, TODAY)
    assert [trial.what for trial in report.trials] == ([words] if words else [])
