"""Results for documents that another program changes while the provider is asked.

The fence decides whether a result is stored, and it consists of the presented value, the state and the claim. What
any other field holds by then must not keep a new refresh token out of the store.
"""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from bson import Int64

from daemon.domain.answer import Rejected, Unavailable
from daemon.domain.change import Change, RevocationPostponed
from daemon.domain.claim import Claim, Recorded
from daemon.domain.due import Moment, Timing
from daemon.domain.policy import decide
from daemon.domain.revocation_outcome import Again, decided
from tests.adapters.mongo.mongo_bench import ACME, CHANGES, NOON, Bench, claim_one, failure, renewed
from tests.adapters.mongo.test_documents import VALUES

FIELDS = [
    "state",
    "revision",
    "failures",
    "doubt",
    "last_failure",
    "extra",
    "events",
    "revocation",
    "lease.since",
]
ODD = {
    name: value for name, value in VALUES.items() if name != "long"
} | {  # too large to compare is another matter
    "the largest": Int64(2**63 - 1),
    "a large part": 1e300,
}
STATE = {"state": "revoking", "revocation": {"since": NOON, "tries": 1}}
STATES: dict[str, dict[str, Any]] = {"postponed revocation": STATE}
RESULTS: dict[str, Change] = {
    "rotated": renewed(extra={"api_domain": "eu"}),
    "postponed": CHANGES["postponed"],
    "retired": CHANGES["retired"],
    "postponed revocation": RevocationPostponed(
        failure=failure(), tries=2, due_at=NOON + timedelta(minutes=1)
    ),
}
MOMENT = Moment(NOON, 0.5, Timing(window=timedelta(minutes=5), jitter=timedelta(seconds=30)))


def cases() -> Iterator[tuple[str, str, Any]]:
    """The account, the field and the value of each change."""
    for field in FIELDS:
        for number, value in enumerate(ODD.values()):
            yield f"{field}-{number}", field, value


@pytest.mark.parametrize("kind", RESULTS)
async def test_a_result_is_stored_whatever_another_field_holds_by_then(bench: Bench, kind: str):
    """A refresh token that only the journal holds is a token that nobody renews."""
    for account, _, _ in cases():
        bench.insert(account, extra={"kept": 1}, **STATES.get(kind, {}))
    store, claims = bench.store(), dict[str, Claim]()
    for _ in range(20):
        batch = await store.claim(ACME, limit=100, busy={f"acme:{account}" for account in claims})
        claims |= {one.token.account: one for one in batch.items if isinstance(one, Claim)}
    assert claims.keys() == {account for account, _, _ in cases()}
    for account, field, value in cases():
        bench.set(f"acme:{account}", **{field: value})
    results = await asyncio.gather(
        *(store.record(claim, RESULTS[kind]) for claim in claims.values()), return_exceptions=True
    )
    refused = {
        account: result
        for account, result in zip(claims, results, strict=True)
        if result is not Recorded.STORED
    }
    assert refused == {}
    if kind == "rotated":
        assert {bench.refresh_token(f"acme:{account}") for account in claims} == {"refresh-1"}


@pytest.mark.parametrize("most", [Int64(2**63 - 1), float(2**63), 1e300])
@pytest.mark.parametrize("field", ["failures", "doubt"])
async def test_a_count_that_is_as_large_as_can_be_does_not_keep_a_failure_out(
    bench: Bench, field: str, most: float
):
    """One more would not fit the field, and the failure could not be stored: no wait, and no reason for people."""
    odd = {"failures": most, "doubt": {"since": NOON, "tries": most}}
    bench.insert(**{field: odd[field]})
    store = bench.store()
    answer = Unavailable(code="http_503", message="back soon", in_doubt=True)
    claim = await claim_one(store)
    change = decide(ACME, claim.token, answer, asked_at=NOON, moment=MOMENT)
    assert await store.record(claim, change) is Recorded.STORED
    assert bench.document()["last_failure"]["code"] == "http_503"


async def test_a_rejection_after_counts_as_large_as_can_be_is_final(bench: Bench):
    """Else the owner would never hear that they have to consent again."""
    bench.insert(failures=1e300, revision=Int64(2**63 - 1))
    store = bench.store()
    claim = await claim_one(store)
    answer = Rejected(code="invalid_grant", message="revoked")
    change = decide(ACME, claim.token, answer, asked_at=NOON, moment=MOMENT)
    assert await store.record(claim, change) is Recorded.STORED
    assert bench.document()["state"] == "needs_reauth"


async def test_a_revocation_that_was_tried_as_often_as_can_be_is_tried_again(bench: Bench):
    """Else each attempt would be made, and its failure not be stored."""
    bench.insert(state="revoking", revocation={"since": NOON, "tries": Int64(2**63 - 1)})
    store = bench.store()
    claim = await claim_one(store)
    change = decided(claim.token, Again(code="http_503", message="back soon"), now=NOON, chance=0.5)
    assert await store.record(claim, change) is Recorded.STORED
    assert bench.document()["last_failure"]["code"] == "http_503"
