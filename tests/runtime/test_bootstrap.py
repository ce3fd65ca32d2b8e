"""What the bootstrap makes of the settings before it hands them on."""

import io
import os
from base64 import b64encode
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.adapters.telemetry.event_log import configure
from daemon.domain.provider import Definition, Provider
from daemon.domain.providers import Providers
from daemon.domain.secret import Secret
from daemon.runtime.bootstrap import _hold, assemble
from daemon.runtime.config.sections import RefreshSettings
from daemon.runtime.config.settings import load
from daemon.runtime.parts import Parts
from daemon.runtime.state.instance import Instance

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


def assembled(tmp_path: Path) -> Parts:
    """Build a daemon's parts, with the settings that a short file leaves."""
    tmp_path.chmod(0o700)
    file = tmp_path / "config.toml"
    key = b64encode(os.urandom(32)).decode()
    file.write_text(f'[store]\nuri = "mongodb://127.0.0.1:1"\n[keys]\nactive = "a"\nring.a = "{key}"\n')
    file.chmod(0o600)
    return assemble(
        load(file, {}),
        uri=Secret("mongodb://127.0.0.1:1"),
        providers=Providers(),
        instance=Instance(id="me", directory=tmp_path, filesystem=None, former_mode=None),
        log=configure(format="json", level="info", stream=io.StringIO()),
        watch=lambda _: None,
    )


async def test_the_store_holds_claims_for_as_long_as_its_providers_need(tmp_path: Path):
    """Another instance waits after a crash, unless presenting the same value again does no harm."""
    hold = assembled(tmp_path).sweeper._store._hold
    careful = Definition(name="acme", title="Acme", token_url="https://acme.example/token")
    harmless = replace(careful, reuse_refused=True)
    found = [hold(Provider(definition=one, client_id="me")) for one in (careful, harmless)]
    assert found == [RefreshSettings().adopt_after, timedelta(0)]


async def test_the_stream_of_wishes_follows_the_rate_of_the_stores_writes(tmp_path: Path):
    """Without it, each renewal would wake the stream's cursor in MongoDB."""
    parts = assembled(tmp_path)
    parts.sweeper._store._records.written = 7
    assert parts.wishes._written() == 7
