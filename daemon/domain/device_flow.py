"""The device flow (RFC 8628) without I/O: the request for a code, the provider's answer, and what a poll's reply means.

The owner enters the code at the provider, on a machine of their own, so nothing comes back through a browser. A device
code is polled for until its owner has answered.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from daemon.domain.authorization import chosen_scopes
from daemon.domain.consent_request import ConsentFailure, ConsentFailureKind
from daemon.domain.provider import Definition, Provider
from daemon.domain.refusal import code_of, refusal_of
from daemon.domain.reply import NoReply, Reply, retry_after
from daemon.domain.reply_body import Body, Parsed, parse
from daemon.domain.request import Request, client_request
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.domain.token_response import first_text
from daemon.domain.token_url import NotSendable, completed_url, fills_host, is_allowed, is_loopback

DEFAULT_INTERVAL = timedelta(seconds=5)  # RFC 8628 §3.2
SLOWER = timedelta(seconds=5)  # RFC 8628 §3.5, slow_down
SHORTEST_INTERVAL, LONGEST_INTERVAL = timedelta(seconds=1), timedelta(minutes=1)
LONGEST_LIFE = timedelta(hours=1)  # of a device code; the usual ones live for 15 to 30 minutes
_LONGEST_CODE = 4096  # characters
_LONGEST_URL = 2048
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_MOST_SECONDS = 10**9
_USER_CODE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,62}[\x21-\x7e])?")
_DEVICE_CODE = re.compile(r"[\x20-\x7e]+")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_PAGES = ("verification_uri", "verification_url")  # Google has the second one
_COMPLETE_PAGES = ("verification_uri_complete", "verification_url_complete")
_PENDING, _SLOW_DOWN = "authorization_pending", "slow_down"
_DENIED = frozenset({"access_denied", "authorization_declined"})  # the second one is Microsoft's
_EXPIRED = frozenset({"expired_token", "code_expired"})
_TOO_MANY = 429


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCode:
    """A device code, and what its owner needs. `complete_page`: the page with the code filled in, if there is one."""

    device_code: Secret
    user_code: str
    page: str
    complete_page: str | None
    life: timedelta
    interval: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class NoDeviceCode:
    """The provider has issued none. `code` and `message` are for people, masked."""

    code: str
    message: str = field(default="")


def device_code_request(
    provider: Provider, *, scopes: Sequence[str], variables: Mapping[str, str], now: datetime
) -> tuple[Request, tuple[str, ...]]:
    """Return the request for a device code (RFC 8628 §3.1), and the scopes that it asks for. Raises NotSendable."""
    definition = provider.definition
    if definition.device_url is None:
        raise NotSendable(f"the definition of {provider.name} has no device_url")
    chosen = chosen_scopes(definition, scopes)
    url = completed_url(provider, definition.device_url, variables, name="device URL")
    names = definition.names
    fields = {names.get("client_id", "client_id"): provider.client_id}
    if chosen:
        fields[names.get("scope", "scope")] = definition.scope_separator.join(chosen)
    outside = fills_host(definition.device_url) and not is_allowed(provider, url)
    request = client_request(
        provider,
        method="POST",
        url=url,
        fields=fields,
        more_headers={},
        with_client=True,
        body_format=definition.body,
        public_only=outside and not provider.allow_private,
        variables=variables,
        now=now,
    )
    return request, chosen


def read_device_code(provider: Provider, reply: Reply | NoReply) -> DeviceCode | NoDeviceCode:
    """Return the device code in `reply` (RFC 8628 §3.2), or why there is none that can be used. Total."""
    if isinstance(reply, NoReply):
        return NoDeviceCode(code=reply.code, message=reply.message)
    parsed = parse(reply.body, content_type=reply.content_type, whole=reply.whole)
    body = parsed.objects[0] if len(parsed.objects) == 1 and not parsed.cut else {}
    device_code = first_text(body, ("device_code",))
    if not device_code or not 200 <= reply.status < 300:
        return _refused(provider, reply.status, parsed, body)
    user_code = first_text(body, ("user_code",))
    page, complete_page = first_text(body, _PAGES), first_text(body, _COMPLETE_PAGES)
    if len(device_code) > _LONGEST_CODE or not _DEVICE_CODE.fullmatch(device_code):
        return _unusable("its device code can't be sent")
    if not _USER_CODE.fullmatch(user_code):
        return _unusable("its user code can't be shown")
    if not _is_page(page):
        return _unusable("its verification_uri is not an https URL")
    life, interval = (_seconds(body.get(name)) for name in ("expires_in", "interval"))
    if life is None or life <= timedelta(0):
        return _unusable("it doesn't say when the code expires")
    return DeviceCode(
        device_code=Secret(device_code),
        user_code=user_code,
        page=page,
        complete_page=complete_page if _is_page(complete_page) else None,
        life=min(life, LONGEST_LIFE),
        interval=_bounded(DEFAULT_INTERVAL if interval is None else interval),
    )


def poll_again(definition: Definition, reply: Reply | NoReply, interval: timedelta) -> timedelta | None:
    """Return the interval after which the device code is to be presented again, or None if `reply` ends the flow.

    The error's name decides, whatever the status: Google and Auth0 send it with 403, 428 and 429.
    """
    if isinstance(reply, NoReply):
        return _bounded(2 * interval)  # RFC 8628 §3.5: reduce the frequency
    parsed = parse(reply.body, content_type=reply.content_type, whole=reply.whole)
    if any(first_text(body, definition.reply.access_token) for body in parsed.objects):
        return None
    codes = {_code_of(definition, body) for body in parsed.objects}
    if _SLOW_DOWN in codes:
        named = (_seconds(body.get("interval")) for body in parsed.objects)  # GitHub
        return _bounded(max(interval + SLOWER, *(one or timedelta(0) for one in named)))
    if _PENDING in codes:
        return _bounded(interval)
    if reply.status >= 500 or reply.status == _TOO_MANY:
        return _bounded(max(2 * interval, retry_after(reply.retry_after, now=reply.asked_at) or SLOWER))
    return None


def answer_of(failure: ConsentFailure) -> ConsentFailure:
    """Return the failure of a device code, in which the owner's own answers have their kinds."""
    if failure.kind is not ConsentFailureKind.REFUSED:
        return failure
    if failure.code in _DENIED:
        return replace(
            failure, kind=ConsentFailureKind.DENIED, message=f"the owner has refused: {failure.message}"
        )
    if failure.code in _EXPIRED:
        return replace(failure, kind=ConsentFailureKind.EXPIRED, message="the owner gave no answer in time")
    return failure


