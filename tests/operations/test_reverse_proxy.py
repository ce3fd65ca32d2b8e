"""The proxies of docs/reverse-proxy.md, as they stand there, before a health server with a bearer token: with TLS, each
path gives what the document says to whom it says.
"""

import asyncio
import base64
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from daemon.adapters.telemetry.metrics import Metrics
from daemon.domain.secret import Secret
from daemon.runtime.web.server import HealthServer
from tests.certificates import Certified
from tests.runtime.web.statuses import HEALTHY, WELL
from tests.support.ports import free_port

pytestmark = pytest.mark.operations

DOCUMENT = Path(__file__).parents[2] / "docs" / "reverse-proxy.md"
NAME = "refreshd.example.com"
PASSWORD = "correct horse"
LIMIT = 30

FindPart = Callable[..., str]


def block(language: str, holding: str = "") -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    (one,) = [text for text in found if holding in text]
    return one


class Source:
    draining = False

    def liveness(self) -> tuple[bool, str]:
        return True, "fine"

    async def readiness(self) -> Mapping[str, tuple[bool, str]]:
        return WELL

    async def status(self) -> Mapping[str, object]:
        return HEALTHY

    async def metrics(self, accept: str) -> tuple[bytes, str]:
        return Metrics(providers=["xero"], version="1").expose(accept)


class Files:
    """What the document puts under /etc, under a directory of the test's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        for name in ("nginx/refreshd", "refreshd/credentials"):
            Path(home, name).mkdir(parents=True)

    def moved(self, text: str) -> str:
        return text.replace("/etc/", f"{self.home}/")

    def run(self, script: str) -> None:
        """A block of commands, as an operator would type it, but without `sudo` and a group that we may not have."""
        ours = self.moved(script).replace("sudo ", "").replace("-g www-data ", "")
        typed = f"openssl passwd -apr1 '{PASSWORD}'"  # the document's asks for it
        subprocess.run(
            ["bash", "-euo", "pipefail", "-c", ours.replace("openssl passwd -apr1", typed)],
            check=True,
            stdin=subprocess.DEVNULL,
        )

    @property
    def token(self) -> str:
        return Path(self.home, "refreshd/credentials/bearer-token").read_text().strip()

    def certify(self) -> ssl.SSLContext:
        """A certificate that signs itself, and what a client needs to trust it."""
        made, place = Certified.made(NAME), Path(self.home, "nginx/refreshd")
        Path(place, "cert.pem").write_bytes(made.public)
        Path(place, "key.pem").write_bytes(made.key)
        return ssl.create_default_context(cafile=place / "cert.pem")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made.run(block("sh", "# token"))
    return made


@pytest.fixture
async def behind(files: Files) -> AsyncIterator[int]:
    """The port of a health server that has the document's token."""
    server = HealthServer(Source(), host="127.0.0.1", port=0, bearer_token=Secret(files.token))
    await server.start()
    yield server.port
    await server.stop()


@contextmanager
def running(command: list[str], *, log: Path, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **environment}
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def check(
    port: int, trust: ssl.SSLContext, token: str, proxy: "subprocess.Popen[bytes]", log: Path
) -> None:
    """What the document's table promises, asked over TLS."""
    basic = base64.b64encode(f"operator:{PASSWORD}".encode()).decode()
    bearer, person = {"Authorization": f"Bearer {token}"}, {"Authorization": f"Basic {basic}"}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trust, resolver=Loopback()),
        timeout=aiohttp.ClientTimeout(total=LIMIT),
    ) as client:

        async def ask(path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
            async with client.request(method, f"https://{NAME}:{port}{path}", headers=headers) as answer:
                return answer.status, await answer.text()

        async with asyncio.timeout(LIMIT):
            while True:  # until it listens
                try:
                    await ask("/livez")
                except aiohttp.ClientConnectorError:
                    assert proxy.poll() is None, log.read_text()
                    await asyncio.sleep(0.05)
                else:
                    break
        status, body = await ask("/metrics", **bearer)
        assert (status, "refreshd_store_up" in body) == (200, True)
        status, body = await ask("/readyz")
        assert (status, "detail" in body, '"ready": true' in body) == (200, False, True)
        for path in ("/", "/status"):
            status, body = await ask(path, **person)
            assert (status, "hubspot" in body) == (200, True)
        for path, headers in (
            ("/metrics", {}),
            ("/metrics", {"Authorization": "Bearer guess"}),
            ("/metrics", person),
            ("/", {}),
            ("/status", bearer),
            ("/status", {"Authorization": "Basic b3BlcmF0b3I6Z3Vlc3M="}),
        ):
            status, body = await ask(path, **headers)
            assert (status, "refreshd_" in body, "hubspot" in body) == (401, False, False)
        for path in ("/nowhere", "/healthz", "/status/"):
            assert (await ask(path, **bearer))[0] == 404
        assert (await ask("/metrics", "POST", **bearer))[0] == 405
        assert (await ask("/readyz", "DELETE"))[0] == 405


class Loopback(aiohttp.abc.AbstractResolver):
    """The document's name is this machine."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET):
        return [
            {"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
        ]  # fmt: skip

    async def close(self) -> None:
        pass


async def test_nginx_as_documented(files: Files, behind: int, tmp_path: Path, find_part: FindPart) -> None:
    """Its files made by the document's commands, its configuration the document's."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or find_part(
        "nginx", of="nginx-light"
    )
    trust, port, log = files.certify(), free_port(), tmp_path / "nginx.log"
    files.run(block("sh", "# nginx-files"))
    site = files.moved(block("nginx")).replace("127.0.0.1:9464", f"127.0.0.1:{behind}")
    site = site.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")
    Path(tmp_path, "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {log};\n"
        "events { }\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}; proxy_temp_path {tmp_path};"
        f" fastcgi_temp_path {tmp_path}; uwsgi_temp_path {tmp_path}; scgi_temp_path {tmp_path};\n{site}}}\n"
    )
    command = [nginx, "-p", str(tmp_path), "-e", str(log), "-c", str(tmp_path / "nginx.conf")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    assert "[warn]" not in tested.stderr
    log.write_text("")
    with running(command, log=tmp_path / "nginx.out") as proxy:
        await check(port, trust, files.token, proxy, log)
    assert files.token not in log.read_text()


async def test_caddy_as_documented(files: Files, behind: int, tmp_path: Path, find_part: FindPart) -> None:
    """Its configuration is the document's, but that its certificate is the test's."""
    caddy = find_part("caddy", of="caddy")
    trust, port, log = files.certify(), free_port(), tmp_path / "caddy.log"
    hashed = subprocess.run(
        [caddy, "hash-password", "--plaintext", PASSWORD], capture_output=True, text=True, check=True
    ).stdout.strip()
    place = tmp_path / "nginx" / "refreshd"
    site = block("caddyfile").replace("127.0.0.1:9464", f"127.0.0.1:{behind}").replace("HASH", hashed)
    site = site.replace(
        f"{NAME} {{", f"{NAME}:{port} {{\n\tbind 127.0.0.1\n\ttls {place}/cert.pem {place}/key.pem", 1
    )
    configuration = tmp_path / "Caddyfile"
    configuration.write_text(
        f"{{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}}\n{site}"
    )
    environment = {
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
        "REFRESHD_BEARER": files.token,
    }
    with running([caddy, "run", "--config", str(configuration)], log=log, **environment) as proxy:
        await check(port, trust, files.token, proxy, log)
    assert files.token not in log.read_text()
