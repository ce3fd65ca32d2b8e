"""The proxies of docs/access-service.md, as they stand there, before the access service's listener: over TCP and over the
unix socket, who the caller is, which paths arrive, and that they outlast a wait for a renewal.
"""

import asyncio
import os
import re
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest
from aiohttp import web

from daemon.runtime.access_web.answers import json_answer
from daemon.runtime.access_web.asked import Asked
from daemon.runtime.access_web.server import AccessServer
from daemon.runtime.config.access_sections import AccessTable
from tests.certificates import Certified
from tests.operations.test_reverse_proxy import FindPart, Loopback, running
from tests.support.ports import free_port

pytestmark = pytest.mark.operations

TEXT = (Path(__file__).parents[2] / "docs" / "access-service.md").read_text()
NAME = "tokens.example.com"
CALLER = "127.0.0.2"
LIMIT = timedelta(seconds=30)
SLOW = timedelta(milliseconds=600)
PATHS = (
    "/v1/tokens/acme/a%2Fb%3Ac?fresh_for=5m",
    "/connect/callback/acme?state=a%2Fb&code=c",
    "/.well-known/oauth-authorization-server/v1/oauth/acme",
)


def block(language: str) -> str:
    (one,) = re.findall(
        rf"^```{language}\n(.*?)^```$",
        TEXT.partition("## Behind a reverse proxy")[2],
        re.MULTILINE | re.DOTALL,
    )[:1]
    return str(one)


async def echo(asked: Asked) -> web.Response:
    """Answer with the request as it arrived, after a while if it prefers to wait."""
    wait = asked.wait(timedelta(seconds=30))
    if wait:
        await asyncio.sleep(SLOW.total_seconds())
    return json_answer(
        {
            "address": asked.address,
            "path": asked.request.raw_path,
            "host": asked.request.host,
            "body": (await asked.body()).decode() if asked.request.method == "POST" else "",
        }
    )


class Behind(NamedTuple):
    """Where the listener is, as nginx and Caddy name it."""

    nginx: str
    caddy: str


@pytest.fixture(params=["tcp", "unix"])
async def behind(request: pytest.FixtureRequest) -> AsyncIterator[Behind]:
    with tempfile.TemporaryDirectory(prefix="refreshd-") as short:
        path = Path(short, "access.sock") if request.param == "unix" else None
        server = AccessServer(
            echo,
            host="127.0.0.1",
            port=0,
            path=path,
            hosts=frozenset({"localhost", "127.0.0.1", NAME}),
            trusted_proxies=[ip_network("127.0.0.1/32")],
        )
        await server.start()
        if path:
            yield Behind(f"http://unix:{path}", f"unix/{path}")
        else:
            yield Behind(f"http://127.0.0.1:{server.port}", f"127.0.0.1:{server.port}")
        await server.stop()


@pytest.fixture
def trust(tmp_path: Path) -> ssl.SSLContext:
    made = Certified.made(NAME)
    (tmp_path / "cert.pem").write_bytes(made.public)
    (tmp_path / "key.pem").write_bytes(made.key)
    return ssl.create_default_context(cafile=tmp_path / "cert.pem")


async def check(port: int, trust: ssl.SSLContext, proxy: "subprocess.Popen[bytes]", log: Path) -> None:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trust, resolver=Loopback(), local_addr=(CALLER, 0)),
        timeout=aiohttp.ClientTimeout(total=LIMIT.total_seconds()),
    ) as client:

        async def ask(path: str, method: str = "GET", **options: object) -> tuple[int, dict[str, str]]:
            url = aiohttp.client.URL(f"https://{NAME}:{port}{path}", encoded=True)
            async with client.request(method, url, **options) as answer:
                isjson = answer.content_type == "application/json"
                return answer.status, await answer.json() if isjson else {}

        async with asyncio.timeout(LIMIT.total_seconds()):
            while True:  # until it listens
                try:
                    await ask("/")
                except aiohttp.ClientConnectorError:
                    assert proxy.poll() is None, log.read_text()
                    await asyncio.sleep(0.05)
                else:
                    break
        for path in PATHS:
            status, seen = await ask(path, headers={"X-Forwarded-For": "203.0.113.9, 198.51.100.7"})
            assert (status, seen["path"]) == (200, path)
            assert seen["host"].partition(":")[0] == NAME
            assert seen["address"] == CALLER  # its own, and none that it has made up
        status, seen = await ask("/v1/oauth/acme/token", "POST", data="x" * 60_000)
        assert (status, len(seen["body"])) == (200, 60_000)
        assert (await ask(PATHS[0], headers={"Prefer": "wait=30"}))[0] == 200
        for path in ("/", "/metrics", "/readyz", "/nowhere"):
            assert (await ask(path))[0] == 404


def start_nginx(site: str, tmp_path: Path, find_part: FindPart) -> tuple[list[str], Path]:
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or find_part(
        "nginx", of="nginx-light"
    )
    log = tmp_path / "nginx.log"
    temporary = "".join(
        f" {one}_temp_path {tmp_path};" for one in ("proxy", "fastcgi", "uwsgi", "scgi", "client_body")
    )
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log {log};\nevents {{ }}\n"
        f"http {{ access_log off; {temporary}\n{site}}}\n"
    )
    command = [nginx, "-p", str(tmp_path), "-e", str(log), "-c", str(tmp_path / "nginx.conf")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    return command, log


def nginx_site(behind: Behind, tmp_path: Path, port: int) -> str:
    site = block("nginx").replace("http://127.0.0.1:9465", behind.nginx)
    site = site.replace("/etc/nginx/refreshd", str(tmp_path))
    return site.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl")


async def test_nginx_as_documented(
    behind: Behind, trust: ssl.SSLContext, tmp_path: Path, find_part: FindPart
) -> None:
    port = free_port()
    command, log = start_nginx(nginx_site(behind, tmp_path, port), tmp_path, find_part)
    with running(command, log=tmp_path / "nginx.out") as proxy:
        await check(port, trust, proxy, log)


async def test_nginx_cuts_off_a_wait_that_is_longer_than_its_own(
    behind: Behind, trust: ssl.SSLContext, tmp_path: Path, find_part: FindPart
) -> None:
    """So its limit in the document is above `max_wait`."""
    (limit,) = re.findall(r"proxy_read_timeout +(\d+)s;", block("nginx"))
    assert timedelta(seconds=int(limit)) > AccessTable().max_wait
    port = free_port()
    site = nginx_site(behind, tmp_path, port).replace("60s", f"{SLOW // timedelta(milliseconds=2)}ms")
    command, log = start_nginx(site, tmp_path, find_part)
    with (
        running(command, log=tmp_path / "nginx.out") as proxy,
        pytest.raises(AssertionError, match="504 == 200"),
    ):
        await check(port, trust, proxy, log)


async def test_caddy_as_documented(
    behind: Behind, trust: ssl.SSLContext, tmp_path: Path, find_part: FindPart
) -> None:
    caddy = find_part("caddy", of="caddy")
    port, log = free_port(), tmp_path / "caddy.log"
    site = block("caddyfile").replace("127.0.0.1:9465", behind.caddy)
    site = site.replace(
        f"{NAME} {{", f"{NAME}:{port} {{\n\tbind 127.0.0.1\n\ttls {tmp_path}/cert.pem {tmp_path}/key.pem", 1
    )
    configuration = tmp_path / "Caddyfile"
    configuration.write_text(
        f"{{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}}\n{site}"
    )
    homes = {"XDG_DATA_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}
    with running([caddy, "run", "--config", str(configuration)], log=log, **homes) as proxy:
        await check(port, trust, proxy, log)
