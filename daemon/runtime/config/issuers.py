"""`[[access.issuers]]`: whose JWTs the access service takes in place of an access key, and for which tokens."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from daemon.adapters.egress.public_addresses import is_private_literal
from daemon.adapters.issuer_keys.failure import ReadFailed
from daemon.adapters.issuer_keys.key_file import read_key_file
from daemon.adapters.issuer_keys.key_set import parse_key_set
from daemon.domain.access_key import ANY, NAME_FORM, is_field
from daemon.domain.issuer import CLAIM, ClaimCondition, Issuer, is_template
from daemon.domain.jwt import ALGORITHMS, LONGEST_TEXT
from daemon.domain.provider import Rate
from daemon.domain.token import PROVIDER_NAME, token_id
from daemon.domain.token_url import is_loopback
from daemon.runtime.config.fields import ARRAY, STRICT, Context, Flag, Read, Text, checked, text
from daemon.runtime.config.problems import Findings, InvalidValue, Place
from daemon.runtime.config.providers.life_keys import rate_of
from daemon.runtime.config.secret_sources import SecretContext

Fault = tuple[Place, str, str]  # the key, the problem, the remedy
_CLAIM_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,128}")
_VISIBLE = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # no backslash, which some read as a slash
_DEEPEST = 8  # claims within claims
_SAMPLE = "x"  # a claim's value, to check the rest of a selector


def network(value: object) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text(value))
    except ValueError:
        raise InvalidValue("is not a network", 'Write it like "10.0.0.0/8" or "fd00::/8".') from None


def table_of(read: Callable[[object], object]) -> Callable[[object], Mapping[str, object]]:
    """Return a reader of tables whose values `read` reads."""

    def reader(value: object) -> Mapping[str, object]:
        if not isinstance(value, Mapping):
            raise InvalidValue("must be a table", 'Write it like { name = "text" }.')
        return {str(name): read(one) for name, one in value.items()}

    return reader


def claim_value(value: object, depth: int = 1) -> ClaimCondition:
    """Read the value of a claim, or a table of the claims within it."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        if not value or depth == _DEEPEST:
            raise InvalidValue(
                "contains an empty table, or tables within tables too deep",
                f"Name a claim in it, at most {_DEEPEST} deep.",
            )
        return {str(name): claim_value(one, depth + 1) for name, one in value.items()}
    if not isinstance(value, str) or not value:
        raise InvalidValue(
            "contains a value that is neither a non-empty text, true or false, nor a table",
            "Write it in quotes.",
        )
    if ANY in value.removesuffix(ANY):
        raise InvalidValue(
            "contains a value with a * before its end", "Only a final * stands for any text. Use it, or none."
        )
    return value


def jwks(value: object, info: Context) -> str | Path:
    """Read a URL, or `{ file = "PATH" }`, whose key set is checked."""
    if isinstance(value, Mapping):
        if set(value) != {"file"} or not isinstance(value["file"], str) or not value["file"].strip():
            raise InvalidValue("is not a source of keys", 'Write a URL, or { file = "PATH" }.')
        return _key_file(_directory(info) / value["file"])
    if not isinstance(value, str) or "://" not in value:
        raise InvalidValue("is not an https URL", 'Write one in quotes, or { file = "PATH" }.')
    return _url(value)


def _directory(info: Context) -> Path:
    if not isinstance(info.context, SecretContext):
        raise TypeError("key sets are read with SecretContext as context")
    return info.context.directory


def _key_file(path: Path) -> Path:
    try:
        keys = parse_key_set(read_key_file(path))
    except ReadFailed as why:
        raise InvalidValue(f"can't be used: {why}", "Correct the file or its path.") from None
    if not keys.keys:
        raise InvalidValue(
            "holds no public key that can check a signature", "Write the issuer's key set to the file."
        )
    return path


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or port == 0 or "@" in parts.netloc or parts.fragment or not _VISIBLE.fullmatch(value):
        raise InvalidValue(
            "is not a plain URL", 'Write it like "https://HOST/PATH", without user, spaces or fragment.'
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(value)):
        raise InvalidValue("must begin with https://", "Plain HTTP is allowed for this machine only.")
    return value


