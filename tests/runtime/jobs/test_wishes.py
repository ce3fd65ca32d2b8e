"""The wishes are followed as long as the daemon runs, whatever becomes of the stream."""

import asyncio
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from daemon.adapters.mongo.wishes import NotFollowed
from daemon.adapters.telemetry.event_log import configure
from daemon.domain.claim import StoreLost
from daemon.domain.event import Event, InternalError
from daemon.runtime.jobs import wishes
from daemon.runtime.jobs.wishes import MOST_AHEAD, WishFollower
from tests.support.clocks import SetClock
from tests.support.waiting import until

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MILLISECONDS = timedelta(milliseconds=1)


class ScriptedStream:
    """Fails as the script says, then works; a failure that is None means that it begins and then is lost."""

    def __init__(self, *script: Exception | None) -> None:
        self.script = list(script)
        self.tries = 0
        self.working = asyncio.Event()
        self.wished: Callable[[str, datetime], None] = lambda _token, _due_at: None

    async def follow(self, wished: Callable[[str, datetime], None], *, begun: Callable[[], None]) -> None:
        self.tries += 1
        if self.script and (error := self.script.pop(0)) is not None:
            raise error
        begun()
        if self.script:
            raise StoreLost("AutoReconnect")
        self.wished = wished
        self.working.set()
        await asyncio.Event().wait()


class House:
    """A follower of a scripted stream, and what it logs, observes and passes on."""

    def __init__(self, stream: ScriptedStream) -> None:
        self.stream = stream
        self.clock = SetClock(NOON)
        self.renewed: list[str] = []
        self.observed: list[Event] = []
        self.ready = True
        self._out = io.StringIO()
        self.follower = WishFollower(
            stream,  # type: ignore[arg-type]
            renew=self.renewed.extend,
            clock=self.clock,
            log=configure(format="json", level="info", stream=self._out),
            observe=self.observed.append,
        )

    async def worked(self) -> None:
        """Run the follower until its stream works."""
        self.task = asyncio.create_task(self.follower.run(lambda: self.ready))
        async with asyncio.timeout(5):
            await self.stream.working.wait()

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})

    @property
    def lines(self) -> list[tuple[str, str | None]]:
        lines = map(json.loads, self._out.getvalue().splitlines())
        return [(line["event"], line.get("message")) for line in lines]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wishes, "RETRY_FIRST", MILLISECONDS)
    monkeypatch.setattr(wishes, "RETRY_LAST", 4 * MILLISECONDS)


REFUSED = NotFollowed("no change streams")


@pytest.mark.parametrize(
    ("script", "lines"),
    [
        ([], []),
        ([StoreLost("gone")] * 3, []),
        ([REFUSED], [("wishes.lost", "no change streams"), ("wishes.back", None)]),
        ([REFUSED] * 30, [("wishes.lost", "no change streams"), ("wishes.back", None)]),
        (
            [REFUSED, StoreLost("gone"), REFUSED, NotFollowed("no right"), None, REFUSED],
            [
                ("wishes.lost", "no change streams"),
                ("wishes.lost", "no right"),
                ("wishes.back", None),
                ("wishes.lost", "no change streams"),
                ("wishes.back", None),
            ],
        ),
    ],
)
async def test_a_loss_is_logged_once_and_so_is_the_return(script, lines):
    """The loss of MongoDB is not: it has a line of its own. However it fails, the stream is tried again."""
    house = House(ScriptedStream(*script))
    await house.worked()
    assert house.stream.tries == len(script) + 1
    assert house.lines == lines
    assert house.observed == []
    await house.end()


async def test_a_bug_is_reported_and_the_stream_is_tried_again():
    """As one of this job's."""
    house = House(ScriptedStream(KeyError("odd")))
    await house.worked()
    [bug] = house.observed
    assert isinstance(bug, InternalError)
    assert bug.where == "wishes"
    await house.end()


async def test_nothing_is_followed_before_the_daemon_is_ready():
    """Its store may be the wrong one, or its keys."""
    house = House(ScriptedStream())
    house.ready = False
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await house.follower.run(lambda: house.ready)
    assert house.stream.tries == 0


async def test_a_wish_waits_for_its_moment():
    """An application's clock may be a little ahead. A date that is later is none: the sweep finds it."""
    house = House(ScriptedStream())
    await house.worked()
    at = house.clock.now()
    house.stream.wished("x:past", at - timedelta(days=1))
    house.stream.wished("x:now", at)
    house.stream.wished("x:soon", at + 30 * MILLISECONDS)
    house.stream.wished("x:later", at + timedelta(seconds=2))
    for number in range(2 * MOST_AHEAD):
        house.stream.wished(f"x:{number}", at + 40 * MILLISECONDS)
    assert house.renewed == ["x:past", "x:now"]
    await until(lambda: len(house.renewed) == 2 + MOST_AHEAD, every=MILLISECONDS)
    assert house.renewed[2] == "x:soon"
    assert "x:later" not in house.renewed
    await house.end()
