"""The shipped ecosystem file under a real PM2: start, stop, crash, a wrong configuration, and a second copy."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import Installation
from tests.faults.stage import Stage
from tests.operations.pm2_home import ECOSYSTEM, POLL_EVERY, Pm2, is_alive
from tests.support import wall_clock

pytestmark = pytest.mark.operations

INSTALLED = Path(__file__).with_name("pm2") / "node_modules" / ".bin" / "pm2"
DRAINED = '"event": "daemon.stopped"'
NAME = "refreshd-access"
SETTLED = timedelta(seconds=60)


@pytest.fixture(scope="module")
def program() -> str:
    """$REFRESHD_TEST_PM2, what `npm ci` made in tests/operations/pm2, or what is on the path."""
    named = os.environ.get("REFRESHD_TEST_PM2") or (str(INSTALLED) if INSTALLED.exists() else "pm2")
    found = shutil.which(named)
    if found is None or shutil.which("node") is None:
        pytest.skip(f"{named} is not there: npm ci --ignore-scripts in tests/operations/pm2")
    return found


@pytest.fixture
async def scene(mongod: str, database_name: str, tmp_path: Path) -> AsyncIterator[Stage]:
    """A provider with a grace window, that takes its time to answer."""
    options = SandboxOptions(
        grace=timedelta(seconds=60), lifetime=timedelta(minutes=10), latency=timedelta(milliseconds=500)
    )
    async with Sandbox(options) as sandbox:
        stage = Stage(tmp_path, uri=mongod, database=database_name, sandbox=sandbox)
        stage.install(concurrency=16)
        yield stage
        await stage.close()


@pytest.fixture
async def pm2(program: str, scene: Stage, tmp_path: Path) -> AsyncIterator[Pm2]:
    home = tmp_path / "pm2"
    home.mkdir()
    manager = Pm2(program, home, scene.places[0].config)
    try:
        yield manager
    finally:
        await manager.end()


def test_the_access_service_is_an_app_of_its_own_if_it_has_a_configuration() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not there")
    script = f"console.log(JSON.stringify(require({json.dumps(str(ECOSYSTEM))})))"
    environment = {"REFRESHD_ACCESS_CONFIG": "/etc/access/config.toml"}
    done = subprocess.run([node, "-e", script], env=environment, capture_output=True, text=True, check=True)
    _, access = json.loads(done.stdout)["apps"]
    assert (access["name"], access["cwd"]) == ("refreshd-access", "/etc/access")
    assert access["args"] == ["--config", "/etc/access/config.toml", "serve"]
    assert access["wait_ready"] is True


@pytest.mark.parametrize("recipient", [None, "age1example"])
def test_backups_are_an_app_of_their_own_if_they_have_a_recipient(recipient: str | None) -> None:
    """It runs every night, and PM2 does not start it again when it ends."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not there")
    environment = {} if recipient is None else {"REFRESHD_BACKUP_RECIPIENT": recipient}
    script = f"console.log(JSON.stringify(require({json.dumps(str(ECOSYSTEM))})))"
    done = subprocess.run([node, "-e", script], env=environment, capture_output=True, text=True, check=True)
    _, *more = json.loads(done.stdout)["apps"]
    if recipient is None:
        assert more == []
        return
    (backup,) = more
    assert (backup["name"], backup["autorestart"]) == ("refreshd-backup", False)
    assert (backup["cron_restart"], backup["args"][-1]) == ("30 2 * * *", recipient)
    assert set(backup["args"]) > {"backup", "create", "--to"}


