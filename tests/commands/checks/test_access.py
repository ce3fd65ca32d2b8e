"""`refreshd check` and the access service: in the daemon's configuration, and in one of its own."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import UnixStreamServer

import pytest

from daemon.adapters.door_keys import reader_line, writer_lines
from daemon.adapters.keyring import KeyRing
from tests.support.ports import free_port

READY = {"ready": True, "checks": {"store": {"ok": True}, "keys": {"ok": True}}}
NOT_READY = {"ready": False, "checks": {"store": {"ok": False}, "keys": {"ok": True}}}


@contextmanager
def answering(answer: object, status: int = 200, *, path: str | None = None) -> Iterator[int]:
    """A server that gives this answer to every request: a port of this machine, or the unix socket at `path`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode() if not isinstance(answer, bytes) else answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def address_string(self) -> str:
            return "here"

        def log_message(self, *_: object) -> None:
            pass

    server = UnixStreamServer(path, Handler) if path else HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield 0 if path else server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def said(ran, where: str) -> list[tuple[str, str]]:
    """The outcomes for this key, and in which words."""
    return [
        (check["result"], check["what"]) for check in ran.json()["checks"] if check["where"].endswith(where)
    ]


def configure(cli, access: str, keys: str = "") -> None:
    config = cli.config.read_text().replace('active = "one"\n', f'active = "one"\n{keys}')
    cli.write(f"{config}[access]\n{access}\n")


def lines_of(ring: KeyRing, *, writer: bool = False) -> str:
    lines = writer_lines(ring, "one") if writer else [reader_line(ring, "one")]
    return "".join(json.dumps(line) + "\n" for line in lines)


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.touch(mode=0o600)
    path.write_text(text)
    path.chmod(mode)
    return path


# ---------------------------------------------------------------- in the daemon's configuration


def test_a_configuration_without_access_says_nothing_of_it(cli):
    ran = cli.run("check", "--json")
    assert not [check for check in ran.json()["checks"] if "access" in check["where"]]


def test_it_says_what_a_service_could_do(cli):
    """With the ring it could do more than it should. Port 0 takes a free one."""
    configure(cli, f"port = {free_port()}")
    ran = cli.run("check", "--json")
    assert ran.code == 0
    ((result, what),) = said(ran, "access.port")
    assert (result, "is free" in what) == ("ok", True)
    assert ("ok", "this login has the rights for access keys") in said(ran, "store.uri")
    assert any("the key ring, which is more than it needs" in what for _, what in said(ran, "access"))


def test_no_secret_of_the_service_is_opened(cli):
    """Their files hold nothing that would pass, and only their owner and mode are looked at."""
    readers = private(cli.home / "readers.jsonl", "nonsense")
    private(cli.home / "tls.key", "nonsense")
    private(cli.home / "bearer", "")
    configure(
        cli,
        'port = 0\ntls = { cert = "cert", key = { file = "tls.key" } }\nbearer_token = { file = "bearer" }',
        'readers = { file = "readers.jsonl" }\nwriter = { env = "NOT_SET" }\n',
    )
    ran = cli.run("check", "--json")
    assert ran.code == 0
    assert said(ran, "keys.readers") == [("ok", f"{readers} is closed to others")]
    assert said(ran, "access.tls.key")[0][0] == "ok"
    assert any(
        "reads and stores tokens, and has reader keys alone" in what for _, what in said(ran, "access")
    )


@pytest.mark.parametrize(
    ("mode", "what"),
    [(0o644, "every local user can read"), (0o622, "can change it"), (None, "No such file")],
)
def test_key_files_that_others_can_use_are_a_warning(cli, mode: int | None, what: str):
    if mode is not None:
        private(cli.home / "readers.jsonl", "nonsense", mode)
    configure(cli, "port = 0", 'readers = { file = "readers.jsonl" }\n')
    ran = cli.run("check", "--json")
    ((result, text),) = said(ran, "keys.readers")
    assert (ran.code, result) == (0, "warning")
    assert what in text
    assert any("only reads tokens" in what for _, what in said(ran, "access"))


