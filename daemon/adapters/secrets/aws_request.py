"""Requests to AWS. botocore finds the credentials and the endpoint and signs; the request is sent as every other one,
so that its time and its reply are bounded.

botocore blocks while it asks a metadata server or STS, or runs a `credential_process`. So it works in a thread of
its own that the process does not wait for.
"""

import asyncio
import json
import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from threading import Lock, Thread
from typing import Any, TypeVar

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from daemon.adapters.egress.tls import client_context
from daemon.adapters.secrets.errors import SecretAway, SecretMissing
from daemon.adapters.secrets.http import LIMIT, Reply, ask, code_of
from daemon.adapters.trusted_files import require_file

SIGNED_WITHIN = timedelta(seconds=8)  # for credentials that another service has to issue first
_IMDS = 1  # seconds, and one attempt
_THROTTLED = frozenset(
    {"ThrottlingException", "Throttling", "TooManyRequestsException", "LimitExceededException"}
)
_one_at_a_time = Lock()

Result = TypeVar("Result")
Sentences = Mapping[str, str]  # by the error code that AWS answers with


async def call(
    service: str,
    name: str,
    target: str,
    parameters: Mapping[str, Any],
    *,
    region: str | None,
    missing: Sentences,
) -> Mapping[str, Any]:
    """Call one operation and return its answer. Raises SecretMissing, SecretAway, SecretUnusable.

    `service` is the name in messages, `name` that in AWS, `target` the operation. An error code in `missing` means
    that the secret does not exist.
    """
    reply = await answered(service, name, target, parameters, region=region)
    if reply.status == 200:
        return reply.fields()
    code = error_code(reply)
    if code in missing:
        raise SecretMissing(missing[code])
    raise away(reply, code)


async def answered(
    service: str, name: str, target: str, parameters: Mapping[str, Any], *, region: str | None
) -> Reply:
    """Return the reply to one operation, whatever its status. Raises SecretAway, SecretUnusable."""
    body = json.dumps(parameters).encode()
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
    try:
        async with asyncio.timeout(SIGNED_WITHIN.total_seconds()):
            url, signed = await _in_thread(lambda: _signed(name, body, headers, region))
    except TimeoutError:
        raise SecretAway(
            f"the credentials for {service} did not come within {SIGNED_WITHIN.total_seconds():g} s"
        ) from None
    except (BotoCoreError, ClientError, OSError) as error:
        raise SecretAway(f"there are no credentials for {service}: {type(error).__name__}") from None
    return await ask(service, "POST", url, headers=signed, body=body, tls=_tls())


def error_code(reply: Reply) -> str:
    """Return the code of an error. It may have a namespace in front and a URL behind it."""
    with suppress(Exception):
        written = str(reply.fields().get("__type", ""))
        return code_of(written.rpartition("#")[2].partition(":")[0])
    return code_of(None)


def away(reply: Reply, code: str) -> SecretAway:
    """Return the failure for an error that says nothing about the secret itself."""
    service = reply.service
    if code in _THROTTLED:
        return SecretAway(f"{service} limits the rate of requests ({code})")
    if code.startswith("AccessDenied"):
        return SecretAway(f"{service} denies access ({code})")
    verb = "has failed" if reply.status >= 500 else "has refused the request"
    return SecretAway(f"{service} {verb} ({code}, HTTP {reply.status})")


def forget_credentials() -> None:
    """Look for credentials again with the next request."""
    _session.cache_clear()
    _endpoint.cache_clear()


def _signed(
    name: str, body: bytes, headers: Mapping[str, str], region: str | None
) -> tuple[str, dict[str, str]]:
    with _one_at_a_time:  # a session is not made for several threads
        credentials = _session().get_credentials()
        if credentials is None:
            raise SecretAway(
                "this process has no credentials of AWS: give it a role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID"
            )
        frozen = credentials.get_frozen_credentials()
        url, its_region = _endpoint(name, region)
    request = AWSRequest(method="POST", url=url, data=body, headers=dict(headers))
    SigV4Auth(frozen, name, its_region).add_auth(request)
    return url, dict(request.headers.items())


@cache
def _session() -> Session:
    session = Session()
    session.set_config_variable("metadata_service_timeout", _IMDS)
    session.set_config_variable("metadata_service_num_attempts", 1)
    patience = LIMIT.total_seconds()
    session.set_default_client_config(
        Config(connect_timeout=patience, read_timeout=patience, retries={"total_max_attempts": 1})
    )
    return session


@cache
def _endpoint(name: str, region: str | None) -> tuple[str, str]:
    """Return the URL of a service, and its region. A configured `endpoint_url` (of a VPC, say) takes precedence."""
    session = _session()
    region = region or os.environ.get("AWS_REGION") or session.get_config_variable("region")
    if not region:
        raise SecretAway("no region of AWS is set: write region in the reference, or set AWS_REGION")
    client = session.create_client(name, region_name=region)
    return f"{client.meta.endpoint_url.rstrip('/')}/", str(client.meta.region_name)


def _tls() -> ssl.SSLContext | None:
    """Return a context with the authorities in $AWS_CA_BUNDLE, or None for this machine's."""
    bundle = os.environ.get("AWS_CA_BUNDLE")
    if not bundle:
        return None
    context = client_context()
    try:
        require_file(Path(bundle))
        context.load_verify_locations(cafile=bundle)
    except OSError:
        raise SecretAway("the file in AWS_CA_BUNDLE can't be read") from None
    return context


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Return the result of `work`, which runs in a thread that the process does not wait for at exit."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: Exception | None) -> None:
        if done.done():
            return  # the caller has given up
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]  # there is a result if there is no error

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as failure:  # noqa: BLE001  it belongs to the caller
            error = failure
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, result, error)

    Thread(target=run, name="AWS credentials", daemon=True).start()
    return await done
