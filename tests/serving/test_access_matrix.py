"""What a key may do: drawn at random from key x selector x where x verbs x network x expiry x state x request, and
compared with rules that are written here a second time, in another way.

Nothing that these rules forbid may succeed, change a document or answer differently from a token that is not there.
"""

import itertools
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network

import pytest

from daemon.adapters.mongo.serving.tokens import ServedTokens
from daemon.domain.access_key import AccessKey, Verb, new_key, secret_hash
from daemon.domain.known import Known
from daemon.domain.provider import Rate
from daemon.serving.doorkeeper import Caller, Doorkeeper
from daemon.serving.grant_request import Offer, read_patch
from daemon.serving.listing import Wish
from daemon.serving.problems import Problem
from daemon.serving.reading import Reading, Wanted
from tests.serving.access_bench import ACME, KEYS, MINUTE, NOON, AccessBench, bench, response

__all__ = ["bench"]
DRAWN, ALL_DRAWN = 600, 3000
SECONDS = timedelta(seconds=3)  # beyond which nothing in memory is believed

SELECTORS = [("acme:1",), ("acme:*",), ("*",), ("acme:2",), ("acme:1x", "other:*"), ("Acme:1", "acm*")]
LIMITS: list[dict[str, str]] = [
    {},
    {"subject": "ann"},
    {"meta.tenant": "a"},
    {"meta.tenant": "a", "subject": "ann"},
]
VERBS = [
    *((one,) for one in Verb),
    (Verb.WRITE, Verb.REPLACE),
    tuple(Verb),
    (Verb.READ, Verb.LIST, Verb.REFUSE),
]
NETWORKS = [(), ("10.0.0.0/8",), ("192.168.0.0/16", "fd00::/8")]
ENDS = [None, "later", "past", "revoked", "disabled"]
STATES = ["absent", "active", "operator", "application", "needs_reauth", "revoking", "removed", "revoked"]
STORED: list[dict[str, object]] = [
    {"meta": {"tenant": "a"}, "subject": "ann"},
    {"meta": {"tenant": "b"}, "subject": "ann"},
    {"meta": {"tenant": "a"}, "subject": "bob"},
    {"meta": {"tenant": ["a"]}, "subject": ["ann"]},
    {"meta": {}, "subject": None},
]
CHANGES: list[dict[str, object]] = [
    {},
    {"subject": "ann"},
    {"subject": "bob"},
    {"meta": {"tenant": "a"}},
    {"meta": {"tenant": "b"}},
    {"meta": {"tenant": "a"}, "subject": "ann"},
]
CLEARED: list[dict[str, object]] = [{"subject": None}, {"meta": None}, {"meta": {"tenant": None}}]
REQUESTS: dict[str, list[dict[str, object]]] = {
    "read": [{}],
    "list": [{}],
    "remove": [{}],
    "remove_all": [{}],
    "pause": [{"state": "paused"}],
    "resume": [{"state": "active"}],
    "put": CHANGES,
    "patch": [*CHANGES, *CLEARED],
}


@dataclass(frozen=True, kw_only=True)
class Case:
    selectors: tuple[str, ...]
    limits: Mapping[str, str]
    verbs: tuple[Verb, ...]
    networks: tuple[str, ...]
    ends: str | None
    state: str
    stored: Mapping[str, object]
    request: str
    change: Mapping[str, object]


def drawn(count: int) -> list[Case]:
    """Cases drawn with a fixed seed; half of them with a key that is valid and has the verb, to get further."""
    chance = random.Random(16)
    cases = []
    for number in range(count):
        request = chance.choice(list(REQUESTS))
        generous = number % 2 == 0
        cases.append(
            Case(
                selectors=chance.choice(SELECTORS[:3] if generous else SELECTORS),
                limits=chance.choice(LIMITS),
                verbs=tuple(Verb) if generous and chance.random() < 0.7 else chance.choice(VERBS),
                networks=() if generous else chance.choice(NETWORKS),
                ends=None if generous else chance.choice(ENDS),
                state=chance.choice(STATES),
                stored=chance.choice(STORED),
                request=request,
                change=chance.choice(REQUESTS[request]),
            )
        )
    return cases


# ---------------------------------------------------------------- the rules, a second time

