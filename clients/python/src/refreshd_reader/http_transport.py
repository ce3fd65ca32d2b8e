"""Tokens from `refreshd serve`, by the standard library's HTTP client."""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from refreshd_reader.consent import Consent, Link, Wish, new_verifier
from refreshd_reader.errors import (
    ConsentFailed,
    Ending,
    Expired,
    NeedsReauth,
    NotConnected,
    NotSupported,
    Paused,
    ReaderError,
    Rejected,
    Unavailable,
)
from refreshd_reader.token import Token
from refreshd_reader.transport import Grant, Reading

_AGENT = "refreshd-reader-python/0.1.0"
_PROBLEM = "urn:refreshd:problem:"
_GRANT = "application/vnd.refreshd.grant+json"
_LARGEST = 4 << 20  # bytes of an answer
_IDLE_CONNECTIONS = 16
_IDLE = 20.0  # seconds. Servers and proxies close idle connections, and a request may not race with that
_RENEWING = 15.0  # seconds to the daemon's next sweep, if the answer doesn't say


class _Answer(NamedTuple):
    status: int
    body: Mapping[str, object]
    items: list[object]
    problem: str | None
    retry_after: float | None


class HttpTransport:
    """One access key at one `refreshd serve`. Follows no redirect, and uses no proxy."""

    def __init__(self, url: str, access_key: str, *, wait: float = 10.0, timeout: float = 10.0) -> None:
        access_key = access_key.strip()
        if not re.fullmatch(r"[\x21-\x7e]+", access_key):
            raise ValueError("the access key must be one that `refreshd access create` has printed")
        self._pool = _Pool(url, timeout=timeout + wait)
        self._headers = {
            "Accept": "application/json",
            "Authorization": f"Bearer {access_key}",
            "User-Agent": _AGENT,
        }
        self._wait = {"Prefer": f"wait={max(0, round(wait))}"}

    def read(self, provider: str, account: str) -> Reading:
        """Return the token. The service waits for a renewal in progress."""
        answer = self._request("GET", _path(provider, account), self._wait)
        return self._reading(provider, account, answer)

    def refused(self, token: Token) -> Reading:
        """Request an early renewal of this version, and wait for it."""
        path = f"{_path(token.provider, token.account)}/refused"
        answer = self._request("POST", path, self._wait, {"version": token.version})
        if answer.status == 202:
            raise Expired(f"{token.id}: not renewed yet", retry_after=_after(answer))
        return self._reading(token.provider, token.account, answer)

    def store(self, provider: str, account: str, grant: Grant) -> bool:
        """Store a provider's token response. Return whether the token is new."""
        more = {
            "received_at": None if grant.received_at is None else _instant(grant.received_at),
            "consented_at": None if grant.consented_at is None else _instant(grant.consented_at),
            "vars": grant.vars,
            "meta": grant.meta,
            "subject": grant.subject,
        }
        stated = {name: value for name, value in more.items() if value is not None}
        body = {"response": grant.response, **stated} if stated else grant.response
        kind = _GRANT if stated else "application/json"
        answer = self._request("PUT", _path(provider, account), {"Content-Type": kind}, body)
        self._done(f"{provider}:{account}", answer)
        return answer.status == 201

    def remove(self, provider: str, account: str, *, revoke: bool) -> Ending:
        """Remove the token, or have it revoked first."""
        token_id = f"{provider}:{account}"
        answer = self._request("DELETE", f"{_path(provider, account)}?revoke={_boolean(revoke)}", {})
        self._done(token_id, answer)
        return Ending(token_id, "revoking" if answer.status == 202 else "removed")

    def remove_all(self, subject: str, *, revoke: bool) -> list[Ending]:
        """Remove all tokens of this subject. The service removes some in each request, and says where it ended."""
        path = f"/v1/subjects/{_segment(subject)}/tokens?revoke={_boolean(revoke)}"
        endings: list[Ending] = []
        after = None
        while True:
            answer = self._request("DELETE", path if after is None else f"{path}&after={_segment(after)}", {})
            self._done(f"subject {subject!r}", answer)
            endings += [
                Ending(str(item.get("id")), str(item.get("result", item.get("state"))))
                for item in answer.items
                if isinstance(item, Mapping)
            ]
            following = _text(answer.body.get("next"))
            if following is None or following == after:
                return endings
            after = following

    def connect(self, wish: Wish) -> Link:
        """Begin a consent. A request that is sent twice leaves a link that nobody uses."""
        verifier = new_verifier()
        answer = self._request("POST", "/v1/connect", {}, wish.body(verifier))
        self._done(f"{wish.provider}:{wish.account}", answer)
        consent, url = _text(answer.body.get("id")), _text(answer.body.get("connect_url"))
        if consent is None or url is None:
            raise Unavailable(f"{self._pool.place}: its answer is not a link")
        return Link(consent, url, verifier, _when(answer.body.get("expires_at")))

    def complete(self, consent: str, connect_code: str, verifier: str) -> Consent:
        """Have the token stored. A daemon that needs longer leaves the consent as `asked`."""
        proof = {"connect_code": connect_code, "code_verifier": verifier}
        return self._consent(
            consent, self._request("POST", f"/v1/connect/{_segment(consent)}/complete", {}, proof)
        )

    def consent(self, consent: str) -> Consent:
        """Return what has become of a consent."""
        return self._consent(consent, self._request("GET", f"/v1/connect/{_segment(consent)}", {}))

    def _consent(self, consent: str, answer: _Answer) -> Consent:
        kind, code = _failure(answer.body)
        if answer.problem == "conflict" and kind is not None:
            told = _text(answer.body.get("detail")) or "no token was stored"
            raise ConsentFailed(f"consent {consent}: {told} ({kind})", kind=kind, code=code)
        self._done(f"consent {consent}", answer)
        state, missing = _text(answer.body.get("state")), answer.body.get("missing_scopes")
        if answer.body.get("id") != consent or state is None:
            raise Unavailable(f"{self._pool.place}: its answer is not this consent")
        return Consent(
            id=consent,
            state=state,
            held=answer.body.get("held") is True,
            scope=_text(answer.body.get("scope")),
            missing_scopes=tuple(map(str, missing)) if isinstance(missing, list) else (),
            expires_at=_when(answer.body.get("expires_at")),
            failure_kind=kind,
            failure_code=code,
        )

    def forked(self) -> None:
        """Leave the parent's connections to the parent."""
        self._pool.forked()

    def close(self) -> None:
        """Close idle connections."""
        self._pool.close()

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: object | None = None
    ) -> _Answer:
        sent = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        declared = {} if sent is None else {"Content-Type": "application/json"}
        try:
            response, raw = self._pool.exchange(method, path, sent, {**self._headers, **declared, **headers})
        except (OSError, HTTPException) as error:
            raise Unavailable(f"{self._pool.place}: {type(error).__name__}: {error}") from None
        return _answer(response, raw)

    def _reading(self, provider: str, account: str, answer: _Answer) -> Reading:
        token_id = f"{provider}:{account}"
        self._done(token_id, answer)
        reading = reading_of(provider, account, answer.body)
        if reading is None:
            raise Unavailable(f"{self._pool.place}: its answer is not this token")
        return reading

    def _done(self, what: str, answer: _Answer) -> None:
        """Raise the error that the answer is, if it is one."""
        if answer.status not in (200, 201, 202, 204):
            raise _error(self._pool.place, what, answer)


