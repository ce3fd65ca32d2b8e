"""One local server in the place of each cloud. It answers in the forms that the clouds document, or as a test says."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web

from daemon.adapters.secrets import aws, aws_request, azure, gcp, http, kms, logins, vault
from daemon.domain.secret_reference import (
    AwsParameter,
    AwsSecret,
    AzureSecret,
    GcpSecret,
    Reference,
    VaultSecret,
    WrappedKey,
)

CANARY = "canary-secret-8d1f"
KEY = base64.b64encode(bytes(range(32))).decode()
ARN = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
WRAPPED = WrappedKey(kms_key=ARN, wrapped="d3JhcHBlZA==", key_id="main", installation="prod")
_VARIABLES = ("AWS_", "VAULT_", "AZURE_", "GOOGLE_", "GCE_", "CLOUDSDK_", "IDENTITY_")

Answer = Callable[[web.Request], Any]


def reply(content: object, status: int = 200) -> Answer:
    """JSON, or the bytes themselves."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=body, status=status)

    return answer


async def hang(request: web.Request) -> web.Response:
    """Answers nothing."""
    await asyncio.Event().wait()
    raise AssertionError


async def hang_in_the_body(request: web.Request) -> web.StreamResponse:
    """Answers half and nothing more."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(json.dumps({"value": CANARY}).encode())
    await asyncio.Event().wait()
    return response


async def half(request: web.Request) -> web.StreamResponse:
    """Closes the connection in the middle of the body."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(json.dumps({"value": CANARY}).encode())
    assert request.transport is not None
    request.transport.close()
    return response


async def half_of_the_head(request: web.Request) -> web.Response:
    """Closes the connection in the middle of the head."""
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Le")  # type: ignore[attr-defined]
    request.transport.close()
    return web.Response()


async def redirect(request: web.Request) -> web.Response:
    raise web.HTTPFound("/elsewhere")


@dataclass
class Cloud:
    """The server. `answers` by path; `asked` is what came."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path_qs, dict(request.headers), await request.read()))
        answer = self.answers.get(request.path)
        found = await answer(request) if answer else web.Response(status=404, text="{}")
        assert isinstance(found, web.StreamResponse)
        return found

    def paths(self) -> list[str]:
        return [path.partition("?")[0] for _, path, _, _ in self.asked]


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cloud]:
    """A running server, and an environment that leads each adapter to it and to nothing else."""
    cloud, app = Cloud(), web.Application()
    app.router.add_route("*", "/{path:.*}", cloud.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    cloud.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    lead_here(cloud.url, monkeypatch)
    yield cloud
    await runner.cleanup()


def lead_here(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith(_VARIABLES)]:
        monkeypatch.delenv(name)
    settings = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "canary-aws-key",
        "AWS_REGION": "eu-central-1",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
        "VAULT_ADDR": url,
        "VAULT_TOKEN": "canary-vault-token",
        "GCE_METADATA_HOST": url.removeprefix("http://"),
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER": url,
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": url,
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(aws_request, "_endpoint", lambda name, region: (f"{url}/", region or "eu-central-1"))
    for module in (vault, gcp, azure):
        monkeypatch.setattr(module, "_logins", logins.Logins())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that passes in an instant."""
    monkeypatch.setattr(http, "LIMIT", timedelta(milliseconds=100))


@dataclass(frozen=True)
class Source:
    """One kind of source: its reference, the path of its secret, and its documented answer."""

    module: ModuleType
    path: str
    answer: Callable[[str], object]
    reference: Reference | None = None
    logins: tuple[tuple[str, object], ...] = ()

    def at(self, url: str) -> Any:
        return self.reference or AzureSecret(url=f"{url}{self.path}")

    async def read(self, cloud: Cloud) -> str:
        for path, answer in self.logins:
            cloud.answers.setdefault(path, reply(answer))
        return str(await self.module.read(self.at(cloud.url)))


_ISSUED = {"access_token": "canary-access", "expires_in": 3599, "token_type": "Bearer"}
METADATA = "/computeMetadata/v1/instance/service-accounts/default/token"
IMDS = "/metadata/identity/oauth2/token"
SOURCES = {
    "aws_secret": Source(aws, "/", lambda text: {"Name": "app", "SecretString": text}, AwsSecret(name="app")),
    "aws_ssm": Source(
        aws, "/", lambda text: {"Parameter": {"Name": "/app", "Value": text}}, AwsParameter(name="/app")
    ),
    "kms": Source(
        kms,
        "/",
        lambda text: {"KeyId": ARN, "Plaintext": text, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"},
        WRAPPED,
    ),
    "vault": Source(
        vault,
        "/v1/secret/data/apps/xero",
        lambda text: {
            "data": {"data": {"client_secret": text}, "metadata": {"version": 3, "destroyed": False}}
        },
        VaultSecret(mount="secret", path="apps/xero", field="client_secret"),
    ),
    "gcp": Source(
        gcp,
        "/v1/projects/p/secrets/xero/versions/latest:access",
        lambda text: {
            "name": "projects/1/secrets/xero/versions/7",
            "payload": {"data": base64.b64encode(text.encode()).decode(), "dataCrc32c": "1"},
        },
        GcpSecret(name="projects/p/secrets/xero"),
        ((METADATA, _ISSUED),),
    ),
    "azure": Source(
        azure,
        "/secrets/xero",
        lambda text: {
            "value": text,
            "id": "https://x.vault.azure.net/secrets/xero/4387",
            "attributes": {"enabled": True},
        },
        None,
        ((IMDS, {**_ISSUED, "expires_in": "3599"}),),
    ),
}


@pytest.fixture(params=SOURCES.values(), ids=SOURCES.keys())
def source(request: pytest.FixtureRequest) -> Source:
    found = request.param
    assert isinstance(found, Source)
    return found
