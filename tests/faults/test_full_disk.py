"""The journal's disk fills up or refuses to be written: nothing is asked while it lasts, what was in flight is not lost,
and it goes on by itself when the disk is mended. At a provider that revokes on reuse, like all fault tests.
"""

import asyncio
import resource
import shutil
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from tests.e2e.daemon_process import PATIENCE, DaemonProcess
from tests.faults.crashing import CRASHED
from tests.faults.small_disk import small_disk
from tests.faults.stage import Stage
from tests.support import wall_clock

TOKENS = 24
SWEEPS = 4  # how many must have failed, with everything due, before we believe that nothing is asked
DISK = 16  # MiB; the reserve of TOKENS in flight takes 1.5 of it
FAST = {"sweep_every": "200ms", "concurrency": TOKENS}


async def probe(daemon: DaemonProcess, path: str) -> tuple[int, dict]:
    async with aiohttp.ClientSession() as session, session.get(await daemon.url() + path) as answer:
        return answer.status, await answer.json()


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        while not await holds():
            await asyncio.sleep(0.02)


async def journal_trouble(daemon: DaemonProcess) -> None:
    """Wait until the daemon is not ready because of its journal. It is alive all the same."""

    async def told() -> bool:
        status, readiness = await probe(daemon, "/readyz")
        return status == 503 and not readiness["checks"]["journal"]["ok"]

    await until(told)
    assert (await probe(daemon, "/livez"))[0] == 200


def presented(scene: Stage) -> int:
    return sum(len(grant["presented"]) for grant in scene.ledger())


async def all_due(scene: Stage) -> None:
    await scene.tokens.update_many({}, {"$set": {"due_at": wall_clock.now()}})


async def nothing_is_asked(scene: Stage, daemon: DaemonProcess) -> None:
    """Everything is due, sweep after sweep, and not one request is made."""
    before = presented(scene)
    await all_due(scene)
    failed = len(daemon.seen("sweep.failed"))
    await daemon.event("sweep.failed", count=failed + SWEEPS)
    assert presented(scene) == before
    assert (await probe(daemon, "/readyz"))[0] == 503


async def all_renewed(scene: Stage, daemon: DaemonProcess) -> None:
    """By the same process: each token once more, none revoked, and the database has what is current."""
    before = {token["_id"]: token["revision"] for token in await scene.tokens.find({}).to_list()}
    await all_due(scene)
    await scene.settled(lambda token: token["revision"] > before[token["_id"]], within=PATIENCE)
    await daemon.ready()
    await nothing_was_lost(scene)


async def nothing_was_lost(scene: Stage) -> None:
    """None revoked, no value presented twice, and the database has what is current."""
    assert scene.revoked() == []
    assert await scene.differing() == []
    shown = [one["sha256"] for grant in scene.ledger() for one in grant["presented"]]
    assert len(shown) == len(set(shown))


async def in_flight(scene: Stage, daemon: DaemonProcess, count: int) -> None:
    """All tokens are due; wait until the provider has every request, and withholds its reply."""
    scene.sandbox.add_fault({"kind": "withhold", "share": 1.0})
    await scene.consent(count)
    await scene.until(lambda: presented(scene) == count, of=daemon)


async def test_a_full_disk_stops_the_asking_until_there_is_room_again(stage):
    """The state directory's disk is filled to the last page under load: not ready, alive, and silent towards the
    provider. Once there is room, the same process renews everything."""
    scene = await stage(**FAST)
    place = scene.install(concurrency=TOKENS)
    with small_disk(place.directory / "state", mebibytes=DISK) as disk:
        await scene.consent(TOKENS)
        async with scene.running(place) as daemon:
            await daemon.event("token.renewed", count=TOKENS)
            assert (await daemon.event("state.volatile"))["level"] == "warning"
            disk.fill()
            await all_due(scene)
            await journal_trouble(daemon)
            await nothing_is_asked(scene, daemon)
            disk.clear()
            await all_renewed(scene, daemon)
            assert await daemon.stop() == 0


