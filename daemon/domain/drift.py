"""Drift: a provider's behaviour leaves its definition, and the line of the definition that would fit it again.

Documentation is wrong and providers change. Neither harms a token immediately, so nothing else reports it. Each kind
of drift is reported once by each process, and its text contains only names that are safe to show.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from itertools import islice

from daemon.domain.answer import Answer, Cause, Granted, Unavailable, Unparsed
from daemon.domain.deviation import (
    Deviation,
    DriftKind,
    missing_field,
    new_field,
    other_lifetime,
    other_rotation,
    unknown_code,
)
from daemon.domain.drift_evidence import Codes, Fields, Lifetimes, Rotations, is_near, near
from daemon.domain.provider import Definition, Grant, Rotation
from daemon.domain.refusal import is_known_code
from daemon.domain.reply import NoReply, Reply
from daemon.domain.reply_body import parse
from daemon.domain.token import Token
from daemon.domain.word import is_readable

MOST_TOLD = 32  # of one provider; if there are more, the definition has to be rewritten
_CODE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,59}")
_STATUS = re.compile(r"http_[0-9]+")
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_DEPTH, _WIDTH = 3, 32  # of a reply in which an error code is looked for


class DriftWatch:
    """Compares answers with definitions. It remembers a bounded amount for each provider."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def weigh(
        self, definition: Definition, token: Token, reply: Reply | NoReply, answer: Answer
    ) -> list[Deviation]:
        """Return the differences that `answer` to `token` makes certain, each once. Usually there are none."""
        seen = self._seen.get(definition.name)
        if seen is None or (seen.definition is not definition and seen.definition != definition):
            seen = self._seen[definition.name] = _Seen(definition)
        if isinstance(answer, Unparsed):
            answer = answer.granted or answer
        if isinstance(answer, Granted):
            return seen.granted(token, answer, asked_at=reply.asked_at)
        if isinstance(answer, Unavailable) and answer.cause is Cause.REFUSAL and isinstance(reply, Reply):
            return list(seen.refused(answer.code, reply))
        return []


class _Seen:
    """What one provider did since the start, or since its definition changed."""

    __slots__ = (
        "_codes",
        "_fields",
        "_lifetimes",
        "_longest",
        "_rotations",
        "_shortest",
        "_told",
        "definition",
    )

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self._lifetimes = Lifetimes()
        self._shortest, self._longest = near(definition.access_lifetime or timedelta(0))
        self._rotations = Rotations()
        self._codes = Codes()
        self._fields = Fields(usual=_named_in(definition))
        self._told: set[tuple[DriftKind, str]] = set()

    def granted(self, token: Token, granted: Granted, *, asked_at: datetime) -> list[Deviation]:
        definition = self.definition
        if token.doubt is not None or definition.grant_of(token.grant) is not definition.grant:
            return []  # a reply to a repeated request, or to another kind of request
        found: list[Deviation] = []
        if definition.access_lifetime is not None and granted.expires_at is not None:
            life = granted.expires_at - asked_at
            if self._shortest <= life <= self._longest:
                self._lifetimes.as_documented()
            else:
                found.extend(self._lifetime(token, granted, life, definition.access_lifetime))
        if definition.rotation is not Rotation.SOMETIMES and definition.grant is Grant.REFRESH_TOKEN:
            found.extend(self._rotation(token, granted, definition.rotation))
        marks = granted.fields
        if len(granted.extra) < len(definition.keep):
            marks = (*marks, *_absent(definition, granted))
        cohort = _cohort(token)
        if not self._fields.is_usual(marks, cohort=cohort):
            found.extend(map(self._field, filter(_is_safe, self._fields.weigh(marks, cohort=cohort))))
        return [one for one in found if self._is_news(one)] if found else found

    def refused(self, code: str, reply: Reply) -> Iterator[Deviation]:
        """Yield the deviation of an error code that the definition doesn't know, once it is certain."""
        if not _CODE.fullmatch(code) or _STATUS.fullmatch(code) or is_known_code(code, self.definition):
            return
        if not self._codes.weigh(code) or (DriftKind.ERROR_CODE, code) in self._told:
            return
        found = unknown_code(code, place=_place_of(code, reply))
        if self._is_news(found):
            yield found

    def _is_news(self, found: Deviation) -> bool:
        what = (found.kind, found.subject)
        if what in self._told or len(self._told) >= MOST_TOLD:
            return False
        self._told.add(what)
        return True

    def _lifetime(
        self, token: Token, granted: Granted, life: timedelta, documented: timedelta
    ) -> Iterator[Deviation]:
        definition = self.definition
        if life < documented and (definition.earliest is not None or _is_cut_short(granted)):
            return
        if granted.access_token == token.access_token:  # the remaining life of a token that is not new
            return
        lived = token.lifetime if token.refreshed_at is not None else None
        new = self._lifetimes.differs(
            life,
            token=hash(token.id),
            access=hash(granted.access_token),
            was_met=lived is not None and is_near(lived, documented),
            varies=bool(definition.variables),
        )
        if new is not None:
            yield other_lifetime(new, documented=documented)

    def _rotation(self, token: Token, granted: Granted, documented: Rotation) -> Iterator[Deviation]:
        new = granted.refresh_token
        replaced = new is not None and new != token.refresh_token
        withheld = new is None and documented is Rotation.ALWAYS
        if self._rotations.weigh(contradicts=replaced is (documented is Rotation.NEVER), withheld=withheld):
            yield other_rotation(replaced=replaced, documented=documented)

    def _field(self, mark: str) -> Deviation:
        keep = self.definition.keep
        if mark.startswith("-"):
            return missing_field(mark[1:], keep=keep)
        return new_field(mark, keep=keep)


