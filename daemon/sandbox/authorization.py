"""The authorization endpoint without its wire: a query becomes a page or a refusal, and a decision becomes a redirect.

Nothing is kept between the page and the decision: the form is sent to the same address, whose query is checked again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl, urlencode, urlsplit

from daemon.sandbox.accents import ConsentTerms
from daemon.sandbox.consents import Consents, Wish
from daemon.sandbox.faults import Fault
from daemon.sandbox.wording import filled

_MOST_PARAMETERS = 64
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?")  # the whole of host and port
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
WRONG_STATE = "a-state-of-another-flow"
WRONG_ISSUER = "https://another-issuer.example"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """A request that must not be redirected anywhere (RFC 6749, section 4.1.2.1): a sentence for the browser."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Where the browser is sent."""

    to: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An authorization request that a page can be shown for."""

    wish: Wish
    redirect_uri: str
    state: str | None
    login_hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the owner has chosen on the page. `scopes` None: all that were asked for."""

    approved: bool
    account: str
    scopes: tuple[str, ...] | None

    def of(self, wish: Wish, *, fewer: bool) -> tuple[str, ...]:
        """The scopes of this decision; all of them at a provider where the owner has no choice."""
        return wish.scopes if self.scopes is None or not fewer else self.scopes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationEndpoint:
    """What one sandbox answers to browsers.

    redirect_uris  the registered ones, compared as texts; empty: any http URI on loopback
    """

    consents: Consents
    client_id: str
    terms: ConsentTerms
    redirect_uris: tuple[str, ...]

    def read(self, query: str, *, issuer: str) -> Asked | Redirect | Wrong:
        """The request in `query`, checked as the provider checks it."""
        parameters = _read(query)
        if parameters is None:
            return Wrong(detail="a parameter was sent more than once, or the query is not UTF-8")
        if parameters.get(self.terms.client) != self.client_id:
            return Wrong(detail=f"{self.terms.client} is unknown")
        redirect_uri = parameters.get("redirect_uri", "")
        if not self._is_registered(redirect_uri):
            return Wrong(detail="redirect_uri is not a registered one")
        state = parameters.get("state")
        if fault := self._fault_of(parameters):
            error, detail = fault
            answer = {"error": error, "error_description": detail}
            return self._redirect(redirect_uri, answer, state=state, issuer=issuer)
        return Asked(
            wish=self._wish(parameters, redirect_uri),
            redirect_uri=redirect_uri,
            state=state,
            login_hint=parameters.get("login_hint", ""),
        )

    def decide(
        self, asked: Asked, decision: Decision, *, issuer: str, fault: Fault | None, now: datetime
    ) -> Redirect:
        """Take the owner's decision, which the redirect carries to the client (RFC 6749, section 4.1.2)."""
        state = asked.state
        if fault is not None and fault.kind == "error_redirect":
            answer = {"error": fault.error, "error_description": "a fault says so"}
            return self._redirect(asked.redirect_uri, answer, state=state, issuer=issuer)
        code = self.consents.decide(
            asked.wish,
            approved=decision.approved,
            account=decision.account,
            scopes=decision.of(asked.wish, fewer=self.terms.fewer),
            ends=now + self.terms.code_lifetime,
        )
        if decision.approved:
            answer = {self.terms.code: code, **self._returns(asked.wish, decision, issuer)}
        else:
            answer = {"error": self.terms.denied, "error_description": "the owner has denied the request"}
        match fault and fault.kind:
            case "wrong_state":
                state = WRONG_STATE
            case "wrong_issuer":
                answer["iss"] = WRONG_ISSUER
            case _:
                pass
        return self._redirect(asked.redirect_uri, answer, state=state, issuer=issuer)

    def _returns(self, wish: Wish, decision: Decision, issuer: str) -> dict[str, str]:
        """What else this provider puts into the redirect."""
        chosen = decision.of(wish, fewer=self.terms.fewer)
        scope = self.terms.separator.join(scope for scope in wish.scopes if scope in chosen)
        values = {"account": decision.account, "scope": scope, "issuer": issuer}
        returns = filled(dict(self.terms.returns), values)
        return returns if isinstance(returns, dict) else {}

    def _is_registered(self, uri: str) -> bool:
        if self.redirect_uris:
            return uri in self.redirect_uris
        if "#" in uri or " " in uri or not uri.isascii() or not uri.isprintable():
            return False
        try:
            parts = urlsplit(uri)
        except ValueError:
            return False
        return parts.scheme == "http" and _LOOPBACK.fullmatch(parts.netloc) is not None

    def _fault_of(self, parameters: Mapping[str, str]) -> tuple[str, str] | None:
        """The error of RFC 6749, section 4.1.2.1, and a sentence."""
        terms = self.terms
        for name, value in terms.demands.items():
            if name not in parameters:
                return "invalid_request", f"{name} is missing"
            if value and parameters[name] != value:
                wrong = "unsupported_response_type" if name == "response_type" else "invalid_request"
                return wrong, f"{name} must be {value}"
        if terms.pkce == "ignored":
            return None
        why = _fault_of_challenge(
            parameters.get("code_challenge"),
            parameters.get("code_challenge_method"),
            required=terms.pkce == "required",
        )
        return None if why is None else ("invalid_request", why)

    def _wish(self, parameters: Mapping[str, str], redirect_uri: str) -> Wish:
        terms = self.terms
        scopes = terms.scopes(parameters.get(terms.scope, ""))
        return Wish(
            scopes=scopes,
            offline=_has(parameters, terms.offline) and terms.is_offline(scopes),
            again=_has(parameters, terms.again),
            redirect_uri=redirect_uri,
            challenge=None if terms.pkce == "ignored" else parameters.get("code_challenge"),
            nonce=parameters.get("nonce"),
        )

    def _redirect(self, uri: str, answer: Mapping[str, str], *, state: str | None, issuer: str) -> Redirect:
        answer = dict(answer)
        if state is not None:
            answer["state"] = state
        if self.terms.issuer:
            answer.setdefault("iss", issuer)
        return Redirect(to=f"{uri}{'&' if '?' in uri else '?'}{urlencode(answer)}")


def _fault_of_challenge(challenge: str | None, method: str | None, *, required: bool) -> str | None:
    """Why these two are refused (RFC 7636, section 4.3). Without a method the challenge would be the verifier."""
    if challenge is None:
        if required:
            return "code_challenge is missing"
        return None if method is None else "code_challenge_method without a code_challenge"
    if method != "S256":
        return "code_challenge_method must be S256"
    return None if _CHALLENGE.fullmatch(challenge) else "code_challenge is not an S256 challenge"


def origin_of(uri: str) -> str:
    """Scheme, host and port, for the page's policy; the scheme alone if a policy can't name the host."""
    parts = urlsplit(uri)
    if not parts.netloc or "[" in parts.netloc:
        return f"{parts.scheme}:"
    return f"{parts.scheme}://{parts.netloc}"


def _read(query: str) -> dict[str, str] | None:
    """The parameters; an empty one counts as left out (RFC 6749, section 3.1)."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        return None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        return None
    return {name: value for name, value in parameters.items() if value}


def _has(parameters: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(parameters.get(name) == value for name, value in wanted.items())
