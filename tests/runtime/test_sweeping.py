"""What keeps a sweep from beginning."""

import io
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from daemon.adapters.telemetry.event_log import configure
from daemon.domain.event import Event, SweepFailed, SweepFinished
from daemon.runtime.schedule import Schedule
from daemon.runtime.service_manager import ServiceManager
from daemon.runtime.sweeping import Sweeping

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Scene:
    """A store that was found, whose keys are right or wrong."""

    def __init__(self) -> None:
        self.right = True
        self.swept = 0
        self.counted: list[Event] = []
        parts: Any = SimpleNamespace(
            keys=SimpleNamespace(wrong=None),
            metrics=self.counted.append,
            sweeper=SimpleNamespace(sweep=self.sweep),
        )
        key_check: Any = SimpleNamespace(settle=self.settle)
        view: Any = SimpleNamespace(sweep_begins=lambda: None)
        self.keys = parts.keys
        self.sweeping = Sweeping(
            parts,
            schedule=Schedule(failed=lambda _where, _error: None),
            every=timedelta(minutes=1),
            key_check=key_check,
            prepare_demo=self.unused,
            prepared=lambda: None,
            view=view,
            manager=ServiceManager({}),
            log=configure(format="json", level="info", stream=io.StringIO()),
        )
        self.sweeping.prepared = True

    async def settle(self) -> bool:
        return self.right

    async def sweep(self) -> SweepFinished:
        self.swept += 1
        return SweepFinished(claimed=0, renewed=0, postponed=0, rejected=0, duration=timedelta(0), at=NOW)

    async def unused(self) -> None:
        raise AssertionError("the store was found already")


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_with_a_wrong_key_nothing_is_swept(scene: Scene):
    """Nothing could be sealed. The sweep counts as failed, and the next one looks at the key again."""
    scene.right, scene.keys.wrong = False, "not the key"
    await scene.sweeping.sweep()
    assert (scene.swept, scene.counted) == (0, [SweepFailed(message="not the key")])
    assert not scene.sweeping.is_ready
    scene.right, scene.keys.wrong = True, None
    await scene.sweeping.sweep()
    assert scene.swept == 1
    assert scene.sweeping.is_ready
