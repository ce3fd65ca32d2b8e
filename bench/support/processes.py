"""The processes of the bench, each a context: a MongoDB, a token endpoint without latency, the daemon; and what they
used, as the kernel counts it.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple, Self

from pymongo import MongoClient
from pymongo.database import Database

from daemon.adapters.mongo.embedded_mongod import HOST, OPTIONS, REPLICA_SET, spawn_mongod

POLL = 0.02
TICKS = os.sysconf("SC_CLK_TCK")
STOP_LIMIT = 60
KEY_ID = "bench"
PROVIDER = "bench"
_OURS = frozenset(
    {"serverStatus", "hello", "isMaster", "ismaster"}
)  # the bench's own, and drivers' heartbeats

# One process, because it is easy to count and to end. Every reply holds a token of its own ($request_id), with the
# characters that real ones have and that are dear to encode: '/' and '+'. No log: that would be nginx's cost, not ours.
_NGINX = """
daemon off; master_process off; pid {home}/pid; error_log {home}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300s; server_tokens off;
  client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home}; uwsgi_temp_path {home};
  scgi_temp_path {home};
  server {{
    listen {host}:{port} backlog=4096;
    location = /token {{ default_type application/json; return 200 '{reply}'; }}
    location = /delayed {{
      auth_basic bench; auth_basic_user_file {home}/nobody; auth_delay {milliseconds}ms; error_page 401 =200 /token;
    }}
    location = /counted {{ stub_status; }}
  }}
}}
"""
_REPLY = (
    '{"access_token":"ya29.a0/$request_id+$request_id/$request_id+$request_id/${request_id}_AbCdEf",'
    '"refresh_token":"1//0g/$request_id+AAB/$request_id-L9Ir","token_type":"Bearer","expires_in":3600,'
    '"scope":"contacts.read deals.write"}'
)


class Usage(NamedTuple):
    """What a process used: CPU seconds since its start, and memory in MB (10^6 bytes)."""

    cpu: float
    resident_mb: float
    peak_mb: float


def usage(pid: int) -> Usage:
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    resident, peak = (int(status[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
    return Usage((int(times[11]) + int(times[12])) / TICKS, resident, peak)


def await_true(condition: Callable[[], bool], *, limit: float, why: str) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(why)
        time.sleep(POLL)


def free_port() -> int:
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
    return port


def get(port: int, path: str) -> tuple[int, str]:
    """Status and body; status 0 when nobody listens."""
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    except OSError:
        return 0, ""
    finally:
        connection.close()


class _Part:
    """One process of ours, ended with the block, by its id."""

    process: "subprocess.Popen[bytes]"

    def usage(self) -> Usage:
        return usage(self.process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Mongod(_Part):
    """A replica set of one member with the daemon's own options for the embedded one, without authentication."""

    def __init__(self, home: Path) -> None:
        (home / "db").mkdir(parents=True)
        port = free_port()
        self.process = spawn_mongod(
            [*OPTIONS, "--dbpath", str(home / "db"), "--port", str(port)], log=home / "mongod.log"
        )
        self.uri = f"mongodb://{HOST}:{port}/?replicaSet={REPLICA_SET}"
        try:
            with MongoClient[dict[str, Any]](HOST, port, directConnection=True) as client:
                members = [{"_id": 0, "host": f"{HOST}:{port}"}]
                client.admin.command({"replSetInitiate": {"_id": REPLICA_SET, "members": members}})
            self._client = MongoClient[dict[str, Any]](self.uri, tz_aware=True, heartbeatFrequencyMS=60_000)
            self._client.admin.command("ping")  # goes to the primary, so waits for it
        except BaseException:
            self.__exit__()
            raise

    @property
    def database(self) -> Database[dict[str, Any]]:
        return self._client["bench"]

    def commands(self) -> dict[str, int]:
        """How often each command was run since the start, but for heartbeats and our own counting."""
        counted = self._client.admin.command("serverStatus")["metrics"]["commands"]
        return {
            name: int(entry["total"])
            for name, entry in counted.items()
            if isinstance(entry, dict) and entry.get("total") and name not in _OURS
        }

    def connections(self) -> int:
        """How many there are now, the bench's own included."""
        current: int = self._client.admin.command("serverStatus")["connections"]["current"]
        return current

    def __exit__(self, *why: object) -> None:
        if hasattr(self, "_client"):
            self._client.close()
        super().__exit__(*why)