NEEDED = {
    "read": Verb.READ,
    "list": Verb.LIST,
    "remove": Verb.REVOKE,
    "remove_all": Verb.REVOKE,
    "pause": Verb.PAUSE,
    "resume": Verb.PAUSE,
    "put": Verb.WRITE,
    "patch": Verb.WRITE,
}


def is_admitted(case: Case) -> bool:
    """The caller comes from 10.1.2.3."""
    return case.ends in (None, "later") and (not case.networks or "10.0.0.0/8" in case.networks)


def names_the_token(case: Case) -> bool:
    patterns = [re.escape(one[:-1]) + ".*" if one.endswith("*") else re.escape(one) for one in case.selectors]
    return any(re.fullmatch(pattern, "acme:1", re.DOTALL) for pattern in patterns)


def within(limits: Mapping[str, str], subject: object, tenant: object) -> bool:
    has = {"subject": subject, "meta.tenant": tenant}
    return all(type(has[name]) is str and has[name] == text for name, text in limits.items())


def fields(document: Mapping[str, object]) -> tuple[object, object]:
    meta = document.get("meta")
    return document.get("subject"), meta.get("tenant") if isinstance(meta, dict) else None


def after(case: Case, *, new: bool) -> tuple[object, object]:
    """The token's subject and tenant as the request would leave them."""
    subject, tenant = (None, None) if new else fields(case.stored)
    if case.request == "put" and new:
        subject, tenant = case.limits.get("subject"), case.limits.get("meta.tenant")
    if "subject" in case.change:
        subject = case.change["subject"]
    if "meta" in case.change:
        meta = case.change["meta"]
        tenant = meta.get("tenant", tenant) if isinstance(meta, dict) else None
    return subject, tenant


def is_forbidden(case: Case) -> bool:
    """Whether the answer must be that of a token that is not there."""
    if NEEDED[case.request] not in case.verbs or not names_the_token(case):
        return True
    is_there = case.state not in ("absent", "removed", "revoked")
    if case.request == "put":
        if is_there and not within(case.limits, *fields(case.stored)):
            return True
        if not within(case.limits, *after(case, new=not is_there)):
            return True
        before, wanted = case.stored.get("subject"), case.change.get("subject")
        replaces = is_there and isinstance(before, str) and wanted is not None and wanted != before
        # An application learns first that the token is being revoked.
        return replaces and case.state != "revoking" and Verb.REPLACE not in case.verbs
    if not is_there or not within(case.limits, *fields(case.stored)):
        return True
    if case.request == "patch" and case.state != "revoking":
        return not within(case.limits, *after(case, new=False))
    return False


# ---------------------------------------------------------------- the service


class OneKey:
    def __init__(self, key: AccessKey) -> None:
        self.key = key

    async def find(self, key_id: str) -> Known[AccessKey]:
        return Known(self.key if key_id == self.key.id else None)


async def admitted(bench: AccessBench, case: Case) -> Caller:
    text, presented = new_key()
    now = bench.clock.now()
    ends = {"later": now + MINUTE, "past": now - MINUTE}.get(case.ends or "")
    key = AccessKey(
        id=presented.id,
        name="app",
        secret_hash=secret_hash(presented.secret),
        tokens=case.selectors,
        can=frozenset(case.verbs),
        where=case.limits,
        networks=tuple(ip_network(one) for one in case.networks),
        expires_at=ends,
        revoked_at=now - MINUTE if case.ends == "revoked" else None,
        disabled_at=now - MINUTE if case.ends == "disabled" else None,
    )
    rate = Rate(count=100, per=timedelta(seconds=1))
    return await Doorkeeper(OneKey(key), bench.clock, rate=rate).admit(text.reveal(), "10.1.2.3")


def prepare(bench: AccessBench, case: Case) -> None:
    bench.tokens.delete_many({})
    bench.insert("acme:other", meta={"tenant": "a"}, subject="someone else")
    if case.state == "absent":
        return
    state = {
        "operator": {"state": "paused", "due_at": None, "paused_by": {"kind": "operator"}},
        "application": {
            "state": "paused",
            "due_at": None,
            "paused_by": {"kind": "application", "due_at": NOON + 50 * MINUTE},
        },
        "removed": {"state": "removed", "access_token": None, "refresh_token": None, "removed_at": NOON},
        "revoked": {"state": "revoked", "access_token": None, "refresh_token": None},
    }.get(case.state, {"state": case.state})
    bench.insert("acme:1", expires_at=bench.clock.now() + 59 * MINUTE, **state, **case.stored)


