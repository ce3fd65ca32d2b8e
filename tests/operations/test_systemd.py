"""The shipped units under a real systemd: what docs/install.md says, done, and what it promises, tried.

The units stay as they are shipped; drop-ins give them short times.
"""

import asyncio
import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.adapters.archive import new_key
from daemon.runtime.access.life import STOP_AFTER
from daemon.runtime.config.settings import RefreshSettings
from daemon.runtime.stop_limit import GRACE
from daemon.sandbox import Sandbox, SandboxOptions
from tests.faults.stage import Stage
from tests.operations.booted import HOLD, POLL_EVERY, ROOT, CanNotBoot, Machine, booted
from tests.operations.service import UNIT, Place
from tests.support import wall_clock
from tests.support.ports import free_port

pytestmark = pytest.mark.operations

TEMPLATE, NOTIFIER = "refreshd@.service", "refreshd-failed@.service"
BACKUP, TIMER = "refreshd-backup.service", "refreshd-backup.timer"
CLEANUP, MONTHLY = "refreshd-cleanup.service", "refreshd-cleanup.timer"
ACCESS = "refreshd-access.service"
UNITS = ROOT / "deploy" / "systemd"
PROGRAM = "/opt/refreshd/bin/refreshd"
SUDO = 'sudo() { "$@"; }\ncd /srv/refreshd\n'  # root already, and in the clone
QUICK = "RestartSec=200ms"


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The shipped units, with a program that exists: systemd-analyze looks for it."""
    program = tmp_path / "refreshd"
    program.touch(mode=0o755)
    for unit in (*UNITS.glob("*.service"), *UNITS.glob("*.timer")):
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, str(program)))
    return tmp_path


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE, ACCESS, BACKUP, TIMER, CLEANUP, MONTHLY])
def test_systemd_has_nothing_to_say_about_the_units(units: Path, unit: str) -> None:
    """`verify` only warns about what it does not know, and succeeds: so not a word may be said."""
    done = analyze("verify", str(units / unit.replace("@", "@a")), str(units / NOTIFIER.replace("@", "@a")))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE, ACCESS, BACKUP, CLEANUP])
def test_the_exposure_of_the_service_stays_low(units: Path, unit: str) -> None:
    """1.2 at most, of 10."""
    done = analyze("security", "--offline=true", "--threshold=12", "--no-pager", str(units / unit))
    assert done.returncode == 0, done.stdout


def test_a_replica_is_the_service_but_for_what_is_its_own() -> None:
    """The two units are edited together."""
    own = {
        "StateDirectory=refreshd/%i",
        "EnvironmentFile=/etc/refreshd/%i.env",
        "Description=refreshd keeps OAuth 2.0 tokens fresh (replica %i)",
    }
    theirs = {"StateDirectory=refreshd", "Description=refreshd keeps OAuth 2.0 tokens fresh"}
    single, replica = (settings(UNITS / name) for name in (UNIT, TEMPLATE))
    assert set(replica) - set(single) == own
    assert set(single) - set(replica) == theirs


@pytest.mark.parametrize("unit", [BACKUP, CLEANUP])
def test_a_backup_and_a_cleanup_have_the_walls_of_the_service(unit: str) -> None:
    """But for the directory of a backup's metric."""
    service, timed = (settings(UNITS / name) for name in (UNIT, unit))
    first = service.index("AmbientCapabilities=")
    walls = [line for line in service[first:] if "Install" not in line and "WantedBy" not in line]
    assert timed[-len(walls) :] == walls


def test_a_cleanup_takes_its_criteria_from_the_operator_alone() -> None:
    """The unit has none of its own, and fails without the file that has them."""
    lines = settings(UNITS / CLEANUP)
    (start,) = (line for line in lines if line.startswith("ExecStart="))
    assert "cleanup $CLEANUP_OPTIONS --yes " in start
    assert not re.search(r"--(dead|unused)-for", start)
    assert "EnvironmentFile=/etc/refreshd/cleanup.env" in lines


