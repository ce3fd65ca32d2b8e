"""MongoDB goes away under the load of many readers: what is served meanwhile, what is not, and how it ends."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.runtime.tasks import end
from tests.e2e.service import PROVIDER, Place, Service, placed
from tests.faults.mongod import Mongod
from tests.support.waiting import until

LIVING = [f"living-{number}" for number in range(5)]
READERS = 10
RECOVERED_WITHIN = timedelta(seconds=10)
NOTICED_WITHIN = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """How long MongoDB is away, how long memory may be used, and how long the short token lives."""

    lasts: timedelta
    offline_for: timedelta
    short: timedelta


SHORT = Outage(lasts=timedelta(seconds=8), offline_for=timedelta(seconds=6), short=timedelta(seconds=5))
LONG = Outage(lasts=timedelta(minutes=2), offline_for=timedelta(seconds=90), short=timedelta(seconds=60))


@pytest.fixture
def own_mongod(tmp_path_factory) -> Iterator[Mongod]:
    running = Mongod(tmp_path_factory.mktemp("own-mongod"))
    yield running
    running.thaw()
    running.remove()


@dataclass(frozen=True, slots=True)
class Answer:
    """`at`: when the reader asked, in seconds after the loss. `late`: how long it waited."""

    at: float
    status: int
    from_memory: bool
    late: float


class Readers:
    """They read without a pause, as fast as they are answered."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._began = asyncio.get_running_loop().time()
        self._reading: list[asyncio.Task[None]] = []
        self.answers: dict[str, list[Answer]] = {}

    async def read(self, account: str, key: str | None = None) -> Answer:
        asked = asyncio.get_running_loop().time()
        reply = await self._service.get(f"/v1/tokens/{PROVIDER}/{account}", key=key)
        late = asyncio.get_running_loop().time() - asked
        return Answer(
            asked - self._began, reply.status, reply.headers.get("Refreshd-Served-From") == "memory", late
        )

    def start(self, account: str, key: str | None = None, *, name: str | None = None) -> None:
        """Read from now on. The answers are kept under the name."""
        answers = self.answers.setdefault(name or account, [])

        async def keep_reading() -> None:
            while True:
                answers.append(await self.read(account, key))
                await asyncio.sleep(0.02)

        self._reading.append(asyncio.create_task(keep_reading()))

    def begin(self) -> None:
        """MongoDB is lost now."""
        self._began = asyncio.get_running_loop().time()

    async def stop(self) -> None:
        await end(*self._reading)


async def add_short(place: Place, account: str, lifetime: timedelta) -> None:
    (response,) = place.sandbox.consent(1)
    short = {**response, "expires_in": int(lifetime.total_seconds())}
    await place.refreshd("add", PROVIDER, account, stdin=json.dumps(short))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "outage"),
    [
        pytest.param("frozen", SHORT, id="frozen"),
        pytest.param("killed", SHORT, id="killed", marks=pytest.mark.long),
        pytest.param("frozen", LONG, id="frozen for minutes", marks=pytest.mark.long),
        pytest.param("killed", LONG, id="killed for minutes", marks=pytest.mark.long),
    ],
)
async def test_readers_are_served_from_memory_for_a_while(
    own_mongod: Mongod, tmp_path: Path, how: str, outage: Outage, capsys
):
    """An unexpired token is served for `offline_for` and no longer; one that expires until it does; what was paused or
    removed, and a key that was revoked, never again. When MongoDB is back, all is served as before without a restart.
    """
    loop = asyncio.get_running_loop()
    async with placed(own_mongod.uri, tmp_path) as place:
        await place.add(*LIVING, "paused", "removed")
        revoked, key = await place.key("left"), await place.key()
        limits = {"offline_for": f"{outage.offline_for.seconds}s", "fresh_for": "0s"}
        async with place.serving(key, access=limits) as service:
            readers = Readers(service)
            for account in (*LIVING, "paused", "removed"):
                assert (await readers.read(account)).status == 200
                assert (await readers.read(account, revoked)).status == 200
            await place.refreshd("access", "revoke", "left")
            await place.refreshd("pause", f"{PROVIDER}:paused")
            await place.refreshd("remove", f"{PROVIDER}:removed", "--yes")
            await add_short(place, "short", outage.short)
            issued = loop.time()
            for number in range(READERS):
                readers.start(LIVING[number % len(LIVING)], name="living")
            for account in ("short", "paused", "removed"):
                readers.start(account)
            readers.start(LIVING[0], revoked, name="revoked")
            await asyncio.sleep(1)
            own_mongod.kill() if how == "killed" else own_mongod.freeze()
            readers.begin()
            lost = loop.time()
            await asyncio.sleep(outage.lasts.total_seconds())
            own_mongod.start() if how == "killed" else own_mongod.thaw()
            returned = loop.time() - lost
            await until(
                lambda: bool(readers.answers["living"]) and readers.answers["living"][-1].status == 200,
                every=timedelta(milliseconds=50),
                within=RECOVERED_WITHIN,
            )
            recovered = loop.time() - lost - returned
            await asyncio.sleep(1)
            await readers.stop()
            assert not service.process.seen("internal.error")
    answers = {
        name: [one for one in all_of_it if one.at >= 0 and one.at + one.late < returned]
        for name, all_of_it in readers.answers.items()
    }
    living = answers["living"]
    served = [one for one in living if one.status == 200]
    assert {(one.status, one.from_memory) for one in living} == {(200, False), (200, True), (503, False)}
    assert max(one.late for one in served) < NOTICED_WITHIN.total_seconds()
    # A change stream that has just answered vouches for two seconds more.
    assert outage.offline_for.total_seconds() - 1 < served[-1].at < outage.offline_for.total_seconds() + 3
    short = [one for one in answers["short"] if one.status == 200]
    assert short[-1].at < outage.short.total_seconds() + issued - lost
    assert {one.status for one in answers["paused"]} <= {409, 503}
    assert {one.status for one in answers["removed"]} <= {404, 503}
    assert {one.status for one in answers["revoked"]} <= {401, 503}
    assert readers.answers["revoked"][-1].status == 401
    memory = sum(one.from_memory for one in living)
    with capsys.disabled():
        print(
            f"\n{how}: {len(living)} reads, {memory} from memory, {len(living) - len(served)} refused;"
            f" the longest waited {max(one.late for one in served):.2f} s; the last was served after"
            f" {served[-1].at:.1f} s, the short one after {short[-1].at:.1f} s; as before {recovered:.1f} s after the"
            f" return"
        )