@pytest.mark.parametrize("dead_for", [None, "180d"])
def test_a_cleanup_is_an_app_of_its_own_if_it_has_a_criterion(dead_for: str | None) -> None:
    """It runs every month, and PM2 does not start it again when it ends."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not there")
    environment = {} if dead_for is None else {"REFRESHD_CLEANUP_DEAD_FOR": dead_for}
    script = f"console.log(JSON.stringify(require({json.dumps(str(ECOSYSTEM))})))"
    done = subprocess.run([node, "-e", script], env=environment, capture_output=True, text=True, check=True)
    _, *more = json.loads(done.stdout)["apps"]
    if dead_for is None:
        assert more == []
        return
    (cleanup,) = more
    assert (cleanup["name"], cleanup["autorestart"]) == ("refreshd-cleanup", False)
    assert cleanup["cron_restart"] == "30 3 1 * *"
    assert cleanup["args"][2:6] == ["cleanup", "--dead-for", dead_for, "--yes"]


async def test_it_starts_when_ready_restarts_and_stops_within_its_drain(pm2: Pm2, scene: Stage) -> None:
    """What is in flight at a stop is recorded, and no process is left."""
    await scene.consent(10)
    first = await pm2.start()
    assert (first["status"], first["restarts"]) == ("online", 0)
    assert '"event": "daemon.started"' in pm2.said()  # before `pm2 start` came back
    await renewed_all(scene)

    await pm2.run("restart", "refreshd")
    second = await pm2.app()
    assert (second["status"], second["pid"] != first["pid"]) == ("online", True)
    assert json.loads(line_with(pm2, DRAINED))["drained"] is True

    before = scene.refreshes()
    await scene.tokens.update_many({}, {"$set": {"due_at": wall_clock.now()}})
    while scene.refreshes() == before:  # taken by the provider, which answers half a second later
        await asyncio.sleep(0.01)
    await pm2.run("stop", "refreshd")
    assert (await pm2.app())["status"] == "stopped"
    assert pm2.said().count(DRAINED) == 2
    assert not is_alive(second["pid"])
    assert pm2.processes() == set()
    assert await scene.differing() == []
    assert await scene.tokens.count_documents({"lease": {"$ne": None}}) == 0


async def test_one_that_crashes_is_started_again_later_each_time_and_loses_nothing(
    pm2: Pm2, scene: Stage
) -> None:
    """200 ms, then half as much more each time."""
    await scene.consent(10)
    app = await pm2.start()
    for restarts in (1, 2, 3):
        os.kill(app["pid"], signal.SIGKILL)
        app = await pm2.until(
            lambda one, n=restarts: (one["restarts"], one["status"]) == (n, "online") and is_alive(one["pid"])
        )
    assert re.findall(r"will restart in (\d+)ms", pm2.said()) == ["200", "300", "450"]
    await pm2.until_said('"event": "daemon.started"', count=4)
    await renewed_all(scene)


@pytest.mark.long
async def test_the_access_service_is_an_app_that_starts_when_ready_and_drains(
    program: str, scene: Stage, tmp_path: Path
) -> None:
    """Beside the daemon. It answers after a restart, after SIGHUP, which is a restart, and after it was killed."""
    await scene.consent(1)
    place = scene.places[0]
    key = (await place.refreshd("access", "create", "app", "--tokens", "*", "--can", "read")).stdout.strip()
    own = Installation(tmp_path / "access", uri="", database="", providers={})
    for name, arguments in (("readers", ("reader", "--all")), ("writer", ("writer",))):
        own.directory.joinpath(name).touch(mode=0o600)
        own.directory.joinpath(name).write_text((await place.refreshd("keys", *arguments)).stdout)
    own.configure(
        {
            "store": place.tables["store"],
            "keys": {"readers": {"file": "readers"}, "writer": {"file": "writer"}},
            "access": {"port": 0},
            "log": {"format": "json"},
            "providers.sandbox": {},
        }
    )
    (home := tmp_path / "pm2").mkdir()
    pm2 = Pm2(program, home, place.config, access=own.config)

    async def answers(count: int) -> None:
        """Ask the newest process."""
        await pm2.until_said('"event": "access.started"', count=count)
        started = [line for line in access_log(pm2).splitlines() if '"event": "access.started"' in line]
        url = f"{json.loads(started[-1])['url']}/v1/token?id={token}"
        async with asyncio.timeout(SETTLED.total_seconds()), aiohttp.ClientSession() as session:
            while True:
                async with session.get(url, headers={"Authorization": f"Bearer {key}"}) as answer:
                    if answer.status == 200:
                        return
                await asyncio.sleep(POLL_EVERY.total_seconds())

    try:
        token = (await scene.tokens.find_one({}))["_id"]
        await pm2.start()
        first = await pm2.app(NAME)
        assert (first["status"], first["restarts"]) == ("online", 0)
        assert '"event": "access.started"' in pm2.said()  # before `pm2 start` came back
        await answers(1)
        await pm2.run("restart", NAME)
        await answers(2)
        assert access_log(pm2).count('"drained": true') == 1
        await pm2.run("sendSignal", "SIGHUP", NAME)
        await answers(3)
        assert access_log(pm2).count('"drained": true') == 2
        os.kill((await pm2.app(NAME))["pid"], signal.SIGKILL)
        await answers(4)
        await pm2.run("stop", NAME)
        assert (await pm2.app(NAME))["status"] == "stopped"
        assert access_log(pm2).count('"drained": true') == 3
        assert (await pm2.app())["status"] == "online"
    finally:
        await pm2.end()


async def test_a_wrong_configuration_stays_down_and_is_told(pm2: Pm2, scene: Stage) -> None:
    """Exit code 78; PM2 gives the process up, whatever its list calls that."""
    place = scene.places[0]
    place.configure({**place.tables, "refresh": {"sweep_every": "sometimes"}})
    await pm2.run("start", str(ECOSYSTEM))
    app = await pm2.until(lambda one: one["exit_code"] == 78)
    assert (app["pid"], app["restarts"]) == (0, 0)
    assert "refresh.sweep_every" in pm2.said()
    assert pm2.processes() == set()
    assert (await pm2.app())["restarts"] == 0


async def test_a_second_copy_is_noticed_and_takes_over_when_the_first_one_ends(
    pm2: Pm2, scene: Stage
) -> None:
    """PM2 is killed, its child is not; `pm2 resurrect` starts a copy, which says who holds its directory."""
    await scene.consent(10)
    first = await pm2.start()
    await pm2.run("save")
    os.kill(pm2.daemon(), signal.SIGKILL)
    await gone(pm2.daemon())
    assert is_alive(first["pid"])

    await pm2.run("resurrect")
    await pm2.until_said(f"is in use by process {first['pid']}", count=2)  # and PM2 tries again
    assert "exited with code [75]" in pm2.said()
    assert is_alive(first["pid"])
    await renewed_all(scene)

    os.kill(first["pid"], signal.SIGTERM)
    await gone(first["pid"])
    heir = await pm2.until(lambda one: one["status"] == "online" and one["pid"] in pm2.processes())
    await pm2.until_said('"event": "daemon.started"', count=2)
    await renewed_all(scene)
    await pm2.run("stop", "refreshd")
    assert heir["pid"] != first["pid"]
    assert pm2.processes() == set()


async def renewed_all(scene: Stage) -> None:
    """Have every token renewed; then the provider's ledger and the database agree."""
    await scene.renew_all(within=SETTLED)
    assert await scene.differing() == []
    assert scene.revoked() == []


async def gone(pid: int) -> None:
    """Wait for the end of a process that is nobody's here."""
    async with asyncio.timeout(SETTLED.total_seconds()):
        while is_alive(pid):
            await asyncio.sleep(POLL_EVERY.total_seconds())


def access_log(pm2: Pm2) -> str:
    return "\n".join(file.read_text() for file in pm2.home.glob(f"**/{NAME}-out*.log"))


def line_with(pm2: Pm2, text: str) -> str:
    return next(line for line in pm2.said().splitlines() if text in line)
