"""Prometheus and Alertmanager as processes, and whoever they call: the far ends of the path of an alert.

What they are configured with is what is shipped, read anew with short intervals and free ports in place of its own.
"""

import asyncio
import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web

from tests.support.ports import free_port

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"
HOST = "127.0.0.1"
PATIENCE = timedelta(seconds=90)  # nothing takes half as long on a quiet machine
POLL_EVERY = timedelta(milliseconds=200)
WINDOW = "10s"  # in place of the minutes and hours that the shipped rules look back

Sample = dict[str, Any]  # {"metric": labels, "value": [at, text]}
Table = dict[str, Any]

_RANGE = re.compile(r"\[\d+[smhd](:\d+[smhd])?\]")


def shipped(name: str) -> Table:
    """One of the shipped YAML files."""
    table: Table = yaml.safe_load((SHIPPED / name).read_text())
    return table


def rules(table: Table) -> list[Table]:
    """All rules of a rule file, whatever their groups."""
    return [rule for group in table["groups"] for rule in group["rules"]]


def hurried(table: Table) -> Table:
    """A rule file whose alerts come and go within seconds: the same expressions, thresholds and labels, but a window of
    WINDOW in place of each longer one, and two seconds of `for`.
    """
    for rule in rules(table):
        rule["expr"] = _RANGE.sub(lambda found: f"[{WINDOW}:1s]" if found[1] else f"[{WINDOW}]", rule["expr"])
        if "for" in rule:
            rule["for"] = "2s"
    return table


class Prometheus:
    """Scrapes `targets` (job refreshd) every second. `async with prometheus.running():`"""

    def __init__(
        self, binary: str, directory: Path, *, targets: list[str], alertmanager: "Alertmanager | None" = None
    ) -> None:
        self._binary = binary
        self._directory = directory
        self._port = free_port()
        config = shipped("prometheus.yml")
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config["scrape_configs"][0]["static_configs"][0]["targets"] = targets
        config["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] = (
            [alertmanager.address] if alertmanager else []
        )
        directory.mkdir()
        for name in config["rule_files"]:
            _write(directory / name, hurried(shipped(name)))
        _write(directory / "prometheus.yml", config)

    @asynccontextmanager
    async def running(self):
        command = [
            self._binary,
            f"--config.file={self._directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address={HOST}:{self._port}",
            "--log.level=warn",
        ]
        with _process(command, self._directory) as process:
            await _ready(f"http://{HOST}:{self._port}/-/ready", process, self._directory)
            yield self

    async def ask(self, expression: str) -> list[Sample]:
        """The samples of an instant query. Fails with Prometheus' own words where it can't be evaluated."""
        url = f"http://{HOST}:{self._port}/api/v1/query"
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data={"query": expression}) as answer,
        ):
            told = await answer.json()
        assert told["status"] == "success", f"{told.get('error')}: {expression}"
        found: list[Sample] = told["data"]["result"]
        return found

    async def until(self, expression: str, *, within: timedelta = PATIENCE) -> list[Sample]:
        """The samples of `expression`, once there are some."""
        try:
            async with asyncio.timeout(within.total_seconds()):
                while not (found := await self.ask(expression)):
                    await asyncio.sleep(POLL_EVERY.total_seconds())
                return found
        except TimeoutError:
            raise AssertionError(f"nothing within {within} for {expression}") from None


class Alertmanager:
    """The shipped sample, which calls `receiver`, and doesn't wait for more."""

    def __init__(self, binary: str, directory: Path, *, receiver: "Receiver") -> None:
        self._binary = binary
        self._directory = directory
        self.address = f"{HOST}:{free_port()}"
        config = shipped("alertmanager.yml")
        for route in (config["route"], *config["route"]["routes"]):
            route |= {"group_wait": "0s", "group_interval": "1s"}
        for one in config["receivers"]:
            for hook in one["webhook_configs"]:
                hook["url"] = f"{receiver.url}/{one['name']}"
        directory.mkdir()
        _write(directory / "alertmanager.yml", config)

    @asynccontextmanager
    async def running(self):
        command = [
            self._binary,
            f"--config.file={self._directory / 'alertmanager.yml'}",
            f"--storage.path={self._directory / 'data'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",  # else a port on every interface
            "--log.level=warn",
        ]
        with _process(command, self._directory) as process:
            await _ready(f"http://{self.address}/-/ready", process, self._directory)
            yield self


class Receiver:
    """A webhook. `calls` holds every alert that arrived: (who was called, firing or resolved, labels)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Mapping[str, str]]] = []
        self.url = ""
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/{who}", self._called)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0).start()
        self.url = f"http://{HOST}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _called(self, request: web.Request) -> web.Response:
        said = await request.json()
        async with self._news:
            self.calls += [
                (request.match_info["who"], one["status"], one["labels"]) for one in said["alerts"]
            ]
            self._news.notify_all()
        return web.Response()

    async def arrived(
        self, status: str, alert: str, *, within: timedelta = PATIENCE, who: str | None = None, **labels: str
    ) -> None:
        """Wait until `alert` with these labels was told to be firing, or to be resolved and nothing after that. `who`: who
        was called for it.
        """
        wanted = {"alertname": alert, **labels}.items()

        def calls() -> list[tuple[str, str]]:
            told = [(called, now) for called, now, its in self.calls if wanted <= its.items()]
            return told if status == "firing" else told[-1:]

        def has_come() -> bool:
            return any(now == status and who in (None, called) for called, now in calls())

        try:
            async with asyncio.timeout(within.total_seconds()), self._news:
                await self._news.wait_for(has_come)
        except TimeoutError:
            told = "\n".join(map(str, self.calls))
            raise AssertionError(
                f"{alert} {labels} is not {status} for {who} within {within}:\n{told}"
            ) from None


def _write(file: Path, table: Table) -> None:
    file.write_text(yaml.safe_dump(table, sort_keys=False))


@contextmanager
def _process(command: list[str], directory: Path) -> Iterator["Popen[bytes]"]:
    """A process with its own group and a log, ended with the block."""
    with (directory / "log").open("wb") as log:
        process = Popen(
            command, cwd=directory, stdin=DEVNULL, stdout=log, stderr=STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def _ready(url: str, process: "Popen[bytes]", directory: Path) -> None:
    """Wait until `process` answers that it is ready."""
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()), aiohttp.ClientSession() as session:
            while True:
                if process.poll() is not None:
                    raise AssertionError(f"ended early\n{(directory / 'log').read_text()[-4_000:]}")
                with suppress(aiohttp.ClientConnectionError):
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            return
                await asyncio.sleep(POLL_EVERY.total_seconds())
    except TimeoutError:
        raise AssertionError(f"{url}: not ready\n{(directory / 'log').read_text()[-4_000:]}") from None
