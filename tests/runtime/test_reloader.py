"""A reload: what it replaces and where, what it leaves, and what the log masks meanwhile."""

import asyncio
import io
import json
import os
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_log import configure
from daemon.domain.claim import StoreLost
from daemon.domain.event import LaneFailed, ProviderPaused
from daemon.domain.provider import Provider
from daemon.domain.providers import Providers
from daemon.domain.secret import Secret
from daemon.runtime.bootstrap import assemble
from daemon.runtime.client_secrets import ClientSecrets
from daemon.runtime.config.secret_reading import SecretReader
from daemon.runtime.config.settings import Settings, SettingsInvalid, load
from daemon.runtime.reloader import Reloader
from daemon.runtime.schedule import Schedule
from daemon.runtime.secret_masks import SecretMasks
from daemon.runtime.service_manager import ServiceManager
from daemon.runtime.state.instance import Instance
from daemon.runtime.web.status import DaemonStatus

URI = Secret("mongodb://refreshd:the-password-of-mongod@127.0.0.1:1")
ACME = """
[providers.acme]
title = "Acme"
token_url = "https://acme.example/token"
client_id = "me"
client_secret = "{secret}"
client_auth = "post"
concurrency = 3
"""
OTHERS = ["other", "third"]


class NoAudit:
    """MongoDB is away."""

    async def note(self, *_: object, **__: object) -> None:
        raise StoreLost("away")


class Stage:
    """The parts of a daemon that has not reached MongoDB, and its reloader."""

    def __init__(self, directory: Path) -> None:
        directory.chmod(0o700)
        self.file = directory / "config.toml"
        self.key = b64encode(os.urandom(32)).decode()
        self.said = io.StringIO()
        self.log = configure(format="json", level="info", stream=self.said)
        self.providers = Providers()
        self.taken: list[Settings] = []
        self.masked_meanwhile: list[bool] = []
        self.goes_on = True
        self.clients = ClientSecrets(
            SecretReader(),
            providers=self.providers,
            later=lambda *_: None,
            changed=lambda: None,
            boot=lambda: timedelta(0),
            log=self.log,
        )
        self.write(ACME.format(secret="the-first-secret"))
        settings = self.read()
        self.view = DaemonStatus(settings, instance="me")
        self.providers.follow(self.view.use)
        self.masks = SecretMasks(settings, URI, self.log)
        self.providers.follow(self.masks.use_providers)
        self.providers.replace(settings.providers)
        self.parts = assemble(
            settings,
            uri=URI,
            providers=self.providers,
            instance=Instance(id="me", directory=directory, filesystem=None, former_mode=None),
            log=self.log,
            watch=lambda _: None,
        )
        self.reloader = self._reloader(settings, {})

    def _reloader(self, settings: Settings, demo: Mapping[str, Provider]) -> Reloader:
        audit: Any = NoAudit()
        return Reloader(
            settings,
            read=lambda: self.read(),  # noqa: PLW0108  a test puts another in its place
            take=self._take,
            taken=self._taken,
            providers=self.providers,
            demo=demo,
            clients=self.clients,
            masks=self.masks,
            audit=audit,
            schedule=Schedule(failed=lambda _where, _error: None),
            manager=ServiceManager({}),
            log=self.log,
        )

    def write(self, providers: str) -> None:
        self.file.write_text(
            f'[store]\nuri = "{URI.reveal()}"\n[keys]\nactive = "a"\nring.a = "{self.key}"\n{providers}'
        )
        self.file.chmod(0o600)

    def read(self) -> Settings:
        return load(self.file, {})

    async def _take(self, fresh: Settings) -> bool:
        self.taken.append(fresh)
        self.masked_meanwhile.append(self.masks_text("the-first-secret"))
        return self.goes_on

    async def _taken(self) -> None:
        pass

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.said.getvalue().splitlines()]

    def masks_text(self, text: str) -> bool:
        before = len(self.said.getvalue())
        self.log.log(log_lines.KEYS_REFUSED, keys=[], message=f"it was {text}")
        return text not in self.said.getvalue()[before:]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.parts.counter.close()
    await made.parts.endpoint.close()
    await made.parts.mongo.close()


async def test_a_reload_reads_the_configuration_beside_the_event_loop(stage: Stage):
    """It may take seconds. The loop goes on meanwhile: here it is what lets the reading end."""
    may_end = threading.Event()

    def read() -> Settings:
        assert may_end.wait(timeout=10), "the loop stood still"
        raise SettingsInvalid([])

    stage.read = read  # type: ignore[method-assign]
    asyncio.get_running_loop().call_soon(may_end.set)
    await stage.reloader.reload()
    assert stage.events() == ["reload.refused"]


