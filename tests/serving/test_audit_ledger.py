"""A day of requests through the routes of two processes: the audit has each of them once, under the right key, token,
result and time.
"""

import random
from collections import Counter
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

import pytest
from aiohttp.test_utils import make_mocked_request

from daemon.adapters.mongo.serving.uses import ServedUses
from daemon.domain.access_key import AccessKey, Verb
from daemon.domain.claim import StoreLost
from daemon.domain.provider import Rate
from daemon.domain.use import DAY, HOUR, beginning
from daemon.runtime.access_web.asked import Asked, segments_of
from daemon.runtime.access_web.list_routes import ListRoutes
from daemon.runtime.access_web.route_tables import token_table, write_table
from daemon.runtime.access_web.routes import Routes
from daemon.runtime.access_web.token_routes import TokenRoutes
from daemon.serving.doorkeeper import Caller, Doorkeeper
from daemon.serving.reading import Reading
from daemon.serving.usage import Usage
from tests.serving.access_bench import ACME, AccessBench, bench, caller
from tests.serving.fakes import Keys, World, token

__all__ = ["bench"]
KEYS, TOKENS, REQUESTS = 5, 12, 600
NAMED = {"1", "10", "11", "2"}  # accounts of tokens that the keys name
HALF_MINUTE = timedelta(seconds=30)


class Process:
    """The routes of one process, with its own counts."""

    def __init__(self, bench: AccessBench, world: World) -> None:
        self.usage = Usage(ServedUses(bench.mongo, retention=timedelta(days=30)), bench.clock)
        reading = Reading(
            world, world, bench.clock, definitions=lambda: {"acme": ACME.definition}, fresh_for=HALF_MINUTE
        )
        doorkeeper = Doorkeeper(Keys(world), bench.clock, rate=Rate(count=10_000, per=timedelta(seconds=1)))
        tokens = TokenRoutes(reading, bench.clock, max_wait=timedelta(0))
        lists = ListRoutes(bench.listing, bench.clock)
        nothing = partial(pytest.fail, "is not used")
        self._routes = Routes(
            [
                *token_table(tokens, nothing, base=nothing, note=self.usage.note),  # type: ignore[arg-type]
                *write_table(_NoWrites(), lists, note=self.usage.note),  # type: ignore[arg-type]
            ],
            doorkeeper,
            observe=lambda *_: None,
            refused=self._refused,
            failed=lambda _where, error: pytest.fail(repr(error)),
        )

    def _refused(self, problem: str, who: Caller | None) -> None:
        if who is not None:
            self.usage.note(who, None, problem)

    async def get(self, path: str, key: str) -> int:
        request = make_mocked_request("GET", path, headers={"Authorization": f"Bearer {key}"})
        segments = segments_of(request.rel_url.raw_path)
        assert segments is not None
        return (await self._routes(Asked(request, segments, "10.0.0.1", None))).status


class _NoWrites:
    put = patch = remove = remove_all = None


async def test_the_audit_of_a_day_adds_up(bench: AccessBench):
    """Reads, lists and refusals of every kind, while MongoDB is away now and then."""
    chance = random.Random(21)
    bench.clock.start = bench.clock.start.replace(hour=0)
    world = World()
    world.clock = bench.clock
    later = bench.clock.start + 2 * DAY
    for number in range(TOKENS):
        state = "paused" if number % 4 == 3 else "active"
        world.store(token(f"acme:{number}", state=state, expires_at=later, due_at=later))
    keys = [
        world.key("acme:1*", "acme:2", can=(Verb.READ, Verb.LIST) if n else (Verb.READ,)) for n in range(KEYS)
    ]
    processes = [Process(bench, world) for _ in range(2)]
    ledger: Counter[tuple[object, ...]] = Counter()
    for _ in range(REQUESTS):
        bench.pass_time(chance.random() * 2 * DAY / REQUESTS)
        counted = await asked(chance, bench.clock.now(), *chance.choice(keys), chance.choice(processes))
        if counted is not None:
            ledger[counted] += 1
        if chance.random() < 0.05:
            await store(bench, chance.choice(processes), away=chance.random() < 0.3)
    for process in processes:
        await process.usage.store()
    assert sum(ledger.values()) > REQUESTS / 2
    assert len({one[-1] for one in ledger}) > 24
    assert await audited(bench) == ledger


async def asked(
    chance: random.Random, now: datetime, text: str, key: AccessKey, process: Process
) -> tuple[object, ...] | None:
    """Ask for something, and return what the audit should count."""

    def refused(problem: str) -> tuple[object, ...]:
        return key.id, "refused", None, problem, beginning(now, HOUR)

    account = str(chance.randrange(TOKENS))
    match chance.choice(["read", "read", "read", "list", "malformed", "stranger"]):
        case "read":
            status = await process.get(f"/v1/tokens/acme/{account}", text)
            if account not in NAMED:
                assert status == 404
                return refused("not-found")
            if int(account) % 4 == 3:
                assert status == 409
                return refused("paused")
            assert status == 200
            return key.id, "read", f"acme:{account}", None, beginning(now, DAY)
        case "list":
            status = await process.get("/v1/statistics", text)
            if Verb.LIST not in key.can:
                assert status == 404
                return refused("not-found")
            assert status == 200
            return key.id, "list", None, None, beginning(now, DAY)
        case "malformed":
            assert await process.get(f"/v1/tokens/acme/{account}?fresh_for=soon", text) == 400
            return refused("invalid-request")
    assert await process.get(f"/v1/tokens/acme/{account}", text[:-1] + "x") in (401, 429)
    return None


async def store(bench: AccessBench, process: Process, *, away: bool) -> None:
    if not away:
        await process.usage.store()
        return
    # The first updates are those of the keys. An insert is left out where every count is stored already.
    with bench.fault("insert", errorCode=11601), suppress(StoreLost):
        await process.usage.store()
    with bench.fault("update", errorCode=11601), suppress(StoreLost):
        await process.usage.store()


async def audited(bench: AccessBench) -> Counter[tuple[object, ...]]:
    """What the pages of the audit say."""
    found: Counter[tuple[object, ...]] = Counter()
    after = None
    while True:
        page = await bench.listing.records(caller("*"), limit=100, after=after)
        for one in page.items:
            by, at = one["by"], one["at"]
            assert isinstance(by, dict)
            assert isinstance(at, datetime)
            since = beginning(at, HOUR if one["action"] == "refused" else DAY)
            found[by["key"], one["action"], one["token"], one["result"], since] += int(str(one["count"]))
        if page.end is None:
            return found
        after = page.end
