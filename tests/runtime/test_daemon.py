"""The daemon's own promises: what is planned stays planned, and whoever watches hears of a bug, a loss and a stop."""

import asyncio
import io
import itertools
import json
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from daemon.adapters.mongo.audit import Audit, RecordSelection, Who, records
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.embedded_mongod import MongodFailed
from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import configure
from daemon.domain.claim import StoreLost
from daemon.domain.event import Event, InternalError, TokenInDoubt
from daemon.domain.provider import Definition, Provider
from daemon.domain.revocation import Revocation
from daemon.domain.secret import Secret
from daemon.domain.token import Failure, FailureKind
from daemon.runtime.clock import Clock
from daemon.runtime.config.reload import Moved, moved_urls
from daemon.runtime.config.sections import DemoSettings
from daemon.runtime.config.settings import RefreshSettings
from daemon.runtime.daemon import Daemon
from daemon.runtime.own_mongod import revive
from daemon.runtime.reload_notes import note_moved
from daemon.runtime.service_manager import ServiceManager
from daemon.runtime.sweeping import Sweeping
from daemon.sandbox import Sandbox, SandboxOptions
from tests.faults.mongod import Mongod
from tests.faults.stage import Stage
from tests.support import wall_clock

SOON = timedelta(seconds=5)


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    """One that is not started: its parts are a clock, and a list of what is observed."""
    settings: Any = SimpleNamespace(
        demo=DemoSettings(),
        refresh=RefreshSettings(sweep_every=timedelta(milliseconds=20)),
        store=None,
        keys=SimpleNamespace(ring={}),
    )
    made = Daemon(
        settings,
        instance=SimpleNamespace(id="me", directory=tmp_path),  # type: ignore[arg-type]
        log=configure(format="json", level="info", stream=io.StringIO()),
        manager=ServiceManager({}),
        reload=lambda: settings,
        greet=lambda _url: None,
    )
    observed: list[Event] = []
    clock = Clock()
    clock.set_store_time(wall_clock.now(), asked=clock.boot(), answered=clock.boot())
    made._parts = SimpleNamespace(clock=clock, observe=observed.append, observed=observed)  # type: ignore[assignment]
    made._sweeping = Sweeping(
        made._parts,
        schedule=made._schedule,
        every=settings.refresh.sweep_every,
        key_check=SimpleNamespace(),  # type: ignore[arg-type]
        prepare_demo=lambda: made._demo.fill(made._parts),
        prepared=lambda: None,
        view=made._view,
        manager=made._manager,
        log=made._log,
    )
    return made


def in_doubt(number: int, *, after: timedelta) -> TokenInDoubt:
    due_at = wall_clock.now() + after
    timeout = Failure(kind=FailureKind.IN_DOUBT, code="timeout", message="", at=wall_clock.now())
    return TokenInDoubt(token=f"acme:{number}", provider="acme", failure=timeout, tries=1, due_at=due_at)


async def swept(daemon: Daemon, times: int, feed: Callable[[], Awaitable[None]]) -> list[float]:
    """When the daemon sweeps after what `feed` gives it to watch, until it has so many times."""
    loop, runs, over = asyncio.get_running_loop(), [], asyncio.Event()
    begun = loop.time()

    async def sweep() -> None:
        runs.append(loop.time() - begun)
        if len(runs) == times:
            over.set()

    daemon._sweeping.sweep = sweep  # type: ignore[method-assign]
    daemon._schedule.start()
    try:
        async with asyncio.timeout(15):
            await asyncio.gather(feed(), over.wait())
    finally:
        daemon._schedule.close()
    return runs


async def test_a_token_in_doubt_has_its_second_chance_though_another_waits_longer(daemon: Daemon):
    """I5: within seconds. The wake-up for one is not replaced by that for the next."""

    async def feed() -> None:
        daemon._watch(in_doubt(1, after=timedelta(seconds=1)))
        daemon._watch(in_doubt(2, after=timedelta(minutes=4)))

    [first] = await swept(daemon, 1, feed)
    assert first < 2


async def test_each_of_many_tokens_in_doubt_has_its_second_chance(daemon: Daemon):
    """One in each half second, each due a second later: no later one puts off those before."""

    async def feed() -> None:
        for number in range(8):
            daemon._watch(in_doubt(number, after=timedelta(seconds=1)))
            await asyncio.sleep(0.5)

    runs = await swept(daemon, 4, feed)
    assert runs[0] < 2
    assert max(later - earlier for earlier, later in itertools.pairwise(runs)) < 2


