"""The event log: the contract's lines, and no secret in any of them, whichever way it tries to get in."""

import asyncio
import base64
import contextlib
import io
import json
import logging
import re
import time
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, get_args
from urllib.parse import quote

import aiohttp
import pytest
from multidict import CIMultiDict, CIMultiDictProxy
from pymongo import AsyncMongoClient
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError
from yarl import URL

from daemon.adapters.telemetry import log_lines
from daemon.adapters.telemetry.event_lines import LINES as LINE_OF
from daemon.adapters.telemetry.event_lines import SILENT
from daemon.adapters.telemetry.event_log import EventLog, Format, configure, loop_errors
from daemon.adapters.telemetry.log_lines import Level, LogLine
from daemon.domain.anomaly import AnomalyKind
from daemon.domain.deviation import DriftKind
from daemon.domain.event import (
    AnomalyDetected,
    ConsentFailed,
    Event,
    InFlight,
    InternalError,
    JournalReplayed,
    LaneFailed,
    LateReplyRevoked,
    ProviderAnswered,
    ProviderDrifted,
    ProviderPaused,
    ProviderResumed,
    SweepFailed,
    SweepFinished,
    TokenConnected,
    TokenHeld,
    TokenInDoubt,
    TokenNeedsReauth,
    TokenPostponed,
    TokenRenewed,
    TokenRevocationFailed,
    TokenRevocationPostponed,
    TokenRevoked,
    TokenStuck,
    TokenSuperseded,
    TokenUnparsed,
    TokenUnreadable,
)
from daemon.domain.secret import MASK, Secret
from daemon.domain.store_event import StoreBack, StoreLost
from daemon.domain.token import Failure, FailureKind

