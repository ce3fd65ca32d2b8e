"""The reading of a client's secret while the daemon runs: how often, for whom, and what stays if it fails."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.adapters.secrets.errors import SecretAway
from daemon.adapters.telemetry.event_log import configure
from daemon.domain.provider import Definition, Provider
from daemon.domain.providers import Providers
from daemon.domain.refused_clients import FIRST_PAUSE, LONGEST_PAUSE
from daemon.domain.secret import Secret
from daemon.domain.secret_reference import Reference
from daemon.runtime.client_secrets import ClientSecrets
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


SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def named(name: str, **changes: object) -> Provider:
    return replace(OLD, definition=replace(OLD.definition, name=name), **changes)  # type: ignore[arg-type]


def source_of(name: str, reference: object) -> ClientSource:
    chain = chain_of(reference)
    assert chain is not None
    return ClientSource(provider=name, key="client_secret", key_id=None, chain=chain, local=nothing_local)


class Stage:
    """One provider with a source in memory, and a clock."""

    def __init__(self, provider: Provider = OLD) -> None:
        self.answer: str | Exception = "new"
        self.asked: list[Reference] = []
        self.now = timedelta(0)
        self.used: list[Provider] = []
        self.planned: list[tuple[timedelta, Callable[[], Awaitable[None]]]] = []
        self.reader = SecretReader(ask=self._ask)
        self.providers = Providers({"xero": provider})
        self._before = dict(self.providers)
        self.tried = 0
        self.clients = ClientSecrets(
            self.reader,
            providers=self.providers,
            later=self._later,
            changed=self._try,
            boot=lambda: self.now,
            log=configure(format="json", level="error"),
        )
        self.clients.configure({"xero": source_of("xero", {"aws_secret": "xero"})})
        self.providers.follow(self._note)

    def configure(self, sources: Mapping[str, ClientSource], providers: Mapping[str, Provider]) -> None:
        """As a reload does it."""
        self.clients.configure(sources)
        self.providers.replace(providers)
        self.used.clear()

    @property
    def reads(self) -> int:
        return len(self.asked)

    def _note(self, providers: Mapping[str, Provider]) -> None:
        self.used += [one for name, one in providers.items() if one != self._before.get(name)]
        self._before = dict(providers)

    def _try(self) -> None:
        self.tried += 1

    def _later(self, after: timedelta, job: Callable[[], Awaitable[None]]) -> None:
        """As `Schedule.once`: the earlier one remains."""
        if not self.planned or self.now + after < self.planned[0][0]:
            self.planned = [(self.now + after, job)]

    async def passes(self, time: timedelta) -> None:
        """Let `time` pass, and run what was planned for it."""
        end = self.now + time
        while self.planned and self.planned[0][0] <= end:
            [(self.now, job)], self.planned = self.planned, []
            await job()
        self.now = end

    async def _ask(self, reference: Reference) -> str:
        self.asked.append(reference)
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
async def test_without_another_secret_it_is_read_again_without_another_refusal(answer: str | Exception):
    """After 5, 10, 20 seconds and so on, up to five minutes. Nothing is used that was not there before."""
    stage = Stage()
    stage.answer = answer
    for _ in range(20):
        assert await stage.clients.read_again(OLD) is None
    assert stage.reads == 1
    await stage.passes(40 * SECOND)
    assert stage.reads == 4
    await stage.passes(42 * MINUTE)
    assert stage.reads == 7 + 7
    assert stage.used == []
    stage.answer = "new"
    await stage.passes(LONGEST_PAUSE)
    assert [one.client_secret for one in stage.used] == [Secret("new")]
    assert stage.tried == 1


async def test_a_secret_that_comes_seconds_later_is_used_without_another_request():
    """The provider learnt it before the source did."""
    stage = Stage()
    stage.answer = "old"
    assert await stage.clients.read_again(OLD) is None
    await stage.passes(10 * SECOND)
    stage.answer = "new"
    await stage.passes(5 * SECOND)
    assert [one.client_secret for one in stage.used] == [Secret("new")]
    assert stage.reads == 3


async def test_refusals_cause_no_reading_before_its_time():
    """However many tokens meet one, also while the secret has changed and is refused too."""
    stage = Stage()
    fresh = await stage.clients.read_again(OLD)
    assert fresh is not None
    for _ in range(50):
        assert await stage.clients.read_again(fresh) is None
    assert stage.reads == 1
    stage.answer = "newer"
    await stage.passes(FIRST_PAUSE)
    assert stage.used[-1].client_secret == Secret("newer")
    assert stage.reads == 2


async def test_a_source_that_answers_differently_each_time_is_not_read_more_often():
    """Each answer is tried once, and refused."""
    stage = Stage()
    refused = OLD
    for second in range(600):
        stage.answer = f"secret {second}"
        refused = await stage.clients.read_again(refused) or refused
        await stage.passes(SECOND)
        refused = stage.used[-1]
    assert stage.reads == 7


async def test_a_grant_ends_the_readings():
    """A newer secret at the source is not for use while the provider accepts the one that there is."""
    stage = Stage()
    stage.answer = "old"
    await stage.clients.read_again(OLD)
    stage.clients.accepted("xero")
    stage.clients.accepted("unknown")
    stage.answer = "new"
    await stage.passes(60 * MINUTE)
    assert stage.reads == 1
    assert stage.used == []


async def test_without_refusals_the_readings_end():
    """An hour after the last one."""
    stage = Stage()
    stage.answer = "old"
    await stage.clients.read_again(OLD)
    await stage.passes(3 * 60 * MINUTE)
    reads = stage.reads
    assert reads <= 7 + 12
    await stage.passes(24 * 60 * MINUTE)
    assert stage.reads == reads
    assert stage.planned == []


async def test_a_pause_that_ended_elsewhere_is_a_reason_to_read():
    """Another replica has the new secret, or an operator has corrected it."""
    stage = Stage()
    stage.answer = "old"
    await stage.clients.read_again(OLD)
    await stage.passes(12 * MINUTE)
    reads = stage.reads
    stage.answer = "new"
    await stage.passes(40 * SECOND)
    stage.clients.hurry("unknown")
    await stage.passes(SECOND)
    assert stage.reads == reads
    stage.clients.hurry("xero")
    await stage.passes(SECOND)
    assert stage.reads == reads + 1
    assert [one.client_secret for one in stage.used] == [Secret("new")]


async def test_clients_of_one_source_share_its_readings():
    """Two of its fields too. Only the clients that are refused get what was read."""
    stage = Stage()
    names = ["a", "b", "c"]
    sources = {
        "a": source_of("a", {"aws_secret": "all", "field": "a"}),
        "b": source_of("b", {"aws_secret": "all", "field": "b"}),
        "c": source_of("c", {"aws_secret": "all", "field": "b"}),
    }
    stage.configure(sources, {name: named(name) for name in names})
    stage.answer = "old"
    await stage.clients.read_again(stage.providers["a"])
    for _ in range(10):
        assert await stage.clients.read_again(stage.providers["b"]) is None
    assert [getattr(one, "field", None) for one in stage.asked] == ["a"]
    stage.answer = "new"
    await stage.passes(FIRST_PAUSE)
    assert sorted(str(getattr(one, "field", None)) for one in stage.asked) == ["a", "a", "b"]
    assert {one.name for one in stage.used} == {"a", "b"}


async def test_a_source_that_hangs_delays_no_other():
    """It has one reading at a time itself."""
    stage = Stage()
    hung, go_on = threading.Event(), threading.Event()
    names = ("slow", "quick")
    sources = {name: source_of(name, {"aws_secret": name}) for name in names}
    stage.configure(sources, {name: named(name) for name in names})
    stage.answer = "old"
    for provider in stage.providers.values():
        await stage.clients.read_again(provider)
    plain: Callable[[Reference], Awaitable[str]] = stage.reader.ask

    async def hanging(reference: Reference) -> str:
        if getattr(reference, "name", "") == "slow":
            hung.set()
            await asyncio.to_thread(go_on.wait, 5)
        return await plain(reference)

    stage.reader.ask = hanging
    stage.now = FIRST_PAUSE
    job = stage.planned.pop()[1]
    running = asyncio.create_task(job())
    await asyncio.to_thread(hung.wait, 5)
    try:
        async with asyncio.timeout(5):
            while [getattr(one, "name", "") for one in stage.asked].count("quick") < 4:
                await stage.passes(FIRST_PAUSE)
                await asyncio.sleep(0.01)
    finally:
        go_on.set()
    await running
    assert [getattr(one, "name", "") for one in stage.asked].count("slow") == 2


async def test_a_provider_that_a_reload_has_removed_is_not_read_any_more():
    """Nor one with another source, until it is refused."""
    stage = Stage()
    stage.answer = "old"
    await stage.clients.read_again(OLD)
    stage.configure({"xero": source_of("xero", {"aws_secret": "another"})}, stage.providers)
    await stage.passes(10 * MINUTE)
    stage.configure({}, {})
    assert await stage.clients.read_again(OLD) is None
    await stage.passes(10 * MINUTE)
    assert stage.reads == 1


async def test_an_unconfigured_provider_and_one_without_a_source_are_not_read():
    """Such as one whose secret stands in the configuration itself."""
    stage = Stage()
    stage.configure({}, {"xero": OLD})
    assert await stage.clients.read_again(OLD) is None
    stage.configure({}, {})
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
    stage.configure({}, {"xero": reloaded})
    go_on.set()
    await reading
    assert stage.used == []
    assert await stage.clients.read_again(OLD) == reloaded