def _code_of(definition: Definition, body: Body) -> str:
    return code_of(definition, body) or first_text(body, ("error",))


def _refused(provider: Provider, status: int, parsed: Parsed, body: Body) -> NoDeviceCode:
    nothing = Token(
        id="", provider=provider.name, account="", state=State.ACTIVE, refresh_token=None, access_token=None
    )
    refusal = refusal_of(provider, nothing, status, parsed, body)
    return NoDeviceCode(code=refusal.code, message=refusal.message)


def _unusable(why: str) -> NoDeviceCode:
    return NoDeviceCode(code="unusable_reply", message=f"the provider's reply can't be used: {why}")


def _is_page(url: str) -> bool:
    """Return whether an owner may be sent to `url`."""
    if not _VISIBLE.fullmatch(url) or len(url) > _LONGEST_URL:
        return False
    try:
        parts = urlsplit(url)
        secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url))
    except ValueError:
        return False
    return secure and bool(parts.hostname) and "@" not in parts.netloc


def _seconds(value: object) -> timedelta | None:
    """Return a number of seconds, or None. Some providers send it as text."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MOST_SECONDS:
        return None
    return timedelta(seconds=value)


def _bounded(interval: timedelta) -> timedelta:
    return min(max(interval, SHORTEST_INTERVAL), LONGEST_INTERVAL)