async def test_replies_that_are_on_their_way_when_the_disk_fills_up_find_room_in_the_journal(stage):
    """Every request is with the provider when the disk becomes full. The process dies with the last reply in its
    journal; the next one, on the same full disk, finds there all that MongoDB lacks, records it, and asks nothing."""
    scene = await stage(**FAST)
    place = scene.install(concurrency=TOKENS)
    with small_disk(place.directory / "state", mebibytes=DISK) as disk:
        async with scene.running(place, "keep.after", TOKENS) as daemon:
            await in_flight(scene, daemon, TOKENS)
            disk.fill()
            scene.sandbox.clear_faults()
            assert await daemon.ended() == CRASHED
        assert len(scene.kept()) == TOKENS
        assert disk.free == 0
        waiting = len(scene.journal(place))
        async with scene.running(place) as daemon:
            await daemon.event("journal.replayed", count=waiting)
            assert waiting
            await scene.settled(lambda token: token.get("revision") == 1, within=PATIENCE)
            await journal_trouble(daemon)
            await nothing_is_asked(scene, daemon)
            disk.clear()
            await all_renewed(scene, daemon)
            assert await daemon.stop() == 0


async def test_replies_that_the_journal_refuses_reach_mongodb_from_memory(stage):
    """Every request is with the provider when the journal becomes read-only: no reply can be kept, each is recorded, and
    nothing more is asked. Written to again, the journal goes on without a restart.

    A file system can't be remounted read-only while the daemon has a file open on it, so the kernel is told to refuse
    every write to a file by this process; SQLite sees a failed write either way.
    """
    scene = await stage(**FAST)
    place = scene.install(concurrency=TOKENS)
    async with place.running() as daemon:
        await in_flight(scene, daemon, TOKENS)
        whole = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (0, whole[1]))
        scene.sandbox.clear_faults()
        await scene.settled(lambda token: token.get("revision") == 1, within=PATIENCE)
        await nothing_was_lost(scene)
        await journal_trouble(daemon)
        await nothing_is_asked(scene, daemon)
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, whole)
        await all_renewed(scene, daemon)
        assert await daemon.stop() == 0


async def test_a_start_on_a_full_disk_is_worth_another_try(stage):
    """Stopped cleanly, the journal can't be opened without room: the exit code lets a service manager try again, and
    with room it starts."""
    scene = await stage(**FAST)
    place = scene.install(concurrency=TOKENS)
    with small_disk(place.directory / "state", mebibytes=DISK) as disk:
        async with scene.running(place) as daemon:
            await daemon.ready()
            assert await daemon.stop() == 0
        disk.fill()
        ended = await place.refreshd("run")
        assert ended.code == 1
        assert "Make room" in ended.stderr
        disk.clear()
        async with scene.running(place) as daemon:
            await daemon.ready()


@pytest.mark.parametrize("restored", [False, True])
async def test_a_journal_that_is_removed_under_a_running_daemon_stops_the_asking(stage, restored):
    """By a cleaner of old files, or by a backup that is restored. A reply in a file without a name would be lost with the process.
    What is on its way meanwhile reaches MongoDB, and a restart goes on.
    """
    scene = await stage(**FAST)
    place = scene.install(concurrency=TOKENS)
    await scene.consent(TOKENS)
    async with scene.running(place) as daemon:
        await daemon.ready()
        await scene.settled(lambda token: token.get("refreshed_at") is not None, within=PATIENCE)
        for file in list((place.directory / "state").glob("journal.db*")):
            copy = file.with_name(f"restored-{file.name}")
            shutil.copy(file, copy)
            file.unlink()
            if restored:
                copy.rename(file)
        await journal_trouble(daemon)
        await nothing_is_asked(scene, daemon)
        _, readiness = await probe(daemon, "/readyz")
        assert "was removed or replaced" in readiness["checks"]["journal"]["detail"]
        assert await daemon.stop() == 0
    async with scene.running(place) as daemon:
        await daemon.ready()
        await all_renewed(scene, daemon)
        assert await daemon.stop() == 0
