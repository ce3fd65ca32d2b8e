"""One moment of a store that changes."""

import pytest

from daemon.adapters.mongo.admin.backups import MongoBackupSource
from daemon.domain.backup import SnapshotLost


async def test_all_collections_are_read_as_of_one_moment(bench):
    """What changes while they are read is not seen: neither in a later collection nor in a later batch."""
    mongo = bench.store()._mongo
    await mongo.adapt()
    bench.tokens.insert_many([{"_id": f"acme:{n:05}", "text": "before"} for n in range(3000)])
    bench.providers.insert_one({"_id": "acme", "text": "before"})
    for left_out in ("tokens_instances", "tokens_consents"):
        bench.database[left_out].insert_one({"_id": "x"})
    async with MongoBackupSource(mongo, snapshot=True) as source:
        assert await source.suffixes() == ["_access_use", "_audit", "_outbox", "_providers", ""]
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
