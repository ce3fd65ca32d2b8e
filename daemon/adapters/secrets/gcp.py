"""Secrets of Google Cloud's Secret Manager, by its REST API.

This process proves itself by the metadata server (Compute Engine, Cloud Run, workload identity of GKE), or by
workload identity federation from a file: GOOGLE_APPLICATION_CREDENTIALS, `external_account`. A service account's key
file is not supported, because it is a long-lived secret itself. Required role: Secret Manager Secret Accessor.
"""

import binascii
import json
import os
import re
from base64 import b64decode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from daemon.adapters.secrets.http import ask
from daemon.adapters.secrets.identity_file import read_identity
from daemon.adapters.secrets.logins import Logins, seconds
from daemon.domain.secret_reference import GcpSecret

_MANAGER = "Google Secret Manager"
_METADATA = "Google's metadata server"
_STS = "Google's token service"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  a type
_REGION = re.compile(r"projects/[^/]+/locations/([a-z0-9-]+)/")
_IMPERSONATED = 3600.0  # seconds that such a token lives unless another lifetime is asked for
_logins = Logins()


async def read(reference: GcpSecret) -> str:
    """Return the secret; the latest version unless one is named. Raises SecretMissing, SecretAway, SecretUnusable."""
    name = reference.name if "/versions/" in reference.name else f"{reference.name}/versions/latest"
    file = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    token = await _logins.token(file, (lambda: _federated(Path(file))) if file else _of_metadata)
    reply = await ask(
        _MANAGER, "GET", f"{_endpoint(name)}/v1/{name}:access", headers={"Authorization": f"Bearer {token}"}
    )
    if reply.status == 401:
        _logins.forget(file)
    if reply.status == 404:
        raise SecretMissing(f"{_MANAGER} has no {name}")
    if reply.status == 400:
        raise SecretAway(
            f"{_MANAGER} does not give out {name}: the version may be disabled or destroyed (HTTP 400)"
        )
    reply.raise_if_failed()
    payload = reply.fields().get("payload")
    return _text(payload.get("data") if isinstance(payload, dict) else None, name)


def _endpoint(name: str) -> str:
    if given := os.environ.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER"):
        return given.rstrip("/")
    region = _REGION.match(name)
    return f"https://secretmanager{f'.{region[1]}.rep' if region else ''}.googleapis.com"


def _text(encoded: object, name: str) -> str:
    if not isinstance(encoded, str):
        raise SecretUnusable(f"{_MANAGER} has answered in another form than it documents")
    try:
        return b64decode(encoded, validate=True).decode()
    except binascii.Error:
        raise SecretUnusable(f"{_MANAGER} has answered with something other than base64") from None
    except UnicodeDecodeError:
        raise SecretUnusable(f"{_MANAGER} has answered, but {name} is binary") from None


async def _of_metadata() -> tuple[str, float]:
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
    reply = await ask(_METADATA, "GET", url, headers={"Metadata-Flavor": "Google"})
    reply.raise_if_failed()
    return _issued(_METADATA, reply.fields())


async def _federated(file: Path) -> tuple[str, float]:
    """Exchange the token of another platform (RFC 8693), then perhaps for one of a service account."""
    settings = _credentials(file)
    form = {
        "grant_type": _EXCHANGE,
        "requested_token_type": _ACCESS_TOKEN,
        "audience": str(settings["audience"]),
        "scope": _SCOPE,
        "subject_token_type": str(settings["subject_token_type"]),
        "subject_token": read_identity("credential_source", Path(str(settings["credential_source"]["file"]))),
    }
    reply = await ask(_STS, "POST", str(settings["token_url"]), form=form)
    reply.raise_if_failed()
    token, lifetime = _issued(_STS, reply.fields())
    url = settings.get("service_account_impersonation_url")
    return (token, lifetime) if url is None else await _impersonating(str(url), token)


async def _impersonating(url: str, token: str) -> tuple[str, float]:
    service = "Google's IAM"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    reply = await ask(service, "POST", url, headers=headers, body=json.dumps({"scope": [_SCOPE]}).encode())
    reply.raise_if_failed()
    found = reply.fields().get("accessToken")
    if not isinstance(found, str):
        raise SecretUnusable(f"{service} has answered in another form than it documents")
    return found, _IMPERSONATED


def _credentials(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_identity("GOOGLE_APPLICATION_CREDENTIALS", file))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SecretAway(f"GOOGLE_APPLICATION_CREDENTIALS: {file} is not a JSON object")
    if found.get("type") != "external_account":
        raise SecretAway(
            f"GOOGLE_APPLICATION_CREDENTIALS: {file} is not of the type external_account: use workload identity instead of"
            " a service account's key"
        )
    source = found.get("credential_source")
    needed = (found.get("audience"), found.get("subject_token_type"), found.get("token_url"))
    if (
        not isinstance(source, dict)
        or not isinstance(source.get("file"), str)
        or not all(needed)
        or "format" in source
    ):
        raise SecretAway(
            f"GOOGLE_APPLICATION_CREDENTIALS: {file} does not name a text file with a token as its credential_source"
        )
    return found


def _issued(service: str, answer: Mapping[str, Any]) -> tuple[str, float]:
    token = answer.get("access_token")
    if not isinstance(token, str):
        raise SecretUnusable(f"{service} has answered in another form than it documents")
    return token, seconds(answer.get("expires_in"))