def test_a_stop_may_take_longer_than_the_drain() -> None:
    """Else systemd or PM2 would kill what is being recorded, or what is about to say why it hangs."""
    ecosystem = (ROOT / "deploy" / "pm2" / "ecosystem.config.cjs").read_text()
    access, daemon = (
        timedelta(milliseconds=int(one)) for one in re.findall(r"kill_timeout: (\d+)", ecosystem)
    )
    longest = RefreshSettings().drain + GRACE
    assert daemon > longest
    assert access > STOP_AFTER
    for unit in (UNIT, TEMPLATE):
        (stop,) = re.findall(r"^TimeoutStopSec=(\d+)s$", (UNITS / unit).read_text(), re.MULTILINE)
        assert timedelta(seconds=int(stop)) > longest
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)s$", (UNITS / ACCESS).read_text(), re.MULTILINE)
    assert timedelta(seconds=int(stop)) > STOP_AFTER


def test_a_command_has_the_walls_of_the_service() -> None:
    """The wrapper takes them from the unit by name. It leaves out only what hides files that a command may be given, and
    what is about a service's life.
    """
    wrapper = (UNITS / "refreshd.sh").read_text()
    unit = (UNITS / UNIT).read_text()
    walls = {
        line.partition("=")[0]
        for line in unit[unit.index("AmbientCapabilities=") :].splitlines()
        if "=" in line
    }
    walls |= {"IPAddressDeny", "LimitCORE", "MemorySwapMax"}
    left_out = {name for name in walls if not re.search(rf"\b{name}\b", wrapper)}
    assert left_out == {"PrivateTmp", "RemoveIPC", "WantedBy"}


def settings(unit: Path) -> list[str]:
    return [line for line in unit.read_text().splitlines() if line and not line.startswith("#")]


# -------------------------------------------------------------------- booted


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One for all tests but that of the recipe."""
    with bare(tmp_path_factory.mktemp("machine")) as booting:
        yield booting


@contextmanager
def bare(directory: Path) -> Iterator[Machine]:
    """A machine on which nothing of ours is installed but the program."""
    try:
        with booted(directory) as machine:
            yield machine
    except CanNotBoot as why:
        pytest.skip(str(why))


@pytest.fixture
async def installed(
    machine: Machine, mongod: str, database_name: str, tmp_path: Path
) -> Callable[..., AbstractAsyncContextManager[Place]]:
    """`async with installed("a line of a drop-in") as place`: the shipped units, and a provider of the test's own."""
    if not (machine.units / UNIT).exists():
        await machine.run("useradd", "--system", "--user-group", "refreshd")
        for file in UNITS.glob("*.service"):
            shutil.copy(file, machine.units)
        (machine.units / f"{UNIT}.d").mkdir()
        shutil.copy(UNITS / "credentials.conf", machine.units / f"{UNIT}.d")

    @asynccontextmanager
    async def install(*lines: str) -> AsyncIterator[Place]:
        machine.begin()
        options = SandboxOptions(grace=timedelta(seconds=60), lifetime=timedelta(minutes=10))
        async with Sandbox(options) as sandbox:
            scene = Stage(tmp_path, uri=mongod, database=database_name, sandbox=sandbox)
            try:
                async with machine.dropped_in(UNIT, "\n".join(lines)):
                    yield Place(machine, scene)
            finally:
                await machine.systemctl("stop", UNIT, check=False)
                await machine.systemctl("reset-failed", check=False)
                await scene.close()

    return install


async def test_the_service_is_active_only_once_it_is_ready(installed):
    """Its process runs long before; systemd waits for its word, which comes after its journal and its port are open."""
    async with installed() as place:
        (place.machine.etc / HOLD).touch()
        await place.machine.systemctl("start", "--no-block", UNIT)
        await place.machine.until(UNIT, "SubState", "start")
        assert int(await place.shows("MainPID"))
        assert await place.shows("ActiveState") == "activating"
        (place.machine.etc / HOLD).unlink()
        await place.machine.until(UNIT, "ActiveState", "active")
        said = await place.machine.journal("--output=cat", "--lines=all")
        assert 0 < said.index("daemon.started") < said.index("Started refreshd.service")
        await place.machine.until(UNIT, "StatusText", "sweeping")
        await place.machine.systemctl("stop", UNIT)
        assert (await place.shows("Result"), await place.shows("ExecMainStatus")) == ("success", "0")


async def test_a_configuration_that_is_wrong_fails_the_start_stays_down_and_is_told(installed):
    """Exit status 78: systemd does not try again, and starts the notifier at once."""
    async with installed() as place:
        place.keep("key-2026-11", "not a key")
        assert (await place.machine.systemctl("start", UNIT, check=False)).code != 0
        await place.machine.until(UNIT, "ActiveState", "failed")
        assert (await place.shows("ExecMainStatus"), await place.shows("NRestarts")) == ("78", "0")
        assert "keys.ring.e2e" in await place.machine.journal(f"--unit={UNIT}")
        await place.told("exit-code, exit status 78")


