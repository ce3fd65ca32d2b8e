"""What the bootstrap makes of the settings before it hands them on."""

from datetime import timedelta

import pytest

from daemon.domain.provider import Definition, Provider
from daemon.runtime.bootstrap import _hold
from daemon.runtime.config.sections import RefreshSettings

SETTINGS = RefreshSettings(
    sweep_every=timedelta(seconds=10),
    request_timeout=timedelta(seconds=30),
    lease=timedelta(seconds=90),
    adopt_after=timedelta(minutes=15),
)
RETRIED = timedelta(
    seconds=90 + 2 * 10 + 30
)  # at latest, after the claim: the lease, two sweeps and a request


@pytest.mark.parametrize(
    ("grace", "hold"),
    [
        (timedelta(0), timedelta(minutes=15)),
        (RETRIED - timedelta(seconds=1), timedelta(minutes=15)),
        (RETRIED, timedelta(0)),
    ],
)
def test_a_claim_is_held_unless_the_adopters_retry_falls_inside_the_grace(grace, hold):
    """The grace must outlast the lease, the sweep that finds the claim, and the request that follows."""
    definition = Definition(name="acme", title="Acme", token_url="https://acme.example/token", grace=grace)
    assert _hold(SETTINGS)(Provider(definition=definition, client_id="me")) == hold