CANARY = "cAnArY0refresh1token2value3xYz"  # looks like a token: masked wherever it stands
PHRASE = "tin whistle"  # looks like nothing: masked because it is registered
NOW = datetime(2026, 11, 21, 5, 0, 0, 123456, tzinfo=timezone(timedelta(hours=1)))
THEN = "2026-11-21T04:00:00.123Z"
WHO: dict[str, Any] = {"token": "xero:acme", "provider": "xero"}
WHY: dict[str, Any] = {"code": "invalid_grant", "message": "gone"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Log:
    """A configured log and what it wrote."""

    def __init__(
        self, style: Format = "json", level: Level = "info", stream: io.StringIO | None = None
    ) -> None:
        self.stream = stream or io.StringIO()
        self.events = configure(format=style, level=level, stream=self.stream)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def line(self) -> dict[str, Any]:
        (only,) = self.lines
        return only


@pytest.fixture(autouse=True)
def _library_loggers_as_before() -> Iterator[None]:
    root, names = logging.getLogger(), ("pymongo", "pymongo.command", "aiohttp.access")
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers, root.level = handlers, level
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


X, X_ERROR = LogLine("x", "info"), LogLine("x", "error")


def failure(kind: FailureKind, text: str | None = None) -> Failure:
    return Failure(kind=kind, code=text or WHY["code"], message=text or WHY["message"], at=NOW)


def renewed(**other: Any) -> TokenRenewed:
    told: dict[str, Any] = {
        **WHO,
        "revision": 7,
        "duration": timedelta(seconds=0.3127),
        "lead": timedelta(seconds=281.44),
        "expires_at": NOW,
        "rotated": True,
    }
    return TokenRenewed(**told | other)


KEY_ID = "7f3kq0w9x2m5b8n1c4v6"  # no secret, though it looks like one


def anomaly(**more: Any) -> AnomalyDetected:
    return AnomalyDetected(
        **{"kind": AnomalyKind.READ_BURST, "key": KEY_ID, "count": 101, "at": NOW, "message": "much"} | more
    )


def sweep(**counts: int) -> SweepFinished:
    none = dict.fromkeys(SWEPT, 0)
    return SweepFinished(**none | counts, duration=timedelta(seconds=0.25), at=NOW)


ADVISED = {
    "lane.failed",
    "provider.drifted",
    "internal.error",
    "token.stuck",
    "token.revocation_failed",
    "anomaly.detected",
}  # the same advice in every line
SWEPT = ("claimed", "renewed", "postponed", "rejected", "scheduled", "in_doubt")
IDLE = {**dict.fromkeys(SWEPT, 0), "duration_ms": 250.0}


LINES: list[tuple[Event, Level, str, dict[str, Any]]] = [
    (renewed(), "info", "token.renewed", {**WHO, "revision": 7, "duration_ms": 312.7, "lead_s": 281.4, "expires_at": THEN, "rotated": True}),
    (renewed(revision=None, duration=None, lead=None, expires_at=None, rotated=False), "info", "token.renewed", {**WHO, "revision": None, "duration_ms": None, "lead_s": None, "expires_at": None, "rotated": False}),
    (TokenPostponed(**WHO, failure=failure(FailureKind.UNAVAILABLE), due_at=NOW, failures=3), "warning", "token.postponed", {**WHO, **WHY, "kind": "unavailable", "due_at": THEN, "failures": 3}),
    (TokenNeedsReauth(**WHO, failure=failure(FailureKind.REJECTED), failures=3), "error", "token.needs_reauth", {**WHO, **WHY, "kind": "rejected", "failures": 3}),
    (TokenSuperseded(**WHO, successor=True), "warning", "token.superseded", {**WHO, "successor": True}),
    (TokenUnparsed(**WHO, failure=failure(FailureKind.UNPARSED)), "error", "token.unparsed", {**WHO, **WHY}),
    (TokenUnreadable(**WHO, **WHY, kind=FailureKind.UNREADABLE), "error", "token.unreadable", {**WHO, **WHY, "kind": "unreadable"}),
    (TokenInDoubt(**WHO, failure=failure(FailureKind.IN_DOUBT), tries=1, due_at=NOW), "warning", "token.in_doubt", {**WHO, **WHY, "tries": 1, "due_at": THEN}),
    (TokenRevoked(**WHO, revision=9, tries=2), "info", "token.revoked", {**WHO, "revision": 9, "tries": 2}),
    (TokenRevocationPostponed(**WHO, failure=failure(FailureKind.UNAVAILABLE), tries=2, due_at=NOW), "warning", "token.revocation_postponed", {**WHO, **WHY, "tries": 2, "due_at": THEN}),
    (TokenRevocationFailed(**WHO, failure=failure(FailureKind.MISCONFIGURED), tries=2, due_at=NOW), "error", "token.revocation_failed", {**WHO, **WHY, "tries": 2, "due_at": THEN}),
    (LateReplyRevoked(**WHO), "warning", "token.late_reply_revoked", WHO),
    (TokenHeld(**WHO, owner="i-2", hold=NOW), "warning", "token.held", {**WHO, "owner": "i-2", "hold": THEN}),
    (ProviderPaused(provider="xero", reason="wrong_client", next_probe_at=NOW), "error", "provider.paused", {"provider": "xero", "reason": "wrong_client", "next_probe_at": THEN}),
    (ProviderDrifted(provider="xero", kind=DriftKind.LIFETIME, message="new access tokens live 1h", change='access_lifetime = "1h"'), "warning", "provider.drifted", {"provider": "xero", "kind": "lifetime", "message": "new access tokens live 1h", "change": 'access_lifetime = "1h"'}),
    (ProviderPaused(provider="xero", reason="operator", next_probe_at=None), "error", "provider.paused", {"provider": "xero", "reason": "operator", "next_probe_at": None}),
    (ProviderResumed(provider="xero"), "info", "provider.resumed", {"provider": "xero"}),
    (sweep(claimed=3, scheduled=2, in_doubt=1), "info", "sweep.finished", {**IDLE, "claimed": 3, "scheduled": 2, "in_doubt": 1}),
    (sweep(in_doubt=1), "info", "sweep.finished", {**IDLE, "in_doubt": 1}),
    (sweep(), "debug", "sweep.finished", IDLE),
    (LaneFailed(provider="xero", message="TypeError", failures=2), "error", "lane.failed", {"provider": "xero", "message": "TypeError", "failures": 2}),
    (LaneFailed(provider="xero", message="", failures=0), "info", "lane.back", {"provider": "xero"}),
    (InternalError(where="count", error=TypeError("odd")), "error", "internal.error", {"where": "count", "error": "TypeError: odd", "exception": "TypeError: odd"}),
    (InternalError(where="refresh", error=TypeError("odd"), **WHO), "error", "internal.error", {**WHO, "where": "refresh", "error": "TypeError: odd", "exception": "TypeError: odd"}),
    (TokenStuck(**WHO, failure=failure(FailureKind.STUCK), due_at=NOW, failures=90), "warning", "token.stuck", {**WHO, **WHY, "due_at": THEN, "failures": 90}),
    (anomaly(), "warning", "anomaly.detected", {"kind": "read_burst", "key": KEY_ID, "count": 101, "message": "much"}),
    (anomaly(name="billing", token="xero:acme"), "warning", "anomaly.detected", {"kind": "read_burst", "key": KEY_ID, "name": "billing", "token": "xero:acme", "count": 101, "message": "much"}),
    (SweepFailed(message="no primary"), "error", "sweep.failed", {"message": "no primary"}),
    (JournalReplayed(token="xero:acme", result="recorded"), "info", "journal.replayed", {"token": "xero:acme", "result": "recorded"}),
    (TokenConnected(token="xero:acme", provider="xero", consent="c1", missing_scopes=("write",)), "info", "token.connected", {"token": "xero:acme", "provider": "xero", "consent": "c1", "missing_scopes": ["write"]}),
    (ConsentFailed(token="xero:acme", provider="xero", consent="c1", kind="refused", code="invalid_grant", message="spent"), "warning", "connect.failed", {"token": "xero:acme", "provider": "xero", "consent": "c1", "kind": "refused", "code": "invalid_grant", "message": "spent"}),
    (StoreLost(message="no primary"), "error", "store.lost", {"message": "no primary"}),
    (StoreBack(), "info", "store.back", {}),
]  # fmt: skip


@pytest.mark.parametrize(("event", "level", "name", "fields"), LINES)
def test_each_event_is_one_line_as_the_contract_has_it(
    event: Event, level: Level, name: str, fields: dict[str, Any]
) -> None:
    """Name, level and exactly these fields, with instants in UTC and durations as numbers."""
    log = Log(level="debug")
    log.events(event)
    line = log.line
    assert list(line)[:3] == ["event", "timestamp", "level"]
    assert (line.pop("event"), line.pop("level")) == (name, level)
    stamp = line.pop("timestamp")
    assert stamp.endswith("Z")
    assert datetime.fromisoformat(stamp).utcoffset() == timedelta(0)
    assert bool(line.pop("do", "")) == (name in ADVISED)
    assert line == fields


def test_what_comes_with_every_request_is_not_logged() -> None:
    """Those are for the metrics."""
    log = Log(level="debug")
    log.events(ProviderAnswered(provider="xero", duration=timedelta(seconds=1)))
    log.events(InFlight(provider="xero", count=1))
    assert log.text == ""


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_only_what_reaches_the_level_is_written(level: Level) -> None:
    """And a new level counts from the next line on."""
    ranks: list[Level] = ["debug", "info", "warning", "error"]
    log = Log(level="error")
    log.events.set_level(level)
    for event, *_ in LINES:
        log.events(event)
    expected = [rank for _, rank, *_ in LINES if ranks.index(rank) >= ranks.index(level)]
    assert [line["level"] for line in log.lines] == expected


def test_other_notices_have_the_same_shape() -> None:
    """Start, stop and whatever else the daemon has to say."""
    log = Log()
    log.events.log(
        log_lines.DAEMON_STARTED,
        version="0.1.0",
        url="http://127.0.0.1:9464/",
        path=Path("/var/lib/refreshd"),
    )
    line = log.line
    assert (line["event"], line["level"], line["version"]) == ("daemon.started", "info", "0.1.0")
    assert (line["url"], line["path"]) == ("http://127.0.0.1:9464/", "/var/lib/refreshd")


def test_auto_is_console_on_a_terminal_and_json_elsewhere() -> None:
    """Colours only where somebody looks."""
    plain, terminal = Log("auto"), Log("auto", stream=Terminal())
    plain.events(renewed())
    terminal.events(renewed())
    assert plain.line["token"] == "xero:acme"
    assert "token.renewed" in terminal.text
    assert "\x1b[" in terminal.text
    forced = Log("console")
    forced.events(renewed())
    assert "\x1b[" not in forced.text
    assert "token=xero:acme" in forced.text


def test_a_text_from_a_document_cannot_steer_the_terminal() -> None:
    """Escape sequences and line breaks of another writer's document are shown by their code points."""
    log = Log("console")
    log.events(
        TokenUnreadable(
            token="xero:\x1b[2Ja\nfake line",
            provider="\x1b[0m",
            kind=FailureKind.UNREADABLE,
            code="c",
            message="m\r",
        )
    )
    assert "\x1b" not in log.text
    assert "\r" not in log.text
    assert len(log.text.splitlines()) == 1
    assert r'token="xero:\u001b[2Ja\u000afake line"' in log.text


def test_whatever_is_logged_a_terminal_gets_only_what_is_seen() -> None:
    """Names, values, lists, tables, library messages and exceptions with notes: no control, no direction mark, no
    blank, and each line of a traceback stands apart from the events.
    """
    evil = "A\x1b]0;PWNED\x07\x9b31m\u202e\u2066\r\nforged\u2028\u200b\u00ad\u3164\U000e0041\udcff"
    log = Log("console")
    error = KeyError(evil)
    error.add_note(evil)
    log.events.log(log_lines.TOKEN_UNREADABLE, token=evil, more={evil: evil}, listed=[evil], exc_info=error)
    log.events.log(LogLine(evil, "error"), **{evil: "x"})
    seen = evil.removesuffix(
        "\udcff"
    )  # pytest keeps what libraries log, and its workers can't send this one home
    logging.getLogger("lib" + seen).warning("said %s", seen)
    assert [c for c in log.text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}] == [
        "\n"
    ] * (log.text.count("\n"))
    assert "\u3164" not in log.text
    assert not [line for line in log.text.splitlines() if line.startswith("forged")]