async def test_one_that_cannot_start_is_tried_again_until_the_limit_and_then_told(installed):
    """Here another process has its port, which may heal: exit status 75."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        async with installed("[Unit]", "StartLimitBurst=3", "[Service]", QUICK) as place:
            place.configure("server", port=taken.getsockname()[1])
            assert (await place.machine.systemctl("start", UNIT, check=False)).code != 0
            await place.machine.until(UNIT, "ActiveState", "failed")
            assert await place.shows("ExecMainStatus") == "75"
            assert int(await place.shows("NRestarts")) >= 2
            assert "Start request repeated too quickly" in await place.machine.journal(f"--unit={UNIT}")
            await place.told("exit status 75")


async def test_a_daemon_that_hangs_is_killed_by_the_watchdog_and_started_again(installed):
    """Frozen, then with its event loop blocked: the process is there, its port is open, and only the pings are missing."""
    async with installed("[Service]", QUICK, "WatchdogSec=5s", "TimeoutAbortSec=5s") as place:
        await place.scene.consent(20)
        await place.start()
        await place.renewed()
        for times, signal in ((1, "SIGSTOP"), (2, "SIGUSR1")):
            await place.kill(signal)
            await place.restarted(times)
            said = await place.machine.journal(f"--unit={UNIT}", "--lines=all")
            assert said.count("Watchdog timeout (limit 5s)!") == times
        assert "Fatal Python error: Aborted" in said
        assert re.search(r"File .*refreshd.* line \d+ in block", said)
        await place.renewed()


async def test_a_mongodb_that_is_away_starves_no_watchdog(installed):
    """The service waits for it, says so, and goes on being pinged for: more than twice the watchdog's time."""
    async with installed("[Service]", QUICK, "WatchdogSec=3s") as place:
        place.keep("mongodb-uri", "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=500&directConnection=true")
        await place.machine.systemctl("start", UNIT)
        begun = float(await place.shows("WatchdogTimestampMonotonic"))
        while float(await place.shows("WatchdogTimestampMonotonic")) < begun + 7e6:
            assert (await place.shows("ActiveState"), await place.shows("NRestarts")) == ("active", "0")
            await asyncio.sleep(POLL_EVERY.total_seconds())
        assert (await place.shows("StatusText")).startswith("waiting: ")


async def test_sigkill_restarts_it_and_loses_nothing(installed):
    """Twice while it renews all the time; afterwards the provider's ledger and the database agree."""
    async with installed("[Service]", QUICK) as place:
        await place.scene.consent(60)
        await place.start()
        async with place.scene.pressed(timedelta(milliseconds=200)):
            for times in (1, 2):
                before = place.scene.refreshes()
                await place.until(lambda goal=before + 60: place.scene.refreshes() >= goal)
                await place.kill("SIGKILL")
                await place.restarted(times)
        await place.renewed()
        assert place.scene.refreshes() >= 120


async def test_a_reload_keeps_refreshing(installed):
    """The same process goes on with the new configuration, and with the old one where the new one is wrong."""
    async with installed() as place:
        await place.scene.consent(20)
        daemon = await place.start()
        place.configure("refresh", sweep_every="2s")
        await place.machine.systemctl("reload", UNIT)
        done = await place.machine.event(UNIT, "reload.done")
        assert "refresh" in str(done["restart_needed_for"])
        await place.machine.until(UNIT, "ActiveState", "active")
        await place.renewed()
        place.configure("refresh", sweep_every="sometimes")
        await place.machine.systemctl("reload", UNIT)
        await place.machine.event(UNIT, "reload.refused")
        await place.machine.until(UNIT, "ActiveState", "active")
        await place.renewed()
        assert int(await place.shows("MainPID")) == daemon


