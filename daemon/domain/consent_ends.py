"""When the tokens of a stored response end, under the names that OAuth libraries write.

An application hands over what its library kept: `expiry` (Go, rclone, google-auth), `expiry_date` in milliseconds
(Google for Node), `expires_on` (Azure, MSAL), `.expires` (ASP.NET), `created_at` beside `expires_in` (LimitedServer), and
many more. Names are compared without case and punctuation, and by their parts rather than from a list.

An end that is assumed too late lets a token expire unseen; one that is assumed too early costs one request. So the
earliest end counts, and an end that is not understood is reported instead of guessed.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from daemon.domain.expiry import end_of, jwt_end
from daemon.domain.provider import Definition, ExpiryUnit
from daemon.domain.reply_body import Body
from daemon.domain.token_response import at_path

_MS = "ms|millis|milliseconds"
_FORM = rf"(?:at|on|date|time|datetime|timestamp|ts|epoch|unix|utc|gmt|iso|s|sec|secs|seconds|{_MS})*"
_ENDS = rf"(?:exp|expir(?:e|es|ed|y|ation)|valid(?:until|till|to|thru|through))(?:{_FORM})"
_SPAN = rf"(?:(?:expir(?:e|es|y|ation)|valid)in|ttl|lifetime|lifespan|validfor)(?:s|sec|secs|seconds|{_MS})?"
_BIRTH = re.compile(
    rf"(?:access)?(?:token)?(?:iat|(?:created?|creation|issued?|obtained|obtainment|fetched|acquired|received|retrieved"
    rf"|granted)(?:{_FORM}))"
)
_ACCESS, _REFRESH, _CONSENT = (
    "(?:oauth2?)?(?:access)?(?:token)?",
    "x?(?:refresh(?:token)?|rt)",
    "(?:authorization|consent)",
)
_HINT = re.compile(r"expir|valid(?:until|till|to)|timeout|ttl|lifetime")
_IN_MS = re.compile(rf"(?:{_MS})$")
_NEVER = (None, 0, "0", "never")  # how providers say that something doesn't end
_NO_DATE = "0001-01-01"  # Go's and .NET's word for none


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeNames:
    """The names of a response or row that state times, by what they state. `others`: of the refresh token or the consent."""

    ends: tuple[str, ...]
    spans: tuple[str, ...]
    births: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def not_the_end(self) -> tuple[str, ...]:
        """All of them but those that state the access token's end."""
        return self.births + self.others

    @property
    def all(self) -> tuple[str, ...]:
        return self.ends + self.spans + self.not_the_end


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """What a response says. None: nothing. `unclear`: the fields that were not understood."""

    born_at: datetime
    access: datetime | None
    refresh: datetime | None
    consent: datetime | None
    unclear: tuple[str, ...] = ()


def read_ends(definition: Definition, body: Body, *, access_token: str, received_at: datetime) -> Ends:
    """The ends that `body` states, at the paths of `definition` and under any name in use.

    An absolute end takes precedence: a response that was kept for a while still holds the `expires_in` of its birth.
    A JWT's own `exp` ends its token whatever else is said.
    """
    reading = _Reading(body, received_at)
    shape, unit = definition.reply, definition.expires_in_unit
    absolute = reading.earliest(shape.expires_at, _ACCESS, _ENDS)
    access = absolute or reading.earliest(shape.expires_in, _ACCESS, _SPAN, unit=unit)
    refresh = reading.earliest(shape.refresh_expires_in, _REFRESH, f"(?:{_ENDS}|{_SPAN})")
    consent = reading.earliest(shape.consent_expires_in, _CONSENT, f"(?:{_ENDS}|{_SPAN})")
    access = min(filter(None, (access, jwt_end(access_token))), default=None)
    if access is None:
        reading.note_unknown()
    return Ends(
        born_at=reading.born_at,
        access=access,
        refresh=refresh,
        consent=consent,
        unclear=tuple(dict.fromkeys(reading.unclear)),
    )


def time_names(names: Iterable[str]) -> TimeNames:
    """Return those of `names` that `read_ends` understands as times."""
    bare = {name: _bare(name) for name in names}

    def named(pattern: str) -> tuple[str, ...]:
        return tuple(name for name, text in bare.items() if re.fullmatch(pattern, text))

    return TimeNames(
        ends=named(f"(?:{_ACCESS})(?:{_ENDS})"),
        spans=named(f"(?:{_ACCESS})(?:{_SPAN})"),
        births=named(_BIRTH.pattern),
        others=named(f"(?:{_REFRESH}|{_CONSENT})(?:{_ENDS}|{_SPAN})"),
    )


class _Reading:
    """One pass over a response; remembers the fields that it can't read."""

    def __init__(self, body: Body, received_at: datetime) -> None:
        self._body = body
        self.unclear: list[str] = []
        self.born_at = min(self._births(received_at), default=received_at)

    def earliest(
        self, paths: Sequence[str], whose: str, what: str, *, unit: ExpiryUnit = ExpiryUnit.SECONDS
    ) -> datetime | None:
        """The earliest end at `paths` or under a name of that kind."""
        pattern = re.compile(f"(?:{whose})(?:{what})")
        named = [name for name in self._body if pattern.fullmatch(_bare(name)) and name not in paths]
        return min(self._ends([*paths, *named], unit), default=None)

    def note_unknown(self) -> None:
        """Remember every field that sounds like an end. Asked when none was found."""
        for name, value in self._body.items():
            if _HINT.search(_bare(name)) and "refresh" not in _bare(name) and not _is_none(value):
                self.unclear.append(name)

    def _ends(self, names: Iterable[str], unit: ExpiryUnit) -> Iterator[datetime]:
        for name in names:
            value = _at(self._body, name)
            if _is_none(value):
                continue
            counts = ExpiryUnit.MILLISECONDS if _IN_MS.search(_bare(name)) else unit
            end = end_of(value, asked_at=self.born_at, unit=counts)
            if end is None:
                self.unclear.append(name)
            else:
                yield end

    def _births(self, received_at: datetime) -> Iterator[datetime]:
        """When the response came, as it says itself: never later than the operator says."""
        for name, value in self._body.items():
            if not _BIRTH.fullmatch(_bare(name)) or _is_none(value):
                continue
            born = end_of(value, asked_at=received_at)
            if born is not None and born <= received_at:
                yield born
            else:
                self.unclear.append(name)


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _at(body: Body, path: str) -> object:
    """The value at `path`, or under that very name: ASP.NET's begin with a dot."""
    return body[path] if path in body else at_path(body, path)


def _is_none(value: object) -> bool:
    return (value in _NEVER and not isinstance(value, bool)) or str(value).startswith(_NO_DATE)
