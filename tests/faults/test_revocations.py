"""Revocations by the real daemon, at a provider whose ledger shows what is alive.

A crash comes before and after each step of a revocation, and of a refresh that an order overtakes. No grant may be alive
at the provider that is reported as revoked, and in the end none is alive at all. The races let orders and consents come at
random moments beside refreshes.
"""

import asyncio
import signal
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from daemon.adapters.mongo.admin.consents import Consents, Refused
from daemon.adapters.mongo.admin.revocations import Revocations, RevocationSelection
from daemon.adapters.mongo.audit import Audit, Who
from daemon.adapters.mongo.connection import Mongo
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.runtime.clock import Clock
from tests.e2e.daemon_process import Installation
from tests.faults.crashing import CRASHED
from tests.faults.stage import Stage
from tests.support import wall_clock

TOKENS, SECOND = 8, 4  # the second crash comes at this occurrence
SETTLED = timedelta(seconds=60)
LATENCY = timedelta(milliseconds=300)  # of replies, where a crash comes before them

STEPS = [
    *("claim.before", "claim.taken", "claim.after"),
    *("ask.before", "ask.connected", "ask.midway", "ask.after"),
    *("record.before", "record.slow", "record.after"),
]
OF_A_REFRESH = [
    *("claim.after", "ask.before", "ask.midway", "ask.after", "keep.before", "keep.durable", "keep.after"),
    *("record.before", "record.after", "forget.before", "forget.after"),
]
SHORT = ["ask.after"]  # the grant is revoked, and nothing is recorded


def revocable(scene: Stage) -> Installation:
    revoke_url = scene.sandbox.revoke_url
    assert revoke_url is not None
    return scene.install(concurrency=2, revoke_url=revoke_url)


async def order_all(scene: Stage) -> None:
    """What `refreshd revoke` writes."""
    now = wall_clock.now()
    await scene.tokens.update_many(
        {"state": {"$in": ["active", "needs_reauth"]}},
        [
            {
                "$set": {
                    "state": "revoking",
                    "due_at": now,
                    "revision": {"$add": [{"$ifNull": ["$revision", 0]}, 1]},
                    "revocation": {"since": now, "not_before": None, "tries": 0},
                }
            }
        ],
    )


def alive(scene: Stage) -> set[str]:
    return {str(grant["account"]) for grant in scene.ledger() if grant["revoked_by"] is None}


async def reported_and_alive(scene: Stage) -> set[str]:
    reported = {one["_id"].partition(":")[2] async for one in scene.tokens.find({"state": "revoked"})}
    return reported & {str(grant["id"]) for grant in scene.ledger() if grant["revoked_by"] is None}


async def all_revoked(scene: Stage) -> None:
    async with asyncio.timeout(SETTLED.total_seconds()):
        while await scene.tokens.count_documents({"state": {"$ne": "revoked"}}):
            await asyncio.sleep(0.1)


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:1]
    except FileNotFoundError:
        return False


async def crash(scene: Stage, place: Installation, point: str, occurrence: int, *, ordered: bool) -> None:
    """Let the daemon die at that step. The orders come while its first requests are running, or before."""
    before = scene.refreshes()
    async with scene.running(place, point, occurrence) as daemon:
        if not ordered:
            await scene.until(lambda: scene.refreshes() > before or not is_running(daemon.pid), of=daemon)
            await order_all(scene)
        assert await daemon.ended(within=timedelta(seconds=30)) in (CRASHED, -signal.SIGKILL), daemon.logs
    assert await reported_and_alive(scene) == set()


async def crashed(
    scene: Stage, point: str, *, ordered: bool, occurrences: Sequence[int] = (1, SECOND)
) -> None:
    place = revocable(scene)
    await scene.consent(TOKENS)
    if ordered:
        await order_all(scene)
    if point.startswith(
        ("claim.", "keep.", "forget.")
    ):  # a claim takes several tokens, a revocation no reply
        occurrences = (1,)
    for occurrence in occurrences:
        await crash(scene, place, point, occurrence, ordered=ordered or occurrence > 1)
    await order_all(scene)
    async with scene.running(place) as daemon:
        await all_revoked(scene)
        assert await daemon.stop() == 0
    assert await reported_and_alive(scene) == set()
    assert alive(scene) == set()
    assert scene.journal(place) == set()


@pytest.mark.slow
@pytest.mark.parametrize("point", SHORT)
async def test_a_crash_leaves_no_grant_alive_that_is_reported_as_revoked(stage, point):
    """The daemon dies at one step of a revocation, and finishes it when it is started again."""
    await crashed(await stage(), point, ordered=True, occurrences=[2])


@pytest.mark.long
@pytest.mark.parametrize("point", [step for step in STEPS if step not in SHORT])
async def test_a_crash_at_any_step_of_a_revocation(stage, point):
    latency = LATENCY if point == "ask.midway" else timedelta()
    await crashed(await stage(latency=latency), point, ordered=True)


