"""A row of `expectations`: what one provider's answers must come to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, assert_never

from daemon.domain.answer import Answer, Granted, Misconfigured, Rejected, Unavailable, Unparsed

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
ENDS = ("expires_in", "expires_at", "access_token_expires_at")  # the last is Squarespace's
TOLD = timedelta(seconds=3000)  # of the sandbox's access tokens here: no provider's documented lifetime

STANDARD: Mapping[str, list[str]] = {
    "dead grant": ["Rejected invalid_grant"],
    "wrong client": ["Misconfigured invalid_client (client)"],
    "throttle": ["Unavailable slow_down"],
    "throttle, Retry-After: 7": ["Unavailable slow_down, wait 7 s"],
    "server error": ["Unavailable server_error, in doubt"],
    "outage": ["Unavailable temporarily_unavailable, in doubt", "Unavailable http_502, in doubt"],
    "words nobody knows": ["Unavailable never_heard_of"],
    "hang": ["Unavailable timeout, in doubt"],
    "reset": ["Unavailable connection, in doubt"],
    "garbage": ["Unavailable page, in doubt"],
    "truncated": ["Unavailable cut_short, in doubt"],
    "2 MB": ["Granted"],  # the tokens stand at its beginning
}


def told(answer: Answer) -> str:
    """An answer in words: its kind, its code, and what follows from it."""
    match answer:
        case Granted():
            return "Granted"
        case Unparsed():
            return f"Unparsed {answer.code}"
        case Rejected():
            return f"Rejected {answer.code}"
        case Misconfigured():
            return f"Misconfigured {answer.code} ({answer.concerns.value})"
        case Unavailable():
            wait = f", wait {answer.retry_after.total_seconds():.0f} s" if answer.retry_after else ""
            return f"Unavailable {answer.code}{wait}{', in doubt' if answer.in_doubt else ''}"
        case _:
            assert_never(answer)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One definition, spoken to as one of the sandbox's providers.

    every          each nth refresh brings another refresh token; 0: none does
    told           whether a reply repeats a refresh token that stays as it is
    always         whether a reply without a refresh token must alarm somebody
    lives          the access token; `documented`: as the provider's page has it, which counts where no reply tells
    refresh_ends   the refresh token, after the consent
    keeps          what applications need of the reply; `first`: what only the consent's reply holds of it
    inside         the member of the reply that holds the tokens; `names`: what their members are called there
    success        the member of a reply whose value says that it is a grant
    client         how the client is known to the provider: by a secret, by its id alone, or not at all
    spends         whether a refused client's request spends the refresh token, too
    confirmed      how much later a rejection must be repeated before the grant is dead
    unsettled      why an experimental provider's dead grant is not settled; what it says in words that nobody knows
                   is then only Unavailable, which condemns nothing
    """

    definition: str
    sandbox: str
    every: int
    told: bool = True
    always: bool = False
    lives: timedelta = TOLD
    documented: timedelta = HOUR
    refresh_ends: timedelta | None = None
    keeps: Mapping[str, object] = field(default_factory=dict)
    first: Mapping[str, object] = field(default_factory=dict)
    inside: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    success: str = ""
    client: Literal["secret", "id", "nobody"] = "secret"
    spends: bool = False
    confirmed: timedelta | None = None
    unsettled: str = ""
    says: Mapping[str, list[str]] = field(default_factory=dict)

    def expects(self, situation: str) -> list[str]:
        if situation == "2 MB" and not (self.told or self.every == 1):
            situation = "truncated"  # a refresh token may have stood in what is missing
        return self.says.get(situation, STANDARD[situation])

    @property
    def is_recognised(self) -> bool:
        """Whether the usual words for a dead grant are known for what they are. If not, it is tried again and again."""
        return self.expects("dead grant")[0].startswith("Rejected")

    def tells_seconds(self, body: Mapping[str, Any]) -> bool:
        """Whether the reply tells how long the access token lives, or nothing about its end; else it tells an instant."""
        return self.member(body, "expires_in") is not None or not any(self.member(body, end) for end in ENDS)

    def member(self, body: Mapping[str, Any], name: str) -> Any:
        """What the reply has under the standard's `name`."""
        members = body[self.inside] if self.inside else body
        return members.get(self.names.get(name, name))

    def altered(self, body: Mapping[str, Any], changed: Mapping[str, object]) -> dict[str, Any]:
        """The reply with other members; None takes one away."""
        members = {**(body[self.inside] if self.inside else body)}
        members |= {self.names.get(name, name): value for name, value in changed.items()}
        left = {name: value for name, value in members.items() if value is not None}
        return {**body, self.inside: left} if self.inside else left


Rows = dict[str, Row]


def row(definition: str, *, sandbox: str | None = None, **more: Any) -> Rows:
    """One row under its name, which is the sandbox's where several speak to one definition."""
    spoken = sandbox or definition
    name = definition if sandbox in (None, "sandbox", "zoom") else sandbox
    if "unsettled" in more and definition not in ("wix", "zoom-server"):  # these present nothing
        more.setdefault("confirmed", timedelta(minutes=1))
    return {name: Row(definition=definition, sandbox=spoken, **more)}


UNSHOWN = "no page shows one, so the standard's word is expected"
SECOND_HAND = "only others report it"
