"""The table `assertion` of a definition: the claims that the client signs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, ClassVar

from daemon.domain.assertion import OWN_CLAIMS, AssertionTerms, variables_of
from daemon.domain.provider import ClientAuth, Grant
from daemon.runtime.config.fields import STRICT, Duration, Read, Span
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.providers.url_rules import Fault

LONGEST = timedelta(hours=1)  # no provider takes more, and a stolen assertion works until its end


def claim(value: object) -> str:
    """Read a claim's text. An empty one leaves the claim out."""
    if not isinstance(value, str):
        raise InvalidValue("must be a string", "Write it in quotes.")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionTable:
    """`domain.assertion.AssertionTerms` explains each key."""

    __pydantic_config__: ClassVar = STRICT

    claims: dict[str, Annotated[str, Read(claim)]] = field(default_factory=dict)
    lifetime: Span = AssertionTerms().lifetime
    backdate: Duration = timedelta()


def assertion_terms(table: AssertionTable) -> AssertionTerms:
    return AssertionTerms(claims=table.claims, lifetime=table.lifetime, backdate=table.backdate)


def is_signed(grant: Grant, client_auth: ClientAuth) -> bool:
    """Return whether requests hold a JWT with the claims of `assertion`."""
    return grant is Grant.JWT_BEARER or client_auth is ClientAuth.BEARER_JWT


def claim_variables(table: AssertionTable | None) -> set[str]:
    return {name for claim in table.claims.values() for name in variables_of(claim)} if table else set()


def assertion_faults(table: AssertionTable | None) -> Iterator[Fault]:
    """Check the claims. An operator may set another grant, so a table that nothing uses isn't a fault."""
    if table is None:
        return
    for name in sorted(OWN_CLAIMS.intersection(table.claims)):
        yield ("assertion", "claims", name), "is set by refreshd itself", "Remove it."
    if table.lifetime > LONGEST:
        yield ("assertion", "lifetime"), "is longer than an hour", "Write an hour or less."
    if table.backdate >= table.lifetime:
        do = "Write a time that is shorter than lifetime."
        yield ("assertion", "backdate"), "leaves no time to the assertion", do
