"""The objects in a reply's body, in any notation. Total: any bytes can be parsed.

A reply may hold the only copy of a refresh token, so it is read leniently: JSON whatever the content type
says, behind or before a comment, a notice or a guard against hijacking, inside a list or a JSON text, with
raw line ends in its texts; a form; compressed although that was not requested; in UTF-16 or Latin-1. Leniency
ends before guesses: objects that are nested in unreadable text are ignored, and from a truncated reply only
complete members are read.
"""

import json
import re
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from urllib.parse import parse_qsl

Body = Mapping[str, object]

LARGEST_TEXT = 512 * 1024  # bytes that a compressed body may unfold to; the rest is as if it had not come
_ATTEMPTS = 32  # places at which an object is looked for
_SCANNED = 512 * 1024  # characters that are read in vain there
_MOST = 16  # objects in one reply
_DEPTH = 3  # JSON texts inside JSON texts
_NESTING = 20  # of an object that broke off, and so many words of it are looked at
_WORDS = 2000
_GZIP, _ZLIB = b"\x1f\x8b", re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_ANY_HEADER, _NO_HEADER = 47, -15  # zlib's `wbits`: gzip or zlib, and raw deflate
_BOMS = (
    (BOM_UTF8, "utf-8"),
    (BOM_UTF32_LE, "utf-32-le"),  # begins as UTF-16's does
    (BOM_UTF32_BE, "utf-32-be"),
    (BOM_UTF16_LE, "utf-16-le"),
    (BOM_UTF16_BE, "utf-16-be"),
)
_BLANK = "\x00\ufeff \t\r\n\x0b\x0c\x1a\x85\xa0"
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd]")
_START = re.compile(r'\{\s*["}]|\[\s*[{\["\]]|"\s*(?:[{\[]|\\")')  # of an object, a list, a JSON text
_FORM = re.compile(r"[^\s=&<>{}\"]+=[^\s<>{}\"]*")
_FORM_NAME = re.compile(r"token|error|code|status|message|expires", re.IGNORECASE)  # base64 holds "=", too
# A text without an end takes all that follows: searched again at each of its quotes, a long one would cost minutes.
_TOKENS = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+(?:(")|.*)|[{}\[\]:,]|[^\s"{}\[\]:,]+)', re.DOTALL)
_CLOSING = {"{": "}", "[": "]"}
_HEAD_OF_PAGE = 4096  # characters
_MARKUP = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """The content of a body.

    `text`: all of it, or None if the bytes are not text. `cut`: the one object is truncated, and has its
    complete members only. `whole`: the body ended as announced. `source`: the text of an ordinary body, which
    is one object without any other `text`.
    """

    objects: tuple[Body, ...] = ()
    text: str | None = ""
    source: str = field(default="", repr=False)
    cut: bool = False
    whole: bool = True

    @property
    def is_page(self) -> bool:
        """Whether this is a page for people."""
        return _is_page(self.text or "")


def parse(body: bytes, *, content_type: str, whole: bool) -> Parsed:
    """Return the content of `body`. `whole`: it ended as announced."""
    if whole and (plain := _plain(body)) is not None:
        return plain
    text = _text_of(body)
    if text is None or _is_page(text):  # JSON in a page's scripts isn't a reply
        return Parsed(text=text, whole=whole)
    objects = tuple(islice(_objects(text), _MOST))
    if not objects and whole and (form := _form(text, content_type)):
        objects = (form,)
    closed = None if objects else _closed(text)
    if closed:
        return Parsed(objects=(closed,), text=text, cut=True, whole=whole)
    return Parsed(objects=objects, text=text, whole=whole)


def embedded(text: str) -> tuple[Body, ...]:
    """Return the objects in a text inside a reply, if that text is JSON itself."""
    return tuple(islice(_objects(text), _MOST)) if text.lstrip()[:1] in ("{", "[") else ()


def _is_page(text: str) -> bool:
    return text.startswith("<") and _MARKUP.search(text, 0, _HEAD_OF_PAGE) is not None


def _plain(body: bytes) -> Parsed | None:
    """Return the object of an ordinary reply, by the fast path."""
    if not body.lstrip().startswith(b"{"):
        return None
    try:
        text = body.decode()
        found = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return Parsed(objects=(found,), source=text) if isinstance(found, dict) else None


def _text_of(body: bytes) -> str | None:
    body = _unpacked(body)
    text = _decoded(body)
    if text is None and (inflated := _inflated(body, _NO_HEADER)):
        text = _decoded(inflated)
    return text


def _unpacked(body: bytes) -> bytes:
    """Return `body` decompressed if it begins like gzip or zlib; twice if it was compressed twice."""
    for _ in range(2):
        if body.startswith(_GZIP) or _ZLIB.match(body):
            body = _inflated(body, _ANY_HEADER) or body
    return body


