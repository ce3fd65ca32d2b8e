"""Host names are looked up by the system's resolver, and one that hangs keeps no other waiting."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from aiohttp.abc import ResolveResult

from daemon.adapters.egress.names import FAILED_FOR, KNOWN_FOR, PLACES, SLOW, Names
from tests.support.waiting import CLOSELY, until

FOUND = [
    ResolveResult(hostname="", host="192.0.2.1", port=0, family=socket.AF_INET, proto=6, flags=0),
    ResolveResult(hostname="", host="2001:db8::1", port=0, family=socket.AF_INET6, proto=6, flags=0),
]


class World:
    """A resolver that hangs for some names, and doesn't know others."""

    def __init__(self) -> None:
        self.asked = Counter[str]()
        self.answers = threading.Event()  # until then, what is dead hangs
        self.healed = False

    def __call__(self, host: str) -> list[ResolveResult]:
        self.asked[host] += 1
        if "dead" in host:
            self.answers.wait()
        if not self.healed and ("dead" in host or "unknown" in host):
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return FOUND

    def hanging(self) -> int:
        return sum(count for host, count in self.asked.items() if "dead" in host)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.answers.set()


class Later:
    """The loop's clock, which can be put forward."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ahead = 0.0
        self._time = loop.time

    def __call__(self) -> float:
        return self._time() + self.ahead


@pytest.fixture
async def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    loop = asyncio.get_running_loop()
    made = Later(loop)
    monkeypatch.setattr(loop, "time", made)
    return made


async def found(names: Names, host: str) -> list[ResolveResult]:
    return await asyncio.wait_for(names.resolve(host, 443), 5)


def hung(names: Names, hosts: list[str]) -> list["asyncio.Task[list[ResolveResult]]"]:
    return [asyncio.create_task(names.resolve(host)) for host in hosts]


async def all_of(world: World, count: int) -> None:
    """Wait until `count` threads hang."""
    await until(lambda: world.hanging() >= count, every=CLOSELY)


async def test_a_name_has_its_addresses_with_the_port_asked_for():
    """By the system's resolver: /etc/hosts is known to it."""
    names = Names()
    everything = await names.resolve("localhost", 8443)
    assert {one["host"] for one in everything} <= {"127.0.0.1", "::1"}
    assert {(one["hostname"], one["port"]) for one in everything} == {("localhost", 8443)}
    [one] = await names.resolve("localhost", 1, socket.AF_INET)
    assert (one["host"], one["family"], one["port"]) == ("127.0.0.1", socket.AF_INET, 1)


async def test_a_name_that_nobody_knows_fails_as_the_system_says():
    """And what can't be a name at all fails, too."""
    names = Names()
    with pytest.raises(socket.gaierror):
        await names.resolve("sso.invalid")
    with pytest.raises(ValueError, match="label"):
        await names.resolve("x" * 70 + ".invalid")


@pytest.mark.parametrize("dead", [1, PLACES // 2, PLACES, 10 * PLACES])
async def test_dead_names_of_one_domain_keep_no_other_waiting(world, dead):
    """However many there are, they hold half of the threads at most."""
    names = Names(world)
    tasks = hung(names, [f"customer-{number}.dead.example" for number in range(dead)])
    await all_of(world, min(dead, PLACES // 2))
    for host in ("healthy.example", "example.com", "a.healthy.example", "b.healthy.example"):
        assert await found(names, host)
    assert world.hanging() == min(dead, PLACES // 2)
    world.answers.set()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert all(isinstance(one, socket.gaierror) for one in outcomes)
    assert world.hanging() == dead


async def test_domains_with_dead_name_servers_leave_room_for_a_healthy_one(world):
    """Each new one gets less, and none gets all that is left."""
    names = Names(world)
    hosts = [f"customer-{number}.dead-{domain}.example" for domain in range(5) for number in range(PLACES)]
    tasks = hung(names, hosts)
    await all_of(world, PLACES - 2)
    assert await found(names, "healthy.example")
    world.answers.set()
    await asyncio.wait(tasks)


async def test_names_that_were_slow_the_last_time_hold_half_of_the_threads_at_most(world, later):
    """Whatever their domains: the steady state beside customers whose name servers are gone."""
    names = Names(world)
    hosts = [f"sso.dead-{number}.example" for number in range(PLACES)]
    tasks = hung(names, hosts)
    await all_of(world, PLACES)
    later.ahead += 2 * SLOW.total_seconds()
    world.answers.set()
    await asyncio.wait(tasks)
    world.answers.clear()
    world.asked.clear()
    later.ahead += FAILED_FOR.total_seconds()
    tasks = hung(names, hosts)
    await all_of(world, PLACES // 2)
    assert await found(names, "healthy.example")
    assert world.hanging() == PLACES // 2
    world.answers.set()
    await asyncio.wait(tasks)


async def test_a_failed_look_up_is_remembered_for_a_while(world, later):
    """Its next request fails at once, and asks nobody; later ones ask again."""
    names = Names(world)
    for _ in range(3):
        with pytest.raises(socket.gaierror):
            await found(names, "unknown.example")
    assert world.asked["unknown.example"] == 1
    later.ahead += FAILED_FOR.total_seconds()
    world.healed = True
    assert await found(names, "unknown.example")
    assert world.asked["unknown.example"] == 2


async def test_addresses_are_remembered_for_a_minute(world, later):
    """Not longer: a provider may move."""
    names = Names(world)
    for _ in range(3):
        assert [one["port"] for one in await found(names, "sso.example.com")] == [443, 443]
    assert world.asked["sso.example.com"] == 1
    later.ahead += KNOWN_FOR.total_seconds()
    await found(names, "sso.example.com")
    assert world.asked["sso.example.com"] == 2


async def test_a_look_up_outlives_its_request_and_serves_the_next(world):
    """A thread can't be ended; so it is not begun twice either."""
    names = Names(world)
    [task] = hung(names, ["sso.dead.example"])
    await all_of(world, 1)
    task.cancel()
    await asyncio.wait({task})
    [task] = hung(names, ["sso.dead.example"])
    world.healed = True
    world.answers.set()
    assert len(await asyncio.wait_for(task, 5)) == 2
    assert world.asked["sso.dead.example"] == 1


async def test_it_is_known_when_a_look_up_begins(world):
    """One that waits for its place has not begun."""
    names = Names(world)
    tasks = hung(names, [f"customer-{number}.dead.example" for number in range(PLACES // 2)])
    await all_of(world, PLACES // 2)
    waiting = asyncio.create_task(names.begun("one-more.dead.example"))
    await asyncio.wait_for(names.begun("customer-0.dead.example"), 5)
    await asyncio.sleep(0)
    assert not waiting.done()
    world.answers.set()
    await asyncio.wait_for(waiting, 5)
    await asyncio.wait(tasks)


async def test_a_process_without_a_thread_to_spare_has_a_failed_look_up(world, monkeypatch):
    """A limit of the system's is no bug of the token's."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(OSError, match="temporarily unavailable"):
        await found(Names(world), "sso.example.com")
    monkeypatch.undo()
