"""What holds for every source outside this machine: its secret is read, and each way to fail is one sentence without it."""

import asyncio
import json
import os

import pytest

from daemon.adapters.secrets import aws_request, http
from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from tests.adapters.secrets.conftest import (
    CANARY,
    IMDS,
    KEY,
    METADATA,
    SOURCES,
    half,
    half_of_the_head,
    hang,
    hang_in_the_body,
    redirect,
    reply,
)

FAILURES = {
    "denies access": (reply({"error": CANARY}, 403), SecretAway, "denies access|refused the request"),
    "wants a login": (reply({"error": CANARY}, 401), SecretAway, "denies access|refused the request"),
    "limits the rate": (reply({"error": CANARY}, 429), SecretAway, "HTTP 429"),
    "fails": (reply(CANARY.encode(), 500), SecretAway, "has failed"),
    "is overloaded": (reply(b"", 503), SecretAway, "has failed"),
    "redirects": (redirect, SecretAway, "redirect, which is not followed"),
    "closes in the middle": (half, SecretUnusable, "in the middle"),
    "closes in the head": (half_of_the_head, SecretAway, "can't be asked"),
    "answers 5 MB": (reply(CANARY.encode() * 300_000), SecretUnusable, "more than 256 KB"),
    "answers HTML": (reply(f"<html>{CANARY}</html>".encode()), SecretUnusable, "other than JSON"),
    "answers half of its JSON": (reply(f'{{"value": "{CANARY}'.encode()), SecretUnusable, "other than JSON"),
    "answers a list": (reply([CANARY]), SecretUnusable, "another form"),
    "answers nothing": (reply(b""), SecretUnusable, "other than JSON"),
    "answers too deep": (reply(b"[" * 100_000), SecretUnusable, "JSON"),
}


def is_a_sentence(text: str) -> bool:
    return CANARY not in text and "canary" not in text and "\n" not in text and len(text) < 400 and bool(text)


async def test_the_secret_is_read(source, cloud):
    text = KEY if source is SOURCES["kms"] else f"{CANARY} äß \U0001f511"
    cloud.answers[source.path] = reply(source.answer(text))
    assert await source.read(cloud) == text


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failure_is_one_sentence_without_the_secret(source, cloud, failure):
    cloud.answers[source.path], kind, said = FAILURES[failure]
    with pytest.raises(kind, match=said) as caught:
        await source.read(cloud)
    assert is_a_sentence(str(caught.value))
    assert "/elsewhere" not in cloud.paths()


@pytest.mark.parametrize("hanging", [hang, hang_in_the_body])
async def test_a_source_that_hangs_is_away(source, cloud, hanging, impatient):
    """Before its answer or in the middle of it."""
    cloud.answers[source.path] = hanging
    async with asyncio.timeout(4):
        with pytest.raises(SecretAway, match="did not answer within"):
            await source.read(cloud)


async def test_a_source_that_is_not_there_is_away(source, cloud, monkeypatch):
    """Nothing listens on that port any more."""
    for module in (source.module, aws_request):
        monkeypatch.setattr(module, "ask", _unreachable, raising=False)
    with pytest.raises(SecretAway, match="can't be reached"):
        await source.read(cloud)


async def _unreachable(service, method, url, **options):
    return await http.ask(service, method, "http://127.0.0.1:1/")


async def test_a_secret_that_is_no_text_is_unusable(source, cloud):
    empty = dict.fromkeys(source.answer(CANARY))
    for answer in (empty, {name: {"deep": CANARY} for name in empty}, {}):
        cloud.answers[source.path] = reply(answer)
        with pytest.raises(SecretUnusable) as caught:
            await source.read(cloud)
        assert is_a_sentence(str(caught.value))


@pytest.mark.parametrize(("name", "path"), [("gcp", METADATA), ("azure", IMDS)])
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_login_that_fails_is_a_sentence_too(cloud, name, path, failure):
    cloud.answers[path], kind, _ = FAILURES[failure]
    with pytest.raises(kind) as caught:
        await SOURCES[name].read(cloud)
    assert is_a_sentence(str(caught.value))
    assert set(cloud.paths()) == {path}  # aiohttp asks a second time if the connection ends before an answer


