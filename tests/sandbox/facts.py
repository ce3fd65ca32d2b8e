"""What is known of each provider's endpoints, for the tables of the tests: written down from the sources and not from the
fixtures, so that a slip in a fixture is seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ALWAYS, RETOLD, UNTOLD, THIRD, THIRD_UNTOLD, DAILY, NONE = "always retold untold 1/3 1/3- 1/24 none".split()  # noqa: SIM905
EVERY = {ALWAYS: 1, RETOLD: 0, UNTOLD: 0, THIRD: 3, THIRD_UNTOLD: 3, DAILY: 24}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """How to ask one provider, what a refresh answers, and how it says that a grant is dead.

    named     the answer to a client in another way than the accepted ones, if not `client`
    grant     the word for grant_type; "": none is sent
    presents  the parameter for what is presented; `exchange`: that is the access token
    called    what the provider calls a standard parameter
    sent      what a refresh must bring beside the standard's
    inside    the member of the reply that holds the tokens; `names`: what the tokens are called there
    broken    the status of an error of its own
    wait      the Retry-After of its own throttle
    in_grace  whether a spent refresh token may be presented once more
    """

    path: str
    auth: str  # all accepted ways, the one to use first
    body: str
    keys: str  # of the reply to the first refresh
    turn: str  # whether the refresh token changes
    dead: tuple[int, dict[str, Any]]
    client: tuple[int, dict[str, Any]] = (401, {"error": "invalid_client"})
    named: tuple[int, dict[str, Any]] | None = None
    throttle: tuple[int, dict[str, Any]] = (429, {})
    broken: int = 500
    method: str = "POST"
    grant: str = "refresh_token"
    presents: str = "refresh_token"
    exchange: bool = False
    called: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    inside: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    wait: str | None = None
    in_grace: bool = False

    @property
    def has_secret(self) -> bool:
        """Whether the client proves who it is."""
        return self.auth.split()[0] not in ("id", "nobody")

    def tokens(self, reply: Any) -> dict[str, Any]:
        """The members of a token response, under the standard's names."""
        members = reply.get(self.inside, {}) if self.inside else reply
        standard = {own: name for name, own in self.names.items()}
        return {standard.get(name, name): value for name, value in members.items()}


def fact(path: str, auth: str, body: str, turn: str, keys: str, dead: Any, **more: Any) -> Fact:
    return Fact(path=path, auth=auth, body=body, turn=turn, keys=keys, dead=dead, **more)


GONE = (400, {"error": "invalid_grant"})
PLAIN = "access_token expires_in token_type"
PAIR = f"{PLAIN} refresh_token"
SCOPED = f"{PAIR} scope"
RTE = "refresh_token_expires_in"

BARE: dict[str, str | None] = {"response_type": None}
OFFLINE = {"scope": "read offline_access"}
NO_OFFLINE = {"scope": "read"}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An authorization request: the path, what is sent beside the standard's, and what is changed.

    needs    parameters without which there is only an error
    online   a change of the request after which no refresh token comes
    returns  what the redirect has beside code and state
    pkce     optional, required or ignored
    fewer    whether the owner may leave a scope out
    brings   parameters of the exchange
    auth     how a code is exchanged, if not as a token is renewed
    account  where the token response names the account
    """

    path: str
    sent: dict[str, str | None] = field(default_factory=dict)
    needs: str = ""
    online: dict[str, str | None] | None = None
    code: str = "code"
    returns: str = ""
    pkce: str = "optional"
    fewer: bool = False
    auth: str = ""
    account: str = ""
    brings: dict[str, str] = field(default_factory=dict)


def asked(path: str, **more: Any) -> Asked:
    return Asked(path=path, **more)


@dataclass(frozen=True, kw_only=True)
class Revoked:
    """How a token is taken back: the request, what it ends, and the status (and the body) of both answers. `client_id`: what
    the provider calls it.
    """

    method: str
    path: str
    place: str
    client: str
    token: str
    ends: str
    done: tuple[int, str]
    unknown: tuple[int, str]
    parameter: str = "token"
    client_id: str = "client_id"


def revoked(request: str, how: str, ends: str, done: Any, unknown: Any = None, **more: str) -> Revoked:
    method, path = request.split()
    place, client, token = how.split()
    return Revoked(
        method=method,
        path=path,
        place=place,
        client=client,
        token=f"{token}_token",
        ends=ends,
        done=done,
        unknown=unknown or done,
        **more,
    )


EMPTY = (200, "")
