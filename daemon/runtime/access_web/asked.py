"""A request at the access service, parsed. Whatever is wrong with it becomes a Problem that names each fault."""

import asyncio
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn
from urllib.parse import unquote, unquote_to_bytes

from aiohttp import HttpVersion11, web
from aiohttp.web_request import BaseRequest

from daemon.runtime.access_web.query import Query, pairs
from daemon.serving.problems import Invalid, Problem

LARGEST_BODY = 64 * 1024  # bytes
BODY_WITHIN = timedelta(seconds=10)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(?=$|[,;])", re.IGNORECASE)
_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Asked:
    """`segments`: of the path, decoded."""

    request: BaseRequest
    segments: Sequence[str]
    address: str
    peer: int | None

    @property
    def by_id(self) -> tuple[str, ...]:
        """The parameter that names the token, if the path does not name one."""
        return () if len(self.segments) > 2 else ("id",)

    def query(self, allowed: Collection[str] = (), *, repeated: str | None = None) -> Query:
        """Return the parameters of the query, of which each but `repeated` may be given once."""
        return Query(self.request.rel_url.raw_query_string, allowed, repeated=repeated)

    def wait(self, longest: timedelta) -> timedelta:
        """Return the wait in `Prefer` (RFC 7240), at most `longest`."""
        found = _WAIT.search(",".join(self.request.headers.getall("Prefer", [])))
        return min(timedelta(seconds=int(found[1])), longest) if found else timedelta(0)

    def access_key(self) -> str:
        """Return the access key in `Authorization`, or an empty text."""
        given = self.request.headers.getall("Authorization", [])
        if len(given) != 1:
            return ""
        scheme, _, text = given[0].partition(" ")
        return text.strip() if scheme.lower() == "bearer" else ""

    def content_type(self) -> str:
        given = self.request.headers.getall("Content-Type", [""])
        return given[0].partition(";")[0].strip().lower() if len(given) == 1 else "several"

    async def body(self) -> bytes:
        """Return the body. Raises Problem if it is too large, too slow, or encoded."""
        if self.request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise Problem("unsupported-media-type", "Send the body without a content encoding.")
        if (self.request.content_length or 0) > LARGEST_BODY:
            raise _too_large()
        content = bytearray()
        try:
            async with asyncio.timeout(BODY_WITHIN.total_seconds()):
                await self._continue()
                async for chunk in self.request.content.iter_any():
                    content += chunk
                    if len(content) > LARGEST_BODY:
                        raise _too_large()
        except TimeoutError:
            raise Invalid(("body", "did not arrive in time")) from None
        except (web.HTTPException, OSError):
            raise
        except ValueError:
            raise Invalid(("body", "is malformed")) from None
        return bytes(content)

    async def _continue(self) -> None:
        """Ask for the body if the caller waits for that with it (RFC 9110 section 10.1.1). A refusal does without it."""
        request = self.request
        waits = request.headers.get("Expect", "").lower() == "100-continue"
        if waits and request.version >= HttpVersion11 and not request.content.total_bytes:
            await request.writer.write(CONTINUE)
            request.writer.output_size = 0  # it belongs to no answer

    async def json(self, *types: str) -> Mapping[str, object]:
        """Return the JSON object in the body, of one of these content types. Raises Problem."""
        if self.content_type() not in types:
            raise Problem("unsupported-media-type", f"Send the body as {' or '.join(types)}.")
        return json_object(await self.body())


def json_object(content: bytes) -> Mapping[str, object]:
    """Return the JSON object in `content`. Raises Invalid, also for a name that is given twice."""
    try:
        found = json.loads(content.decode(), object_pairs_hook=_once, parse_constant=_no_constant)
    except Invalid:
        raise
    except (ValueError, RecursionError):
        raise Invalid(("body", "is not JSON in UTF-8")) from None
    if not isinstance(found, dict):
        raise Invalid(("body", "is not a JSON object"))
    if not _is_text(found):
        raise Invalid(("body", "contains a text that is not valid Unicode"))
    return found


def _once(pairs_: Iterable[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs_:
        if name in found:
            raise Invalid(("body", "gives a name twice"))
        found[name] = value
    return found


def _no_constant(_name: str) -> NoReturn:
    raise ValueError


def _is_text(value: object) -> bool:
    """Return whether every text in a JSON value can be encoded. An escaped lone surrogate is JSON, but no character."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError):
        return False
    return True


def prefers(one: str, *, over: str, accept: Iterable[str]) -> bool:
    """Return whether `Accept` names the media type `one`, and `over` with no greater weight (RFC 9110 §12.5.1)."""
    weights: dict[str, float] = {}
    for part in ",".join(accept).split(","):
        name, *parameters = (each.strip().lower() for each in part.split(";"))
        given = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        weights[name] = float(given) if _WEIGHT.fullmatch(given) else 0.0
    return weights.get(one, 0.0) > 0.0 and weights[one] >= weights.get(over, 0.0)


def segments_of(raw_path: str) -> list[str] | None:
    """Return the decoded segments of a path, or None if it is malformed. An encoded slash stays in its segment."""
    if _ESCAPE.search(raw_path):
        return None
    try:
        return [unquote_to_bytes(segment).decode() for segment in raw_path.removeprefix("/").split("/")]
    except UnicodeDecodeError:
        return None


def form(content: bytes) -> dict[str, str]:
    """Return the fields of an application/x-www-form-urlencoded body. Raises Invalid."""
    try:
        return pairs(content.decode("ascii"), "body")
    except UnicodeDecodeError:
        raise Invalid(("body", "is not form-encoded")) from None


def basic_credentials(decoded: str) -> tuple[str, str]:
    """Return the client id and secret of RFC 6749 §2.3.1, which are form-encoded."""
    name, _, secret = decoded.partition(":")
    return unquote(name.replace("+", " ")), unquote(secret.replace("+", " "))


def _too_large() -> Problem:
    return Problem("too-large", f"The body has more than {LARGEST_BODY} bytes.")
