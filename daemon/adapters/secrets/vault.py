"""Secrets of HashiCorp Vault's key-value store, version 2, by its HTTP API.

The environment says where Vault is and who asks, with the names that its own client uses, if it has them:
VAULT_ADDR, VAULT_NAMESPACE, VAULT_CACERT, and one of VAULT_TOKEN_FILE, VAULT_TOKEN, VAULT_ROLE_ID (AppRole, with
VAULT_SECRET_ID_FILE or VAULT_SECRET_ID) and VAULT_KUBERNETES_ROLE. Required rights: `read` on MOUNT/data/PATH.
"""

import json
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from daemon.adapters.secrets.http import Reply, ask, text_of
from daemon.adapters.secrets.identity_file import read_identity
from daemon.adapters.secrets.logins import Logins, seconds
from daemon.adapters.trusted_files import require_file
from daemon.domain.secret_reference import VaultSecret

_VAULT = "Vault"
_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/token"
_logins = Logins()


async def read(reference: VaultSecret) -> str:
    """Return the field of the secret's latest version. Raises SecretMissing, SecretAway, SecretUnusable."""
    token, login = await _token()
    reply = await _read(reference, token)
    if reply.status == 403 and login is not None:  # it may have been revoked: once more with a new one
        _logins.forget(login)
        reply = await _read(reference, (await _token())[0])
    if reply.status == 404:
        raise SecretMissing(
            f"{_VAULT} has no secret {reference.path} in {reference.mount}, or it was deleted"
        )
    reply.raise_if_failed()
    outer = reply.fields().get("data")
    table = outer.get("data") if isinstance(outer, dict) else None
    if not isinstance(table, dict) or not isinstance(outer, dict) or "metadata" not in outer:
        raise SecretUnusable(
            f"{_VAULT} has answered in another form than that of a key-value store, version 2"
        )
    if reference.field not in table:
        raise SecretMissing(f"the secret {reference.mount}/{reference.path} has no field {reference.field}")
    return text_of(_VAULT, table[reference.field])


async def _read(reference: VaultSecret, token: str) -> Reply:
    path = f"{quote(reference.mount, safe='')}/data/{quote(reference.path, safe='/')}"
    return await _ask("GET", path, {"X-Vault-Token": token})


async def _token() -> tuple[str, object | None]:
    """Return the token to ask with, and its login if it came from one."""
    if file := os.environ.get("VAULT_TOKEN_FILE"):
        return read_identity("VAULT_TOKEN_FILE", Path(file)), None
    if token := os.environ.get("VAULT_TOKEN"):
        return token, None
    if role := os.environ.get("VAULT_ROLE_ID"):
        mount = os.environ.get("VAULT_APPROLE_MOUNT", "approle")
        return await _logged_in(mount, {"role_id": role}, "secret_id")
    if role := os.environ.get("VAULT_KUBERNETES_ROLE"):
        mount = os.environ.get("VAULT_KUBERNETES_MOUNT", "kubernetes")
        return await _logged_in(mount, {"role": role}, "jwt")
    raise SecretAway(
        f"this process has no identity for {_VAULT}: set VAULT_TOKEN_FILE, VAULT_TOKEN, VAULT_ROLE_ID or"
        " VAULT_KUBERNETES_ROLE"
    )


async def _logged_in(mount: str, fields: Mapping[str, str], proof: str) -> tuple[str, object]:
    identity = (os.environ.get("VAULT_ADDR"), os.environ.get("VAULT_NAMESPACE"), mount, *fields.values())

    async def login() -> tuple[str, float]:
        body = json.dumps({**fields, proof: _proof(proof)}).encode()
        reply = await _ask("POST", f"auth/{quote(mount, safe='/')}/login", {}, body)
        if reply.status == 400:  # Vault's answer to a wrong or expired proof
            raise SecretAway(f"{_VAULT} has refused the login at auth/{mount} (HTTP 400)")
        reply.raise_if_failed()
        found: Any = reply.fields().get("auth")
        if not isinstance(found, dict) or not isinstance(found.get("client_token"), str):
            raise SecretUnusable(f"{_VAULT} has answered a login in another form than it documents")
        return found["client_token"], seconds(found.get("lease_duration"))

    return await _logins.token(identity, login), identity


def _proof(name: str) -> str:
    if name == "jwt":
        file = os.environ.get("VAULT_KUBERNETES_TOKEN_FILE", _SERVICE_ACCOUNT)
        return read_identity("the service account's token", Path(file))
    if file := os.environ.get("VAULT_SECRET_ID_FILE", ""):
        return read_identity("VAULT_SECRET_ID_FILE", Path(file))
    return os.environ.get("VAULT_SECRET_ID", "")  # empty: a role may be bound to addresses instead


async def _ask(method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
    address = os.environ.get("VAULT_ADDR", "").rstrip("/")
    if not address:
        raise SecretAway("VAULT_ADDR is not set")
    whole = {"X-Vault-Request": "true", **headers}
    if namespace := os.environ.get("VAULT_NAMESPACE"):
        whole["X-Vault-Namespace"] = namespace
    return await ask(_VAULT, method, f"{address}/v1/{path}", headers=whole, body=body, tls=_tls())


def _tls() -> ssl.SSLContext | None:
    """Return a context with the authorities in $VAULT_CACERT, or None for this machine's."""
    file = os.environ.get("VAULT_CACERT")
    if not file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # that file's authorities and no others
    try:
        require_file(Path(file))
        context.load_verify_locations(cafile=file)
    except OSError:
        raise SecretAway("the file in VAULT_CACERT can't be read") from None
    return context
