"""An issuer's keys in memory: how often it is asked, and what holds while it doesn't answer."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.adapters.issuer_keys.failure import ReadFailed
from daemon.adapters.issuer_keys.kept_keys import KeptKeys
from daemon.domain.jwt import Fault, Jwt, KeysAway, parse_jwt
from tests.support.clocks import SetClock
from tests.support.jwts import SigningKey, claims, key_set

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OLD, NEW = SigningKey("old"), SigningKey("new")


def jwt(key: SigningKey, **header: object) -> Jwt:
    return parse_jwt(key.jwt(claims(NOON), header=header))


class World:
    """An issuer with these keys, which a test changes. `away`: it doesn't answer. `hold`: it answers when that is set."""

    def __init__(self) -> None:
        self.clock = SetClock(NOON)
        self.keys: list[SigningKey] = [OLD]
        self.away = False
        self.asked = 0
        self.hold: asyncio.Event | None = None
        self.seen: list[str | None] = []
        self.kept = KeptKeys(self, self.clock, observe=self.seen.append)

    async def read(self) -> bytes:
        self.asked += 1
        content = json.dumps(key_set(*self.keys)).encode()
        if self.hold is not None:
            await self.hold.wait()
        if self.away:
            raise ReadFailed("no answer within 5 s")
        return content

    async def fault(self, key: SigningKey, **header: object) -> Fault | None:
        return await self.kept.fault(jwt(key, **header))

    def pass_(self, span: timedelta) -> None:
        self.clock.passed += span


@pytest.fixture
async def world() -> AsyncIterator[World]:
    one = World()
    yield one
    await one.kept.close()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def held(world: World) -> AsyncIterator[None]:
    world.hold = asyncio.Event()
    yield
    world.hold.set()
    world.hold = None


async def test_it_is_asked_once_and_not_for_each_jwt(world: World):
    one = jwt(OLD)
    for _ in range(100):
        assert await world.kept.fault(one) is None
    assert world.asked == 1


async def test_callers_of_one_moment_share_a_request(world: World):
    async with held(world):
        callers = [asyncio.create_task(world.fault(OLD)) for _ in range(50)]
        await settle()
    assert await asyncio.gather(*callers) == [None] * 50
    assert world.asked == 1


async def test_a_caller_that_gives_up_ends_no_request(world: World):
    async with held(world):
        first, second = (asyncio.create_task(world.fault(OLD)) for _ in range(2))
        await settle()
        first.cancel()
        await settle()
    assert await second is None
    assert world.asked == 1


async def test_it_is_asked_again_in_the_background_before_the_keys_are_out_of_date(world: World):
    assert await world.fault(OLD) is None
    world.pass_(4 * MINUTE)
    assert await world.fault(OLD) is None
    assert world.asked == 1
    world.pass_(2 * MINUTE)
    async with held(world):
        assert await asyncio.wait_for(world.fault(OLD), 1) is None  # waits for nothing
        await settle()
        assert world.asked == 2


async def test_a_removed_key_is_refused_after_ten_minutes(world: World):
    assert await world.fault(OLD) is None
    world.keys = [NEW]
    world.pass_(10 * MINUTE)
    assert await world.fault(OLD) is Fault.KEY
    assert await world.fault(NEW) is None


async def test_a_new_key_is_found_by_the_first_jwt_that_names_it(world: World):
    assert await world.fault(OLD) is None
    world.keys = [OLD, NEW]
    assert await world.fault(NEW) is None
    assert await world.fault(OLD) is None
    assert world.asked == 2


async def test_keys_that_change_again_and_again_fail_nobody(world: World):
    for number in range(20):
        key = SigningKey(f"k{number}", "EdDSA")
        world.keys = [world.keys[-1], key]
        callers = [world.fault(one) for one in (key, world.keys[0], key, key)]
        assert await asyncio.gather(*callers) == [None] * 4
    assert world.asked <= 21


