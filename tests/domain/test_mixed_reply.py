"""`invalid_grant` beside words that contradict it: no token is condemned on evidence that says two things."""

import re

import pytest

from daemon.domain.answer import Cause, Rejected, Unavailable
from daemon.domain.provider import Condition, ErrorPattern
from tests.domain.replies import answer

DEAD = {"error": "invalid_grant"}
KNOWN = {"rejected": (ErrorPattern(field="reason", values=frozenset({"gone"})),)}


@pytest.mark.parametrize(
    "beside",
    [
        {"status": 503},
        {"status": "503"},
        {"status": "503 Service Unavailable"},
        {"statusCode": 500},
        {"status_code": "502"},
        {"httpStatus": 504},
        {"http_status_code": 503},
        {"code": 500},
        {"error_code": "503"},
        {"details": {"status": 503}},
        {"errors": [{"code": "503"}]},
        {"upstream": {"response": {"status": 599}}},
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [400, 401])
def test_a_body_with_a_servers_failure_is_in_doubt(beside, status):
    """The server that failed may have replaced the token before that."""
    got = answer({**DEAD, **beside}, status)
    assert isinstance(got, Unavailable)
    assert (got.code, got.in_doubt, got.cause) == ("invalid_grant", True, Cause.OUTAGE)


@pytest.mark.parametrize(
    "beside",
    [
        {"status": 429},
        {"statusCode": "429"},
        {"code": 408},
        {"retryable": True},
        {"retryable": "true"},
        {"isRetryable": 1},
        {"retriable": True},
        {"can_retry": "yes"},
        {"should_retry": True},
        {"transient": True},
        {"temporary": True},
        {"retry_after": 30},
        {"retryAfter": "30s"},
        {"retry_after_seconds": 0.5},
        {"error_info": {"retryable": True}},
    ],
    ids=str,
)
@pytest.mark.parametrize("status", [400, 401])
def test_a_body_that_asks_for_another_try_gets_one(beside, status):
    """Nothing was done, so it is no doubt, and no refusal of the token either."""
    got = answer({**DEAD, **beside}, status)
    assert isinstance(got, Unavailable)
    assert (got.code, got.in_doubt, got.cause) == ("invalid_grant", False, Cause.OUTAGE)


@pytest.mark.parametrize(
    "beside",
    [
        {"status": 400},
        {"statusCode": "401"},
        {"status": "error"},
        {"status": False},
        {"code": 5031},
        {"code": "500-17"},
        {"error_codes": [70008]},
        {"retryable": False},
        {"retryable": "false"},
        {"is_transient": 0},
        {"retry": "no"},
        {"retry_after": 0},
        {"retry_after": None},
        {"trace_id": "503"},
        {"error_description": "status 5"},
    ],
    ids=str,
)
def test_a_clear_verdict_stays_one(beside):
    """What says the same, or nothing, does not keep a dead token alive."""
    assert isinstance(answer({**DEAD, **beside}, 400), Rejected)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
@pytest.mark.parametrize("beside", [{}, {"status": 503}, {"retryable": True}], ids=str)
def test_with_the_status_of_an_outage_it_is_no_verdict_either(status, beside):
    """Whatever the body says: the status comes from the server that failed."""
    got = answer({**DEAD, **beside}, status)
    assert isinstance(got, Unavailable)
    assert got.in_doubt is (status >= 500)


@pytest.mark.parametrize("beside", [{"statusCode": 503}, {"retryable": True}], ids=str)
@pytest.mark.parametrize("status", [200, 400, 403])
def test_a_definitions_own_verdict_needs_an_unmixed_body_too(beside, status):
    """The sign of a definition is a text in a reply, and a gateway can repeat that as well."""
    assert isinstance(answer({"reason": "gone"}, status, known=KNOWN), Rejected)
    assert isinstance(answer({"reason": "gone", **beside}, status, known=KNOWN), Unavailable)


def test_a_number_that_a_definition_lists_is_no_status():
    """Withings' numbers look like statuses of HTTP, and mean what its definition says."""
    known = {"rejected": (ErrorPattern(field="status", values=frozenset({"503"})),)}
    assert isinstance(answer({"status": 503}, 200, known=known), Rejected)
    assert isinstance(answer({"status": 503, "retryable": True}, 200, known=known), Unavailable)
    both = ErrorPattern(
        field="reason",
        values=frozenset({"gone"}),
        also=Condition(field="code", pattern=re.compile("^50[0-9]$")),
    )
    assert isinstance(answer({"reason": "gone", "code": 500}, 400, known={"rejected": (both,)}), Rejected)


def test_another_object_of_the_reply_counts_as_well():
    """A gateway may write its own object behind the one that it passes on."""
    assert isinstance(answer(b'{"error": "invalid_grant"}{"status": 503}', 400), Unavailable)


def test_a_huge_body_is_searched_within_bounds():
    """The last of a million values is not looked for, and the reply is read nevertheless."""
    wide = {**DEAD, "list": [{"n": number} for number in range(100_000)]}
    deep: object = {"status": 503}
    for _ in range(50):
        deep = {"inner": deep}
    assert isinstance(answer(wide, 400), Rejected)
    assert isinstance(answer({**DEAD, "deep": deep}, 400), Rejected)