def _inflated(body: bytes, wbits: int) -> bytes:
    try:
        return zlib.decompressobj(wbits).decompress(body, LARGEST_TEXT)
    except zlib.error:
        return b""


def _decoded(body: bytes) -> str | None:
    """Return `body` as text without surrounding blanks, or None if it is text in none of JSON's encodings."""
    for bom, encoding in _BOMS:
        if body.startswith(bom):
            text = body[len(bom) :].decode(encoding, errors="replace")
            break
    else:
        text = _without_bom(body)
    text = text.strip(_BLANK)
    return None if len(_NO_TEXT.findall(text)) * 20 > len(text) else text


def _without_bom(body: bytes) -> str:
    encoding = json.detect_encoding(body)
    if encoding != "utf-8":
        text = body.decode(encoding, errors="replace")
        if 2 * sum(character.isascii() for character in text) > len(text):
            return text
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body.decode("latin-1")  # whatever it is, tokens and names are ASCII


def _objects(text: str, depth: int = 0) -> Iterator[Body]:
    """Yield each object at the top level of `text`, whatever text is before, between and after them."""
    at = opened = scanned = 0
    for _ in range(_ATTEMPTS):
        start = _START.search(text, at)
        if start is None:
            return
        opened += text.count("{", at, start.start()) - text.count("}", at, start.start())
        at = start.start()
        try:
            value, end = _DECODER.raw_decode(text, at)
        except RecursionError:  # no reply is so deep, and trying further in would cost as much again
            return
        except ValueError as why:
            scanned += _read_in_vain(text, at, why)
            if scanned > _SCANNED:
                return
            opened += text.startswith("{", at)
            at += 1
            continue
        at = end
        if opened <= 0:
            yield from _in_value(value, depth)


def _read_in_vain(text: str, at: int, why: ValueError) -> int:
    """Return how many characters from `at` on were read until parsing failed. An unterminated text is read to
    its end.
    """
    if isinstance(why, json.JSONDecodeError) and not why.msg.startswith("Unterminated"):
        return why.pos - at
    return len(text) - at


def _in_value(value: object, depth: int) -> Iterator[Body]:
    """Yield the objects in a JSON value: itself, a list's members, or those in a JSON text."""
    if isinstance(value, Mapping):
        yield value
    elif isinstance(value, list):
        yield from (member for member in value if isinstance(member, Mapping))
    elif isinstance(value, str) and depth < _DEPTH:
        yield from _objects(value, depth + 1)


def _form(text: str, content_type: str) -> Body | None:
    """Return the fields of a form-encoded body, if the content type says so or nothing else fits. Only
    complete replies count, because the last value of a truncated one would look like a shorter value.
    """
    declared = "x-www-form-urlencoded" in content_type.lower()
    if not declared and not _FORM.fullmatch(text):
        return None
    try:
        form = _unambiguous(parse_qsl(text, max_num_fields=100))
    except ValueError:
        return None
    return form if declared or any(map(_FORM_NAME.search, form)) else None


def _closed(text: str) -> Body | None:
    """Return the truncated object at the start of `text`, with its complete members."""
    end, closing = 0, ""
    stack: list[str] = []
    before = ""
    start = text.find("{")
    for token in islice(_TOKENS.finditer(text, max(start, 0)), _WORDS):
        mark = token[1]
        if mark.startswith('"') and token[2] is None:
            break
        if mark in _CLOSING:
            stack.append(_CLOSING[mark])
        elif mark in "}]" and (not stack or stack.pop() != mark):
            break
        if mark in "}]" or (mark.startswith('"') and before == ":"):
            end, closing = token.end(), "".join(reversed(stack))
        elif mark == ",":
            end, closing = token.start(1), "".join(reversed(stack))
        if not stack or len(stack) > _NESTING:
            break
        before = mark
    try:
        found = _DECODER.decode(text[start:end] + closing)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _unambiguous(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Return the object of `pairs`. If a token or an error appears twice with different values, the good one is
    unknown: both are kept in a list, which is neither a token nor a verdict. For other names the last value is
    used, as usual.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        for name in found:
            values = [value for key, value in pairs if key == name]
            if _is_decisive(name) and any(value != values[0] for value in values):
                found[name] = values
    return found


def _is_decisive(name: str) -> bool:
    return name == "error" or "token" in name.lower()


def _number(digits: str) -> int | float:
    """Return a whole number of any length. Python refuses to parse thousands of digits."""
    return int(digits) if len(digits) < 400 else float(digits)


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_unambiguous, parse_int=_number)
