"""Renewals beside another load: how fast one daemon renews tokens that fall due at the same moment, alone and beside it."""

import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from support.processes import DaemonProcess, Endpoint, Mongod, await_true
from support.tokens import WINDOW

LEAD = timedelta(seconds=2)  # from the order "due then" to the moment
LIMIT = 300.0  # seconds


class Renewals(NamedTuple):
    """`took`: seconds from the first request to the last write. `cpu`: seconds of the daemon."""

    count: int
    took: float
    cpu: float

    @property
    def rate(self) -> float:
        return self.count / self.took


def renew(daemon: DaemonProcess, endpoint: Endpoint, mongod: Mongod, ids: list[str]) -> Renewals:
    """Make the tokens due, and wait until each was renewed once."""
    tokens = mongod.database["tokens"]
    asked, cpu = endpoint.requests(), daemon.usage().cpu
    due_at = datetime.now(UTC) + LEAD
    tokens.update_many({"_id": {"$in": ids}}, {"$set": {"due_at": due_at, "expires_at": due_at + WINDOW}})
    if datetime.now(UTC) >= due_at:
        raise SystemExit("the tokens could not be made due in time: this machine is too busy")
    await_true(
        lambda: endpoint.requests() - asked >= len(ids),
        limit=LIMIT,
        why=f"not all tokens were renewed: {daemon.tail()}",
    )
    renewed = {"_id": {"$in": ids}, "refreshed_at": {"$gte": due_at}, "lease": None, "failures": 0}
    await_true(
        lambda: tokens.count_documents(renewed) == len(ids), limit=LIMIT, why="not all results were stored"
    )
    group = {"_id": None, "first": {"$min": "$issued_at"}, "last": {"$max": "$updated_at"}}
    (row,) = tokens.aggregate([{"$match": {"_id": {"$in": ids}}}, {"$group": group}])
    if endpoint.requests() - asked != len(ids):
        raise SystemExit("a token was presented more than once")
    time.sleep(1)  # the journal is being emptied
    return Renewals(len(ids), (row["last"] - row["first"]).total_seconds(), daemon.usage().cpu - cpu)