async def test_a_periodic_job_that_meets_a_bug_reports_it(daemon: Daemon):
    """Under its name; a lost store is no bug, and reports itself."""
    daemon._failed_unexpectedly("count", StoreLost("away"))
    daemon._failed_unexpectedly("count", bug := TypeError("odd"))
    assert daemon._parts.observed == [InternalError(where="count", error=bug)]  # type: ignore[attr-defined]


async def test_a_reload_that_is_asked_for_during_the_start_is_done_after_it(daemon: Daemon):
    """An embedded MongoDB takes seconds to start, and nothing that could reload is there before."""
    daemon._asked_to_reload()
    reloaded = asyncio.Event()

    class Reloader:
        async def reload(self) -> None:
            reloaded.set()

    daemon._reloader = Reloader()  # type: ignore[assignment]
    daemon._schedule.start()
    try:
        async with asyncio.timeout(10):
            await reloaded.wait()
    finally:
        daemon._schedule.close()


@pytest.mark.parametrize("trouble", [MongodFailed("no"), OSError("no"), RuntimeError("odd")])
async def test_an_embedded_mongodb_is_started_again_after_any_trouble(trouble: Exception):
    """Its watcher ends with the daemon, and with nothing else."""
    starts, second = [], asyncio.Event()

    class Mortal:
        async def wait(self) -> None:
            if len(starts) == 2:
                second.set()
                await asyncio.Event().wait()

        async def start(self) -> None:
            starts.append(1)
            if len(starts) == 1:
                raise trouble

    bugs: list[Exception] = []
    watcher = asyncio.create_task(
        revive(
            Mortal(),  # type: ignore[arg-type]
            log=configure(format="json", level="info", stream=io.StringIO()),
            failed=lambda _where, error: bugs.append(error),
            every=timedelta(milliseconds=20),
        )
    )
    async with asyncio.timeout(5):
        await second.wait()
    watcher.cancel()
    assert bugs == ([] if isinstance(trouble, MongodFailed) else [trouble])


@pytest.fixture
def own_mongod(tmp_path_factory: pytest.TempPathFactory):
    running = Mongod(tmp_path_factory.mktemp("own-mongod"))
    yield running
    running.remove()


@pytest.mark.slow
async def test_a_lost_store_wakes_a_sweep(own_mongod: Mongod, tmp_path: Path):
    """With sweeps ten minutes apart, what falls due during an outage is renewed seconds after MongoDB's return."""
    async with Sandbox(SandboxOptions(lifetime=timedelta(minutes=10))) as sandbox:
        stage = Stage(tmp_path, uri=own_mongod.uri, database="lost", sandbox=sandbox, sweep_every="10m")
        place = stage.install(concurrency=4)
        async with place.running() as daemon:
            url = await daemon.ready()
            await stage.consent(1)  # due now, after the only sweep for ten minutes
            own_mongod.kill()
            async with aiohttp.ClientSession(url) as client, client.get("/readyz") as answer:
                assert answer.status == 503
            await daemon.event("store.lost", within=SOON)
            own_mongod.start()
            await daemon.event("token.renewed", within=timedelta(seconds=20))
            assert await daemon.stop() == 0
        await stage.close()


@pytest.mark.slow
async def test_a_stop_is_announced_before_the_drain(mongod: str, database_name: str, tmp_path: Path):
    """A line says what is in flight and how long it may take; /readyz says that nothing more should be expected."""
    async with Sandbox(SandboxOptions(lifetime=timedelta(minutes=10))) as sandbox:
        stage = Stage(
            tmp_path, uri=mongod, database=database_name, sandbox=sandbox, request_timeout="8s", lease="36s"
        )
        place = stage.install(concurrency=4)
        await stage.consent(1)
        sandbox.add_fault({"kind": "withhold", "share": 1.0})
        async with place.running() as daemon, aiohttp.ClientSession() as client:
            url = await daemon.ready()
            await stage.until(lambda: stage.refreshes() == 1, of=daemon)
            daemon.send_signal(signal.SIGTERM)
            said = await daemon.event("daemon.stopping", within=SOON)
            async with client.get(f"{url}/readyz") as answer:
                assert answer.status == 503
                assert (await answer.json())["draining"] is True
            async with client.get(f"{url}/livez") as answer:
                assert answer.status == 200
            sandbox.clear_faults()
            assert await daemon.ended() == 0
            assert (said["level"], said["in_flight"], said["drain"]) == ("info", 1, "10s")
            events = [line["event"] for line in daemon.lines]
            assert events.index("daemon.stopping") < events.index("token.renewed")
            assert json.loads(daemon.logs.splitlines()[-1])["event"] == "daemon.stopped"
        await stage.close()