async def answer(bench: AccessBench, tokens: ServedTokens, case: Case) -> str:
    """The name of the problem, or "done"."""
    reading = Reading(
        tokens, KEYS, bench.clock, definitions=lambda: {"acme": ACME.definition}, fresh_for=MINUTE
    )

    async def listed(who: Caller) -> None:
        found = await bench.listing.tokens(who, Wish())
        if "acme:1" not in {one.token.id for one in found.items}:
            raise Problem("not-found", "")

    async def removed(who: Caller) -> None:
        # Whatever the stored subject is, as long as it is a text.
        found = await bench.listing.remove_all(who, str(case.stored["subject"]), revoke=False)
        for one in found.items:
            if one.id == "acme:1" and one.result == "removed":
                return
            if one.id == "acme:1":
                raise Problem(one.result, "")
        raise Problem("not-found", "")

    requests: dict[str, Callable[[Caller], Awaitable[object]]] = {
        "read": lambda who: reading.read(who, "acme:1", Wanted()),
        "list": listed,
        "remove": lambda who: bench.writing.remove(who, "acme:1", revoke=False),
        "remove_all": removed,
        "put": lambda who: bench.writing.put(
            who,
            "acme:1",
            Offer(
                response=response(5),
                subject=case.change.get("subject"),  # type: ignore[arg-type]
                meta=case.change.get("meta", {}),  # type: ignore[arg-type]
            ),
        ),
        "patch": lambda who: bench.writing.patch(who, "acme:1", read_patch(case.change)),
        "pause": lambda who: bench.writing.patch(who, "acme:1", read_patch(case.change)),
        "resume": lambda who: bench.writing.patch(who, "acme:1", read_patch(case.change)),
    }
    try:
        await requests[case.request](await admitted(bench, case))
    except Problem as problem:
        return problem.name
    return "done"


@pytest.mark.slow
@pytest.mark.parametrize("count", [DRAWN, pytest.param(ALL_DRAWN, marks=pytest.mark.long)])
async def test_nothing_is_allowed_that_should_not_be(bench: AccessBench, count: int):
    tokens = ServedTokens(bench.mongo, offline_for=timedelta(0), without_streams=lambda _: None)
    outcomes: Counter[tuple[str, str]] = Counter()
    for case in drawn(count):
        bench.pass_time(SECONDS)
        prepare(bench, case)
        before = list(bench.tokens.find().sort("_id", 1))
        outcome = await answer(bench, tokens, case)
        rows = list(bench.tokens.find().sort("_id", 1))
        outcomes[case.request, outcome] += 1
        unlisted = case.request == "remove_all" and not isinstance(case.stored.get("subject"), str)
        if not is_admitted(case):
            assert outcome == "unauthorized", case
        elif is_forbidden(case) or unlisted:
            assert outcome == "not-found", case
        else:
            assert outcome not in ("unauthorized", "not-found"), case
        if outcome != "done":
            assert rows == before, case
        elif case.request == "put":
            check_what_became(case, rows)
        assert [row for row in rows if row["_id"] == "acme:other"] == before[-1:], case
    assert {name for name, outcome in outcomes if outcome == "done"} == set(NEEDED)
    assert len({outcome for _, outcome in outcomes}) >= 6, outcomes


def check_what_became(case: Case, rows: list[dict[str, object]]) -> None:
    """The token that was stored is one that the key may use, and an operator's pause is one still."""
    (row,) = [one for one in rows if one["_id"] == "acme:1"]
    assert within(case.limits, *fields(row)), case
    assert (row["state"] == "paused") is (
        case.state == "operator" or (case.state == "application" and Verb.PAUSE not in case.verbs)
    ), case


def test_the_cases_reach_every_part_of_the_matrix():
    """Every pair of a request and a state, a set of verbs, an end, networks and selectors is drawn."""
    cases = drawn(DRAWN)
    for part, values in (
        ("state", STATES),
        ("ends", ENDS),
        ("networks", NETWORKS),
        ("selectors", SELECTORS),
        ("verbs", VERBS),
    ):
        wanted = set(itertools.product(NEEDED, map(str, values)))
        assert wanted <= {(case.request, str(getattr(case, part))) for case in cases}, part
