"""Documents as text, and back."""

import json
import math
from datetime import UTC
from typing import Any

import bson
import pytest
from bson import json_util
from bson.codec_options import DatetimeConversion
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.mongo.admin.document_lines import document_of, line_of
from daemon.domain.backup import ArchiveInvalid

names = st.text(max_size=8).filter(lambda text: "\0" not in text) | st.sampled_from(
    ["$date", "$oid", "$a", "a.b"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=20)
    | st.binary(max_size=20) | st.builds(bson.ObjectId)
    | st.datetimes(timezones=st.just(UTC)) | st.builds(bson.DatetimeMS, st.integers(-(2**60), 2**60)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(names, values, max_size=6), st.text(max_size=20) | st.integers(0, 9))
def test_every_document_becomes_one_line_and_the_same_document_again(fields: dict[str, Any], name: object):
    """Byte for byte, whatever MongoDB can hold."""
    raw = bson.encode({"_id": name, **fields})
    line = line_of(RawBSONDocument(raw))
    assert b"\n" not in line
    assert not line.startswith(b'{"refreshd":')
    again = document_of(line)
    assert (bytes(again.raw) if isinstance(again, RawBSONDocument) else bson.encode(again)) == raw


def test_what_json_would_change_is_kept_as_bytes():
    """A name that occurs twice, a text that is not UTF-8, a name that looks like a type, NaN with a sign."""
    plain = bson.encode({"_id": 1, "a": 1, "b": math.pi})
    for raw in (
        plain.replace(b"\x10a\0", b"\x10b\0"),
        bson.encode({"_id": 1, "a": "caf?"}).replace(b"caf?", b"caf\xe9"),
        bson.encode({"_id": 1, "a": {"$oid": "x"}}),
        bson.encode({"_id": 1, "a": [{"b": -math.nan}]}),
    ):
        line = line_of(RawBSONDocument(raw))
        assert line.startswith(b'{"bson":')
        assert document_of(line).raw == raw
    assert line_of(RawBSONDocument(plain)).startswith(b'{"_id":')


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"7", b"{", b'{"a": 1}', b'{"bson": "%%"}', b'{"bson": "AAAA"}', b'{"_id": {"$oid": "x"}}'],
)
def test_a_line_that_is_none_of_ours_is_refused(line: bytes):
    with pytest.raises(ArchiveInvalid):
        document_of(line)


@given(values)
def test_the_text_is_what_pymongo_writes(value: object):
    """So that other programs read it: the converter for frequent types is no dialect of its own."""
    document = {"_id": 1, "value": value}
    line = line_of(RawBSONDocument(bson.encode(document)))
    again = bson.decode(
        bson.encode(document),
        codec_options=bson.CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO),
    )
    if not line.startswith(b'{"bson":'):
        assert json.loads(line) == json.loads(
            json_util.dumps(again, json_options=json_util.CANONICAL_JSON_OPTIONS)
        )
