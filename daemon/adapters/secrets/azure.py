"""Secrets of Azure Key Vault, by its REST API.

This process proves itself by workload identity (AZURE_FEDERATED_TOKEN_FILE), by an application's secret
(AZURE_CLIENT_SECRET), or by its managed identity (App Service, else the metadata server of a virtual machine).
Required role: Key Vault Secrets User.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from daemon.adapters.secrets.errors import SecretAway, SecretMissing, SecretUnusable
from daemon.adapters.secrets.http import Reply, ask, is_loopback, text_of
from daemon.adapters.secrets.identity_file import read_identity
from daemon.adapters.secrets.logins import Logins, seconds
from daemon.domain.secret_reference import AzureSecret

_VAULT = "Azure Key Vault"
_ENTRA = "Microsoft Entra"
_IDENTITY = "Azure's managed identity"
_API = "7.4"
_DOMAINS = ("vault.azure.net", "vault.azure.cn", "vault.usgovcloudapi.net")  # a token goes to no other
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CERTIFICATES = ("application/x-pkcs12", "application/x-pem-file")
_logins = Logins()


async def read(reference: AzureSecret) -> str:
    """Return the secret; the current version unless one is named. Raises SecretMissing, SecretAway, SecretUnusable."""
    resource = _resource(reference.url)
    identity = (resource, *(os.environ.get(name) for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID")))
    token = await _logins.token(identity, lambda: _login(resource))
    reply = await ask(
        _VAULT,
        "GET",
        reference.url,
        headers={"Authorization": f"Bearer {token}"},
        query={"api-version": _API},
    )
    if reply.status == 401:
        _logins.forget(identity)
    if reply.status == 404:
        raise SecretMissing(f"{_VAULT} has no secret {reference.url}")
    reply.raise_if_failed()
    answer = reply.fields()
    if answer.get("contentType") in _CERTIFICATES:
        raise SecretUnusable(f"{_VAULT} has answered, but {reference.url} is a certificate")
    return text_of(_VAULT, answer.get("value"))


def _resource(url: str) -> str:
    """Return the resource that a token is asked for. Raises SecretAway if the host is not a key vault's."""
    host = urlsplit(url).hostname or ""
    for domain in _DOMAINS:
        if host.endswith(f".{domain}"):
            return f"https://{domain}"
    if is_loopback(host):
        return f"https://{_DOMAINS[0]}"
    raise SecretAway(f"{host} is not a key vault of Azure, so no token is sent to it")


async def _login(resource: str) -> tuple[str, float]:
    env = os.environ
    if file := env.get("AZURE_FEDERATED_TOKEN_FILE"):
        proof = {
            "client_assertion_type": _ASSERTION,
            "client_assertion": read_identity("AZURE_FEDERATED_TOKEN_FILE", Path(file)),
        }
        return await _of_application(resource, proof)
    if secret := env.get("AZURE_CLIENT_SECRET"):
        return await _of_application(resource, {"client_secret": secret})
    client = {"client_id": env["AZURE_CLIENT_ID"]} if env.get("AZURE_CLIENT_ID") else {}
    query = {"resource": resource, **client}
    if endpoint := env.get("IDENTITY_ENDPOINT"):
        headers = {"X-IDENTITY-HEADER": env.get("IDENTITY_HEADER", "")}
        return await _of_machine(endpoint, headers, query | {"api-version": "2019-08-01"})
    host = env.get("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://169.254.169.254").rstrip("/")
    url = f"{host}/metadata/identity/oauth2/token"
    return await _of_machine(url, {"Metadata": "true"}, query | {"api-version": "2018-02-01"})


async def _of_machine(url: str, headers: Mapping[str, str], query: Mapping[str, str]) -> tuple[str, float]:
    return _issued(await ask(_IDENTITY, "GET", url, headers=headers, query=query))


async def _of_application(resource: str, proof: Mapping[str, str]) -> tuple[str, float]:
    tenant, client = os.environ.get("AZURE_TENANT_ID"), os.environ.get("AZURE_CLIENT_ID")
    if not tenant or not client:
        raise SecretAway("AZURE_TENANT_ID and AZURE_CLIENT_ID must be set")
    authority = os.environ.get("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com").rstrip("/")
    form = {"grant_type": "client_credentials", "client_id": client, "scope": f"{resource}/.default", **proof}
    return _issued(await ask(_ENTRA, "POST", f"{authority}/{quote(tenant)}/oauth2/v2.0/token", form=form))


def _issued(reply: Reply) -> tuple[str, float]:
    reply.raise_if_failed()
    answer = reply.fields()
    token = answer.get("access_token")
    if not isinstance(token, str):
        raise SecretUnusable(f"{reply.service} has answered in another form than it documents")
    return token, seconds(answer.get("expires_in"))
