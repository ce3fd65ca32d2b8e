"""What an application's own store shows in place of a refresh token that only refreshd presents."""

from enum import StrEnum

from daemon.domain.secret import Secret

STAND_IN = "held-by-refreshd"  # no provider takes it, so an application that presents it spends nothing


class Shown(StrEnum):
    """`none`: the stand-in. `live`: the refresh token itself, which two programs can then present."""

    NONE = "none"
    LIVE = "live"


def shown(show: Shown, refresh_token: Secret | None) -> Secret | None:
    """Return what stands in place of `refresh_token`. A token without one shows none."""
    return refresh_token if refresh_token is None or show is Shown.LIVE else Secret(STAND_IN)
