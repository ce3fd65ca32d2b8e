"""What is read from a document that others may have written too."""

from datetime import UTC, datetime, timedelta

import pytest
from bson import Code, Int64

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.token_document import InvalidDocument, failure_of, token_of
from daemon.domain.token import FailureKind

RING = KeyRing({"k": bytes(32)}, active="k")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
YEAR_1, YEAR_9999 = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, tzinfo=UTC)


def document(**fields: object) -> dict[str, object]:
    sealed = RING.seal("rt", token_id="x:1", field="refresh_token")
    return {
        "_id": "x:1",
        "provider": "x",
        "account": "1",
        "state": "active",
        "refresh_token": sealed,
        **fields,
    }


def test_a_doubt_is_about_the_consent_that_was_in_doubt():
    """An application's new consent does not name `doubt`: what was in doubt before it was another value."""
    doubt = {"since": NOON, "tries": 1}
    assert token_of(document(doubt=doubt, issued_at=NOON - timedelta(hours=1)), RING).doubt is not None
    assert token_of(document(doubt=doubt, issued_at=NOON + timedelta(seconds=1)), RING).doubt is None
    assert token_of(document(doubt=doubt), RING).doubt is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [("state", "alive"), ("state", None), ("expires_at", "soon"), ("revision", "1"), ("failures", True), ("vars", {"a": 1}), ("provider", 7)],
)  # fmt: skip
def test_a_field_of_another_type_is_named_and_not_quoted(field, value):
    """The reason goes into the document and the log: it names the field."""
    with pytest.raises(InvalidDocument, match=field):
        token_of(document(**{field: value}), RING)


@pytest.mark.parametrize(
    "field", ["_id", "provider", "account", "state", "grant", "refresh_token", "access_token", "vars"]
)
def test_code_is_no_text(field):
    """BSON's code is a `str` to Python, and can't be hashed: it must not get as far as a set or a condition."""
    value = Code("x") if field != "vars" else {"region": Code("x")}
    with pytest.raises(InvalidDocument, match=field):
        token_of(document(**{field: value}), RING)


@pytest.mark.parametrize(
    "failure",
    [Code("x"), {"kind": Code("rejected"), "at": NOON}, {"kind": "rejected", "at": "x"}, {"kind": ["x"], "at": NOON}, 5],
)  # fmt: skip
def test_a_last_failure_in_another_form_is_none(failure):
    """It says nothing; the token is used as ever."""
    assert token_of(document(last_failure=failure), RING).last_failure is None


def test_a_last_failure_of_any_length_is_cut():
    """Three hundred characters, as refreshd itself writes them."""
    stored = {"kind": "rejected", "at": NOON, "code": "c" * 1000, "message": "m" * 100_000}
    failure = failure_of({"last_failure": stored})
    assert failure is not None
    assert (failure.code, failure.message) == ("c" * 300, "m" * 300)


def test_whole_numbers_may_be_long():
    """As MongoDB gives back those that another program wrote with 64 bits."""
    token = token_of(
        document(revision=Int64(2**40), failures=Int64(3), doubt={"since": NOON, "tries": Int64(2)}), RING
    )
    assert (token.revision, token.failures) == (2**40, 3)
    assert token.doubt is not None
    assert token.doubt.tries == 2


@pytest.mark.parametrize("at", [YEAR_1, YEAR_9999])
@pytest.mark.parametrize(
    "field", ["issued_at", "expires_at", "refresh_expires_at", "consent_ends_at", "refreshed_at", "due_at"]
)
def test_a_date_at_an_end_of_the_calendar_can_be_reckoned_with(field, at):
    """Programs write "none" as the year 1 and "never" as the year 9999."""
    stored = getattr(token_of(document(**{field: at}), RING), field)
    assert stored - timedelta(days=300) < stored < stored + timedelta(days=300)


def test_a_failure_and_a_doubt_at_the_end_of_the_calendar_can_be_reckoned_with():
    """Their dates come from documents too."""
    failure, doubt = {"kind": "rejected", "at": YEAR_9999}, {"since": YEAR_9999, "tries": 1}
    token = token_of(document(last_failure=failure, doubt=doubt), RING)
    assert token.last_failure is not None
    assert token.doubt is not None
    assert max(token.last_failure.at, token.doubt.since) + timedelta(days=300) < YEAR_9999


def test_a_failure_that_an_earlier_version_named_unread_is_unparsed():
    """Earlier versions stored that name: such a token stays as it is, and may be refreshed on demand."""
    stored = failure_of({"last_failure": {"kind": "unread", "code": "no_grant", "message": "", "at": NOON}})
    assert stored is not None
    assert stored.kind is FailureKind.UNPARSED
