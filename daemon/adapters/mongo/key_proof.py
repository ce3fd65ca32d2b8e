"""The proof that the keys of the access service are those of this store, by its check values."""

from base64 import b64encode

from daemon.adapters.door_keys import DoorKeys
from daemon.adapters.keyring import DecryptionError
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.keys import NOT_THE_KEY, place_of_check_value


async def wrong_keys(mongo: Mongo, keys: DoorKeys) -> list[str]:
    """Return a sentence for each reader or writer key that is not the one of this store. Raises StoreLost."""
    query = {"_id": {"$in": list(keys.reader_ids)}}
    rows = await mongo.guarded(mongo.keys.find(query, {"check_v1": 1, "writer_public_key": 1}).to_list())
    wrong = []
    for row in rows:
        key_id = str(row["_id"])
        try:
            keys.open_access_token(row.get("check_v1"), token_id=place_of_check_value(key_id))
        except DecryptionError:
            wrong.append(f"reader key {key_id!r} {NOT_THE_KEY}")
        public_key, stored = keys.public_key(key_id), row.get("writer_public_key")
        if public_key is not None and stored is not None and b64encode(public_key).decode() != stored:
            wrong.append(f"writer key {key_id!r} {NOT_THE_KEY}")
    return wrong