def algorithm(value: object) -> str:
    if value not in ALGORITHMS or not isinstance(value, str):
        raise InvalidValue(
            "is not an algorithm that can be trusted here", f"Use some of: {', '.join(ALGORITHMS)}."
        )
    return value


def selector(value: object) -> str:
    """Read an id, or the beginning of ids with a final `*`, in which `{claim}` is a whole segment."""
    given = text(value)
    if given == ANY:
        return given
    beginning, star = given.removesuffix(ANY), given.endswith(ANY)
    if ANY in beginning:
        raise InvalidValue("has a * before its end", "Only a final * stands for any text.")
    if not is_template(given, of_segments=True):
        raise InvalidValue(
            "has a brace that is not a claim as a whole segment",
            'Write it like "xero:{tenant}" or "xero:{tenant}/*". Segments end at a colon or a slash.',
        )
    provider, colon, account = CLAIM.sub(_SAMPLE, beginning).partition(":")
    if not colon or not PROVIDER_NAME.fullmatch(provider):
        raise InvalidValue(
            "is neither an id nor the beginning of one", 'Write it like "xero:company-7", "xero:*" or "*".'
        )
    try:
        token_id(provider, account or _SAMPLE if star else account)
    except ValueError:
        raise InvalidValue("can't name a token", "Copy the id from `refreshd list`.") from None
    return given


def condition(value: object) -> str:
    given = text(value)
    if len(given.encode()) > LONGEST_TEXT:
        raise InvalidValue(f"contains a text of over {LONGEST_TEXT} bytes", "Write a shorter one.")
    if not is_template(given, of_segments=False):
        raise InvalidValue(
            "contains a text in which a claim is not the whole",
            'Write it like { "meta.tenant" = "{tenant}" }.',
        )
    return given


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerTable:
    """The keys of one rule; `Issuer` explains them."""

    __pydantic_config__: ClassVar = STRICT

    issuer: Text
    audience: Text
    jwks: Annotated[str | Path, Read(jwks)]
    claims: Annotated[Mapping[str, Any], Read(table_of(claim_value))]
    tokens: Annotated[tuple[Annotated[str, Read(selector)], ...], ARRAY]
    where: Annotated[Mapping[str, Any], Read(table_of(condition))] | None = None
    algorithms: Annotated[tuple[Annotated[str, Read(algorithm)], ...], ARRAY] = ALGORITHMS
    networks: Annotated[tuple[Annotated[IPv4Network | IPv6Network, Read(network)], ...], ARRAY] = ()
    rate: Annotated[Rate, Read(rate_of)] | None = None
    name: Text | None = None
    allow_private: Flag = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySource:
    """Where an issuer's keys are: a URL or a file. `allow_private`: the URL may lead into the network."""

    place: str | Path
    allow_private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuers:
    """`rules` in the order of the configuration. `sources`: by issuer."""

    rules: tuple[Issuer, ...] = ()
    sources: Mapping[str, KeySource]


NO_ISSUERS = Issuers(sources={})


def read_issuers(tables: object, findings: Findings, around: SecretContext) -> Issuers:
    """Return the rules, and add every problem to `findings`."""
    place = ("access", "issuers")
    if not isinstance(tables, list):
        findings.add(place, "must be a list of tables", "Write each as a section [[access.issuers]].")
        return NO_ISSUERS
    read = [
        checked(IssuerTable, one, (*place, str(number)), findings, context=around)
        for number, one in enumerate(tables)
    ]
    rows: dict[Place, IssuerTable] = {
        (*place, str(number)): row for number, row in enumerate(read) if row is not None
    }
    for where, row in rows.items():
        for inner, what, do in _faults(row):
            findings.add((*where, *inner), what, do)
    for where, what, do in _faults_across(rows):
        findings.add(where, what, do)
    return Issuers(
        rules=tuple(_rule(row) for row in rows.values()),
        sources={
            row.issuer: KeySource(place=row.jwks, allow_private=row.allow_private) for row in rows.values()
        },
    )