async def test_a_reload_that_sends_refresh_tokens_elsewhere_is_recorded(
    daemon: Daemon, mongod: str, database_name: str
):
    """In the audit and in the log. With MongoDB away the log has it, and the reload goes on."""
    definition = Definition(name="acme", title="Acme", token_url="https://old.acme.test/token")
    old = {"acme": Provider(definition=definition, client_id="me")}
    moved_to = replace(definition, token_url="https://new.acme.test/token")
    fresh = {"acme": replace(old["acme"], definition=moved_to)}
    changes = moved_urls(old, fresh)
    former, now = "https://old.acme.test/token", "https://new.acme.test/token"
    assert (moved_urls(old, old), changes) == (
        [],
        [Moved(provider="acme", key="token_url", former=former, now=now)],
    )
    said = io.StringIO()
    log = configure(format="json", level="info", stream=said)
    mongo = Mongo(
        uri=Secret(mongod),
        database=database_name,
        collection="tokens",
        clock=daemon._parts.clock,
        observe=lambda _: None,
    )
    audit = Audit(
        mongo, who=Who(actor="me@here"), log=lambda record: log.log(log_lines.AUDIT_RECORDED, **record)
    )
    await note_moved(changes, audit, log)
    found = [record async for record in records(mongo, RecordSelection(provider="acme"), limit=5)]
    await mongo.close()
    change = "token_url changed from https://old.acme.test/token to https://new.acme.test/token"
    assert [(record["action"], record["result"]) for record in found] == [("reload", change)]

    class Away:
        async def note(self, *_: object, **__: object) -> None:
            raise StoreLost("away")

    await note_moved(changes, Away(), log)  # type: ignore[arg-type]
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    moved = ["provider.moved", "audit.recorded", "provider.moved", "audit.lost"]
    assert [line["event"] for line in lines] == moved
    assert [line["result"] for line in lines if "result" in line] == [change, change]
    assert (lines[0]["token_url"], lines[0]["former_token_url"]) == (now, former)


@pytest.mark.parametrize("key", ["authorize_url", "par_url", "device_url", "revoke_url"])
def test_the_other_addresses_that_lead_tokens_secrets_or_owners_elsewhere_count_as_moved(key: str):
    """One that came, one that went, and one that changed."""
    definition = Definition(name="acme", title="Acme", token_url="https://acme.test/token")
    one, two = (
        {"acme": Provider(definition=replace(definition, **{key: url}), client_id="me")}
        for url in (None, "u")
    )
    assert moved_urls(one, two) == [Moved(provider="acme", key=key, former=None, now="u")]
    assert moved_urls(two, one) == [Moved(provider="acme", key=key, former="u", now=None)]


def test_the_revocations_own_url_is_the_one_that_counts_as_moved():
    """Refresh tokens and the client's secret are sent there. The `revoke_url` behind it is not used."""
    definition = Definition(
        name="acme", title="Acme", token_url="https://acme.test/token", revoke_url="https://acme.test/revoke"
    )
    one, two, three = (
        {"acme": Provider(definition=replace(definition, revoke=Revocation(url=url)), client_id="me")}
        for url in (None, "https://acme.test/end", "https://evil.test/end")
    )
    moved = Moved(
        provider="acme", key="revoke_url", former="https://acme.test/revoke", now="https://acme.test/end"
    )
    assert moved_urls(one, two) == [moved]
    assert moved_urls(two, three) == [
        Moved(provider="acme", key="revoke_url", former="https://acme.test/end", now="https://evil.test/end")
    ]
    behind = replace(definition, revoke=Revocation(url="https://acme.test/end"), revoke_url=None)
    assert moved_urls(two, {"acme": Provider(definition=behind, client_id="me")}) == []
