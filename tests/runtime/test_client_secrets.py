"""The reading of a client's secret while the daemon runs: how often, for whom, and what stays if it fails."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.adapters.secrets.errors import SecretAway
from daemon.adapters.telemetry.event_log import configure
from daemon.domain.provider import Definition, Provider
from daemon.domain.providers import Providers
from daemon.domain.secret import Secret
from daemon.domain.secret_reference import Reference
from daemon.runtime.client_secrets import READ_EVERY, ClientSecrets
from daemon.runtime.config.client_sources import ClientSource
from daemon.runtime.config.secret_chains import chain_of
from daemon.runtime.config.secret_reading import SecretReader

OLD = Provider(
    definition=Definition(name="xero", title="Xero", token_url="https://x.example/token"),
    client_id="me",
    client_secret=Secret("old"),
)


def nothing_local(_source: object) -> str:
    raise AssertionError("no source of this machine is configured")


class Stage:
    """One provider with a source in memory."""

    def __init__(self, provider: Provider = OLD) -> None:
        self.answer: str | Exception = "new"
        self.reads = 0
        self.now = timedelta(0)
        self.used: list[Provider] = []
        chain = chain_of({"aws_secret": "xero"})
        assert chain is not None
        source = ClientSource(
            provider="xero", key="client_secret", key_id=None, chain=chain, local=nothing_local
        )
        self.reader = SecretReader(ask=self._ask)
        self.configured = Providers({"xero": provider})
        self.clients = ClientSecrets(
            self.reader,
            providers=self.configured,
            boot=lambda: self.now,
            log=configure(format="json", level="error"),
        )
        self.clients.configure({"xero": source})
        self.configured.follow(self._note)
        self.used.clear()

    def _note(self, providers: Mapping[str, Provider]) -> None:
        self.used += providers.values()

    async def _ask(self, _reference: Reference) -> str:
        self.reads += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_many_refusals_read_once():
    """All the requests that were refused get the one new secret."""
    stage = Stage()
    found = await asyncio.gather(*(stage.clients.read_again(OLD) for _ in range(20)))
    assert stage.reads == 1
    assert {one and one.client_secret and one.client_secret.reveal() for one in found} == {"new"}
    assert len(stage.used) == 1


@pytest.mark.parametrize("answer", ["old", SecretAway("it can't be reached"), "", ValueError("x")])
async def test_without_another_secret_it_is_read_every_five_minutes(answer: str | Exception):
    """However often the provider refuses, and nothing is used that was not there before."""
    stage = Stage()
    stage.answer = answer
    for minutes in range(11):
        stage.now = timedelta(minutes=minutes)
        assert await stage.clients.read_again(OLD) is None
    assert stage.reads == 3
    assert stage.used == []
    stage.now += READ_EVERY
    stage.answer = "new"
    assert await stage.clients.read_again(OLD) is not None


async def test_a_new_secret_that_is_refused_too_is_not_read_again_soon():
    """The five minutes count from the last reading, whatever it found."""
    stage = Stage()
    fresh = await stage.clients.read_again(OLD)
    assert fresh is not None
    assert await stage.clients.read_again(fresh) is None
    assert stage.reads == 1


async def test_an_unconfigured_provider_and_one_without_a_source_are_not_read():
    """Such as one whose secret stands in the configuration itself."""
    stage = Stage()
    stage.clients.configure({})
    assert await stage.clients.read_again(OLD) is None
    stage.configured.replace({})
    assert await stage.clients.read_again(OLD) is None
    assert stage.reads == 0


async def test_a_secret_that_comes_late_is_used():
    """Until then each attempt leaves the reason, without a value."""
    stage = Stage(replace(OLD, client_secret=None, lacking="aws_secret xero: it can't be reached"))
    stage.answer = SecretAway("no right to read it")
    await stage.clients.read_missing()
    assert stage.clients.lacking == ["xero"]
    assert [one.lacking for one in stage.used] == ["aws_secret xero: no right to read it"]
    stage.answer = "late"
    await stage.clients.read_missing()
    assert stage.clients.lacking == []
    assert stage.used[-1].client_secret == Secret("late")
    assert stage.used[-1].lacking is None


async def test_a_reload_during_the_reading_takes_precedence():
    """What was read belonged to the former configuration."""
    stage = Stage()
    begun, go_on = threading.Event(), threading.Event()
    plain: Callable[[Reference], object] = stage.reader.ask

    async def slow(reference: Reference) -> str:
        begun.set()
        await asyncio.to_thread(go_on.wait, 5)
        return str(await plain(reference))  # type: ignore[misc]

    stage.reader.ask = slow
    reading = asyncio.create_task(stage.clients.read_again(OLD))
    await asyncio.to_thread(begun.wait, 5)
    reloaded = replace(OLD, client_secret=Secret("of the reload"))
    stage.clients.configure({})
    stage.configured.replace({"xero": reloaded})
    stage.used.clear()
    go_on.set()
    await reading
    assert stage.used == []
    assert await stage.clients.read_again(OLD) == reloaded