def test_a_line_on_a_terminal_is_short() -> None:
    """One line, without what is unknown, zero, said by the id, or the day of the line."""
    log = Log("console", stream=Terminal())
    log.events(renewed())
    log.events.log(log_lines.SWEEP_FINISHED, claimed=3, renewed=3, postponed=0, duration_ms=12.5)
    first, second = log.text.splitlines()
    assert "provider=" not in first
    assert len(first) < 150  # of an instant on another day it shows the date
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d \x1b\[32minfo   \x1b\[0m sweep.finished    claimed=3 renewed=3 duration_ms=12.5",
        second,
    )


def test_a_document_with_a_huge_id_makes_a_short_line() -> None:
    """Another writer's `_id` may be megabytes long."""
    log = Log()
    log.events(
        TokenUnreadable(
            token="x" * 10**6,
            provider="y" * 10**6,
            kind=FailureKind.UNREADABLE,
            code="c",
            message="m " * 10**6,
        )
    )
    assert len(log.text) < 5_000


def test_a_stream_that_is_gone_stops_nothing() -> None:
    """A closed pipe costs the line, not the renewal."""
    log = Log()
    log.stream.close()
    log.events(renewed())
    log.events.log(log_lines.DAEMON_STOPPED)


# ------------------------------------------------------------------------------- no secret gets out


FORMATS: list[Format] = ["json", "console"]


def knowing(style: Format) -> Log:
    """A log at debug level that knows the phrase."""
    log = Log(style, "debug")
    log.events.register_secrets([Secret(PHRASE), Secret("")])
    return log


SPELLINGS = [
    CANARY,
    f"the server said {CANARY}!",
    f"https://user:{CANARY}@api.example.com/x?y=z",
    f"https://api.example.com/callback?code={CANARY[:12]}",
    f"https://api.example.com/{CANARY}/token",
    f"refresh_token={CANARY[:12]}&grant_type=refresh_token",
    f"{{'client_secret': '{CANARY[:12]}', \"access_token\": \"{CANARY[:12]}\"}}",
    f"Authorization: Basic {base64.b64encode(CANARY[:12].encode()).decode()}",
    f"password: {CANARY[:12]}",
    f"mongodb+srv://refreshd:{CANARY[:12]}@db.example.com/?authSource=admin",
    f"Bearer {CANARY[:12]}",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
    "1//0gXyZabcDEF-ghiJKLmno_PQRstu",
    "deadbeefcafe1234deadbeefcafe1234deadbeefcafe1234deadbeefcafe1234",
    f"wrong password {PHRASE} given",
    quote(PHRASE),
]  # fmt: skip
LEAKS = [
    CANARY[:12],
    base64.b64encode(CANARY[:12].encode()).decode(),
    "eyJ",
    "dozjgNry",
    "0gXyZ",
    "deadbeef",
    PHRASE,
    quote(PHRASE),
]

Way = Callable[[EventLog, str], None]


def said_by_a_library(log: EventLog, text: str) -> None:
    logging.getLogger("apscheduler.executors.default").error("job %s failed", text)


def said_as_an_exception(log: EventLog, text: str) -> None:
    local_variable = text  # a traceback that showed locals would show it
    try:
        try:
            raise ValueError(text)  # noqa: TRY301  the chain is the point
        except ValueError as inner:
            inner.add_note(f"note: {text}")
            raise RuntimeError(local_variable) from inner
    except RuntimeError as error:
        log.log(X_ERROR, exc_info=ExceptionGroup(text, [error, KeyError(text)]), error=error)
        logging.getLogger("asyncio").exception("never retrieved: %r", RuntimeError(text))


WAYS: list[Way] = [
    lambda log, text: log.log(X, message=text, uri=text, anything=text),
    lambda log, text: log.log(X, deep={"a": [{"b": (text,)}], text: 1}, items={text}),
    lambda log, text: log.log(X, raw=text.encode(), thing=type("Thing", (), {"__repr__": lambda _: text})()),
    lambda log, text: log.log(X, access_token=text, client_secret=text, accessToken=[text], api_key=text),
    lambda log, text: log.log(X, anything=Secret(text), nested={"password": text, "x": Secret(text)}),
    lambda log, text: log(TokenPostponed(**WHO, failure=failure(FailureKind.REJECTED, text), due_at=NOW, failures=1)),
    lambda log, text: log(TokenNeedsReauth(**WHO, failure=failure(FailureKind.REJECTED, text), failures=1)),
    lambda log, text: log(TokenUnparsed(**WHO, failure=failure(FailureKind.UNPARSED, text))),
    lambda log, text: log(TokenInDoubt(**WHO, failure=failure(FailureKind.IN_DOUBT, text), tries=1, due_at=NOW)),
    lambda log, text: log(StoreLost(message=text)),
    lambda log, text: log(SweepFailed(message=text)),
    lambda log, text: log(TokenStuck(**WHO, failure=failure(FailureKind.STUCK, text), due_at=NOW, failures=1)),
    lambda log, text: log(LaneFailed(provider="xero", message=text, failures=1)),
    lambda log, text: log(anomaly(message=text, name=text)),
    lambda log, text: log(InternalError(where="lane", error=TypeError(text))),
    said_by_a_library,
    said_as_an_exception,
]  # fmt: skip


@pytest.mark.parametrize("text", SPELLINGS)
@pytest.mark.parametrize("way", WAYS)
def test_no_secret_gets_into_a_line(way: Way, text: str) -> None:
    """However it is written, and whichever way it takes; and the line itself is there."""
    for style in FORMATS:
        log = knowing(style)
        way(log.events, text)
        assert log.text
        assert [leak for leak in LEAKS if leak in log.text] == []


def test_a_secret_that_needs_quoting_is_masked_in_every_quotation() -> None:
    """URL-quoted, in a `repr`, in JSON: it is the same secret."""
    secret = 'p"a\\s:s/w\u00f6'
    log = Log()
    log.events.register_secrets([Secret(secret)])
    log.events.log(
        X,
        a=secret,
        b=quote(secret, safe=""),
        c=repr(secret),
        d=json.dumps(secret),
        e={"f": repr([secret])},
    )
    line = log.line
    assert line["a"] == line["b"] == MASK
    assert line["c"] == f"'{MASK}'"
    assert line["d"] == f'"{MASK}"'
    assert line["e"] == {"f": f"['{MASK}']"}


def test_secrets_registered_anew_replace_the_old_ones() -> None:
    """After a reload the old words are ordinary again, and an empty list masks nothing."""
    log = Log()
    log.events.register_secrets([Secret("walnut")])
    log.events.register_secrets([Secret("almond")])
    log.events.log(X, message="walnut almond")
    log.events.register_secrets([])
    log.events.log(X, message="walnut almond")
    assert [line["message"] for line in log.lines] == [f"walnut {MASK}", "walnut almond"]


@pytest.mark.parametrize(
    "text",
    [
        "pymongo.errors.ServerSelectionTimeoutError: localhost:27017",
        "https://identity.example.com/connect/token",
        "https://login.microsoftonline.com/common/oauth2/v2.0/token",
        "/var/lib/refreshd/journal.sqlite3 is read-only",
        "/usr/lib/python3.11/site-packages/aiohttp/connector.py",
        "daemon.adapters.mongo.token_document",
        "No such file or directory: '/run/secrets/intranet'",
        "mongodb://db-1.internal.example.com:27017,db-2.internal.example.com:27017/refreshd",
        'Add it, like client_secret = { env = "NAME" }; for a public client set client_auth = "none".',
    ],
)  # fmt: skip
def test_ordinary_words_stay_readable(text: str) -> None:
    """Paths, dotted names and URLs without a query are what an operator needs."""
    log = Log()
    log.events.log(X, message=text)
    assert log.line["message"] == text


FILE = "/srv/eu1-0a9f3c72b1d4/refreshd-7c21aa9e/config.toml"
CONFIGURATION_KEY = "providers.xero-uk-3a8f1b9c4d.client_secret"


def test_registered_places_stay_readable() -> None:
    """Without the file and the key, nobody finds what is wrong at a start. Only their own text stays, wherever it stands."""
    log = Log()
    log.events.register_places([f"{FILE}: {CONFIGURATION_KEY}"])
    log.events.log(
        X, where=f"{FILE}: {CONFIGURATION_KEY}", do=f"chmod go-w /srv/eu1-0a9f3c72b1d4. See {FILE}."
    )
    assert log.line["where"] == f"{FILE}: {CONFIGURATION_KEY}"
    assert log.line["do"] == f"chmod go-w /srv/eu1-0a9f3c72b1d4. See {FILE}."
    log.events.register_places([])
    log.events.log(X, where=f"{FILE}: {CONFIGURATION_KEY}")
    assert log.lines[1]["where"] == f"/srv/{MASK}/{MASK}/config.toml: {MASK}"


def test_beside_registered_places_everything_is_masked_as_before() -> None:
    """What follows a directory, what only begins like a place, a key in the place of its id, and a known secret."""
    log = Log()
    key = "0123456789abcdef" * 4
    log.events.register_places([f"{FILE}: {CONFIGURATION_KEY}", f"{FILE}: keys.ring.{key}"])
    directory = "/srv/eu1-0a9f3c72b1d4/refreshd-7c21aa9e"
    log.events.log(X, a=f"{directory}/hunter2x9 can't be read", b=f"{CONFIGURATION_KEY}A1b2C3d4E5f6", c=key)
    log.events.log(X, where=f"{FILE}: keys.ring.{key}", d=f"{FILE}?code=A1b2C3d4E5f6G7h8I9j0")
    first, second = log.lines
    assert first["a"] == f"{directory}/{MASK} can't be read"
    assert (first["b"], first["c"]) == (MASK, MASK)
    assert second["where"] == f"{FILE}: {MASK}"
    assert "A1b2C3d4" not in second["d"]
    log.events.register_secrets([Secret("refreshd-7c21aa9e")])
    log.events.log(X, where=FILE)
    assert log.lines[2]["where"] == f"/srv/eu1-0a9f3c72b1d4/{MASK}/config.toml"


@pytest.mark.parametrize("code", ["temporarily_unavailable_at_this_time", "AADSTS50196", "BAD_REFRESH_TOKEN"])
def test_error_codes_stay_readable(code: str) -> None:
    """They are words, however long."""
    log = Log()
    log.events(TokenUnparsed(**WHO, failure=failure(FailureKind.UNPARSED, code)))
    assert log.line["code"] == code


@pytest.mark.parametrize(
    "piece",
    [
        "/",
        "//a",
        "://",
        "://a?",
        "@//",
        "Bearer ",
        "refresh_token",
        "secret'=",
        'x=" ',
        "\\",
        "a",
        "a.",
        "aA1/",
    ],
)
def test_a_hostile_text_cannot_keep_the_redaction_busy(piece: str) -> None:
    """Each pattern is linear in the text: 200 KB of anything take far less than a second."""
    log = Log()
    log.events.register_places([FILE])
    started = time.process_time()
    log.events.log(X, message=piece * (200_000 // len(piece)))
    assert time.process_time() - started < 1
    assert len(log.text) < 15_000


def test_a_token_id_is_never_masked() -> None:
    """An account may look like anything; without the id nobody could act."""
    log = Log()
    token = "xero:4f1e0b9a-90c1-4e5d-8a57-1f0e6d6c2b11"
    log.events(renewed(token=token))
    log.events.log(X, token=token, tokens=3)
    assert [line["token"] for line in log.lines] == [token, token]
    assert log.lines[1]["tokens"] == 3


def test_an_exception_tells_where_it_was_raised() -> None:
    """The frames and types of the whole chain are there, in order."""
    log = Log()
    said_as_an_exception(log.events, "boom")
    told = log.lines[0]["exception"]
    where = [
        told.index(part)
        for part in (
            "ValueError: boom",
            "note: boom",
            "which led to:",
            "RuntimeError: boom",
            "KeyError: 'boom'",
        )
    ]
    assert where == sorted(where)
    assert f'File "{__file__}", line ' in told
    assert "in said_as_an_exception" in told
    assert log.lines[0]["error"] == "RuntimeError: boom"


def test_an_exception_that_cannot_speak_still_makes_a_line() -> None:
    """A broken `__str__`, a loop of causes, a value without a `repr`: the line is written all the same."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError(CANARY)

        __repr__ = __str__

    mute, other = Mute(), ValueError("other")
    mute.__cause__, other.__cause__ = other, mute
    log = Log()
    log.events.log(X_ERROR, exc_info=mute, value=mute, thing=[mute], number=float("nan"))
    assert "Mute" in log.line["exception"]
    assert "ValueError: other" in log.line["exception"]
    assert log.line["number"] == "nan"
    assert CANARY not in log.text


async def test_what_aiohttp_raises_shows_no_secret() -> None:
    """Its errors hold URLs and headers; a chain of them goes through the log."""
    errors: list[BaseException] = []
    async with aiohttp.ClientSession() as session:
        for url in (
            f"http://user:{CANARY}@127.0.0.1:1/?refresh_token={CANARY}",
            f"nonsense://{CANARY}",
            f"http://[{CANARY}",
        ):
            try:
                await session.post(url, data={"refresh_token": CANARY}, headers={"X-Key": CANARY})
            except (aiohttp.ClientError, ValueError) as error:
                errors.append(error)
    info = aiohttp.RequestInfo(
        URL(f"http://a/?x={CANARY}"), "POST", CIMultiDictProxy(CIMultiDict(Authorization=CANARY))
    )
    errors.append(aiohttp.ClientResponseError(info, (), status=400, message=f"refused {CANARY}"))
    assert len(errors) == 4
    for style in FORMATS:
        log = knowing(style)
        for raised in errors:
            log.events.log(X_ERROR, exc_info=raised, error=raised, info=info)
        assert log.text
        assert [leak for leak in LEAKS if leak in log.text] == []


async def test_what_pymongo_raises_shows_no_secret() -> None:
    """Its errors hold documents, commands and the URI's parts."""
    errors: list[BaseException] = [
        OperationFailure(f"failed {CANARY}", 11000, {"keyValue": {"grant_fingerprint": CANARY}}),
        BulkWriteError({"writeErrors": [{"errmsg": "x", "op": {"refresh_token": CANARY[:12], "n": CANARY}}]}),
    ]
    uri = f"mongodb://refreshd:{CANARY}@127.0.0.1:1/?serverSelectionTimeoutMS=50"
    async with AsyncMongoClient[dict[str, Any]](uri) as client:
        try:
            await client.admin.command("ping", comment=CANARY)
        except PyMongoError as error:
            errors.append(error)
    for broken in (
        f"mongodb://refreshd:{CANARY}@:1:1/",
        f"mongodb://a:{CANARY}/b@c/",
        f"mongodb://h/?x={CANARY}",
    ):
        with contextlib.suppress(UserWarning):
            try:
                AsyncMongoClient[dict[str, Any]](broken)
            except (PyMongoError, ValueError) as error:
                errors.append(error)
    assert len(errors) >= 5
    for style in FORMATS:
        log = knowing(style)
        for raised in errors:
            log.events.log(X_ERROR, exc_info=raised, error=raised, details=getattr(raised, "details", None))
        assert [leak for leak in LEAKS if leak in log.text] == []


async def test_what_nothing_has_caught_in_the_loop_is_an_internal_error() -> None:
    """With its traceback and the loop's own words; no library says it."""
    log = Log()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(loop_errors(log.events))
    try:
        loop.call_soon([].pop)
        loop.call_exception_handler({"message": "Unclosed connection"})
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(None)
    unclosed, popped = log.lines
    assert (unclosed["event"], unclosed["where"]) == ("internal.error", "loop")
    assert unclosed["error"] == "RuntimeError: Unclosed connection"
    assert popped["error"] == "IndexError: pop from empty list"
    assert "Exception in callback" in popped["exception"]


@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_libraries_are_heard_from_warnings_on(level: Level) -> None:
    """Never below: PyMongo's debug lines hold commands, and access lines are nobody's news."""
    log = Log(level=level)
    logging.getLogger("pymongo.command").setLevel(logging.DEBUG)  # as if somebody had switched them on
    for name in ("pymongo.command", "aiohttp.access", "asyncio"):
        logging.getLogger(name).debug("debug %s", name)
        logging.getLogger(name).info("info %s", name)
    logging.getLogger("aiohttp.access").warning("GET /")
    logging.getLogger("apscheduler.scheduler").warning("missed by %s", "5 s")
    logging.getLogger("apscheduler.scheduler").warning(
        'Execution of job "%s" skipped: maximum number of running instances reached (%d)', "sweep", 1
    )
    logging.getLogger("asyncio").critical("odd %d", 1)
    heard = [(line["event"], line["level"], line["logger"], line["message"]) for line in log.lines]
    assert heard == [
        ("library.message", "warning", "apscheduler.scheduler", "missed by 5 s"),
        ("library.message", "error", "asyncio", "odd 1"),
    ]


def test_a_librarys_own_formatting_mistake_is_no_second_error(capsys: pytest.CaptureFixture[str]) -> None:
    """The standard library would print the arguments to standard error, secrets included."""
    log = Log()
    root = logging.getLogger()
    root.handlers = root.handlers[-1:]  # without the test runner's own, which would stumble
    logging.getLogger("asyncio").error("%d", CANARY)
    assert log.line["message"] == "%d"
    assert capsys.readouterr() == ("", "")


def test_configuring_again_takes_the_libraries_along() -> None:
    """They speak through the newest log only."""
    old, new = Log(), Log()
    logging.getLogger("asyncio").warning("hello")
    assert old.text == ""
    assert new.line["message"] == "hello"


def test_an_anomaly_that_was_reported_in_this_hour_is_no_line() -> None:
    log = Log()
    log.events(anomaly(repeated=True))
    assert log.text == ""


def test_every_event_has_a_line_or_is_said_to_have_none() -> None:
    """A new event must be in the table, or among those that only the metrics count."""
    assert set(LINE_OF) | SILENT == set(get_args(Event))
    assert not set(LINE_OF) & SILENT
