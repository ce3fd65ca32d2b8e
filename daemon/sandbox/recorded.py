"""Reads the fixtures: one file a provider, `fixtures/NAME.toml`. A mistake in one is a ValueError that names the file.

like = "okta"                 all of another fixture's, but for what stands here (optional)
paths = ["/oauth/token"]      of the token endpoint; `[variables]` fills in `{name}` when a path is shown
[request]                     `demands.Demands`; client, body and grants must be said
[tokens]                      `terms.Terms`; durations as "30m", `endless = true`: no end of the access token
[granted]                     body, first (JSON in a text), form_by_default, and a status other than 200
[[refusals.COMPLAINT]]        status, body, and perhaps type and headers; the first is the usual wording.
                              A complaint that is not listed is worded as in `sandbox.toml`, so as the RFC has it;
                              invalid_code, which is not listed, as the provider's invalid_grant
[assertion]                   `assertions.AssertionTerms`; `says` as { signature = "invalid_client 1" }
[consent]                     `accents.ConsentTerms`; scopes and codes of the authorization endpoint
[device]                      `accents.DeviceTerms`, paths must be said; no table: no device flow
[revocation]                  `accents.RevocationTerms`, paths must be said; done and unknown are answers as above.
                              No table: nothing can be revoked
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import cache
from importlib import resources
from tomllib import loads
from typing import Any, cast, get_args

from daemon.sandbox.accents import (
    ConsentTerms,
    DeviceTerms,
    Ends,
    GrantType,
    Pkce,
    Place,
    RevocationTerms,
    TokenKind,
)
from daemon.sandbox.assertions import AssertionTerms
from daemon.sandbox.assertions import Fault as AssertionFault
from daemon.sandbox.assertions import Place as AssertionPlace
from daemon.sandbox.clients import ClientWay
from daemon.sandbox.demands import BodyWay, Demands, HeaderDemand, Kind, Method
from daemon.sandbox.dialects import Dialect
from daemon.sandbox.terms import Renewable, Spent, Terms
from daemon.sandbox.wording import JSON, PLACES, Answer, Complaint, place

_REVOKING_CLIENTS = (*get_args(ClientWay), "none")
STANDARD = "sandbox"  # RFC 6749 as written
_FIXTURES = resources.files("daemon.sandbox") / "fixtures"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@cache
def names() -> tuple[str, ...]:
    """Every provider that the sandbox can speak as."""
    return tuple(
        sorted(f.name.removesuffix(".toml") for f in _FIXTURES.iterdir() if f.name.endswith(".toml"))
    )


@cache
def dialect(name: str) -> Dialect:
    """The provider `name`, one of `names()`."""
    try:
        return _dialect(name, _tables(name))
    except (KeyError, TypeError, ValueError) as why:
        raise ValueError(f"fixtures/{name}.toml: {type(why).__name__}: {why}") from why


def _tables(name: str) -> dict[str, Any]:
    own = loads((_FIXTURES / f"{name}.toml").read_text(encoding="utf-8"))
    if (like := own.pop("like", None)) is None:
        return own
    model = _tables(like)
    return model | {
        key: {**model[key], **value} if isinstance(value, dict) and key in model else value
        for key, value in own.items()
    }


def _dialect(name: str, tables: dict[str, Any]) -> Dialect:
    _only(
        tables,
        {
            "paths",
            "variables",
            "request",
            "tokens",
            "granted",
            "refusals",
            "assertion",
            "consent",
            "device",
            "revocation",
        },
    )
    granted = tables["granted"]
    _only(granted, {"body", "first", "form_by_default", "status"})
    return Dialect(
        name=name,
        paths=tuple(tables["paths"]),
        variables=tables.get("variables", {}),
        demands=_demands(tables["request"]),
        terms=_terms(tables.get("tokens", {})),
        granted=_shape(granted["body"]),
        first=_shape(granted.get("first", "{}")),
        form_by_default=granted.get("form_by_default", False),
        granted_status=int(granted.get("status", 200)),
        refusals=_refusals(name, tables.get("refusals", {})),
        assertion=_assertion(tables["assertion"]) if "assertion" in tables else None,
        consent=_consent(tables.get("consent", {})),
        device=_device(tables["device"]) if "device" in tables else None,
        revocation=_revocation(tables["revocation"]) if "revocation" in tables else None,
    )


def _demands(table: dict[str, Any]) -> Demands:
    _only(
        table, {"method", "client", "code_client", "body", "grants", "needs", "presents", "names", "headers"}
    )
    return Demands(
        method=_one(table.get("method", "POST"), get_args(Method)),
        client=tuple(_one(way, get_args(ClientWay)) for way in table["client"]),
        code_client=tuple(_one(way, get_args(ClientWay)) for way in table.get("code_client", ())),
        body=tuple(_one(way, get_args(BodyWay)) for way in table["body"]),
        grants={word: _one(kind, get_args(Kind)) for word, kind in table["grants"].items()},
        needs={word: tuple(needed) for word, needed in table.get("needs", {}).items()},
        presents=table.get("presents", "refresh_token"),
        names=table.get("names", {}),
        headers=tuple(
            HeaderDemand(
                name=header,
                pattern=re.compile(wish["pattern"]),
                otherwise=_one(wish.get("otherwise", "invalid_request"), get_args(Complaint)),
            )
            for header, wish in table.get("headers", {}).items()
        ),
    )


def _terms(table: dict[str, Any]) -> Terms:
    said = dict(table)
    if said.pop("endless", False):
        said["lifetime"] = None
    _only(said, set(Terms.__slots__))
    _one(said.get("renewable", "refresh_token"), get_args(Renewable))
    _one(said.get("reuse", "revoke"), get_args(Spent))
    durations = {"keeps_access", "refresh_lifetime", "grace", "changes_within"} & said.keys()
    return Terms(**said | {key: _duration(said[key]) for key in durations})


def _refusals(name: str, table: dict[str, Any]) -> Mapping[Complaint, tuple[Answer, ...]]:
    _only(table, get_args(Complaint))
    said = {cast("Complaint", key): tuple(map(_answer, wordings)) for key, wordings in table.items()}
    worded = said if name == STANDARD else {**dialect(STANDARD).refusals, **said}
    return {**worded, "invalid_code": said.get("invalid_code", worded["invalid_grant"])}


def _assertion(table: dict[str, Any]) -> AssertionTerms:
    _only(table, set(AssertionTerms.__slots__))
    _only(table.get("says", {}), get_args(AssertionFault))
    said = dict(table) | {key: tuple(table[key]) for key in ("audiences", "requires") if key in table}
    if "longest" in said:
        said["longest"] = _duration(said["longest"])
    _one(said.get("place", "assertion"), get_args(AssertionPlace))
    said["says"] = {fault: _worded(text) for fault, text in table.get("says", {}).items()}
    return AssertionTerms(**said)


def _worded(text: str) -> tuple[Complaint, int]:
    complaint, _, number = text.partition(" ")
    return _one(complaint, get_args(Complaint)), int(number or 0)


def _consent(table: dict[str, Any]) -> ConsentTerms:
    _only(table, set(ConsentTerms.__slots__))
    said = dict(table)
    _one(said.get("pkce", "optional"), get_args(Pkce))
    _one(said.get("grant_type", "required"), get_args(GrantType))
    for key in ("paths", "offline_scopes"):
        if key in said:
            said[key] = tuple(said[key])
    if "code_lifetime" in said:
        said["code_lifetime"] = _duration(said["code_lifetime"])
    _only(_places(said.get("returns", {})), {"account", "scope", "issuer"})
    return ConsentTerms(**said)


def _device(table: dict[str, Any]) -> DeviceTerms:
    _only(table, set(DeviceTerms.__slots__))
    return DeviceTerms(
        paths=tuple(table["paths"]),
        page=table.get("page", "/device"),
        body=_shape(table["body"]),
        scope=table.get("scope", "scope"),
        client=_one(table.get("client", "id"), ("id", "secret")),
        lifetime=_duration(table.get("lifetime", "15m")),
        interval=_duration(table.get("interval", "5s")),
    )


def _revocation(table: dict[str, Any]) -> RevocationTerms:
    _only(table, set(RevocationTerms.__slots__))
    done = _answer(table.get("done", {"status": 200, "body": "", "type": "text/plain"}))
    kinds = get_args(TokenKind)
    return RevocationTerms(
        method=_one(table.get("method", "POST"), ("POST", "GET", "DELETE")),
        paths=tuple(table["paths"]),
        parameter=table.get("parameter", "token"),
        place=tuple(_one(place, get_args(Place)) for place in table.get("place", ["form"])),
        client=tuple(_one(way, _REVOKING_CLIENTS) for way in table["client"]),
        takes=tuple(_one(kind, kinds) for kind in table.get("takes", kinds)),
        ends=_one(table.get("ends", "grant"), get_args(Ends)),
        done=done,
        unknown=_answer(table["unknown"]) if "unknown" in table else done,
    )


def _answer(table: dict[str, Any]) -> Answer:
    _only(table, {"status", "body", "type", "headers"})
    kind = table.get("type", JSON)
    return Answer(
        status=int(table["status"]),
        body=_shape(table["body"]) if kind == JSON else table["body"],
        content_type=kind,
        headers=table.get("headers", {}),
    )


def _shape(text: str) -> dict[str, object]:
    shape = json.loads(text)
    if not isinstance(shape, dict):
        raise TypeError(f"a JSON object was expected, not {text!r}")
    _only(_places(shape), PLACES)
    return shape


def _places(shape: object) -> Iterable[str]:
    inside = shape.values() if isinstance(shape, dict) else shape if isinstance(shape, list) else ()
    for inner in inside:
        if (name := place(inner)) is not None:
            yield name
        yield from _places(inner)


def _duration(text: str) -> timedelta:
    if (found := re.fullmatch(r"(\d+)([smhd])", text)) is None:
        raise ValueError(f"{text!r} is not a duration such as 30m")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _one(value: Any, known: tuple[Any, ...]) -> Any:
    if value not in known:
        raise ValueError(f"{value!r} is none of {', '.join(known)}")
    return value


def _only(found: Iterable[str], known: Iterable[str]) -> None:
    if unknown := sorted(set(found) - set(known)):
        raise ValueError(f"unknown: {', '.join(unknown)}")