def _named_in(definition: Definition) -> set[str]:
    """Return the fields of a reply that the definition reads."""
    reply = definition.reply
    paths = (
        *(reply.access_token, reply.refresh_token, reply.token_type, reply.scope, reply.expires_in),
        *(reply.expires_at, reply.refresh_expires_in, reply.consent_expires_in, reply.error_code),
        *(reply.error_message, definition.keep),
    )
    return {path.split(".", 1)[0] for group in paths for path in group}


def _absent(definition: Definition, granted: Granted) -> Iterator[str]:
    return (f"-{path}" for path in definition.keep if path.replace(".", "_") not in granted.extra)


def _cohort(token: Token) -> int:
    return hash((token.scope, frozenset(token.vars.items()))) if token.vars else hash(token.scope)


def _is_safe(mark: str) -> bool:
    """Return whether a field's name may be shown. Those that the definition names may."""
    return mark.startswith("-") or (_FIELD.fullmatch(mark) is not None and is_readable(mark))


def _is_cut_short(granted: Granted) -> bool:
    """Return whether the access token ends because the refresh token or the consent does."""
    ends = (granted.refresh_expires_at, granted.consent_ends_at)
    end = granted.expires_at
    return end is not None and any(one is not None and is_near(one - end, timedelta(0)) for one in ends)


def _place_of(code: str, reply: Reply) -> str:
    """Return the path of the field that has `code`, or `error` if none is found."""
    parsed = parse(reply.body, content_type=reply.content_type, whole=reply.whole)
    found = (
        path for body in parsed.objects for path, value in _fields_of(body, _DEPTH) if str(value) == code
    )
    return next(found, "error")


def _fields_of(body: Mapping[str, object], depth: int, before: str = "") -> Iterator[tuple[str, object]]:
    """Yield the texts and numbers in a body with their paths, outer ones first."""
    named = [(before + name, value) for name, value in islice(body.items(), _WIDTH) if _FIELD.fullmatch(name)]
    yield from ((path, value) for path, value in named if isinstance(value, str | int))
    if depth > 1:
        for path, value in named:
            if isinstance(value, Mapping):
                yield from _fields_of(value, depth - 1, f"{path}.")