async def test_credentials_reach_the_service_and_no_other_user(installed):
    """Not as files, not in the environment, not in the state directory; the service renews with them."""
    async with installed() as place:
        await place.scene.consent(5)
        daemon = await place.start()
        await place.renewed()
        nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat")
        service = ("setpriv", "--reuid=refreshd", "--regid=refreshd", "--clear-groups", "cat")
        for name, secret in place.secrets.items():
            file = f"/run/credentials/{UNIT}/{name}"
            assert (await place.machine.run(*service, file)).said == f"{secret}\n"
            for hidden in (file, f"/etc/refreshd/credentials/{name}"):
                refused = await place.machine.run(*nobody, hidden, check=False)
                assert (refused.code, "Permission denied" in refused.said) == (1, True)
        environment = (await place.machine.run("cat", f"/proc/{daemon}/environ")).said
        assert f"CREDENTIALS_DIRECTORY=/run/credentials/{UNIT}" in environment
        assert not [name for name, secret in place.secrets.items() if secret in environment]
        for file in ("instance.json", "journal.db"):
            assert (await place.machine.run(*nobody, f"/var/lib/refreshd/{file}", check=False)).code == 1


async def test_a_backup_is_written_pruned_and_due_every_day(installed):
    """By the shipped service and timer, encrypted for the recipient and readable by its user alone."""
    async with installed() as place:
        await place.scene.consent(5)
        identity, recipient = new_key()
        (place.machine.etc / "backup.env").write_text(f"BACKUP_RECIPIENT={recipient}\n")
        (place.machine.etc / "backup.key").touch(mode=0o600)
        (place.machine.etc / "backup.key").write_text(identity)
        shutil.copy(UNITS / TIMER, place.machine.units)
        (place.machine.units / f"{BACKUP}.d").mkdir(exist_ok=True)
        shutil.copy(UNITS / "credentials.conf", place.machine.units / f"{BACKUP}.d")
        await place.machine.systemctl("daemon-reload")
        started = await place.machine.systemctl("start", BACKUP, check=False)
        assert started.code == 0, await place.machine.journal(f"--unit={BACKUP}")
        listed = await place.machine.run("sh", "-c", "stat -c '%a %U %n' /var/lib/refreshd-backup/*")
        (line,) = listed.said.splitlines()
        mode, user, file = line.split()
        assert (mode, user, file.endswith(".age")) == ("600", "refreshd", True)
        verified = await place.machine.run(
            PROGRAM, "backup", "verify", file, "--identity", "/etc/refreshd/backup.key", "--json"
        )
        assert json.loads(verified.said)["tokens"] == 5
        await place.machine.systemctl("enable", "--now", TIMER)
        assert TIMER in (await place.machine.run("systemctl", "list-timers", "--no-pager")).said
        await place.machine.systemctl("disable", "--now", TIMER)


async def test_a_cleanup_deletes_what_its_file_names_and_is_due_every_month(installed):
    """By the shipped service and timer. Without a criterion it fails and deletes nothing."""
    async with installed() as place:
        await place.scene.consent(5)
        failure = {
            "kind": "rejected",
            "code": "no",
            "message": "",
            "at": wall_clock.now() - timedelta(days=200),
        }
        before = dict.fromkeys(("created_at", "issued_at", "updated_at", "expires_at"), failure["at"])
        dead = {**before, "state": "needs_reauth", "due_at": None, "last_failure": failure}
        first = await place.scene.tokens.find_one({})
        await place.scene.tokens.update_one({"_id": first["_id"]}, {"$set": dead})
        shutil.copy(UNITS / MONTHLY, place.machine.units)
        (place.machine.units / f"{CLEANUP}.d").mkdir(exist_ok=True)
        shutil.copy(UNITS / "credentials.conf", place.machine.units / f"{CLEANUP}.d")
        await place.machine.systemctl("daemon-reload")
        for options, code in (("", 1), ("--dead-for 180d --limit 1000", 0)):
            assert await place.scene.tokens.count_documents({}) == 5
            (place.machine.etc / "cleanup.env").write_text(f"CLEANUP_OPTIONS={options}\n")
            started = await place.machine.systemctl("start", CLEANUP, check=False)
            assert started.code == code, await place.machine.journal(f"--unit={CLEANUP}")
        assert await place.scene.tokens.count_documents({}) == 4
        await place.machine.systemctl("enable", "--now", MONTHLY)
        assert MONTHLY in (await place.machine.run("systemctl", "list-timers", "--no-pager")).said
        await place.machine.systemctl("disable", "--now", MONTHLY)


# -------------------------------------------------------------------- as the document says