@pytest.mark.parametrize(
    ("access", "key", "what"),
    [
        ('host = "0.0.0.0"', "access.host", "plain text"),
        ("port = 70000", "access.port", "whole number"),
        ('max_wait = "soon"', "access.max_wait", "not a duration"),
        ("prot = 1", "access.prot", "unknown"),
        ('audit_reads_retention = "1h"', "access.audit_reads_retention", "shorter than a day"),
        ('tls = { cert = 5, key = "x" }', "access.tls.cert", "non-empty"),
        ('tls = { crt = "x", key = "x" }', "access.tls.crt", "unknown"),
        ('tls = "x"', "access.tls", "table"),
        ('bearer_token = { fil = "x" }', "access.bearer_token", "supported form"),
        ("bearer_token = 7", "access.bearer_token", "supported form"),
    ],
)
def test_invalid_settings_are_78(cli, access: str, key: str, what: str):
    configure(cli, access)
    ran = cli.run("check", "--json")
    assert ran.code == 78
    found = [problem for problem in ran.json()["problems"] if problem["where"].endswith(key)]
    assert any(what in problem["what"] for problem in found), ran.out


@pytest.mark.parametrize("keys", ["readers = 5\n", "writer = { file = 7 }\n", "readers = {}\n"])
def test_ill_formed_sources_are_78(cli, keys: str):
    configure(cli, "port = 0", keys)
    ran = cli.run("check", "--json")
    assert ran.code == 78
    assert "supported form" in ran.out


def test_an_access_section_that_is_no_table_is_78(cli):
    cli.write("access = 5\n" + cli.config.read_text())
    ran = cli.run("check", "--json")
    assert ran.code == 78
    assert "access" in ran.json()["problems"][0]["where"]


def test_a_public_service_without_tls_is_a_warning(cli):
    configure(cli, f'host = "0.0.0.0"\nport = {free_port()}\ntrusted_proxies = ["10.0.0.0/8"]')
    ran = cli.run("check", "--json")
    ((result, what),) = said(ran, "access.host")
    assert (ran.code, result) == (0, "warning")
    assert "plain text" in what


@pytest.mark.parametrize(
    ("answer", "status", "result", "what"),
    [
        (READY, 200, "ok", "is ready"),
        (NOT_READY, 503, "warning", "not ready (store)"),
        ({"ready": True, "checks": {"store": {}, "sweep": {}}}, 200, "warning", "not an access service"),
        ({"ready": True, "checks": 5}, 200, "warning", "not an access service"),
        ([], 200, "warning", "not an access service"),
        (b"<html>", 200, "warning", "not an access service"),
        (READY, 404, "warning", "not an access service"),
    ],
)
def test_the_port_shows_a_service_or_another_program(cli, answer, status, result, what):
    with answering(answer, status) as port:
        configure(cli, f"port = {port}")
        ran = cli.run("check", "--json")
    ((found, text),) = said(ran, "access.port")
    assert (ran.code, found) == (0, result)
    assert what in text
    assert (f"pid {os.getpid()}" in text) is ("not an access service" in what)


def test_a_program_that_does_not_speak_http_has_the_port(cli):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closer = threading.Thread(target=lambda: [listener.accept()[0].close() for _ in range(2)])
        closer.start()
        configure(cli, f"port = {listener.getsockname()[1]}")
        ran = cli.run("check", "--json")
        closer.join()
    assert said(ran, "access.port")[0][0] == "warning"


def test_an_address_of_another_machine_is_not_tried(cli):
    configure(cli, 'host = "192.0.2.7"\nport = 1\ntrusted_proxies = ["10.0.0.0/8"]')
    ran = cli.run("check", "--json")
    assert ("not tried", "192.0.2.7 is not an address of this machine") in said(ran, "access.host")


@pytest.mark.parametrize("case", ["free", "answers", "no directory"])
def test_a_socket_is_tried_too(cli, tmp_path_factory, case: str):
    directory = Path("/tmp") / f"refreshd-check-{os.getpid()}"
    path = directory / "access.sock"
    configure(cli, f'socket = "{path}"')
    if case != "no directory":
        directory.mkdir(mode=0o700)
    try:
        if case == "answers":
            with answering(READY, path=str(path)):
                ran = cli.run("check", "--json")
        else:
            ran = cli.run("check", "--json")
    finally:
        path.unlink(missing_ok=True)
        if directory.exists():
            directory.rmdir()
    wanted = {
        "free": ("ok", "can be made"),
        "answers": ("ok", "is ready"),
        "no directory": ("warning", "not a directory"),
    }
    ((result, what),) = said(ran, "access.socket")
    assert (result, wanted[case][1] in what) == (wanted[case][0], True)