def _rule(row: IssuerTable) -> Issuer:
    return Issuer(
        name=_name(row),
        issuer=row.issuer,
        audience=row.audience,
        claims=row.claims,
        tokens=row.tokens,
        where=row.where or {},
        algorithms=frozenset(row.algorithms),
        networks=row.networks,
        rate=row.rate,
    )


def _name(row: IssuerTable) -> str:
    """Return the name of a rule: the configured one, else the issuer's host."""
    try:
        host = urlsplit(row.issuer).hostname
    except ValueError:
        host = None
    return row.name or host or row.issuer


def _faults(row: IssuerTable) -> Iterator[Fault]:
    """Yield the problems of a rule's own keys."""
    if len(row.issuer) > LONGEST_TEXT or not row.issuer.isprintable():
        yield ("issuer",), "is not what a JWT names as iss", "Copy it from the issuer's own metadata."
    if not NAME_FORM.fullmatch(_name(row)):
        yield (
            ("name",),
            "is not a name for a rule" if row.name else "is required, because the issuer names no host",
            "Use 1 to 64 of A to Z, a to z, 0 to 9, '.', '_' and '-', beginning with a letter or digit.",
        )
    yield from _claim_faults(row)
    for key, given in (("tokens", row.tokens), ("algorithms", row.algorithms)):
        if not given:
            yield (key,), "is empty, so it allows nothing", "Add what the workloads need."
    for name in row.where or {}:
        if not is_field(name):
            yield ("where", name), "is not a property of a token", 'Use subject or "meta.NAME".'
    private = isinstance(row.jwks, str) and is_private_literal(urlsplit(row.jwks).hostname or "")
    if isinstance(row.jwks, str) and (private or is_loopback(row.jwks)) and not row.allow_private:
        yield ("jwks",), "is not a public address", "If it is meant to be inside, add allow_private = true."
    if isinstance(row.jwks, Path) and row.allow_private:
        yield ("allow_private",), "is for URLs only", "Remove it."


def _claim_faults(row: IssuerTable) -> Iterator[Fault]:
    if all(value == ANY for _, value in _leaves(row.claims)):
        yield (
            ("claims",),
            "must limit whose JWTs count: an issuer may sign for anyone",
            'Name a claim of your workloads, like { sub = "repo:acme/app:*" }.',
        )
    if not all(_CLAIM_NAME.fullmatch(name) for path, _ in _leaves(row.claims) for name in path):
        yield ("claims",), "has a name that no claim has", "Correct it."
    for name in row.claims:
        if name in ("iss", "aud", "exp", "nbf", "iat"):
            yield ("claims", name), "is checked in any case", "Remove it."


def _leaves(claims: Mapping[str, ClaimCondition]) -> Iterator[tuple[Place, str | bool]]:
    """Yield the path of names and the value of each claim, also of those within others."""
    for name, value in claims.items():
        if isinstance(value, Mapping):
            yield from (((name, *path), one) for path, one in _leaves(value))
        else:
            yield (name,), value


def _faults_across(rows: Mapping[Place, IssuerTable]) -> Iterator[Fault]:
    """Yield the problems between rules."""
    names = Counter(_name(row) for row in rows.values())
    sources: dict[str, tuple[str | Path, bool]] = {}
    for place, row in rows.items():
        if names[_name(row)] > 1:
            yield (
                (*place, "name"),
                "is missing or given twice, so the rules of one issuer look alike in the audit",
                "Give each its own name.",
            )
        source = (row.jwks, row.allow_private)
        if sources.setdefault(row.issuer, source) != source:
            yield (
                (*place, "jwks"),
                "is not that of the other rule of this issuer",
                "Write the same jwks and allow_private in each.",
            )
