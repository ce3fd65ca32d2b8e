"""The objects in a reply's body, whatever dress they come in. Total: any bytes are understood somehow.

A reply may hold the only copy of a refresh token, so it is read leniently: JSON whatever the content type says, behind
or before a comment, a notice or a guard against hijacking, inside a list or a JSON text, with raw line ends in its texts;
a form; compressed although that was not asked for; in UTF-16 or Latin-1. Leniency ends where it would guess: objects that
are nested in something unreadable are left alone, and of a reply that broke off only its complete members are read.
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
    """What a body holds. `text`: all of it, or None where the bytes are no text. `cut`: the one object broke off, and
    holds what was complete of it. `whole`: the body ended as announced. `source`: the text of an ordinary body, which is
    one object; it has no other `text`.
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
    """What `body` holds. `whole`: it ended as announced."""
    if whole and (plain := _plain(body)) is not None:
        return plain
    text = _text_of(body)
    if text is None or _is_page(text):  # what stands in a page's scripts is no reply
        return Parsed(text=text, whole=whole)
    objects = tuple(islice(_objects(text), _MOST))
    if not objects and whole and (form := _form(text, content_type)):
        objects = (form,)
    closed = None if objects else _closed(text)
    if closed:
        return Parsed(objects=(closed,), text=text, cut=True, whole=whole)
    return Parsed(objects=objects, text=text, whole=whole)


def embedded(text: str) -> tuple[Body, ...]:
    """The objects that a text inside a reply holds, where it is JSON itself."""
    return tuple(islice(_objects(text), _MOST)) if text.lstrip()[:1] in ("{", "[") else ()


def _is_page(text: str) -> bool:
    return text.startswith("<") and _MARKUP.search(text, 0, _HEAD_OF_PAGE) is not None


def _plain(body: bytes) -> Parsed | None:
    """The object that nearly every reply is, read the short way."""
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
    """`body`, decompressed where it begins as gzip and zlib do; twice, where two of a kind compressed it."""
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
    """`body` as text, without blanks around it; None where it is none in any encoding that JSON comes in."""
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
    """Each object at the top of `text`, with whatever else stands before, between and behind them."""
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
    """How many characters were read from `at` on until that failed. A text without an end is read to the very end."""
    if isinstance(why, json.JSONDecodeError) and not why.msg.startswith("Unterminated"):
        return why.pos - at
    return len(text) - at


def _in_value(value: object, depth: int) -> Iterator[Body]:
    """The objects that a JSON value is: itself, a list's members, or those in a JSON text."""
    if isinstance(value, Mapping):
        yield value
    elif isinstance(value, list):
        yield from (member for member in value if isinstance(member, Mapping))
    elif isinstance(value, str) and depth < _DEPTH:
        yield from _objects(value, depth + 1)


def _form(text: str, content_type: str) -> Body | None:
    """A form-encoded body, where the content type says so or nothing else looks like it. Only of a whole reply: cut
    short, its last value would look like a shorter one.
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
    """The object that `text` begins and does not end, with those of its members that are complete."""
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
    """The object of `pairs`. Where a token is given twice and differently, nobody can tell which one is good: both are
    kept in a list, which is no token. Of other names the last counts, as usual.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        for name in found:
            values = [value for key, value in pairs if key == name]
            if "token" in name.lower() and any(value != values[0] for value in values):
                found[name] = values
    return found


def _number(digits: str) -> int | float:
    """A whole number of any length: Python refuses to read one of thousands of digits."""
    return int(digits) if len(digits) < 400 else float(digits)


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_unambiguous, parse_int=_number)
