"""Anomalies from the requests of callers to the reported event, with the habits of keys in a real MongoDB."""

from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.adapters.mongo.admin.access_keys import AccessKeys
from daemon.adapters.mongo.serving.habits import ServedHabits
from daemon.domain.anomaly import AnomalyKind
from daemon.domain.claim import StoreLost
from daemon.domain.event import AnomalyDetected
from daemon.domain.habit import MOST_NETWORKS, Habit
from daemon.domain.served_token import Refusals
from daemon.domain.use import Workload
from daemon.serving.anomalies import Anomalies
from daemon.serving.doorkeeper import Caller, Doorkeeper
from daemon.serving.problems import Problem
from daemon.serving.reading import Reading
from daemon.serving.writing import Writing
from tests.serving.access_bench import ACME, NOON, AccessBench, bench, caller
from tests.serving.fakes import Keys, World, token
from tests.serving.test_doorkeeper import RATE

__all__ = ["bench"]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOME, CAFE = "10.0.0.9", "203.0.113.9"


class Watch(Anomalies):
    """One process, and what it reports."""

    def __init__(self, bench: AccessBench) -> None:
        self.events: list[AnomalyDetected] = []
        super().__init__(ServedHabits(bench.mongo), bench.clock, self.events.append)

    async def use(self, address: str = HOME, times: int = 1, result: str = "read") -> None:
        for _ in range(times):
            self.used(at(address), result)
        await self.store()

    @property
    def news(self) -> list[tuple[AnomalyKind, str, int]]:
        return [(one.kind, one.key, one.count) for one in self.events if not one.repeated]


def at(address: str, key: str = "k" * 20) -> Caller:
    return Caller(key=caller(id=key).key, address=address)


@pytest.fixture
async def watch(bench: AccessBench) -> Watch:
    """A key that has been used for a day."""
    first = Watch(bench)
    await first.use()
    bench.pass_time(DAY)
    return Watch(bench)


# ---------------------------------------------------------------- networks


async def test_a_workload_has_no_habits(watch: Watch):
    """The jobs of a platform run anywhere, and each has its own JWT."""
    workload = Workload(issuer="https://issuer.example", subject="repo:acme/app", jwt=None)
    for _ in range(200):
        watch.used(replace(at(CAFE), workload=workload), "read")
    await watch.store()
    assert watch.events == []


async def test_a_known_key_from_a_new_network(watch: Watch):
    """A restart, which the fixture's two processes are, forgets nothing."""
    await watch.use(HOME)
    await watch.use("10.0.0.200")
    assert watch.events == []
    await watch.use(CAFE)
    assert watch.news == [(AnomalyKind.KEY_FROM_NEW_NETWORK, "k" * 20, 1)]
    (event,) = watch.events
    assert (event.name, "203.0.113.0/24" in event.message) == ("billing", True)
    await watch.use(CAFE)
    assert len(watch.events) == 1


async def test_a_refused_request_is_a_use_too(watch: Watch):
    """A stolen key is tried on what it may not read."""
    await watch.use(CAFE, result="not-found")
    assert len(watch.news) == 1


async def test_the_networks_of_the_first_day_are_learned(bench: AccessBench):
    watch = Watch(bench)
    for address in (HOME, CAFE, "unix", "2001:db8::1"):
        await watch.use(address)
        bench.pass_time(7 * HOUR)
    assert watch.events == []
    await watch.use("unix")
    assert watch.events == []


async def test_a_network_that_another_replica_has_seen_is_known(bench: AccessBench, watch: Watch):
    other = Watch(bench)
    await watch.use(CAFE)
    await other.use(CAFE)
    assert (len(watch.events), other.events) == (1, [])


async def test_one_event_for_a_key_and_an_hour_however_many_networks_and_replicas(
    bench: AccessBench, watch: Watch
):
    """The metrics count each network."""
    other = Watch(bench)
    await watch.use("192.0.2.1")
    await watch.use("198.51.100.1")
    await other.use(CAFE)
    assert [one.repeated for one in watch.events + other.events] == [False, True, True]
    bench.pass_time(HOUR)
    await other.use("100.64.0.1")
    assert [one.repeated for one in other.events] == [True, False]


async def test_a_network_is_forgotten_after_thirty_days(bench: AccessBench, watch: Watch):
    await watch.use(CAFE)
    for _ in range(4):
        bench.pass_time(8 * DAY)
        await watch.use(HOME)
    (row,) = bench.database["tokens_access_use"].find({"kind": "key"})
    assert [one["network"] for one in row["networks"]] == ["10.0.0.0/24"]
    await watch.use(CAFE)
    assert len(watch.news) == 2


async def test_the_row_of_a_key_is_bounded_and_keeps_the_newest(bench: AccessBench, watch: Watch):
    for n in range(MOST_NETWORKS + 5):
        watch.used(at(f"172.16.{n}.1"), "read")
        if n == MOST_NETWORKS - 5:
            await watch.store()
    await watch.store()
    habit = (await ServedHabits(bench.mongo).of(["k" * 20]))["k" * 20]
    assert len(habit.networks) == MOST_NETWORKS
    assert f"172.16.{MOST_NETWORKS + 4}.0/24" in habit.networks
    assert "10.0.0.0/24" not in habit.networks


