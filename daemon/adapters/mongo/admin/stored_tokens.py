"""Stored tokens, decrypted, for whatever writes them to another place: exports, mirrors and comparisons."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from datetime import datetime

from pymongo import UpdateOne
from pymongo.errors import PyMongoError

from daemon.adapters.keyring import DecryptionError, KeyRing
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.token_document import Document, InvalidDocument, token_of
from daemon.domain.layout import Values
from daemon.domain.origin import Origin, StoredToken, Unreadable
from daemon.domain.stored_grant import GONE
from daemon.domain.token import State

AT_ONCE = 500
ORIGIN_REST = "origin_rest"  # the name under which the rest of an imported row is sealed
_FOLLOWED = ("access_token", "refresh_token", "state", "origin.activated", "origin.key")


class StoredTokens:
    """Every method raises StoreLost if MongoDB is down."""

    def __init__(self, mongo: Mongo, keyring: Callable[[], KeyRing]) -> None:
        self._mongo = mongo
        self._keyring = keyring

    async def batches(
        self, providers: Collection[str] | None = None
    ) -> AsyncIterator[Sequence[StoredToken | Unreadable]]:
        """Yield all tokens (of `providers`) by id, some hundred at a time, without those that are gone."""
        of_them = {} if providers is None else {"provider": {"$in": list(providers)}}
        query = {**of_them, "state": {"$nin": sorted(GONE)}}
        batch: list[StoredToken | Unreadable] = []
        try:
            async for document in self._mongo.tokens.find(query, batch_size=AT_ONCE).sort("_id", 1):
                batch.append(self._opened(document))
                if len(batch) == AT_ONCE:
                    yield batch
                    batch = []
        except PyMongoError as error:
            raise self._mongo.lost(error) from None
        if batch:
            yield batch

    async def of(self, ids: Collection[str]) -> Sequence[StoredToken | Unreadable]:
        """Return those of `ids` that are stored, also as the tombstone of a token that is gone."""
        return await self._found({"_id": {"$in": list(ids)}})

    async def living(self, ids: Collection[str]) -> Sequence[StoredToken | Unreadable]:
        """Return those of `ids` that are stored and not gone."""
        return await self._found({"_id": {"$in": list(ids)}, "state": {"$nin": sorted(GONE)}})

    async def _found(self, query: Document) -> Sequence[StoredToken | Unreadable]:
        found = self._mongo.tokens.find(query)
        return [self._opened(document) for document in await self._mongo.guarded(found.to_list())]

    async def marks(self, providers: Collection[str] | None) -> AsyncIterator[tuple[str, str]]:
        """Yield each token's id and a mark that changes with what a mirror shows of it."""
        query = {} if providers is None else {"provider": {"$in": list(providers)}}
        fields = dict.fromkeys(_FOLLOWED, 1)
        try:
            async for row in self._mongo.tokens.find(query, fields, batch_size=AT_ONCE * 10):
                origin = row.get("origin")
                activated = isinstance(origin, Mapping) and origin.get("activated")
                parts = (row.get("access_token"), row.get("refresh_token"), row.get("state"), activated)
                yield str(row["_id"]), "\n".join(map(str, parts))
        except PyMongoError as error:
            raise self._mongo.lost(error) from None

    async def note_written(self, digests: Mapping[str, tuple[str, str]]) -> None:
        """Replace the digest of each imported token's row: by id, the former one and the new one."""
        updates = [
            UpdateOne(
                {"_id": name, "origin.hash": before},
                [{"$set": {"origin.hash": after, "origin.grant": "$grant_fingerprint"}}],
            )
            for name, (before, after) in digests.items()
        ]
        for start in range(0, len(updates), AT_ONCE):
            await self._mongo.guarded(
                self._mongo.tokens.bulk_write(updates[start : start + AT_ONCE], ordered=False)
            )

    def digest(self, text: str) -> str:
        """Return a keyed digest of `text`."""
        return self._keyring().fingerprint(text)

    def matches(self, text: str, digest: str) -> bool:
        """Return whether `digest` is one of `text`, under the key that it names."""
        key_id = digest.rpartition(".")[0]
        ring = self._keyring()
        return key_id in ring.ids and ring.fingerprint(text, key_id) == digest

    def _opened(self, document: Document) -> StoredToken | Unreadable:
        name = str(document["_id"])
        try:
            token = token_of(document, self._keyring())
            origin = self._origin(document)
        except (InvalidDocument, DecryptionError) as why:
            return Unreadable(id=name, why=str(why))
        lease, meta = document.get("lease"), document.get("meta")
        return StoredToken(
            id=name,
            values=Values(
                provider=token.provider,
                account=token.account,
                access_token=token.access_token,
                refresh_token=token.refresh_token,
                token_type=_text(document.get("token_type")),
                scope=_text(document.get("scope")),
                issued_at=token.issued_at,
                expires_at=token.expires_at,
                last_used_at=_date(document.get("last_used_at")),
                subject=_text(document.get("subject")),
                meta={str(k): v for k, v in meta.items() if isinstance(v, str)}
                if isinstance(meta, Mapping)
                else {},
                vars=token.vars,
            ),
            origin=origin,
            usable=token.state is State.ACTIVE,
            revoking=token.state is State.REVOKING,
            unsettled=token.doubt is not None
            or (isinstance(lease, Mapping) and lease.get("claim") is not None),
        )

    def _origin(self, document: Document) -> Origin | None:
        name, stored = str(document["_id"]), document.get("origin")
        if not isinstance(stored, Mapping):
            return None
        texts = [stored.get(field) for field in ("layout", "source", "key", "hash")]
        if not all(isinstance(text, str) for text in texts):
            return None
        layout, source, key, digest = map(str, texts)
        return Origin(
            layout=layout,
            source=source,
            key=key,
            cells=self._keyring().open(stored.get("rest"), token_id=name, field=ORIGIN_REST),
            digest=digest,
            activated=stored.get("activated") is not None,
            untouched=stored.get("grant") == document.get("grant_fingerprint"),
        )


def _text(value: object) -> str | None:
    return value if type(value) is str else None


def _date(value: object) -> datetime | None:
    return value if isinstance(value, datetime) else None
