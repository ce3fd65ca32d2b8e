"""Words of a body that contradict a verdict beside them: its own status, and fields that say "try again".

A gateway that wraps another server's failure, or a provider whose error page has a fixed `error`, sends `invalid_grant`
together with `"status": 503` or `"retryable": true`. One of the two is wrong. A dead grant costs its owner a consent, and
a temporary failure costs a request, so the mildest reading counts.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from itertools import chain, islice

from daemon.domain.provider import Definition
from daemon.domain.reply_body import Body
from daemon.domain.sign import signs_of

_STATUS_NAMES = frozenset(
    {"status", "statuscode", "httpstatus", "httpstatuscode", "httpcode", "code", "errorcode"}
)
_RETRY_NAMES = frozenset(
    {"retryable", "isretryable", "retriable", "isretriable", "canretry", "shouldretry", "retry"}
    | {"transient", "istransient", "temporary", "istemporary"}
)
_WAIT_NAMES = frozenset({"retryafter", "retryafterseconds", "retryafterms", "retryin", "retryinseconds"})
_NOT_LETTER = re.compile(r"[^a-z]")
_FAILURE = re.compile(r"(408|425|429|5[0-9]{2})(?: .*)?", re.DOTALL)  # "503", "503 Service Unavailable"
_YES = frozenset({"true", "yes", "1"})
_NO = frozenset({"", "0", "false", "no", "null", "none", "never"})
_DEPTH = 3
_SEARCHED = 200  # values
_LONGEST = 100  # characters of a name or a value


class Mixed(Enum):
    """What a body says beside its verdict."""

    LATER = "later"  # nothing was done: the request may come again
    BROKEN = "broken"  # a server failed, and may have done its work before that


def contradiction(definition: Definition, bodies: Sequence[Body]) -> Mixed | None:
    """Return what the bodies say against a verdict in one of them. A field that the definition reads means what the
    definition says: the numbers of Withings look like statuses of HTTP.
    """
    own = _paths_read(definition)
    found = {
        _meaning(_NOT_LETTER.sub("", path.rpartition(".")[2].lower()), text)
        for body in bodies
        for path, text in _texts(body)
        if path not in own
    }
    return next((mixed for mixed in (Mixed.BROKEN, Mixed.LATER) if mixed in found), None)


def _meaning(name: str, text: str) -> Mixed | None:
    if name in _STATUS_NAMES and (failure := _FAILURE.fullmatch(text)):
        return Mixed.BROKEN if failure[1].startswith("5") else Mixed.LATER
    if (name in _RETRY_NAMES and text in _YES) or (name in _WAIT_NAMES and text not in _NO):
        return Mixed.LATER
    return None


def _paths_read(definition: Definition) -> set[str]:
    """Return the paths of the fields by which the definition knows an error."""
    paths = set(definition.reply.error_code)
    for sign in chain.from_iterable(signs_of(definition)):
        paths |= {sign.field, sign.also.field if sign.also is not None else ""}
    return paths if definition.success is None else paths | {definition.success.field}


def _texts(body: Body) -> Iterator[tuple[str, str]]:
    """Yield the dotted paths and the values of a body, each as a text in small letters."""
    waiting: list[tuple[int, str, Mapping[str, object] | list[object]]] = [(0, "", body)]
    for depth, path, value in waiting:  # it grows
        inside = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, one in islice(inside, _SEARCHED):
            inner = f"{path}.{str(name)[:_LONGEST]}" if path else str(name)[:_LONGEST]
            if isinstance(one, str | int | float):
                yield inner, str(one)[:_LONGEST].strip().lower()
            elif isinstance(one, Mapping | list) and depth < _DEPTH and len(waiting) < _SEARCHED:
                waiting.append((depth + 1, inner, one))