class Endpoint(_Part):
    """The provider: nginx, which grants whatever is asked, at once or after `latency` (a wait that costs it nothing: the
    one it has against guessing of passwords).
    """

    def __init__(self, home: Path, *, latency: timedelta = timedelta()) -> None:
        binary = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if binary is None:
            raise SystemExit(
                "The token endpoint of this bench is nginx, and there is none on PATH: install it (Debian, Ubuntu:"
                " apt-get install nginx-light; the service need not run). A stub in Python would be the limit itself."
            )
        home.mkdir(parents=True)
        self._port, self._asked = free_port(), 0
        self.url = f"http://{HOST}:{self._port}/{'delayed' if latency else 'token'}"
        (home / "nobody").touch()
        configuration = home / "nginx.conf"
        configuration.write_text(
            _NGINX.format(
                home=home,
                host=HOST,
                port=self._port,
                reply=_REPLY,
                milliseconds=max(1, latency // timedelta(milliseconds=1)),
            )
        )
        self.process = subprocess.Popen(
            [binary, "-p", str(home), "-e", str(home / "error.log"), "-c", str(configuration)],
            stdin=subprocess.DEVNULL,
        )
        try:
            await_true(lambda: self.requests() == 0, limit=10, why="nginx does not answer")
        except BaseException:
            self.__exit__()
            raise

    def requests(self) -> int:
        """Token requests so far, -1 without an answer. Each question like this one is a request too: taken off."""
        status, body = get(self._port, "/counted")
        if status != 200:
            return -1
        self._asked += 1
        return int(body.splitlines()[2].split()[2]) - self._asked


class DaemonProcess(_Part):
    """`python -m daemon run` on a configuration of its own: log as JSON into a file, metrics and journal on. Providers,
    by name, share the requests in flight evenly. At level `info` only a sample of the renewals is logged.
    """

    def __init__(
        self,
        home: Path,
        *,
        uri: str,
        database: str,
        token_urls: Mapping[str, str],
        key: bytes,
        sweep_every: str,
        concurrency: int,
        level: str = "info",
    ) -> None:
        home.mkdir(mode=0o700)
        self._port = free_port()
        self._log = home / "daemon.log"
        configuration = home / "config.toml"
        configuration.touch(mode=0o600)
        configuration.write_text(
            f'[store]\nuri = "{uri}"\ndatabase = "{database}"\n'
            '[state]\ndir = "state"\n'
            f'[refresh]\nsweep_every = "{sweep_every}"\nconcurrency = {concurrency}\n'
            f'[keys]\nactive = "{KEY_ID}"\nring = {{ {KEY_ID} = "{b64encode(key).decode()}" }}\n'
            f"[server]\nport = {self._port}\n"
            f'[log]\nformat = "json"\nlevel = "{level}"\n'
            + "".join(
                f'[providers.{name}]\ntoken_url = "{url}"\nclient_auth = "basic"\n'
                'client_id = "bench"\nclient_secret = "s3cret/+"\n'
                for name, url in token_urls.items()
            )
        )
        self._read, self._seen = 0, b""
        self._started = time.monotonic()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "daemon", "--config", str(configuration), "run"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=home,
                env={name: value for name, value in os.environ.items() if not name.startswith("REFRESHD_")},
            )

    def await_ready(self) -> float:
        """Seconds from the start of the process to the first 200 of /readyz."""
        await_true(self._ready, limit=30, why=f"the daemon does not become ready: {self.tail()}")
        return time.monotonic() - self._started

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            raise SystemExit(f"the daemon ended with code {self.process.returncode}: {self.tail()}")
        return get(self._port, "/readyz")[0] == 200

    def is_alive(self) -> bool:
        return get(self._port, "/livez")[0] == 200

    def count(self, event: str) -> int:
        """How many lines of its log hold `event`. Read from where the last reading ended: this asks the daemon nothing."""
        return self._so_far().count(f'"{event}"'.encode())

    def durations(self, event: str) -> list[float]:
        """`duration_ms` of each such line."""
        lines = [line for line in self._so_far().splitlines() if f'"{event}"'.encode() in line]
        return [float(json.loads(line)["duration_ms"]) for line in lines]

    def _so_far(self) -> bytes:
        with self._log.open("rb") as log:
            log.seek(self._read)
            fresh = log.read()
        whole = fresh[: fresh.rfind(b"\n") + 1]
        self._read += len(whole)
        self._seen += whole
        return self._seen

    def tail(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]

    def metric(self, series: str) -> int:
        return int(self.metrics().get(series, -1))

    def metrics(self) -> dict[str, float]:
        """Every series, by its name with labels."""
        lines = (
            line.rpartition(" ") for line in get(self._port, "/metrics")[1].splitlines() if line[:1] != "#"
        )
        return {name: float(value) for name, _, value in lines}
