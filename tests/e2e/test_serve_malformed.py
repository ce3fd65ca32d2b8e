"""Bytes that no HTTP library sends, at a real access service. Each gets a problem document, or what it asked for."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Self
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from daemon.domain.handle import handle_of
from tests.e2e.service import PROVIDER, Reply, Service, placed

ME = f"/v1/tokens/{PROVIDER}/me"
GRANT = json.dumps({"access_token": "access-2", "refresh_token": "refresh-2", "expires_in": 3600})
PATIENCE = 10.0  # seconds

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(mongod: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    """A service with the token `me`, and a key that may do everything."""
    async with placed(mongod, tmp_path_factory.mktemp("place")) as place:
        await place.add("me")
        async with place.serving(await place.key()) as one:
            yield one


class Line:
    """A connection to the service."""

    def __init__(self, service: Service) -> None:
        self._at = urlsplit(service.url)
        self._key = service.key

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._at.hostname, self._at.port)
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._writer.close()

    def send(
        self,
        first: str,
        *headers: str,
        body: bytes = b"",
        host: str | None = None,
        key: bool = True,
    ) -> None:
        """Write the request line `first`, its headers and `body`, without a length of its own."""
        host = f"Host: {self._at.netloc}" if host is None else host
        lines = [first, host, *([f"Authorization: Bearer {self._key}"] if key else []), *headers]
        head = "\r\n".join(line for line in lines if line)
        self._writer.write(f"{head}\r\n\r\n".encode("latin-1") + body)

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> Reply:
        """Return the next answer. The version of its status line is checked."""
        async with asyncio.timeout(PATIENCE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            body = await self._reader.readexactly(int(headers.get("Content-Length", "0")))
        version, status, *_ = first.split(" ", 2)
        assert version in {"HTTP/1.1", "HTTP/1.0"}, first
        return Reply(int(status), headers, body.decode())


@pytest.mark.parametrize(
    "line",
    [
        "Content-Length: -1",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Transfer-Encoding: gzip",
        "Host: other",
        "X-A\x00: b",
        "X-A : b",
        "X-A: b\r\n c",
        "X-A: " + "a" * 9000,
    ],
)
async def test_a_request_that_is_no_http_gets_a_problem_document(service: Service, line: str):
    """Not the text of a library, which quotes the line: it may hold an access key."""
    async with Line(service) as connection:
        connection.send(f"GET {ME} HTTP/1.1", line)
        answer = await connection.answer()
    assert (answer.status, answer.problem) == (400, "invalid-request")
    assert answer.headers["Cache-Control"] == "no-store"
    assert line[:20] not in answer.text


@pytest.mark.parametrize(
    "first", ["rfk_secret / HTTP/1.1", "GET  HTTP/1.1", "GET * HTTP/1.1", f"GET {ME} HTTP/x"]
)
async def test_an_odd_request_line_gets_a_problem_document(service: Service, first: str):
    async with Line(service) as connection:
        connection.send(first)
        answer = await connection.answer()
    assert (answer.status, answer.problem) == (400, "invalid-request")
    assert "rfk_" not in answer.text


@pytest.mark.parametrize("version", ["HTTP/0.9", "HTTP/2.0", "HTTP/1.2"])
async def test_another_version_of_http_is_refused_in_this_one(service: Service, version: str):
    """An answer that calls itself HTTP/2.0 is no HTTP/2 (RFC 9112 section 2.3)."""
    async with Line(service) as connection:
        connection.send(f"GET {ME} {version}", "Connection: close")
        answer = await connection.answer()
    assert (answer.status, answer.problem) == (400, "invalid-request")


async def test_http_1_0_is_spoken(service: Service):
    """Old libraries and probes do."""
    async with Line(service) as connection:
        connection.send(f"GET {ME} HTTP/1.0")
        assert (await connection.answer()).status == 200


async def test_a_whole_url_must_name_this_service_too(service: Service):
    """It takes precedence over `Host` (RFC 9112 section 3.2.2)."""
    for target, status in (
        (service.url + ME, 200),
        (f"http://evil.example{ME}", 421),
        (f"http://a@b{ME}", 421),
    ):
        async with Line(service) as connection:
            connection.send(f"GET {target} HTTP/1.1", "Connection: close")
            answer = await connection.answer()
        assert answer.status == status, answer
    async with Line(service) as connection:
        connection.send(f"GET {service.url + ME} HTTP/1.1", host="Host: evil.example")
        assert (await connection.answer()).problem == "misdirected"


@pytest.mark.parametrize("spelt", ["100-continue", "100-Continue"])
async def test_a_body_that_waits_to_be_asked_for_is_asked_for(service: Service, spelt: str):
    """PHP and .NET send so, and wait for a second or without end (RFC 9110 section 10.1.1)."""
    async with Line(service) as connection:
        length = f"Content-Length: {len(GRANT)}"
        head = ("Content-Type: application/json", length, f"Expect: {spelt}")
        connection.send(f"PUT /v1/tokens/{PROVIDER}/expecting HTTP/1.1", *head)
        assert (await connection.answer()).status == 100
        connection.write(GRANT.encode())
        assert (await connection.answer()).status in {200, 201}
        connection.send(f"GET /v1/tokens/{PROVIDER}/expecting HTTP/1.1")
        assert (await connection.answer()).json["access_token"] == "access-2"


async def test_a_refusal_does_not_ask_for_the_body(service: Service):
    """Neither without a key, nor of another type."""
    length = f"Content-Length: {len(GRANT)}"
    for headers, key, status in (
        (["Content-Type: text/plain"], True, 415),
        (["Content-Type: application/json"], False, 401),
    ):
        async with Line(service) as connection:
            connection.send(f"PUT {ME} HTTP/1.1", *headers, length, "Expect: 100-continue", key=key)
            assert (await connection.answer()).status == status


@pytest.mark.parametrize("size", [70_000, 200_000])
async def test_a_body_that_is_too_large_gets_the_same_answer_at_any_size(service: Service, size: int):
    """Whether it comes with its head or later."""
    async with Line(service) as connection:
        head = ("Content-Type: application/json", f"Content-Length: {size}")
        connection.send(f"PUT {ME} HTTP/1.1", *head, body=b" " * size)
        answer = await connection.answer()
    assert (answer.status, answer.problem) == (413, "too-large")


async def test_two_kinds_of_credentials_are_refused_at_the_token_endpoint(service: Service):
    """A client uses one method in each request (RFC 6749 section 2.3)."""
    basic = b64encode(f"{service.key[4:24]}:{service.key}".encode()).decode()
    secret = f"client_id={service.key[4:24]}&client_secret={service.key}"
    grant = f"grant_type=refresh_token&refresh_token={handle_of(f'{PROVIDER}:me')}"
    assertion = "client_assertion=e30.e30.x&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
    for headers, form, status in (
        ([f"Authorization: Basic {basic}"], grant, 200),
        ([f"Authorization: Basic {basic}"], f"{grant}&{assertion}", 400),
        ([], f"{grant}&{secret}&{assertion}", 400),
        ([], f"{grant}&{assertion}", 400),
    ):
        body = form.encode()
        head = ("Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}", *headers)
        async with Line(service) as connection:
            connection.send(f"POST /v1/oauth/{PROVIDER}/token HTTP/1.1", *head, body=body, key=False)
            answer = await connection.answer()
        assert answer.status == status, answer
        assert status == 200 or answer.json["error"] == "invalid_request"
