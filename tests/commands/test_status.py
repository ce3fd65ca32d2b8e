"""`refreshd status`, against a real health server."""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from daemon.domain.secret import Secret
from daemon.runtime.web.server import HealthServer
from tests.commands.checks.test_access import NOT_READY, READY, answering
from tests.runtime.web.statuses import FAILING, HEALTHY, ILL, WELL, ago
from tests.support.ports import free_port

TOKEN = "0123456789abcdef0123456789abcdef"


class Source:
    """Reports what the test wants."""

    def __init__(self, status: Mapping[str, Any], checks: Mapping[str, tuple[bool, str]]) -> None:
        self.draining, self._status, self._checks = False, status, checks

    def liveness(self):
        return True, "alive"

    async def readiness(self):
        return self._checks

    async def status(self):
        return self._status

    async def metrics(self, accept):
        return b"", "text/plain"


@pytest.fixture
async def ask(cli):
    """Runs `refreshd status` against a server with this status and these checks."""
    servers = []

    async def run(status, checks, *arguments, token=None, configured=None, draining=False):
        source = Source(status, checks)
        source.draining = draining
        server = HealthServer(source, host="127.0.0.1", port=0, bearer_token=Secret(token) if token else None)
        servers.append(server)
        await server.start()
        configure(cli, server.port, configured)
        return await asyncio.to_thread(cli.run, "status", *arguments)

    yield run
    for server in servers:
        await server.stop()


def configure(cli, port, token=None, host="127.0.0.1"):
    bearer = f'bearer_token = "{token}"\n' if token else ""
    config = cli.config.read_text().partition("[server]")[0]
    cli.write(f'{config}[server]\nhost = "{host}"\nport = {port}\n{bearer}')


async def test_a_ready_daemon_is_0_and_a_few_lines(ask):
    """Tokens by state, what is due, and that nothing needs attention."""
    ran = await ask(HEALTHY, WELL)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "Ready             yes",
        "Instance          7d0c51f2-refresh-1, version 0.1.0",
        "Tokens            12,637 active, 0 needs_reauth, 0 paused; 0 expired",
        "Due               none",
        "Next due          in 4 s",
        "Needs attention   nothing",
    ]


async def test_a_token_that_has_become_due_since_the_count_is_due_now(ask):
    """The count is a few seconds old: "next due 13 s ago" would contradict "due none"."""
    ran = await ask(HEALTHY | {"next_due_at": ago(seconds=13)}, WELL)
    assert "Next due          now" in ran.out.splitlines()


async def test_a_daemon_that_is_not_ready_is_1_and_says_why(ask):
    """Failed checks, paused providers with the reason, and who must act; in 80 columns and without markup."""
    ran = await ask(FAILING, ILL)
    text = " ".join(ran.out.split())
    assert ran.code == 1
    assert "Ready no (clock: this machine's clock is +47.2 s from MongoDB's)" in text
    assert "21 needs_reauth" in text
    assert "Due 431, the oldest for 14 min" in text
    assert "Paused providers hubspot (outage, next probe in 41 s) intranet (wrong_client, next probe" in text
    assert "Needs attention you: " in text
    assert "its owner: 21 tokens need a new consent: google 15, xero 6. Their ids: google:marta" in text
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "<strong>" not in ran.out
    assert "\u202e" not in ran.out


async def test_numbers_and_ids_are_as_in_the_other_commands(ask):
    """Commas between thousands, and an ID without a break, so that it can be copied."""
    long = "xero:" + "x" * 100
    providers = {"xero": {"configured": True, "states": {"needs_reauth": 1234}}}
    ran = await ask({**HEALTHY, "providers": providers, "needs_reauth": [long, "xero:a"]}, WELL)
    assert "1,234 tokens need a new consent: xero 1,234." in " ".join(ran.out.split())
    assert f"{long}, xero:a" in " ".join(ran.out.split())


async def test_programs_get_the_status_the_checks_and_what_needs_attention(ask):
    """As one object, with the same exit code."""
    ran = await ask(FAILING, ILL, "--json")
    found = ran.json()
    assert (ran.code, found["ready"], found["overdue"]) == (1, False, 431)
    assert found["checks"]["clock"] == {"ok": False, "detail": ILL["clock"][1]}
    assert {thing["who"] for thing in found["attention"]} == {"you", "its owner", "time"}


async def test_a_daemon_that_is_shutting_down_is_not_ready(ask):
    """Whatever its checks say."""
    ran = await ask({**HEALTHY, "ready": False}, WELL, draining=True)
    assert (ran.code, "no (it is shutting down)" in ran.out) == (1, True)


async def test_a_starting_daemon_has_counted_nothing(ask):
    """Every part of the status may be missing."""
    checks = dict.fromkeys(WELL, (False, "starting"))
    ran = await ask({"at": HEALTHY["at"], "version": "0.1.0", "instance": "i", "ready": False}, checks)
    assert (ran.code, "Tokens            not counted yet" in ran.out) == (1, True)