# ---------------------------------------------------------------- in a configuration of its own


def own(cli, *, writer: bool = True, access: str = "port = 0", readers: str | None = None) -> None:
    private(cli.home / "readers.jsonl", readers or lines_of(cli.ring))
    private(cli.home / "writer.jsonl", lines_of(cli.ring, writer=True))
    store = cli.config.read_text().partition("[keys]")[0].partition("[state]")[0]
    more = 'writer = { file = "writer.jsonl" }\n' if writer else ""
    cli.write(
        f'{store}[keys]\nreaders = {{ file = "readers.jsonl" }}\n{more}'
        f'[providers.xero]\nclient_id = "client"\nclient_secret = {{ env = "NOT_SET" }}\n[access]\n{access}\n'
    )


def test_the_services_own_configuration_is_checked_for_the_service(cli):
    """No ring, client or journal is missed."""
    own(cli)
    ran = cli.run("check", "--json")
    assert (ran.code, ran.json()["problems"]) == (0, [])
    assert "for `refreshd serve`" in said(ran, "configuration")[0][1]
    assert ("ok", "it seals refresh tokens with one, and opens none") in said(ran, "keys.writer")
    assert ("ok", "this login has every right that the service needs") in said(ran, "store.uri")
    assert ("ok", "it serves tokens of xero") in said(ran, "providers")
    own(cli, writer=False)
    assert ("ok", "there is none, so applications can't store tokens") in said(
        cli.run("check", "--json"), "keys.writer"
    )


def test_keys_of_another_store_are_a_problem(cli, database):
    """A check value shows it."""
    other = KeyRing({"one": os.urandom(32)}, active="one")
    sealed = cli.ring.seal("check", token_id="refreshd:one", field="access_token")
    database.tokens_keys.insert_one({"_id": "one", "check_v1": sealed})
    own(cli, writer=False, readers=lines_of(other))
    ran = cli.run("check", "--json")
    assert ran.code == 1
    assert any("not the key" in problem["what"] for problem in ran.json()["problems"])


def test_what_keeps_the_service_from_starting_is_a_problem(cli):
    own(cli, readers="nonsense")
    ran = cli.run("check", "--json")
    assert ran.code == 78
    assert any("keys reader" in problem["what"] for problem in ran.json()["problems"])
    with answering({}) as port:
        own(cli, access=f"port = {port}")
        ran = cli.run("check", "--json")
    assert ran.code == 1
    assert any("is in use" in problem["what"] for problem in ran.json()["problems"])


def test_a_store_that_is_away_is_69(cli):
    own(cli)
    away = "mongodb://user:canary-password@127.0.0.1:1/?serverSelectionTimeoutMS=200"
    cli.write(cli.config.read_text().replace(cli.uri, away))
    ran = cli.real("check", "--json")
    assert ran.code == 69
    assert "canary-password" not in ran.out + ran.err


@pytest.mark.parametrize(
    ("access", "where", "result", "words"),
    [
        ("", "access.public_url", None, ""),
        ('return_urls = ["https://a.example/"]', "access.public_url", "not tried", "on this machine"),
        (
            'return_urls = ["https://a.example/"]\npublic_url = "https://t.example/"',
            "access.public_url",
            "ok",
            "https://t.example/connect/callback/NAME",
        ),
        (
            'socket = "s"\nreturn_urls = ["https://a.example/"]',
            "access.public_url",
            "warning",
            "no redirect URI can be made",
        ),
        ("unbound_connect = true", "access.unbound_connect", "warning", "a person who gets such a link"),
    ],
)
def test_it_says_whether_applications_can_connect_accounts(
    cli, access: str, where: str, result: str | None, words: str
):
    configure(cli, f"port = 0\n{access}")
    ran = cli.run("check", "--json")
    assert [outcome for outcome, _ in said(ran, where)] == ([result] if result else [])
    assert all(words in what for _, what in said(ran, where))