@pytest.mark.long
@pytest.mark.parametrize("point", OF_A_REFRESH)
async def test_a_crash_at_any_step_of_a_refresh_that_an_order_overtakes(stage, point):
    """J3: the successor that the refresh has brought is what is revoked, or the provider has ended the grant."""
    await crashed(await stage(latency=LATENCY), point, ordered=False)


# ---------------------------------------------------------------- races


class Races:
    """Orders and consents through the real adapters, beside a daemon that refreshes without a pause."""

    def __init__(self, scene: Stage, mongo: Mongo, seed: int) -> None:
        self._scene, self._mongo, self._chance = scene, mongo, Random(seed)
        self._audit = Audit(mongo, who=Who(actor="test@host"), log=lambda _record: None)
        self.newest: dict[str, str] = {}  # the grant that was stored last, by token
        self.ordered: dict[str, bool] = {}  # whether that one is to be revoked

    async def race(self, name: str, deeds: Sequence[str], within: timedelta) -> None:
        """Do `deeds` to one token at random moments, in any order."""
        self.newest[name], self.ordered[name] = name.partition(":")[2], False
        moments = sorted((self._chance.random() * within.total_seconds(), deed) for deed in deeds)
        passed = 0.0
        for moment, deed in moments:
            await asyncio.sleep(moment - passed)
            passed = moment
            await (self._order(name) if deed == "order" else self._consent(name))

    async def _order(self, name: str) -> None:
        orders = Revocations(self._mongo, self._audit)
        found = await orders.find(RevocationSelection(ids=[name]))
        self.ordered[name] = name in await orders.order(found, not_before=None)

    async def _consent(self, name: str) -> None:
        """The owner consents again. While the token is being revoked, the grant is refused and given up."""
        keyring = self._scene.places[0].keyring
        [grant] = self._scene.sandbox.consent()
        now = wall_clock.now()
        token = Token(
            id=name,
            provider="sandbox",
            account=name.partition(":")[2],
            state=State.ACTIVE,
            access_token=Secret(str(grant["access_token"])),
            refresh_token=Secret(str(grant["refresh_token"])),
            issued_at=now,
            expires_at=now + timedelta(minutes=2),
            due_at=now,
        )
        try:
            await Consents(self._mongo, keyring, self._audit).add(token)
        except Refused:
            assert self.ordered[name], "refused, though nothing was ordered"
            return
        self.newest[name], self.ordered[name] = str(grant["grant"]), False


async def settled_races(scene: Stage, races: Races) -> None:
    async with asyncio.timeout(SETTLED.total_seconds()):
        while await scene.tokens.count_documents({"state": "revoking"}):
            await asyncio.sleep(0.1)


def states_of(documents: Sequence[dict[str, Any]]) -> dict[str, str]:
    return {one["_id"]: one["state"] for one in documents}


@pytest.mark.long
@pytest.mark.parametrize("count", [20, 200])
@pytest.mark.parametrize("deeds", [("order", "consent")], ids=" and ".join)
async def test_races_leave_nothing_alive_and_the_newest_consent(
    stage, mongod, database_name, deeds, count, capsys
):
    """A third of the tokens gets an order, a third a consent, and a third both: beside refreshes, again and again."""
    scene = await stage(latency=timedelta(milliseconds=20))
    place = scene.install(concurrency=8, revoke_url=scene.sandbox.revoke_url)
    await scene.consent(3 * count)
    names = [one["_id"] async for one in scene.tokens.find({}, {"_id": 1})]
    within = timedelta(seconds=1 + count / 50)
    mongo = Mongo(
        uri=Secret(mongod),
        database=database_name,
        collection="tokens",
        clock=Clock(),
        observe=lambda _event: None,
    )
    await mongo.hello()  # its clock
    try:
        races = Races(scene, mongo, seed=19)
        async with scene.running(place) as daemon:
            await scene.until(lambda: scene.refreshes() > 0, of=daemon)
            async with scene.pressed(timedelta(milliseconds=200)):
                kinds = [deeds[:1], deeds[1:], deeds]
                await asyncio.gather(
                    *(races.race(name, kinds[at % 3], within) for at, name in enumerate(names))
                )
            await settled_races(scene, races)
            await scene.settled(lambda one: one.get("lease") is None, within=SETTLED)
            assert await daemon.stop() == 0
    finally:
        await mongo.close()
    documents = await scene.tokens.find({}).to_list()
    found, ledger = states_of(documents), {str(one["id"]): one for one in scene.ledger()}
    for name in names:
        dead = ledger[races.newest[name]]["revoked_by"] is not None
        expected = ("revoked", True) if races.ordered[name] else ("active", False)
        assert (found[name], dead) == expected, name
    with capsys.disabled():
        revoked = sum(races.ordered.values())
        print(
            f"\n{3 * count} races, {scene.refreshes()} refreshes: {revoked} revoked, {len(names) - revoked} active"
        )