async def test_a_thousand_invented_keys_ask_once_a_minute(world: World):
    assert await world.fault(OLD) is None
    one = jwt(OLD)
    invented = [replace(one, key_id=f"invented-{number}") for number in range(1000)]
    for each in invented:
        assert await world.kept.fault(each) is Fault.KEY
    assert world.asked == 2
    world.pass_(timedelta(seconds=59))
    assert await world.kept.fault(invented[0]) is Fault.KEY
    assert world.asked == 2
    world.pass_(timedelta(seconds=1))
    assert set(await asyncio.gather(*map(world.kept.fault, invented))) == {Fault.KEY}
    assert world.asked == 3


async def test_a_forger_with_the_name_of_a_new_key_gets_no_further_requests(world: World):
    assert await world.fault(OLD) is None
    world.keys = [OLD, NEW]
    forger = SigningKey("forger")
    assert await world.fault(forger, kid="new") is Fault.SIGNATURE
    for number in range(10):
        assert await world.fault(forger, kid=f"n{number}") is Fault.KEY
    assert world.asked == 2
    assert await world.fault(NEW) is None


async def test_a_wrong_signature_of_a_known_key_asks_for_nothing(world: World):
    assert await world.fault(OLD) is None
    for _ in range(10):
        assert await world.fault(NEW, kid="old") is Fault.SIGNATURE
    assert world.asked == 1


async def test_without_a_key_id_a_new_key_is_found_too(world: World):
    bare = {
        name: parse_jwt(key.jwt(claims(NOON), header=b'{"alg":"ES256"}'))
        for name, key in (("o", OLD), ("n", NEW))
    }
    assert await world.kept.fault(bare["o"]) is None
    world.keys = [NEW]
    assert await world.kept.fault(bare["n"]) is None
    for _ in range(10):
        assert await world.kept.fault(bare["o"]) is Fault.SIGNATURE
    assert world.asked == 3


async def test_while_it_is_away_the_last_keys_hold_for_an_hour(world: World):
    assert await world.fault(OLD) is None
    world.away = True
    world.pass_(59 * MINUTE)
    assert await world.fault(OLD) is None
    assert world.seen == ["no answer within 5 s"]
    world.pass_(MINUTE)
    with pytest.raises(KeysAway):
        await world.fault(OLD)
    world.away = False
    world.pass_(timedelta(seconds=10))
    assert await world.fault(OLD) is None
    assert world.seen == ["no answer within 5 s", None]


async def test_after_a_failure_it_is_left_alone_for_ten_seconds(world: World):
    world.away = True
    for _ in range(100):
        with pytest.raises(KeysAway) as caught:
            await world.fault(OLD)
        assert caught.value.retry_after == timedelta(seconds=10)
    assert world.asked == 1
    world.pass_(timedelta(seconds=10))
    with pytest.raises(KeysAway):
        await world.fault(OLD)
    assert world.asked == 2
    assert len(world.seen) == 1


async def test_an_unknown_key_is_no_verdict_while_the_issuer_is_away(world: World):
    assert await world.fault(OLD) is None
    world.keys, world.away = [OLD, NEW], True
    with pytest.raises(KeysAway):
        await world.fault(NEW)
    for number in range(100):
        with pytest.raises(KeysAway):
            await world.fault(OLD, kid=f"x{number}")
    assert world.asked == 2
    assert await world.fault(OLD) is None
    world.away = False
    world.pass_(MINUTE)
    assert await world.fault(NEW) is None


async def test_an_issuer_that_hangs_delays_only_callers_without_keys(world: World):
    assert await world.fault(OLD) is None
    async with held(world):
        world.pass_(6 * MINUTE)
        for _ in range(10):
            assert await asyncio.wait_for(world.fault(OLD), 1) is None
    await settle()


async def test_the_keys_are_ready_before_the_first_caller(world: World):
    await world.kept.prepare()
    async with held(world):
        assert await asyncio.wait_for(world.fault(OLD), 1) is None
    assert world.asked == 1


async def test_closing_ends_a_request(world: World):
    async with held(world):
        caller = asyncio.create_task(world.fault(OLD))
        await settle()
        await world.kept.close()
        with pytest.raises(asyncio.CancelledError):
            await caller