async def test_what_the_daemon_reports_can_not_steer_the_terminal(ask):
    """Neither a provider's name nor a check's detail."""
    status = {**HEALTHY, "instance": "i\x1b[2J", "providers": {"x\u202e": {"paused": "out\x07age"}}}
    ran = await ask(status, {**WELL, "clock": (False, "\x1b[31mred\nReady yes")})
    assert ran.out.isascii()
    assert "\x1b" not in ran.out
    assert "\x07" not in ran.out
    assert not [line for line in ran.out.splitlines() if line.startswith("Ready yes")]


async def test_the_configured_bearer_token_is_sent(ask):
    """A wrong one is a wrong configuration, and is not printed."""
    assert (await ask(HEALTHY, WELL, token=TOKEN, configured=TOKEN)).code == 0
    ran = await ask(HEALTHY, WELL, token=TOKEN, configured="f" * 32)
    assert ran.code == 78
    assert "server.bearer_token" in ran.err
    assert "ffff" not in ran.err


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_daemon_is_69(cli, host):
    """With the address, and what to do."""
    port = free_port()
    configure(cli, port, host=host)
    ran = cli.run("status")
    assert (ran.code, ran.out) == (69, "")
    assert f"no refreshd daemon answers at 127.0.0.1:{port}" in ran.err.replace("[::1]", "127.0.0.1")
    assert "--config" in ran.err


def test_another_program_on_the_port_is_no_daemon(cli):
    """Even if it speaks HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        configure(cli, other.getsockname()[1])
        process = cli.process("status", "--json")
        connection, _ = other.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (69, "")
    assert "another program answered /readyz with HTTP 200" in err


def test_the_token_is_sent_to_this_machine_only(cli):
    """An address that another machine has is refused before anything is sent."""
    configure(cli, 9464, TOKEN, host="192.0.2.1")
    ran = cli.run("status")
    assert ran.code == 78
    assert "server.host: 192.0.2.1 is not an address of this machine" in ran.err


def test_a_port_that_the_daemon_chooses_is_unknown(cli):
    """`port = 0` is for tests."""
    configure(cli, 0)
    ran = cli.run("status")
    assert (ran.code, "server.port" in ran.err) == (78, True)


# ---------------------------------------------------------------- the access service

SEEN = {
    "id": "serve-app-1-abc",
    "host": "app-1",
    "version": "0.1.0",
    "seen_at": ago(seconds=20),
    "reader_keys": ["a", "b"],
    "writer_keys": ["a"],
}


async def test_an_access_service_that_was_seen_is_shown(ask):
    """With its keys, and whether it stores tokens. Its readiness only if [access] says where to ask."""
    ran = await ask({**HEALTHY, "access_services": [SEEN, {**SEEN, "writer_keys": []}]}, WELL)
    text = " ".join(ran.out.split())
    assert (
        "Access service serve-app-1-abc, version 0.1.0, reads and stores tokens (keys a, b), seen 20 s ago"
        in text
    )
    assert "version 0.1.0, reads tokens (keys a, b)" in text
    assert "Access ready" not in text
    ran = await ask({**HEALTHY, "access_services": [SEEN]}, WELL, "--json")
    assert (ran.json()["access_services"], ran.json()["access_ready"]) == ([SEEN], None)


@pytest.mark.parametrize(
    ("answer", "status", "shown", "ready"),
    [
        (READY, 200, "Access ready yes", True),
        (NOT_READY, 503, "Access ready no (store)", False),
        (
            {"ready": False, "draining": True, "checks": READY["checks"]},
            503,
            "no (it is shutting down)",
            False,
        ),
        (b"another program", 200, "Access ready unknown: none answers", None),
    ],
)
async def test_the_service_on_this_machine_is_asked_whether_it_is_ready(
    cli, ask, answer, status, shown, ready
):
    """Its state is no reason for another exit code: the daemon is the subject."""
    with answering(answer, status) as port:
        cli.write(f"{cli.config.read_text()}[access]\nport = {port}\n")
        ran = await ask({**HEALTHY, "access_services": [SEEN]}, WELL)
        cli.write(f"{cli.config.read_text().partition('[access]')[0]}[access]\nport = {port}\n")
        record = (await ask({**HEALTHY, "access_services": [SEEN]}, WELL, "--json")).json()
    assert (ran.code, shown in " ".join(ran.out.split())) == (0, True), ran.out
    assert record["access_ready"] is ready


async def test_a_configured_service_that_was_not_seen_is_named(cli, ask):
    cli.write(f"{cli.config.read_text()}[access]\nport = 0\n")
    ran = await ask(HEALTHY, WELL)
    assert "Access service    none was seen in the last five minutes" in ran.out


async def test_a_service_that_has_just_started_is_ready_and_not_unseen(cli, ask):
    """The daemon reads the rows once a minute."""
    with answering(READY) as port:
        cli.write(f"{cli.config.read_text()}[access]\nport = {port}\n")
        ran = await ask(HEALTHY, WELL)
    assert "Access ready      yes" in ran.out
    assert "none was seen" not in ran.out