async def test_the_recipe_in_the_document_ends_in_a_running_service(mongod, database_name, tmp_path):
    """Typed as it stands, but for what needs the network: then with an encrypted credential, and a replica beside it."""
    document = (ROOT / "docs" / "install.md").read_text()
    config = re.findall(r"^```toml\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)[0]
    steps = re.findall(r"^```sh\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    ports = {name: str(free_port()) for name in ("9464", "9474")}
    pasted = {"mongodb-uri": mongod.replace("/?", f"/{database_name}?"), "xero-secret": "a-client-secret"}
    with bare(tmp_path) as machine:

        async def typed(step: str) -> str:
            name = step.rstrip().removesuffix("'").rpartition("/")[2]
            step = re.sub(r"\b94[67]4\b", lambda port: ports[port[0]], step)
            done = await machine.run(
                "bash", "-euo", "pipefail", "-c", SUDO + step, stdin=pasted.get(name, "")
            )
            return done.said

        (machine.etc / "config.toml").write_text(
            config.replace("YOUR-CLIENT-ID", "a-client-id").replace(
                "[store]", f'[store]\ndatabase = "{database_name}"'
            )
            + f"[server]\nport = {ports['9464']}\n"
        )
        said = {step: await typed(step) for step in steps if "apt-get" not in step and "/pip " not in step}
        answers = [text for step, text in said.items() if "curl" in step]
        assert len(answers) == 2
        await machine.until(UNIT, "StatusText", "sweeping")
        await machine.until("refreshd@b.service", "StatusText", "sweeping")
        assert await machine.shows("refreshd@b.service", "StateDirectory") == "refreshd/b"
        credential = await machine.run("cat", f"/run/credentials/{UNIT}/xero-secret")
        assert credential.said == "a-client-secret"
        assert not (machine.etc / "credentials" / "xero-secret").exists()
        checked = await machine.run("refreshd", "--json", "check")
        sudo = ("env", "SUDO_UID=65534", "SUDO_USER=nobody")
        await machine.run(*sudo, "refreshd", "pause", "xero", "--reason", "as the document says")
        shown = await machine.run("refreshd", "audit", "--who", "nobody", "--json")
        by = {"person": "nobody", "uid": 65534, "reason": "as the document says"}
        recorded = json.loads(shown.said)
        assert (recorded["by"], recorded["actor"].partition("@")[0]) == (by, "refreshd")
        assert json.loads(checked.said)["ok"] is True
        replica = await machine.run("env", "REFRESHD_UNIT=refreshd@b", "refreshd", "journal", "list")
        assert replica.code == 0
        response = json.dumps({"access_token": "a-token-of-xero", "refresh_token": "r-1", "expires_in": 1800})
        await machine.run("refreshd", "add", "xero", "company-7", stdin=response)
        await answers_applications(machine, document, uri=pasted["mongodb-uri"])


async def answers_applications(machine: Machine, document: str, *, uri: str) -> None:
    """Type the part about the access service as it stands. Its last line prints a token."""
    (part,) = re.findall(r"^## The access service\n(.*?)^### Under PM2$", document, re.MULTILINE | re.DOTALL)
    (config,) = re.findall(r"^```toml\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
    ports = {"9465": str(free_port()), "9467": str(free_port())}
    said = ""
    for block in re.findall(r"^```console\n(.*?)^```$", part, re.MULTILINE | re.DOTALL):
        step = re.sub(r"^\$ ", "", block, flags=re.MULTILINE)
        step = re.sub(r"\b946[57]\b", lambda port: ports[port[0]], step)
        if "enable --now" in step:
            moved = config.replace("9467", f"{ports['9467']}\nport = {ports['9465']}")
            written = "cat > /etc/refreshd-access/config.toml && chmod 644 /etc/refreshd-access/config.toml"
            await machine.run("sh", "-c", written, stdin=moved)
        typed = ("bash", "-euo", "pipefail", "-c", f"{SUDO}cd /tmp\n{step}")
        said = (await machine.run(*typed, stdin=uri if "mongodb-uri" in step else "")).said
    assert json.loads(said[said.index("{") :])["access_token"] == "a-token-of-xero"
    assert await machine.shows(ACCESS, "StatusText") == "serving"
    user = (
        await machine.run("sh", "-c", f"ps -o user= -p $(systemctl show -p MainPID --value {ACCESS})")
    ).said
    assert user.split() == ["refreshd-access"]
