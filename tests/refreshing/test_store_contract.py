"""What the use case relies on, asked of the store in memory and of the one in MongoDB: so that the fake can't lie."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol

import pytest
from pymongo import MongoClient

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.connection import Mongo
from daemon.adapters.mongo.store import MongoStore
from daemon.domain.answer import Granted
from daemon.domain.change import Postponed, Renewed, Retired, Scheduled
from daemon.domain.claim import Claim, Recorded
from daemon.domain.journal_entry import Entry
from daemon.domain.secret import Secret
from daemon.domain.token import Doubt, Failure, FailureKind, State
from daemon.refreshing.ports import Store
from tests.refreshing.fakes import LEASE, NOON, MemoryStore, granted, provider
from tests.support.clocks import SetClock

ACME = provider()
RING = KeyRing({"a": b"\x01" * 32}, active="a")


class House(Protocol):
    """A store, and what applications and replicas do behind its back."""

    @property
    def store(self) -> Store: ...
    @property
    def clock(self) -> SetClock: ...

    def put(
        self, account: str, *, state: State = State.ACTIVE, due: timedelta = ..., **fields: object
    ) -> None: ...
    def consent(self) -> None: ...
    def condemn(self) -> None: ...
    def now_stored(self) -> tuple[str, State, bool]: ...


class MemoryHouse:
    def __init__(self) -> None:
        self.clock = SetClock(NOON)
        self.store = MemoryStore(self.clock, [])

    def put(
        self,
        account: str,
        *,
        state: State = State.ACTIVE,
        due: timedelta = timedelta(minutes=-1),
        **fields: object,
    ) -> None:
        self.store.put(account, state=state, due_at=NOON + due, **fields)

    def consent(self) -> None:
        self.store.consent("acme:1")

    def condemn(self) -> None:
        stored = self.store.documents["acme:1"]
        stored.token = replace(stored.token, state=State.NEEDS_REAUTH, due_at=None)
        stored.owner = stored.claim = None

    def now_stored(self) -> tuple[str, State, bool]:
        stored = self.store.documents["acme:1"]
        return self.store.refresh_token("acme:1"), stored.token.state, stored.owner is not None


class MongoHouse:
    def __init__(self, uri: str, database: str) -> None:
        self.clock = SetClock(NOON)
        self.mongo = Mongo(
            uri=Secret(f"{uri}&serverMonitoringMode=poll"),
            database=database,
            collection="tokens",
            clock=self.clock,
            observe=lambda event: None,
        )
        self.client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self.tokens = self.client[database]["tokens"]
        self.store = MongoStore(
            self.mongo,
            owner="me",
            keyring=lambda: RING,
            lease=LEASE,
            hold=lambda _: timedelta(minutes=15),
            chance=lambda: 0.0,
        )

    def put(
        self,
        account: str,
        *,
        state: State = State.ACTIVE,
        due: timedelta = timedelta(minutes=-1),
        **fields: object,
    ) -> None:
        name = f"acme:{account}"
        self.tokens.insert_one(
            {
                "_id": name,
                "provider": "acme",
                "account": account,
                "state": state.value,
                "refresh_token": RING.seal("refresh-0", token_id=name, field="refresh_token"),
                "due_at": NOON + due,
                "revision": 7,
                **fields,
            }
        )

    def consent(self) -> None:
        sealed = RING.seal("refresh-consent", token_id="acme:1", field="refresh_token")
        fields = {"refresh_token": sealed, "state": "active", "failures": 0, "due_at": NOON}
        self.tokens.update_one({"_id": "acme:1"}, {"$set": fields})

    def condemn(self) -> None:
        fields = {"state": "needs_reauth", "due_at": None, "lease": None}
        self.tokens.update_one({"_id": "acme:1"}, {"$set": fields})

    def now_stored(self) -> tuple[str, State, bool]:
        document = self.tokens.find_one({"_id": "acme:1"})
        assert document is not None
        opened = RING.open(document["refresh_token"], token_id="acme:1", field="refresh_token")
        return opened, State(document["state"]), document.get("lease") is not None


@pytest.fixture(params=["memory", "mongodb"])
async def house(request: pytest.FixtureRequest) -> AsyncIterator[House]:
    if request.param == "memory":
        yield MemoryHouse()
        return
    found = MongoHouse(request.getfixturevalue("mongod"), request.getfixturevalue("database_name"))
    await found.mongo.hello()
    yield found
    await found.mongo.close()
    found.client.close()


def renewed(successor: str | None = "refresh-1") -> Renewed:
    return Renewed(
        granted=Granted(access_token=Secret("access-1"), expires_at=NOON + timedelta(hours=1)),
        successor=Secret(successor) if successor else None,
        issued_at=NOON,
        refreshed_at=NOON,
        due_at=NOON + timedelta(minutes=55),
        refresh_expires_at=None,
    )


def postponed(*, doubt: bool = False) -> Postponed:
    failure = Failure(kind=FailureKind.UNAVAILABLE, code="http_503", message="back soon", at=NOON)
    return Postponed(
        failure=failure,
        failures=1,
        due_at=NOON + timedelta(seconds=2),
        doubt=Doubt(since=NOON, tries=1) if doubt else None,
    )


RETIRED = Retired(
    failure=Failure(kind=FailureKind.REJECTED, code="invalid_grant", message="", at=NOON), failures=1
)


async def claimed(house: House, *, limit: int = 10, busy: tuple[str, ...] = ()) -> list[Claim]:
    batch = await house.store.claim(ACME, limit=limit, busy=busy)
    return [item for item in batch.items if isinstance(item, Claim)]


async def the_claim(house: House) -> Claim:
    house.put("1")
    [claim] = await claimed(house)
    return claim


async def test_claims_come_oldest_first_up_to_the_limit(house):
    """And it is said whether there may be more."""
    for account, minutes in (("1", 1), ("2", 3), ("3", 2)):
        house.put(account, due=timedelta(minutes=-minutes))
    house.put("later", due=timedelta(minutes=1))
    batch = await house.store.claim(ACME, limit=2, busy=[])
    assert sorted(item.token.id for item in batch.items) == ["acme:2", "acme:3"]
    assert batch.more
    assert [claim.token.id for claim in await claimed(house, busy=("acme:2", "acme:3"))] == ["acme:1"]
    rest = await house.store.claim(ACME, limit=2, busy=["acme:1", "acme:2", "acme:3"])
    assert (list(rest.items), rest.more) == ([], False)


async def test_of_wished_tokens_only_the_due_ones_are_claimed(house):
    """However many others have waited longer: none that is busy, is due later, isn't there or is another provider's."""
    for account in ("1", "2", "busy"):
        house.put(account, due=timedelta(0))
    house.put("old")
    house.put("later", due=timedelta(seconds=1))
    tokens = ["acme:2", "acme:busy", "acme:later", "acme:none", "acme:1"]
    batch = await house.store.claim_wished(ACME, tokens=tokens, busy=["acme:busy"])
    assert sorted(item.token.id for item in batch.items) == ["acme:1", "acme:2"]
    assert not batch.more
    busy = ["acme:1", "acme:2", "acme:busy"]  # as they are while they are in flight
    assert not (await house.store.claim_wished(ACME, tokens=tokens, busy=busy)).items
    assert not (await house.store.claim_wished(ACME, tokens=[], busy=[])).items
    other = provider("other")
    assert not (await house.store.claim_wished(other, tokens=["acme:old"], busy=[])).items
    assert await house.store.pause_of(ACME) is None


async def probed(house: House, *, limit: int = 10, busy: str = "acme:busy", proven: bool = True) -> list[str]:
    batch = await house.store.probe(ACME, limit=limit, busy=[busy], proven=proven)
    assert not batch.more
    return [item.token.account for item in batch.items if isinstance(item, Claim)]


RENEWED = NOON - timedelta(hours=1)


async def test_a_probe_takes_only_proven_tokens_that_are_due(house):
    """However long others are due: none that has failed or was never renewed, none that is busy, and each once."""
    house.put("failing", due=timedelta(hours=-9), failures=5, refreshed_at=RENEWED)
    house.put("busy", refreshed_at=RENEWED)
    house.put("later", due=timedelta(minutes=1), refreshed_at=RENEWED)
    house.put("new", due=timedelta(hours=-9))
    house.put("proven", refreshed_at=RENEWED)
    assert await probed(house) == ["proven"]
    assert await probed(house, limit=0) == []


async def test_without_a_proven_token_a_probe_takes_a_healthy_one(house):
    """One that never was renewed; if there is none of them either, the one that has failed least."""
    for failures in (7, 2, 5):
        house.put(str(failures), failures=failures)
    house.put("new")
    assert await probed(house, limit=1) == []
    assert await probed(house, limit=1, proven=False) == ["new"]
    assert await probed(house, limit=1, busy="acme:new", proven=False) == ["2"]


async def test_a_claim_has_a_deadline_by_the_boot_clock(house):
    """A lease from before it was asked for; all of one batch share its id."""
    house.put("1")
    house.put("2")
    claims = await claimed(house)
    assert {claim.deadline for claim in claims} == {house.clock.boot() + LEASE}
    assert len({claim.id for claim in claims}) == 1


async def test_a_renewal_is_stored_and_ends_the_claim(house):
    """The successor in place of what was spent."""
    assert await house.store.record(await the_claim(house), renewed()) is Recorded.STORED
    assert house.now_stored() == ("refresh-1", State.ACTIVE, False)


async def test_a_consent_wins_and_the_claim_is_given_back(house):
    """Over a successor, over a verdict, over a postponement."""
    claim = await the_claim(house)
    for change in (renewed(), RETIRED, postponed(), renewed(None), Scheduled(due_at=None)):
        house.consent()
        assert await house.store.record(claim, change) is Recorded.SUPERSEDED
        assert house.now_stored() == ("refresh-consent", State.ACTIVE, False)


async def test_a_late_successor_beats_a_wrong_verdict(house):
    """Condemned by another meanwhile, because we had spent its value."""
    claim = await the_claim(house)
    house.condemn()
    assert await house.store.record(claim, renewed()) is Recorded.STORED
    assert house.now_stored() == ("refresh-1", State.ACTIVE, False)


@pytest.mark.parametrize(
    "change", [renewed(None), RETIRED, postponed()], ids=["kept", "retired", "postponed"]
)
async def test_without_a_successor_its_own_claim_is_needed(house, change):
    """An old reply changes nothing that came after it."""
    claim = await the_claim(house)
    house.condemn()
    before = house.now_stored()
    assert await house.store.record(claim, change) is Recorded.SUPERSEDED
    assert house.now_stored() == before


async def test_a_provider_has_something_due_though_others_hold_it(house):
    """Up to the very instant; of the providers that were asked for."""
    assert await house.store.due(["acme", "other"]) == set()
    house.put("later", due=timedelta(seconds=5))
    assert await house.store.due(["acme", "other"]) == set()
    house.clock.passed = timedelta(seconds=5)
    assert await house.store.due(["acme", "other"]) == {"acme"}
    assert await house.store.due(["other"]) == set()
    await claimed(house)
    assert await house.store.due(["acme", "other"]) == {"acme"}


async def test_recording_a_successor_twice_is_stored_once(house):
    """A replay finds it there."""
    claim = await the_claim(house)
    for _ in range(2):
        assert await house.store.record(claim, renewed()) is Recorded.STORED
    assert house.now_stored() == ("refresh-1", State.ACTIVE, False)


async def test_what_was_paused_stays_paused(house):
    """A successor is stored all the same."""
    house.put("1", state=State.PAUSED)
    [claim] = await claimed(house)
    assert await house.store.record(claim, renewed()) is Recorded.STORED
    assert house.now_stored() == ("refresh-1", State.PAUSED, False)


async def test_in_doubt_the_claim_stays_ours(house):
    """We ask again; the lease is still there for others to see."""
    claim = await the_claim(house)
    assert await house.store.record(claim, postponed(doubt=True)) is Recorded.STORED
    assert house.now_stored() == ("refresh-0", State.ACTIVE, True)
    house.clock.passed = timedelta(seconds=3)
    [again] = await claimed(house)
    assert again.token.doubt == Doubt(since=NOON, tries=1)


@pytest.mark.parametrize("asked", [None, NOON + timedelta(seconds=20)])
async def test_the_wait_that_a_provider_asked_for_comes_back_with_the_token(house, asked):
    """The next claim has to keep to it, in whichever process."""
    change = postponed()
    change = replace(change, failure=replace(change.failure, not_before=asked))
    assert await house.store.record(await the_claim(house), change) is Recorded.STORED
    house.clock.passed = timedelta(seconds=3)
    [again] = await claimed(house)
    assert again.token.last_failure == change.failure


@pytest.mark.parametrize("doubt", [False, True])
async def test_released_it_is_ours_only_while_in_doubt(house, doubt):
    """Nothing was presented under this claim; but perhaps under one before."""
    claim = await the_claim(house)
    if doubt:
        await house.store.record(claim, postponed(doubt=True))
        house.clock.passed = timedelta(seconds=3)
        [claim] = await claimed(house)
    await house.store.release([claim])
    assert house.now_stored() == ("refresh-0", State.ACTIVE, doubt)


async def test_a_recalled_claim_presents_what_was_presented_then(house):
    """The document as it is now, with the value that the entry's request had; none, when it is gone."""
    claim = await the_claim(house)
    entry = Entry(
        key=1,
        token="acme:1",
        provider="acme",
        claim=claim.id,
        spent=claim.spent,
        reply=granted("refresh-1"),
    )
    house.consent()
    recalled = await house.store.recall(entry)
    assert recalled is not None
    assert recalled.token.refresh_token == Secret("refresh-0")
    assert await house.store.record(recalled, renewed()) is Recorded.SUPERSEDED
    gone = Entry(key=2, token="acme:gone", provider="acme", claim="c", spent=claim.spent, reply=entry.reply)
    assert await house.store.recall(gone) is None
