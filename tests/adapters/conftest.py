"""Fixtures that several files of this room share."""

from tests.adapters.mongo.mongo_bench import bench, database

__all__ = ["bench", "database"]
