"""Documents as text and back, and one moment of a store that changes."""

import math
from datetime import UTC
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.mongo.admin.backups import MongoBackupSource, document_of, line_of
from daemon.domain.backup import ArchiveInvalid, SnapshotLost

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
    """A name that occurs twice, a text that is not UTF-8, a name that looks like a type."""
    plain = bson.encode({"_id": 1, "a": 1, "b": math.pi})
    for raw in (
        plain.replace(b"\x10a\0", b"\x10b\0"),
        bson.encode({"_id": 1, "a": "caf?"}).replace(b"caf?", b"caf\xe9"),
        bson.encode({"_id": 1, "a": {"$oid": "x"}}),
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


async def test_all_collections_are_read_as_of_one_moment(bench):
    """What changes while they are read is not seen: neither in a later collection nor in a later batch."""
    mongo = bench.store()._mongo
    await mongo.adapt()
    bench.tokens.insert_many([{"_id": f"acme:{n:05}", "text": "before"} for n in range(3000)])
    bench.providers.insert_one({"_id": "acme", "text": "before"})
    async with MongoBackupSource(mongo, snapshot=True) as source:
        assert await source.suffixes() == ["_providers", ""]
        seen = []
        async for lines in source.documents(""):
            seen += lines
            bench.tokens.update_many({}, {"$set": {"text": "after"}})
            bench.tokens.insert_one({"_id": f"zzz:{len(seen)}"})
            bench.providers.update_many({}, {"$set": {"text": "after"}})
        async for lines in source.documents("_providers"):
            seen += lines
    assert len(seen) == 3001
    assert all(b"before" in line for line in seen)
    async with MongoBackupSource(mongo, snapshot=False) as source:
        assert len([line async for lines in source.documents("") for line in lines]) == 3003


async def test_a_moment_that_mongodb_no_longer_has_is_said(bench):
    """The caller then reads without."""
    mongo = bench.store()._mongo
    await mongo.adapt()
    bench.tokens.insert_one({"_id": "acme:a"})
    with bench.fault("find", times=1, errorCode=239):
        async with MongoBackupSource(mongo, snapshot=True) as source:
            with pytest.raises(SnapshotLost):
                [lines async for lines in source.documents("")]