@pytest.mark.parametrize(("name", "path"), [("gcp", METADATA), ("azure", IMDS)])
async def test_one_login_serves_many_secrets(cloud, name, path):
    source = SOURCES[name]
    cloud.answers[source.path] = reply(source.answer(CANARY))
    assert await asyncio.gather(*(source.read(cloud) for _ in range(10))) == [CANARY] * 10
    assert cloud.paths().count(path) == 1


@pytest.mark.parametrize("name", ["vault", "gcp", "azure"])
async def test_a_secret_that_does_not_exist_is_missing(cloud, name):
    with pytest.raises(SecretMissing, match=r"no secret|has no "):
        await SOURCES[name].read(cloud)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("aws_secret", "ResourceNotFoundException"),
        ("aws_ssm", "ParameterNotFound"),
        ("kms", "NotFoundException"),
    ],
)
async def test_a_secret_of_aws_that_does_not_exist_is_missing(cloud, name, code):
    """The code may have a namespace in front and a URL behind it."""
    for written in (code, f"com.amazonaws#{code}", f"{code}:http://internal.amazon.com/"):
        cloud.answers["/"] = reply({"__type": written, "Message": CANARY}, 400)
        with pytest.raises(SecretMissing, match="has no ") as caught:
            await SOURCES[name].read(cloud)
        assert is_a_sentence(str(caught.value))


@pytest.mark.parametrize("name", ["aws_secret", "aws_ssm", "kms"])
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDeniedException", "denies access"),
        ("ThrottlingException", "limits the rate"),
        ("ExpiredTokenException", "refused the request"),
        (f"{CANARY} and more", "unknown error"),
        ({"deep": CANARY}, "unknown error"),
    ],
)
async def test_aws_says_no_in_its_own_way(cloud, name, code, said):
    cloud.answers["/"] = reply({"__type": code, "message": CANARY}, 400)
    with pytest.raises(SecretAway, match=said) as caught:
        await SOURCES[name].read(cloud)
    assert is_a_sentence(str(caught.value))


@pytest.mark.parametrize(
    "address",
    [
        "http://vault.example:8200",
        "http://10.0.0.7",
        "ftp://127.0.0.1",
        "vault.example",
        "http://[::1",
        "//x",
    ],
)
async def test_no_secret_crosses_a_network_unencrypted(address):
    with pytest.raises(SecretAway, match="https"):
        await http.ask("Vault", "GET", address)


async def test_a_certificate_of_an_unknown_authority_is_refused(cloud, tmp_path, monkeypatch):
    """And one of the authority in VAULT_CACERT is not."""
    import ssl

    from aiohttp import web

    from tests.certificates import Certified

    certified, file = Certified.made("localhost"), tmp_path / "vault.pem"
    file.write_bytes(certified.public + certified.key)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(file)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", cloud.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0, ssl_context=server_side).start()
    monkeypatch.setenv("VAULT_ADDR", f"https://localhost:{runner.addresses[0][1]}")
    source = SOURCES["vault"]
    cloud.answers[source.path] = reply(source.answer(CANARY))
    try:
        with pytest.raises(SecretAway, match="certificate that is not trusted"):
            await source.read(cloud)
        monkeypatch.setenv("VAULT_CACERT", str(file))
        assert await source.read(cloud) == CANARY
        os.mkfifo(tmp_path / "pipe")  # OpenSSL would wait for its writer
        for unusable in ("none.pem", "pipe"):
            monkeypatch.setenv("VAULT_CACERT", str(tmp_path / unusable))
            with pytest.raises(SecretAway, match="VAULT_CACERT can't be read"):
                await source.read(cloud)
    finally:
        await runner.cleanup()


def test_no_message_shows_a_body():
    shown = repr(http.Reply(service="Vault", status=200, body=json.dumps(CANARY).encode()))
    assert CANARY not in shown
