"""Assertions: what a client signs to be given an access token, instead of presenting a refresh token (RFC 7523 §2.1).

A claim comes from the definition, and perhaps from a variable of the token. Variables come from a database, so the
operator lists the users for whom the key may sign: see `Provider.subjects`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from daemon.domain.secret import Secret
from daemon.domain.token_url import NotSendable, filled

if TYPE_CHECKING:
    from daemon.domain.provider import Provider

JWT_BEARER_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"  # RFC 7523 §2.1
CLIENT_ID, SCOPES = "${client_id}", "${scopes}"  # places in a claim beside the variables
OWN_CLAIMS = frozenset({"exp", "iat", "jti", "nbf"})  # set by refreshd
_PLACE = re.compile(r"\$\{([^}]*)\}")

Claims = Mapping[str, str | int]
ClaimsSigner = Callable[[Claims], Secret]  # -> the JWT, with a `jti` of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertionTerms:
    """The claims of an assertion. `iss` is the client's id and `aud` the token URL, unless `claims` says otherwise. An
    empty text leaves a claim out.

    `lifetime` is the time from `iat` to `exp`. `iat` is `backdate` in the past, for a provider whose clock is behind.
    """

    claims: Mapping[str, str] = field(default_factory=dict)
    lifetime: timedelta = timedelta(minutes=5)
    backdate: timedelta = timedelta(0)

    @property
    def chooses_subject(self) -> bool:
        """Whether each token names the user to act for."""
        return bool(variables_of(self.claims.get("sub", "")))


def variables_of(claim: str) -> set[str]:
    """Return the names of the variables in a claim."""
    return {place[1] for place in _PLACE.finditer(claim) if place[0] not in (CLIENT_ID, SCOPES)}


def signed_assertion(
    provider: "Provider", variables: Mapping[str, str], *, audience: str, now: datetime
) -> Secret:
    """Return the signed assertion for a token with these variables. `audience`: the token URL.

    Raises NotSendable if a variable is missing, if the operator has not listed the user, or if there is no key.
    """
    terms = provider.definition.assertion or AssertionTerms()
    claims = stated_claims(provider, variables, audience=audience)
    if provider.sign_claims is None:
        raise NotSendable("no private key is configured to sign with")
    begins = now - terms.backdate
    times = {"iat": int(begins.timestamp()), "exp": int((begins + terms.lifetime).timestamp())}
    return provider.sign_claims({**claims, **times})


def stated_claims(provider: "Provider", variables: Mapping[str, str], *, audience: str) -> dict[str, str]:
    """Return the claims that the definition states, for a token with these variables. Raises NotSendable, as
    `signed_assertion` does.
    """
    terms = provider.definition.assertion or AssertionTerms()
    stated = {"iss": CLIENT_ID, "aud": audience, **terms.claims}
    claims = {name: value for name, text in stated.items() if (value := _filled(provider, text, variables))}
    if terms.chooses_subject:
        _check_subject(provider, claims.get("sub", ""))
    return claims


def _filled(provider: "Provider", text: str, variables: Mapping[str, str]) -> str:
    """Return the claim with its places filled in, each once: a variable's value is not looked through for places."""
    if "${" not in text:
        return text
    known = {CLIENT_ID: provider.client_id, SCOPES: " ".join(provider.definition.scopes)}
    return _PLACE.sub(
        lambda place: known[place[0]] if place[0] in known else filled(provider, place[0], variables), text
    )


def _check_subject(provider: "Provider", subject: str) -> None:
    if not any(allowed.fullmatch(subject) for allowed in provider.subjects):
        raise NotSendable(
            f"the token acts for a user whom the subjects of providers.{provider.name} don't list"
        )