def reading_of(provider: str, account: str, body: Mapping[str, object]) -> Reading | None:
    """Return the token in an answer, or None if the answer is about something else."""
    text, version = body.get("access_token"), body.get("version")
    if body.get("id") != f"{provider}:{account}" or not isinstance(text, str) or not text:
        return None
    if not isinstance(version, str):
        return None
    left, extra, missing = body.get("expires_in"), body.get("extra"), body.get("missing_scopes")
    token = Token(
        provider=provider,
        account=account,
        access_token=text,
        version=version,
        expires_at=_when(body.get("expires_at")),
        token_type=_text(body.get("token_type")) or "Bearer",
        scope=_text(body.get("scope")),
        missing_scopes=tuple(map(str, missing)) if isinstance(missing, list) else (),
        extra=extra if isinstance(extra, dict) else None,
        subject=_text(body.get("subject")),
    )
    return Reading(token, float(left) if isinstance(left, int | float) else _left(token))


def _error(place: str, what: str, answer: _Answer) -> ReaderError:
    """Return the error for an answer. Whatever doesn't come from refreshd says nothing about a token."""
    status, problem = answer.status, answer.problem
    detail = _text(answer.body.get("detail")) or _text(answer.body.get("title")) or problem or ""
    text = f"{what}: {detail}"
    match problem:
        case "not-found" | "revoking":
            return NotConnected(text)
        case "needs-reauth":
            return NeedsReauth(text, reconnect_url=_text(answer.body.get("reconnect_url")))
        case "paused":
            return Paused(text)
        case "renewing":
            return Expired(text, retry_after=_after(answer))
        case "not-implemented" | "method-not-allowed":
            return NotSupported(text)
        case "rate-limited" | "unavailable" | "internal":
            return Unavailable(text, retry_after=answer.retry_after)
        case str():
            return Rejected(f"{text} ({problem})", problem=problem, status=status)
        case None:
            where = f"{place}: HTTP {status}, and not from refreshd"
            return Unavailable(where, retry_after=answer.retry_after)