async def test_another_provider_takes_the_place_of_a_removed_one_in_every_part(stage: Stage):
    """Lanes, capacity, gauges, status. A reply that still comes finds the former one, and what was counted stays."""
    stage.parts.observe(LaneFailed(provider="acme", message="TypeError", failures=9))
    stage.view(LaneFailed(provider="acme", message="TypeError", failures=9))
    stage.parts.metrics(ProviderPaused(provider="acme", reason="outage", next_probe_at=None))
    leaving = stage.parts.sweeper.lanes["acme"]
    others = (
        ACME.format(secret="another-secret").replace("= 3", "= 200").replace("acme", name) for name in OTHERS
    )
    stage.write("".join(others))
    await stage.reloader.reload()
    assert list(stage.providers) == list(stage.parts.sweeper.lanes) == list(stage.view.providers) == OTHERS
    assert not leaving.may_present()
    assert stage.parts.endpoint._connections == 400
    shown = stage.parts.metrics.expose("")[0].decode()
    assert 'provider="other"' in shown
    counted = [line for line in shown.splitlines() if 'provider="acme"' in line]
    assert counted == ['refreshd_lane_failures_total{provider="acme"} 1.0']
    assert 'refreshd_provider_paused{provider="unknown",reason="outage"} 1' not in shown
    assert stage.parts.refresher._providers["acme"].name == "acme"
    stage.write(ACME.format(secret="another-secret"))
    await stage.reloader.reload()
    assert stage.parts.sweeper.lanes["acme"] is leaving
    status: Any = await stage.view.status()
    assert status["providers"]["acme"]["failed_passes"] == 0


async def test_the_providers_of_the_demo_stay(stage: Stage):
    """They are in no file that a reload reads."""
    demo = {
        "demo": replace(
            stage.providers["acme"], definition=replace(stage.providers["acme"].definition, name="demo")
        )
    }
    stage.reloader = stage._reloader(stage.read(), demo)
    await stage.reloader.reload()
    assert sorted(stage.parts.sweeper.lanes) == ["acme", "demo"]


async def test_a_daemon_that_stops_keeps_its_providers(stage: Stage):
    """A lane that ends must not go on."""
    stage.goes_on = False
    before = stage.providers["acme"]
    stage.write(ACME.format(secret="another-secret"))
    await stage.reloader.reload()
    assert len(stage.taken) == 1
    assert stage.providers["acme"] is before
    assert "reload.done" not in stage.events()


async def test_a_reload_masks_what_it_reads_and_what_it_replaces(stage: Stage):
    """A reply to the last request with the former secret may repeat it. The store's password is in use all the time."""
    assert stage.masks_text("the-first-secret")
    assert not stage.masks_text("the-second-secret")
    stage.write(ACME.format(secret="the-second-secret"))
    await stage.reloader.reload()
    for text in ("the-first-secret", "the-second-secret", "the-password-of-mongod", stage.key):
        assert stage.masks_text(text), text


async def test_a_new_bearer_token_is_masked_as_long_as_it_is_in_use(stage: Stage):
    """A reload takes it over, though host and port need a restart."""
    stage.write(ACME.format(secret="the-first-secret") + '[server]\nbearer_token = "open-sesame-please"\n')
    for _ in range(3):
        await stage.reloader.reload()
        assert stage.masks_text("open-sesame-please")


class Registered:
    """The masks of a log."""

    def register_secrets(self, secrets: Iterable[Secret]) -> None:
        self.texts = {secret.reveal() for secret in secrets}


async def test_the_keys_of_the_ring_in_use_are_masked_whatever_the_configuration_says(stage: Stage):
    """The store was sealed with them, so a reload with other keys is refused, and another reload may follow."""
    settings, used, log = stage.read(), stage.parts.keys.ring, Registered()
    masks = SecretMasks(settings, URI, log)  # type: ignore[arg-type]
    masks.follow_ring(lambda: used)
    first = stage.key
    for _ in range(3):
        stage.key = b64encode(os.urandom(32)).decode()
        stage.write(ACME.format(secret="the-first-secret"))
        fresh = stage.read()
        masks.read(fresh)
        assert {first, stage.key} <= log.texts
        masks.use(fresh)
        assert {first, stage.key} <= log.texts
    masks.read(fresh)
    used = fresh.keys.key_ring  # now it is taken over
    masks.use(fresh)
    assert {first, stage.key} <= log.texts  # for one reload longer
    masks.read(fresh)
    assert first not in log.texts


async def test_a_secret_that_was_kept_because_its_source_is_away_stays_masked(stage: Stage):
    """However often the configuration is read without it."""
    kept = stage.providers["acme"]

    def read() -> Settings:
        fresh = load(stage.file, {})
        lacking = replace(fresh.providers["acme"], client_secret=None, lacking="aws_secret acme: away")
        return replace(fresh, providers={"acme": lacking})

    stage.read = read  # type: ignore[method-assign]
    for _ in range(3):
        await stage.reloader.reload()
    assert stage.providers["acme"] == kept
    assert stage.masked_meanwhile == [True] * 3
    assert stage.masks_text("the-first-secret")


async def test_a_secret_that_comes_late_is_masked_before_it_is_used(stage: Stage):
    """Any part that uses it may log an answer that repeats it."""
    masked: list[bool] = []
    stage.providers.follow(lambda _: masked.append(stage.masks_text("the-late-secret")))
    late = replace(stage.providers["acme"], client_secret=Secret("the-late-secret"))
    stage.providers.replace({"acme": late})
    assert masked == [False, True]


async def test_an_invalid_configuration_changes_nothing(stage: Stage):
    """The log has the problem, and the former one stays in use."""
    before = stage.providers["acme"]
    stage.write("[providers.acme-3a8f1b9c4d7e]\nclient_idd = 1\n")
    await stage.reloader.reload()
    assert stage.taken == []
    assert stage.providers["acme"] is before
    assert stage.events() == ["reload.refused"]
    assert "providers.acme-3a8f1b9c4d7e.client_idd: unknown key" in stage.said.getvalue()
