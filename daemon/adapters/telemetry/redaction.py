"""Redaction of log lines, including library messages and tracebacks.

It is strict about text from outside: it masks known secrets, credentials in URIs, values whose name suggests
a secret, and any run of 20 or more token characters that does not consist of words. It keeps ids, paths,
names of classes and hosts, error codes, and a traceback's frames, which are code. Local variables and source
lines never appear. The operator's files and configuration keys stay readable if they were registered, since names of
them may look random.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from os import PathLike
from pathlib import PurePosixPath
from traceback import walk_tb

from daemon.domain.secret import MASK, Secret, spellings
from daemon.domain.word import is_readable

TEXT_LIMIT = 2_000
FRAME_LIMIT = 40  # innermost frames of one exception
CHAIN_LIMIT = 10  # exceptions in one chain or group
DEPTH_LIMIT = 5
SHORTEST_LITERAL = 4  # a shorter "secret" would black out ordinary words and hide nothing

# Texts in these fields are refreshd's own, or names that an operator needs whole. `token` is an id, and may be long.
# `key` is the id of an access key or of a key of the ring, `place` a key of the configuration.
_READABLE = frozenset(
    {"token", "provider", "owner", "instance", "version", "path", "host", "level", "logger", "key", "place"}
)
_SECRET_NAME = re.compile(
    r"token$|secret|passw|authorization|api_?key|assertion|private_?key|cookie", re.IGNORECASE
)

_USER_INFO = re.compile(r"//[^\s/]*@")
_URL_REST = re.compile(r"://[^\s\"'<>]+")
_SCHEME = re.compile(r"\b(Bearer|Basic)\s+(?=\S*[0-9A-Z=])[^\s\"',;]{4,}", re.IGNORECASE)
_NAMED = re.compile(  # but not "{ ", which begins a place of a secret or an object: its values are matched by themselves
    r"((?:access|refresh|id)_?token|client_?secret|secret|passw(?:or)?d|authorization|api_?key|assertion|code_verifier)"
    r"([\\\"']*\s*[:=]\s*\\*)(?!\{ )(\"[^\"]*\"|'[^']*'|[^\s,;&}\])\"']+)",
    re.IGNORECASE,
)
_RUN = re.compile(r"[A-Za-z0-9._~+/=%-]{20,}")
_SEPARATORS = re.compile(r"[/._-]+")
_KEY_LIKE = re.compile(r"[0-9A-Fa-f]{64}|[A-Za-z0-9_-]{43,44}")  # 32 bytes: a key in the place of its id


class Redaction:
    """Masks secrets. Holds the literal secrets of this process's configuration."""

    def __init__(self) -> None:
        self._literals: re.Pattern[str] | None = None
        self._places: frozenset[str] = frozenset()

    def register(self, secrets: Iterable[Secret]) -> None:
        """Mask exactly these secrets from now on, however they are quoted."""
        texts = (secret.reveal() for secret in secrets)
        found = spellings(text for text in texts if len(text) >= SHORTEST_LITERAL)
        self._literals = re.compile("|".join(map(re.escape, found))) if found else None

    def register_places(self, places: Iterable[str]) -> None:
        """Keep the runs of these texts readable from now on: files, with their directories, and configuration keys."""
        self._places = frozenset(run for place in places for run in _runs_of(place))

    def value(self, name: str, value: object, depth: int = 0) -> object:
        """Return `value` as a JSON value without secrets, to be logged under `name`."""
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, str) and name in _READABLE:
            return str(value)[:TEXT_LIMIT]
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, datetime):
            return rfc3339(value)
        if isinstance(value, timedelta):
            return value.total_seconds()
        if isinstance(value, Secret) or (name != "token" and _SECRET_NAME.search(name)):
            return MASK
        return self._composed(name, value, depth)

    def text(self, text: str, limit: int = TEXT_LIMIT) -> str:
        """Return `text` masked and at most `limit` characters long. It may come from anywhere."""
        if self._literals:
            text = self._literals.sub(MASK, text)
        text = _USER_INFO.sub(f"//{MASK}@", text)
        text = _URL_REST.sub(lambda rest: _without_query(rest[0]), text)
        text = _SCHEME.sub(rf"\1 {MASK}", text)
        text = _NAMED.sub(rf"\1\2{MASK}", text)
        text = _RUN.sub(lambda run: self._run(run[0]), text)
        return text if len(text) <= limit else text[: limit - 1] + "…"

    def _run(self, run: str) -> str:
        """Return a long run of token characters, with what isn't a registered place masked unless it is made of words."""
        if run.rstrip(".") in self._places:
            return run
        directory = max((one for one in self._places if run.startswith(f"{one}/")), key=len, default="")
        return directory + _readable(run.removeprefix(directory))

    def exception(self, error: BaseException) -> str:
        """Format the whole chain of `error`: file, line and function, type, and masked message."""
        return "\n".join(self._chain(error, set()))

    def _composed(self, name: str, value: object, depth: int) -> object:
        if isinstance(value, Enum):
            return self.value(name, value.value, depth)
        if isinstance(value, str):
            return value if name == "code" and _words(value) else self.text(value)
        if isinstance(value, PathLike):
            return self.text(str(value))
        if isinstance(value, BaseException):
            return self._summary(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<{len(value)} bytes>"
        if depth < DEPTH_LIMIT and isinstance(value, Mapping):
            return {self.text(str(key)): self.value(str(key), item, depth + 1) for key, item in value.items()}
        if depth < DEPTH_LIMIT and isinstance(value, list | tuple | set | frozenset):
            return [self.value(name, item, depth + 1) for item in value]
        return self.text(_spoken(repr, value))

    def _chain(self, error: BaseException, seen: set[int]) -> Iterator[str]:
        seen.add(id(error))
        before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if before is not None and id(before) not in seen and len(seen) < CHAIN_LIMIT:
            yield from self._chain(before, seen)
            yield "which led to:" if error.__cause__ else "while that was handled:"
        frames = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__)]
        for code, line in frames[-FRAME_LIMIT:]:
            yield f'  File "{code.co_filename}", line {line}, in {code.co_qualname}'
        yield self._summary(error)
        for note in getattr(error, "__notes__", ()):
            yield self.text(str(note))
        if isinstance(error, BaseExceptionGroup):
            for part in error.exceptions[:CHAIN_LIMIT]:
                yield "one of them:"
                yield from self._chain(part, seen)

    def _summary(self, error: BaseException) -> str:
        kind = type(error)
        name = (
            kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        )
        words = self.text(_spoken(str, error))
        return f"{name}: {words}" if words else name