def _answer(response: HTTPResponse, raw: bytes) -> _Answer:
    found: object = None
    if raw and "json" in response.headers.get("Content-Type", ""):
        try:
            found = json.loads(raw)
        except ValueError:
            found = None
    body: Mapping[str, object] = found if isinstance(found, dict) else {}
    items = found if isinstance(found, list) else body.get("items")
    kind = body.get("type")
    problem = kind.removeprefix(_PROBLEM) if isinstance(kind, str) and kind.startswith(_PROBLEM) else None
    after = _retry_after(response.headers.get("Retry-After"))
    return _Answer(response.status, body, items if isinstance(items, list) else [], problem, after)


def _failure(body: Mapping[str, object]) -> tuple[str | None, str | None]:
    """Return the kind and the code of a consent's failure, if there is one."""
    failure = body.get("failure")
    if not isinstance(failure, Mapping):
        return None, None
    return _text(failure.get("kind")), _text(failure.get("code"))


def _after(answer: _Answer) -> float:
    return _RENEWING if answer.retry_after is None else answer.retry_after


def _retry_after(header: str | None) -> float | None:
    """Return the seconds. RFC 9110, section 10.2.3: a number of seconds or a date."""
    if header is None:
        return None
    if header.strip().isascii() and header.strip().isdigit():
        return float(header)
    try:
        at = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, at.timestamp() - time.time())


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _when(value: object) -> datetime | None:
    """Return an instant of RFC 3339 in UTC. One that can't be read counts as unknown, but `expires_in` still holds."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _left(token: Token) -> float | None:
    return None if token.expires_at is None else token.expires_at.timestamp() - time.time()


def _instant(at: datetime) -> str:
    if at.tzinfo is None:
        raise ValueError("a date without a time zone: use datetime.now(UTC)")
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def _segment(text: str) -> str:
    """Return the text as one segment of a path. A segment of dots would be resolved, so they are encoded too."""
    return quote(text, safe="") if text.strip(".") else text.replace(".", "%2E")


def _path(provider: str, account: str) -> str:
    return f"/v1/tokens/{_segment(provider)}/{_segment(account)}"


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _Pool:
    """Connections that are kept open between requests."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self.place = url
        self._timeout = timeout
        parts = urlsplit(url)
        self._unix = parts.path if parts.scheme == "unix" else None
        if self._unix is None and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("REFRESHD_URL: use https://HOST, http://HOST:PORT or unix:/PATH")
        if parts.username is not None or parts.query or parts.fragment or (self._unix or "/")[:1] != "/":
            raise ValueError("REFRESHD_URL: a password, a query or a relative path has no place here")
        self._host, self._port = parts.hostname or "", parts.port
        self._prefix = "" if self._unix else parts.path.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle: list[tuple[HTTPConnection, float]] = []
        self._lock = threading.Lock()

    def exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[HTTPResponse, bytes]:
        """Send a request, on a new connection if one that was kept turns out to be closed."""
        connection = self._take()
        if connection is not None:
            try:
                return self._once(connection, method, path, body, headers)
            except (ConnectionError, HTTPException):  # every request of ours can be sent twice
                pass
        return self._once(self._new(), method, path, body, headers)

    def forked(self) -> None:
        self._lock = threading.Lock()
        self._idle = []

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _once(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> tuple[HTTPResponse, bytes]:
        kept = False
        try:
            connection.request(method, f"{self._prefix}{path}", body, dict(headers))
            response = connection.getresponse()
            raw = response.read(_LARGEST + 1)
            if len(raw) > _LARGEST:
                raise HTTPException(f"an answer of more than {_LARGEST} bytes")
            kept = response.isclosed() and not response.will_close
        finally:
            if not kept:
                connection.close()
        self._put_back(connection)
        return response, raw

    def _take(self) -> HTTPConnection | None:
        now = time.monotonic()
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection, since = self._idle.pop()
            if now - since < _IDLE:
                return connection
            connection.close()

    def _put_back(self, connection: HTTPConnection) -> None:
        if connection.sock is None:
            return
        with self._lock:
            if len(self._idle) < _IDLE_CONNECTIONS:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()

    def _new(self) -> HTTPConnection:
        if self._unix is not None:
            return _UnixConnection(self._unix, self._timeout)
        if self._tls is not None:
            return HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
        return HTTPConnection(self._host, self._port, timeout=self._timeout)
