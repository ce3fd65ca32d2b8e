"""Races of revocations, consents and refreshes: nothing that was revoked is left alive, and the newest consent stands.

Each seed is one race at a provider that rotates and forgives nothing. The short form has a few seeds, the long one a
thousand of each kind.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random

import pytest

from daemon.domain.reply import NoReply, Reply
from daemon.domain.request import Request
from daemon.domain.secret import Secret
from daemon.domain.token import State
from tests.refreshing.fakes import World, answered, granted, unanswered
from tests.refreshing.test_revoking import revoking_provider

FEW, MANY = 100, 1000
TURNS = 60  # of the loop, about as many as a sweep takes
NAME = "acme:1"


class Grants:
    """A provider that issues a grant for each consent. Each has one living refresh token, GRANT.GENERATION; a spent one is
    accepted once more, as by a retry. Only the living one ends its grant.
    """

    def __init__(self, chance: Random) -> None:
        self.alive: dict[int, int] = {0: 0}  # generations, by grant
        self.lost_replies = chance.choice([0, 0, 0, 1])
        self.failures = chance.choice([0, 0, 1])  # of revocations

    def consent(self) -> Secret:
        self.alive[1] = 0
        return Secret("refresh-1.0")

    def __call__(self, request: Request) -> Reply | NoReply:
        presented = request.body.decode().partition("refresh-")[2].partition("&")[0]
        grant, generation = map(int, presented.split("."))
        living = self.alive.get(grant)
        if request.url.endswith("/revoke"):
            if self.failures:
                self.failures -= 1
                return answered({}, status=503)
            if living == generation:
                del self.alive[grant]
            return answered({})
        if living is None or generation not in {living, living - 1}:
            return answered({"error": "invalid_grant"}, status=400)
        self.alive[grant] = living + (generation == living)
        if self.lost_replies:
            self.lost_replies -= 1
            return unanswered(sent=True)
        return granted(f"refresh-{grant}.{self.alive[grant]}")


@dataclass(slots=True)
class Race:
    """One token, a daemon, and what others do to the token beside it."""

    world: World
    grants: Grants
    chance: Random
    consented: bool = False  # the newer consent is stored
    ordered: bool = False  # the newest stored grant is to be revoked

    @classmethod
    def of(cls, seed: int) -> "Race":
        chance = Random(seed)
        world, grants = World(providers=[revoking_provider()]), Grants(chance)
        world.endpoint.answer = grants
        world.endpoint.slow = chance.random() < 0.2
        world.store.put("1", refresh_token=Secret("refresh-0.0"))
        if chance.random() < 0.2:
            world.store.away = {"record"}
        return cls(world, grants, chance)

    @property
    def state(self) -> State:
        return self.world.store.documents[NAME].token.state

    def order(self) -> None:
        if self.state is not State.REVOKED:
            self.world.store.revoke(NAME)
            self.ordered = True

    def consent(self) -> None:
        """As a consent is bound: refused while the token is being revoked, and in a tombstone's place."""
        if self.state is State.REVOKING:
            return
        refresh_token = self.grants.consent()
        self.world.store.consent(NAME)
        stored = self.world.store.documents[NAME]
        stored.sealed = self.world.store._sealed(refresh_token)
        stored.token = replace(stored.token, refresh_token=refresh_token, doubt=None)
        self.consented, self.ordered = True, False

    async def run(self, *deeds: str) -> None:
        """Do `deeds` at any turns of the loop, in any order, beside sweeps. Then sweep until all is settled."""
        turns = sorted((self.chance.randrange(TURNS), deed) for deed in deeds)
        sweep, passed = asyncio.create_task(self.world.sweeper.sweep()), 0
        for turn, deed in turns:
            for _ in range(turn - passed):
                await asyncio.sleep(0)
                if sweep.done():
                    sweep = asyncio.create_task(self.world.sweeper.sweep())
            passed = turn
            getattr(self, deed)()
        self.world.endpoint.slow = False
        await sweep
        self.world.store.away = set()
        for _ in range(14):
            self.world.clock.passed += timedelta(minutes=5)
            await self.world.sweeper.sweep()

    def verdict(self) -> str | None:
        """Return what is wrong, or None. A former grant that a consent replaced is left to its owner."""
        if self.world.journal.kept.keys() - self.world.journal.parked.keys():
            return "a reply still waits"
        if self.ordered:
            newest = 1 if self.consented else 0
            return None if self.state is State.REVOKED and newest not in self.grants.alive else "alive"
        stored = self.world.store.documents[NAME].token
        if stored.state is not State.ACTIVE or stored.refresh_token is None:
            return f"the newest consent is {stored.state}"
        living = f"refresh-1.{self.grants.alive.get(1)}"
        return None if stored.refresh_token.reveal() == living else "another refresh token is stored"


def seeds(count: int) -> Iterator[int]:
    yield from range(count)


AMOUNTS = [FEW, pytest.param(MANY, marks=pytest.mark.long)]


@pytest.mark.parametrize("count", AMOUNTS)
@pytest.mark.parametrize("deeds", [("order",), ("consent",), ("order", "consent")], ids=" and ".join)
async def test_a_race_leaves_nothing_alive_and_the_newest_consent(complaints, deeds, count):
    """Beside a refresh, whose reply may be lost or come late, and whose result may find no store."""
    outcomes = {"revoked": 0, "consented": 0}
    for seed in seeds(count):
        race = Race.of(seed)
        await race.run(*deeds)
        assert race.verdict() is None, f"seed {seed}: {race.verdict()}"
        outcomes["revoked" if race.ordered else "consented"] += 1
    expected = (
        {"revoked"} if deeds == ("order",) else {"consented"} if deeds == ("consent",) else set(outcomes)
    )
    assert {name for name, times in outcomes.items() if times} == expected
