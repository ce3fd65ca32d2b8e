"""The settings of the sandbox. An impossible one is refused here, in one sentence."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal, get_args
from urllib.parse import urlsplit

from daemon.sandbox import recorded
from daemon.sandbox.accents import ConsentTerms, DeviceTerms
from daemon.sandbox.terms import Terms

Reuse = Literal["revoke", "refuse"]
PkceDemand = Literal["optional", "required"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """How the sandbox behaves when nothing is wrong. Raises ValueError with a sentence for a person.

    port              0 takes a free one
    name              the dialect spoken (`--as`)
    lifetime          of an access token, if it has an end; at least one second, since `expires_in` counts whole ones
    grace             how long a spent refresh token may be presented again as a retry; None: as that provider says
    reuse             what a spent token costs outside the grace: the whole grant, or only the request; None: likewise
    latency           added before each token answer, after the request took effect
    refresh_lifetime  of a refresh token; None: as that provider says
    client_secret     None draws one
    seed              makes the faults' `share` repeatable; never used for tokens
    redirect_uris     the registered ones, compared as texts; none: any http URI on loopback
    pkce              whether a consent without a code challenge is refused; None: as that provider does
    code_lifetime     of an authorization code; None: as that provider says
    users             that an assertion may name; none: anybody
    clock_ahead       how far this provider's clock is ahead of the machine's, for assertions; may be negative
    device_lifetime   of a device code, and `device_interval` between two polls; likewise
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
    redirect_uris: tuple[str, ...] = ()
    pkce: PkceDemand | None = None
    code_lifetime: timedelta | None = None
    users: tuple[str, ...] = ()
    clock_ahead: timedelta = timedelta()
    device_lifetime: timedelta | None = None
    device_interval: timedelta | None = None

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
        self._check_consent()

    def _check_consent(self) -> None:
        if self.pkce not in (None, *get_args(PkceDemand)):
            raise ValueError(f"pkce must be 'optional' or 'required', not {self.pkce!r}")
        for uri in self.redirect_uris:
            if not _is_redirect_uri(uri):
                raise ValueError(
                    f"a redirect URI is an absolute one of printable ASCII without a fragment, not {uri!r}"
                )
        shortest = timedelta(seconds=1)
        lifetimes = [life for life in (self.code_lifetime, self.device_lifetime) if life is not None]
        if any(life < shortest for life in lifetimes):
            raise ValueError("code_lifetime and device_lifetime must be at least one second")
        if (self.device_interval or timedelta()) < timedelta():
            raise ValueError("device_interval must not be negative")

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

    def consent(self) -> ConsentTerms:
        """The provider's own authorization endpoint, but for what was asked for otherwise."""
        own = recorded.dialect(self.name).consent
        return replace(own, pkce=self.pkce or own.pkce, code_lifetime=self.code_lifetime or own.code_lifetime)

    def device(self) -> DeviceTerms | None:
        """The provider's own device flow, but for what was asked for otherwise; None: it has none."""
        own = recorded.dialect(self.name).device
        if own is None:
            return None
        return replace(
            own,
            lifetime=self.device_lifetime or own.lifetime,
            interval=own.interval if self.device_interval is None else self.device_interval,
        )


def _is_redirect_uri(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
    except ValueError:
        return False
    return bool(parts.scheme) and uri.isascii() and uri.isprintable() and not {"#", " "} & set(uri)