async def test_keys_have_habits_of_their_own(bench: AccessBench, watch: Watch):
    watch.used(at(CAFE, key="n" * 20), "read")
    await watch.store()
    assert watch.events == []
    habits = await ServedHabits(bench.mongo).of(["k" * 20, "n" * 20, "x" * 20])
    assert {key: list(habit.networks) for key, habit in habits.items()} == {
        "k" * 20: ["10.0.0.0/24"],
        "n" * 20: ["203.0.113.0/24"],
    }


@pytest.mark.parametrize("rubbish", ["text", 7, [1, {"network": 5, "hour": "x"}], {"a": 1}, None])
async def test_a_row_that_another_program_wrote_breaks_nothing(bench: AccessBench, rubbish: object):
    bench.database["tokens_access_use"].insert_one(
        {"_id": f"key {'k' * 20}", "kind": "key", "key": "k" * 20}
        | dict.fromkeys(("since", "networks", "reads"), rubbish)
    )
    watch = Watch(bench)
    await watch.use(CAFE)
    habit = (await ServedHabits(bench.mongo).of(["k" * 20]))["k" * 20]
    assert habit == Habit(since=NOON, networks={"203.0.113.0/24": NOON}, reads={NOON.replace(minute=0): 1})


async def test_the_last_use_that_operators_see_stands_beside_the_habits(bench: AccessBench, watch: Watch):
    await watch.use()
    bench.database["tokens_access_use"].update_one({"kind": "key"}, {"$set": {"last_used_at": NOON}})
    keys = AccessKeys.__new__(AccessKeys)
    keys._mongo = bench.mongo
    assert await keys._last_uses() == {"k" * 20: NOON}


# ---------------------------------------------------------------- reads


async def test_a_burst_of_reads_is_one_anomaly_of_its_hour(bench: AccessBench, watch: Watch):
    """A usual hour has one read here. Replicas add up: neither has read more than a hundred times."""
    other = Watch(bench)
    await watch.use(times=60)
    await other.use(times=40)
    assert watch.events + other.events == []
    await other.use()
    assert other.news == [(AnomalyKind.READ_BURST, "k" * 20, 101)]
    await other.use(times=50)
    await watch.use(times=50)
    assert (watch.events, len(other.events)) == ([], 1)
    bench.pass_time(HOUR)
    await other.use(times=51)
    assert len(other.events) == 1


async def test_what_is_no_read_makes_no_burst(watch: Watch):
    await watch.use(times=300, result="write")
    await watch.use(times=300, result="not-found")
    assert watch.events == []


async def test_a_busy_key_may_read_ten_times_as_much(bench: AccessBench, watch: Watch):
    for _ in range(5):
        await watch.use(times=30)
        bench.pass_time(HOUR)
    await watch.use(times=250)
    assert watch.events == []
    await watch.use(times=51)
    assert watch.news == [(AnomalyKind.READ_BURST, "k" * 20, 301)]


# ---------------------------------------------------------------- a lost store


async def test_uses_outlast_a_lost_store(bench: AccessBench, watch: Watch):
    with bench.fault("find", errorCode=96), pytest.raises(StoreLost):
        await watch.use(CAFE, times=60)
    assert watch.events == []
    watch.used(at(HOME), "read")
    await watch.use(CAFE, times=60)
    assert [kind for kind, _, _ in watch.news] == [
        AnomalyKind.KEY_FROM_NEW_NETWORK,
        AnomalyKind.READ_BURST,
    ]


async def test_a_write_that_is_lost_reports_nothing_twice(bench: AccessBench, watch: Watch):
    """The claim is an update as well, and comes before the write of the habits."""
    with bench.fault("update", after=1, errorCode=96), pytest.raises(StoreLost):
        await watch.use(CAFE)
    assert len(watch.events) == 1
    await watch.store()
    assert len(watch.events) == 1
    assert len((await ServedHabits(bench.mongo).of(["k" * 20]))["k" * 20].networks) == 2


async def test_the_memory_for_keys_is_bounded(bench: AccessBench, monkeypatch):
    monkeypatch.setattr("daemon.serving.anomalies.MOST_KEYS", 2)
    watch = Watch(bench)
    for n in range(5):
        watch.used(at(HOME, key=f"{n}" * 20), "read")
    await watch.store()
    assert bench.database["tokens_access_use"].count_documents({"kind": "key"}) == 2


# ---------------------------------------------------------------- failures, refusals, devices


async def test_ten_wrong_keys_in_a_minute_from_one_address(bench: AccessBench):
    """Wrong keys, none and those of other networks alike; later ones of the same hour are no second anomaly."""
    watch, world = Watch(bench), World()
    door = Doorkeeper(Keys(world), bench.clock, rate=RATE, failed=watch.failed)
    for _ in range(500):
        watch.answered()
    over, _ = world.key(expires_at=NOON - DAY)
    for n in range(20):
        assert (watch.news == []) is (n < 10)
        with pytest.raises(Problem):
            await door.admit(("", "wrong", over)[n % 3], CAFE)
    assert watch.news == [(AnomalyKind.AUTH_FAILURES, CAFE, 10)]
    assert [one.repeated for one in watch.events] == [False]


