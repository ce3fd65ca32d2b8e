"""What an endpoint trusts, and what no message of it quotes."""

from datetime import timedelta
from urllib.parse import parse_qsl

import pytest

from daemon.domain.answer import Concern
from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from tests.adapters.token_endpoint.servers import (
    CANARY,
    NEVER,
    QUERY,
    Streams,
    Wire,
    answering,
    queried,
    reply,
    request,
    reset,
    shows_no_query,
    silent,
)


async def test_a_certificate_that_nobody_signed_is_refused(site, tls):
    """Not sent, and the operator's to look at: somebody may be in between."""
    wire = await site.serve(silent, tls=tls)
    got = await site.endpoint().send(request(wire.url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent, got.concerns) == ("tls", False, Concern.PROVIDER)
    assert "certificate" in got.message.lower()
    assert wire.seen == b""


async def test_a_server_that_speaks_no_tls_is_refused(site):
    """https to a plain server: nothing of the request is sent."""

    async def plain(_: Wire, streams: Streams) -> None:
        await streams[0].read(10)
        streams[1].write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    wire = await site.serve(plain)
    got = await site.endpoint().send(request(wire.url.replace("http:", "https:")), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent, got.concerns) == ("tls", False, Concern.PROVIDER)


@pytest.mark.parametrize(
    "url", ["https://", "https://[::1/token", "https://exa mple.com/token", "https://h:99999/"]
)
async def test_a_url_that_makes_no_sense_is_the_operators(site, url):
    """No exception: said, and nothing sent."""
    got = await site.endpoint().send(request(url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert not got.sent


async def test_a_url_with_a_blank_writes_no_request_line_of_its_own(site):
    wire = await site.serve(silent)
    got = await site.endpoint().send(request(f"{wire.url}?a=b HTTP/1.1"), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("bad_url", False)
    assert wire.seen == b""


async def test_a_secret_that_can_not_stand_in_a_header_is_not_sent_and_not_shown(site):
    """A client secret with a line break in a Basic header: refused before it is sent, and not printed."""
    wire = await site.serve(silent)
    asked = Request(
        method="POST",
        url=wire.url,
        headers={"Content-Type": "text/plain", "Authorization": "Basic s3c\r\nX: y"},
        body=b"x",
    )
    got = await site.endpoint().send(asked, deadline=NEVER)
    assert isinstance(got, NoReply)
    assert not got.sent
    assert "s3c" not in got.message
    assert wire.seen == b""


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_without_a_body_goes_out_as_it_was_built(site, method):
    """The query arrives as it was meant, with no body and no type of one; the connection is used again."""
    wire = await site.serve(answering(reply(b'{"n": 1}'), reply(b'{"n": 2}')))
    endpoint = site.endpoint()
    for _ in range(2):
        got = await endpoint.send(queried(wire.url, method=method), deadline=NEVER)
        assert isinstance(got, Reply)
        assert got.whole
    line, *head = wire.seen.decode().split("\r\n\r\n")[0].split("\r\n")
    assert line.startswith(f"{method} /token?")
    assert parse_qsl(line.split("?")[1].split(" ")[0]) == parse_qsl(QUERY)
    assert "content-length: 0" in [one.lower() for one in head]
    assert not any(one.lower().startswith("content-type") for one in head)
    assert (wire.connections, wire.requests) == (1, 2)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_empty_body_is_guarded_like_any_other(site, method):
    """Past the deadline not one byte leaves: the URL is the secret."""
    wire = await site.serve(silent)
    got = await site.endpoint().send(queried(wire.url, method=method), deadline=site.clock.boot())
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("too_late", False)
    assert wire.seen == b""


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_silent_provider_leaves_an_empty_body_in_doubt(site, method):
    """The headers were all there was to send, and they were sent."""
    wire = await site.serve(silent)
    got = await site.endpoint(timeout=timedelta(milliseconds=200)).send(
        queried(wire.url, method=method), deadline=NEVER
    )
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("timeout", True)
    shows_no_query(got)


async def test_a_get_is_never_repeated_on_a_dropped_connection(site):
    """HTTP clients think that a GET may be: not one that presents a token."""

    async def once(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        if wire.requests == 1:
            streams[1].write(reply(b"{}"))
            await wire.request(streams)

    wire = await site.serve(once)
    endpoint = site.endpoint()
    assert isinstance(await endpoint.send(queried(wire.url), deadline=NEVER), Reply)
    got = await endpoint.send(queried(wire.url), deadline=NEVER)
    assert isinstance(got, NoReply)
    assert (got.code, got.sent) == ("connection", True)
    shows_no_query(got)
    assert (wire.requests, wire.connections) == (2, 1)


async def test_no_failure_shows_the_query(site, tls):
    """Refused, not found, not a URL, not trusted, no TLS, reset, dropped, garbage, silent: none quotes the URL."""

    async def hang_up(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)
        reset(streams)

    async def drop(wire: Wire, streams: Streams) -> None:
        await wire.request(streams)

    async def no_tls(_: Wire, streams: Streams) -> None:
        await streams[0].read(10)
        streams[1].write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    gone = await site.serve(silent)
    nobody = gone.url
    await gone.close()
    plain = await site.serve(no_tls)
    urls = {
        nobody: "connection",
        "https://sso.invalid/token": "connection",
        "https://[::1/token": "bad_url",
        "https:///token": "bad_url",
        "https://h:99999/token": "bad_url",
        f"https://{'x' * 70}.example.com/token": "bad_url",
        "ftp://127.0.0.1/token": "bad_url",
        "http://192.0.2.1/token": "not_https",
        (await site.serve(silent, tls=tls)).url: "tls",
        plain.url.replace("http:", "https:"): "tls",
        (await site.serve(hang_up)).url: "connection",
        (await site.serve(drop)).url: "connection",
        (await site.serve(answering(CANARY.encode() + b" sh0rt\r\n\r\n", close=True))).url: "connection",
        (await site.serve(silent)).url: "timeout",
    }
    patient, hasty = site.endpoint(), site.endpoint(timeout=timedelta(milliseconds=200))
    for url, code in urls.items():
        for method in ("GET", "POST"):
            endpoint = hasty if code == "timeout" else patient
            got = await endpoint.send(queried(url, method=method), deadline=NEVER)
            assert isinstance(got, NoReply)
            assert got.code == code, url
            shows_no_query(got)
