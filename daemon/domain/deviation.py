"""What differs between a provider's behaviour and its definition, in words, with the line that would fit."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from daemon.domain.provider import Rotation
from daemon.domain.token_response import looks_secret

_DAY, _HOUR, _MINUTE = 86_400, 3600, 60


class DriftKind(StrEnum):
    """What differs from the definition. The values label metrics and log lines."""

    LIFETIME = "lifetime"
    ROTATION = "rotation"
    ERROR_CODE = "error_code"
    NEW_FIELD = "new_field"
    MISSING_FIELD = "missing_field"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deviation:
    """One difference. `subject`: the new lifetime, the code or the field. `change`: the line of the definition that
    fits it, or an empty text if no line does.
    """

    kind: DriftKind
    subject: str
    message: str
    change: str


def other_lifetime(life: timedelta, *, documented: timedelta) -> Deviation:
    return Deviation(
        kind=DriftKind.LIFETIME,
        subject=_written(life),
        message=f"new access tokens live {_written(life)}, and the definition says {_written(documented)}",
        change=f'access_lifetime = "{_written(life)}"',
    )


def other_rotation(*, replaced: bool, documented: Rotation) -> Deviation:
    done = "replace the refresh token" if replaced else "bring no new refresh token"
    return Deviation(
        kind=DriftKind.ROTATION,
        subject=done,
        message=f'renewals {done}, and the definition says rotation = "{documented}"',
        change=f'rotation = "{Rotation.SOMETIMES}"',
    )


def unknown_code(code: str, *, place: str) -> Deviation:
    """`place`: the path of the field that has the code."""
    return Deviation(
        kind=DriftKind.ERROR_CODE,
        subject=code,
        message=f"refusals have the error code {code}, which the definition does not know: refreshd treats it as temporary",
        change=f'{{ field = "{place}", values = ["{code}"] }} in rejected, misconfigured or unavailable',
    )


def new_field(name: str, *, keep: tuple[str, ...]) -> Deviation:
    """`keep`: the fields that the definition stores."""
    secret = looks_secret(name)
    more = ", and its name sounds like a secret: it can't be stored" if secret else ""
    return Deviation(
        kind=DriftKind.NEW_FIELD,
        subject=name,
        message=f"replies have a new field {name}{more}",
        change="" if secret else _keep((*keep, name)),
    )


def missing_field(name: str, *, keep: tuple[str, ...]) -> Deviation:
    return Deviation(
        kind=DriftKind.MISSING_FIELD,
        subject=name,
        message=f"replies no longer have the field {name}, which is to be stored",
        change=_keep(one for one in keep if one != name),
    )


def _written(life: timedelta) -> str:
    """Return `life` as in a definition, rounded as people state lifetimes."""
    seconds = life.total_seconds()
    step = 5 * _MINUTE if seconds >= _HOUR else _MINUTE if seconds >= 10 * _MINUTE else 1
    whole = max(step, round(seconds / step) * step)
    for unit, length, least in (("d", _DAY, 2 * _DAY), ("h", _HOUR, _HOUR), ("m", _MINUTE, _MINUTE)):
        if whole >= least and whole % length == 0:
            return f"{whole // length}{unit}"
    return f"{whole}s"


def _keep(paths: Iterable[str]) -> str:
    listed = ", ".join(f'"{path}"' for path in paths)
    return f"keep = [{listed}]"