async def test_a_right_key_over_its_rate_is_no_failure(bench: AccessBench):
    watch, world = Watch(bench), World()
    door = Doorkeeper(Keys(world), bench.clock, rate=RATE, failed=watch.failed)
    text, _ = world.key()
    names = []
    for _ in range(40):
        try:
            await door.admit(text, CAFE)
        except Problem as problem:
            names.append(problem.name)
    assert (len(names), set(names)) == (37, {"rate-limited"})
    assert watch.events == []


async def test_failures_before_mongodb_has_answered_are_no_fault_of_the_service(bench: AccessBench):
    class Unset:
        def boot(self):
            return timedelta(0)

        def now(self):
            raise StoreLost

    watch = Watch(bench)
    watch._clock = Unset()
    for _ in range(30):
        watch.failed(CAFE)
    assert watch.events == []


async def test_a_write_from_another_device_than_the_consents(bench: AccessBench):
    watch = Watch(bench)
    bench.writing = watched_writing(bench, watch)
    bench.insert(meta={"device": "phone", "ip": "203.0.113.7"})
    await bench.patch(caller(), meta={"ip": "203.0.113.99", "plan": "gold"})
    await bench.put(caller(), number=2)
    assert watch.events == []
    await bench.patch(caller(), meta={"ip": "198.51.100.7"})
    assert watch.news == [(AnomalyKind.SUBJECT_DEVICE_CHANGED, "k" * 20, 1)]
    assert (watch.events[0].name, watch.events[0].token) == ("billing", "acme:1")
    bench.pass_time(HOUR)
    await bench.put(caller(), number=3, meta={"device": "laptop"})
    assert len(watch.news) == 2


@pytest.mark.parametrize("body", [{"device": None}, None])
async def test_a_device_that_is_removed_is_another_one(bench: AccessBench, body: object):
    watch = Watch(bench)
    bench.writing = watched_writing(bench, watch)
    bench.insert(meta={"device": "phone"})
    await bench.patch(caller(), meta=body)
    assert len(watch.news) == 1


async def test_a_write_that_is_refused_changes_no_device(bench: AccessBench):
    watch = Watch(bench)
    bench.writing = watched_writing(bench, watch)
    bench.insert(meta={"device": "phone", "tenant": "a"})
    stranger = caller(where={"meta.tenant": "b"})
    assert (await bench.problem(bench.patch(stranger, meta={"device": "laptop"}))).name == "not-found"
    assert (await bench.problem(bench.put(stranger, meta={"device": "laptop"}))).name == "not-found"
    assert watch.events == []


async def test_a_new_token_has_no_other_device(bench: AccessBench):
    watch = Watch(bench)
    bench.writing = watched_writing(bench, watch)
    await bench.put(caller(), meta={"device": "phone"})
    bench.insert("acme:gone", state="removed", meta={"device": "phone"})
    await bench.put(caller(), "acme:gone", number=5, meta={"device": "laptop"})
    assert watch.events == []


async def test_several_tokens_are_counted_and_are_one_event(bench: AccessBench):
    watch = Watch(bench)
    bench.writing = watched_writing(bench, watch)
    for n in ("1", "2", "3"):
        bench.insert(f"acme:{n}", meta={"device": "phone"})
        await bench.patch(caller(), f"acme:{n}", meta={"device": "laptop"})
        await bench.patch(caller(), f"acme:{n}", meta={"device": "phone"})
    assert [one.repeated for one in watch.events] == [False, True, True]


async def test_one_access_token_after_the_other_is_refused(bench: AccessBench):
    watch, world = Watch(bench), World()
    reading = Reading(
        world,
        world,
        world.clock,
        definitions=lambda: {"acme": ACME.definition},
        fresh_for=timedelta(minutes=1),
        refused_again=watch.refused_again,
    )
    _, key = world.key()
    minute = timedelta(minutes=1)
    now = world.clock.now()
    for count, fires in ((2, False), (3, True)):
        usual = now + 25 * minute
        refusals = Refusals(version="older", at=now - 20 * minute, count=count, usual=usual)
        one = token(refreshed_at=now - 10 * minute, refusals=refusals)
        world.store(one)
        asked = reading.refused(Caller(key=key, address=HOME), one.id, one.version, timedelta(0))
        if fires:
            assert (await bench.problem(asked)).name == "refused-again"
        else:
            await asked
        assert [kind for kind, _, _ in watch.news] == ([AnomalyKind.REFUSED_AGAIN] if fires else [])
    assert watch.events[0].key == key.id


def watched_writing(bench: AccessBench, watch: Watch) -> Writing:
    """The writing of the bench, with a watch."""
    bench.writing._device_changed = watch.device_changed
    return bench.writing