def rfc3339(instant: datetime) -> str:
    """Format `instant` in UTC, to the millisecond."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _spoken(how: type[str] | object, value: object) -> str:
    """Return the text of `value` if it has one: a broken `__str__` must not cost the log line."""
    try:
        return repr(value) if how is repr else str(value)
    except Exception:  # noqa: BLE001  it is foreign code, and may raise anything
        return f"<{type(value).__qualname__}>"


def _without_query(rest: str) -> str:
    """Return the rest of a URL after its scheme with its query masked. One pass: a pattern for both would be
    quadratic on `://://`.
    """
    before, mark, query = rest.partition("?")
    return f"{before}?{MASK}" if mark and query else rest


def _runs_of(place: str) -> Iterator[str]:
    """Yield the runs of `place` that redaction would look at, and the directories of a path. What could be a key that
    stands where its id belongs is left out.
    """
    for run in (found[0].rstrip(".") for found in _RUN.finditer(place)):
        if any(map(_KEY_LIKE.fullmatch, run.split("."))):
            continue
        yield run
        if run.startswith("/"):
            yield from (str(parent) for parent in PurePosixPath(run).parents if parent.name)


def _readable(run: str) -> str:
    """Keep a run of token characters if it consists of words, such as an error code, a class or a host. Of an
    absolute path or a URL's rest only the other segments are masked.
    """
    if is_readable(run) or (_words(run) and ("." in run or "/" in run)):
        return run
    if run.startswith("/"):
        return "/".join(part if _words(part) else MASK for part in run.split("/"))
    return MASK


def _words(text: str) -> bool:
    return len(text) <= TEXT_LIMIT and all(_is_word(part) for part in _SEPARATORS.split(text))


def _is_word(part: str) -> bool:
    """Return whether `part` is a word or a number as people write them (`python3`,
    `ServerSelectionTimeoutError`, `v2`): letters, then few digits, with few capitals unless all are.
    """
    letters = part.rstrip("0123456789")
    if len(part) > 32 or len(part) - len(letters) > 5:
        return False
    if not letters:
        return True
    capitals = sum(map(str.isupper, letters))
    return (
        letters.isascii()
        and letters.isalpha()
        and (capitals == len(letters) or capitals * 3 <= len(letters) + 2)
    )
