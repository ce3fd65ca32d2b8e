"""What the sandbox is told before it starts; an impossible wish is refused here, in one sentence."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal, get_args

from daemon.sandbox import recorded
from daemon.sandbox.terms import Terms

Reuse = Literal["revoke", "refuse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """How the sandbox behaves when nothing is wrong. Raises ValueError with a sentence for a person.

    port              0 takes a free one
    name              the dialect spoken (`--as`)
    lifetime          of an access token, where it has an end; at least one second, since `expires_in` counts whole ones
    grace             how long a spent refresh token may be presented again as a retry; None: as that provider says
    reuse             what a spent token costs outside the grace: the whole grant, or only the request; None: likewise
    latency           added before each token answer, after the request took effect
    refresh_lifetime  of a refresh token; None: as that provider says
    client_secret     None draws one
    seed              makes the faults' `share` repeatable; never used for tokens
    """

    port: int = 0
    name: str = "sandbox"
    lifetime: timedelta = timedelta(seconds=60)
    grace: timedelta | None = None
    reuse: Reuse | None = None
    latency: timedelta = timedelta()
    refresh_lifetime: timedelta | None = None
    client_id: str = "sandbox-client"
    client_secret: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.name not in recorded.names():
            known = ", ".join(recorded.names())
            raise ValueError(f"the sandbox does not speak {self.name!r}; it speaks: {known}")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be between 0 and 65535, not {self.port}")
        if self.reuse not in (None, *get_args(Reuse)):
            raise ValueError(f"reuse must be 'revoke' or 'refuse', not {self.reuse!r}")
        if not self.client_id or self.client_secret == "":
            raise ValueError("client_id and client_secret must not be empty")
        shortest = timedelta(seconds=1)
        if self.lifetime < shortest or (
            self.refresh_lifetime is not None and self.refresh_lifetime < shortest
        ):
            raise ValueError("lifetime and refresh_lifetime must be at least one second")
        if min(self.grace or timedelta(), self.latency) < timedelta():
            raise ValueError("grace and latency must not be negative")

    def terms(self) -> Terms:
        """The provider's own terms, but for what was asked for otherwise."""
        own = recorded.dialect(self.name).terms
        return replace(
            own,
            lifetime=None if own.lifetime is None else self.lifetime,
            grace=own.grace if self.grace is None else self.grace,
            reuse=self.reuse or own.reuse,
            refresh_lifetime=self.refresh_lifetime or own.refresh_lifetime,
        )
