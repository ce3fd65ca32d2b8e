"""Documents as lines of text, and back: canonical extended JSON, which keeps every type.

A document that such a text would change (a name that begins with "$", invalid UTF-8, a name that occurs twice, an
unusual "not a number") is a line with its BSON in base64 instead. The frequent types are converted here, because PyMongo's converter takes most of
the time that a backup takes; the others are left to it.
"""

import json
import math
import struct
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from json.encoder import encode_basestring_ascii as quoted
from typing import Any

import bson
from bson import DatetimeMS, Int64, json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.json_util import JSONMode, JSONOptions
from bson.raw_bson import RawBSONDocument

from daemon.domain.backup import ArchiveInvalid

Document = dict[str, Any] | RawBSONDocument

# Bytes that are not decoded, or decoded as far as they can be.
RAW = CodecOptions[RawBSONDocument](
    document_class=RawBSONDocument,
    tz_aware=True,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    unicode_decode_error_handler="replace",
)
_TYPES = CodecOptions[dict[str, Any]](tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)
_JSON = JSONOptions(
    json_mode=JSONMode.CANONICAL, tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
_BSON = b'{"bson":'
_INT32 = 1 << 31
_NAN = struct.pack("<d", math.nan)
_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
# The dates that a datetime can hold, in milliseconds since 1970.
_FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND


def line_of(raw: RawBSONDocument) -> bytes:
    """Return a document as one line of text, without a line end."""
    stored = bytes(raw.raw)
    try:
        document = bson.decode(stored, codec_options=_TYPES)
        line = _text(document).encode()
        if bson.encode(document) == stored and (b"$" not in stored or encoded(_parsed(line)) == stored):
            return line
    except (BSONError, ValueError, TypeError, OverflowError, RecursionError):
        pass
    return json.dumps({"bson": b64encode(stored).decode()}).encode()


def document_of(line: bytes) -> Document:
    """Return the document in a line. Raises ArchiveInvalid."""
    try:
        document = _parsed(line)
        encoded(document)
    except (BSONError, ValueError, TypeError, OverflowError, LookupError, AttributeError, RecursionError):
        document = {}
    if "_id" not in document:
        raise ArchiveInvalid("the archive contains a document in an unknown form. Use another backup")
    return document


def encoded(document: Document) -> bytes:
    """Return the BSON of a document."""
    return bytes(document.raw) if isinstance(document, RawBSONDocument) else bson.encode(document)


def _parsed(line: bytes) -> Document:
    if line.startswith(_BSON):
        return RawBSONDocument(b64decode(json.loads(line)["bson"], validate=True), RAW)
    parsed = json.loads(line, object_hook=_typed)
    if not isinstance(parsed, dict):
        raise TypeError("not a document")
    return parsed


def _text(value: object) -> str:
    convert = _CONVERTERS.get(type(value))
    return json_util.dumps(value, json_options=_JSON) if convert is None else convert(value)


def _of_whole(value: int) -> str:
    name = "$numberInt" if -_INT32 <= value < _INT32 else "$numberLong"
    return f'{{"{name}": "{value}"}}'


def _of_double(value: float) -> str:
    """Raises ValueError if the text would lose bits of the value."""
    if math.isnan(value) and struct.pack("<d", value) != _NAN:
        raise ValueError("NaN with a sign or a payload")
    return json_util.dumps(value, json_options=_JSON)


def _of_date(value: datetime) -> str:
    return f'{{"$date": {{"$numberLong": "{(value - _EPOCH) // _MILLISECOND}"}}}}'


def _of_object(value: Mapping[str, object]) -> str:
    return f"{{{', '.join(f'{quoted(name)}: {_text(inner)}' for name, inner in value.items())}}}"


_CONVERTERS: Mapping[type, Callable[[Any], str]] = {
    str: quoted,
    type(None): lambda _: "null",
    bool: lambda value: "true" if value else "false",
    int: _of_whole,
    float: _of_double,
    Int64: lambda value: f'{{"$numberLong": "{value}"}}',
    datetime: _of_date,
    dict: _of_object,
    list: lambda value: f"[{', '.join(map(_text, value))}]",
}


def _typed(parsed: dict[str, Any]) -> Any:
    """Return the value for which an object of extended JSON stands. The first name of each begins with "$"."""
    name = next(iter(parsed), "")
    if not name.startswith("$"):
        return parsed
    value = parsed[name]
    if len(parsed) == 1:
        match name:
            case "$numberInt":
                return int(value)
            case "$numberLong":
                return Int64(value)
            case "$date" if isinstance(value, int):
                return _EPOCH + value * _MILLISECOND if _FIRST <= value <= _LAST else DatetimeMS(int(value))
    return json_util.object_hook(parsed, json_options=_JSON)
