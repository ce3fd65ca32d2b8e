"""A process of the access service on a simulated day, as far as its audit is concerned: it notes requests as the routes
note them, with a clock that is moved, and stores its counts every ten seconds of it.

    python -m support.audited_day URI '{"process": 0, "first": 0, …}'

It prints the number of each ten seconds before it notes their requests. They follow from that number alone, so that
whoever ends this process knows what it has noted.
"""

import asyncio
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.serving.uses import ServedUses
from daemon.domain.access_key import AccessKey, Verb
from daemon.domain.secret import Secret
from daemon.domain.use import Workload
from daemon.serving.doorkeeper import Caller
from daemon.serving.usage import Usage

EVERY = timedelta(seconds=10)  # as the service stores its counts
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
REFUSED = 0.01  # of the requests
PROBLEM = "not-found"
NIGHT = 0.1  # of the rate at noon
RETENTION = timedelta(days=30)


class MovedClock:
    def __init__(self, at: datetime) -> None:
        self.at = at
        self.skew = None

    def boot(self) -> timedelta:
        return timedelta(seconds=time.monotonic())

    def now(self) -> datetime:
        return self.at

    def set_store_time(self, *_: object, **__: object) -> None:
        pass


class Traffic(NamedTuple):
    """The requests of a day that begins at `start`. `rate`: requests an hour, at noon if there is a `night`. `processes`
    answer them, each as many.
    """

    start: str
    rate: float
    keys: int
    tokens: int
    processes: int = 1
    night: bool = False

    @property
    def begins(self) -> datetime:
        return datetime.fromisoformat(self.start)

    def requests(self, process: int, number: int) -> list[tuple[int, bool]]:
        """Return the requests to one process within the `number`th ten seconds: which token, and whether it is refused.
        A token is read by the key of its tenant.
        """
        chance = random.Random(f"{process} {number}")
        each = self.rate * (EVERY / HOUR) / self.processes
        if self.night:
            noon = (1 - math.cos(2 * math.pi * (number * EVERY / DAY))) / 2
            each *= NIGHT + (1 - NIGHT) * noon
        count = math.floor(each + chance.random())
        return [(chance.randrange(self.tokens), chance.random() < REFUSED) for _ in range(count)]

    def callers(self) -> list[Caller]:
        """Return the callers: every tenth is a workload."""
        return [_caller(number) for number in range(self.keys)]

    def counted(self, process: int, number: int) -> Iterator[tuple[str, str | None, datetime]]:
        """Yield what the audit must say of these requests: the key, the token or none, and the day or the hour."""
        at = self.begins + number * EVERY
        day, hour = at.replace(hour=0, minute=0, second=0), at.replace(minute=0, second=0)
        for token, is_refused in self.requests(process, number):
            key = key_id(token % self.keys)
            yield (key, None, hour) if is_refused else (key, token_id(token), day)


def note(usage: Usage, callers: list[Caller], requests: list[tuple[int, bool]]) -> None:
    for number, is_refused in requests:
        caller = callers[number % len(callers)]
        if is_refused:
            usage.note(caller, None, PROBLEM)
        else:
            usage.note(caller, token_id(number), "read")


def connected(uri: str, database: str, clock: MovedClock) -> Mongo:
    return Mongo(uri=Secret(uri), database=database, collection="tokens", clock=clock, observe=lambda _: None)


def token_id(number: int) -> str:
    return f"bench:company-{number:06}"


def key_id(number: int) -> str:
    return f"key{number:017}"


def _caller(number: int) -> Caller:
    key = AccessKey(
        id=key_id(number),
        name=f"key {number}",
        secret_hash="",
        tokens=("bench:*",),
        can=frozenset({Verb.READ}),
    )
    workload = (
        Workload(issuer="https://issuer.example", subject=f"pod {number}", jwt="7f3a")
        if number % 10 == 0
        else None
    )
    return Caller(key=key, address=f"10.0.0.{number % 250}", workload=workload)


async def main(uri: str, given: dict[str, Any]) -> None:
    process, first, last = given.pop("process"), given.pop("first"), given.pop("last")
    database = given.pop("database")
    traffic = Traffic(**given)
    clock = MovedClock(traffic.begins)
    mongo = connected(uri, database, clock)
    usage = Usage(ServedUses(mongo, retention=RETENTION), clock)
    callers = traffic.callers()
    for number in range(first, last):
        print(number, flush=True)
        clock.at = traffic.begins + number * EVERY
        note(usage, callers, traffic.requests(process, number))
        await usage.store()
    await mongo.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
