"""Trusted issuers of JWTs: which workloads of theirs may read which tokens. Everything is denied that no rule allows."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import TypeAlias

from daemon.domain.access_key import ANY, AccessKey, Verb
from daemon.domain.jwt import ALGORITHMS, LONGEST_TEXT, Jwt
from daemon.domain.provider import Rate

# A claim's value, or the conditions on the claims within it. Names of claims contain dots ("kubernetes.io").
ClaimCondition: TypeAlias = "str | bool | Mapping[str, ClaimCondition]"

WITHIN = ">"  # between a claim and a claim within it, in a selector: no claim's name there has this character
CLAIM = re.compile(r"\{([A-Za-z0-9_.-]{1,128}(?:>[A-Za-z0-9_.-]{1,128}){0,7})\}")
_SEPARATOR = re.compile(r"([:/])")  # between the segments of a selector
# A claim in a selector is one segment, and can neither end it nor become a pattern.
_SEGMENT = re.compile(r"[A-Za-z0-9._~@+=-]{1,256}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """A rule for the JWTs of `issuer` that are meant for `audience`. `claims`: the value of each, the beginning of a
    text with a final `*`, or the conditions on the claims within it; all must match. `tokens` and `where` limit as those
    of an access key do; `{NAME}` in them stands for a claim, as a whole segment of a selector, or as a whole text, and
    `{NAME>NAME}` for a claim within one.
    """

    name: str
    issuer: str
    audience: str
    claims: Mapping[str, ClaimCondition]
    tokens: tuple[str, ...]
    where: Mapping[str, str] = field(default_factory=dict)
    algorithms: frozenset[str] = frozenset(ALGORITHMS)
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    rate: Rate | None = None

    def matches(self, claims: Mapping[str, object]) -> bool:
        """Return whether every claim of the rule is there with its value."""
        return _equals(self.claims, claims)

    def key_for(self, jwt: Jwt) -> AccessKey | None:
        """Return what the rule allows the workload of this JWT, as an access key without a secret. None: nothing."""
        if not self.matches(jwt.claims):
            return None
        tokens = tuple(
            one for one in (_selector(text, jwt.claims) for text in self.tokens) if one is not None
        )
        where = {name: _condition(text, jwt.claims) for name, text in self.where.items()}
        conditions = {name: text for name, text in where.items() if text is not None}
        if not tokens or len(conditions) < len(where):
            return None
        return AccessKey(
            id=workload_id(jwt.issuer, jwt.subject),
            name=self.name,
            secret_hash="",
            tokens=tokens,
            can=frozenset({Verb.READ}),
            where=conditions,
            networks=self.networks,
            rate=self.rate,
        )


def workload_id(issuer: str, subject: str | None) -> str:
    """Return what stands for a workload where an access key has its id. It differs from every id of an access key."""
    both = "\x00".join((issuer, subject or ""))
    return f"jwt-{hashlib.sha256(both.encode()).hexdigest()[:32]}"


def is_template(text: str, *, of_segments: bool) -> bool:
    """Return whether each brace in `text` belongs to a claim that is a whole segment, or the whole text."""
    parts = _SEPARATOR.split(text) if of_segments else [text]
    return all(CLAIM.fullmatch(part) or not set(part) & {"{", "}"} for part in parts)


def _selector(text: str, claims: Mapping[str, object]) -> str | None:
    """Return the selector with its claims filled in, or None if one of them can't be a segment."""
    filled: list[str] = []
    for part in _SEPARATOR.split(text):
        claim = CLAIM.fullmatch(part)
        value = _claim(claims, claim[1]) if claim else part
        if not isinstance(value, str) or (claim and not _SEGMENT.fullmatch(value)):
            return None
        filled.append(value)
    return "".join(filled)


def _condition(text: str, claims: Mapping[str, object]) -> str | None:
    """Return the text that a property of the token must equal, or None if the claim can't be one."""
    claim = CLAIM.fullmatch(text)
    if claim is None:
        return text
    value = _claim(claims, claim[1])
    usable = isinstance(value, str) and 0 < len(value) <= LONGEST_TEXT and value.isprintable()
    return value if isinstance(value, str) and usable else None


def _claim(claims: Mapping[str, object], path: str) -> object:
    """Return the claim at `path`, through objects only. None: there is none."""
    value: object = claims
    for name in path.split(WITHIN):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _equals(wanted: ClaimCondition, value: object) -> bool:
    if isinstance(wanted, Mapping):
        return isinstance(value, Mapping) and all(
            _equals(one, value.get(name)) for name, one in wanted.items()
        )
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value
    if not isinstance(value, str) or not value:
        return False
    if wanted.endswith(ANY):
        return value.startswith(wanted.removesuffix(ANY))
    return value == wanted
