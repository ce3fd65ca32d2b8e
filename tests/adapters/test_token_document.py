"""What is read from a document that others may have written too."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.adapters.keyring import KeyRing
from daemon.adapters.token_document import IllTyped, token_of

RING = KeyRing({"k": bytes(32)}, active="k")
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


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
    with pytest.raises(IllTyped, match=field):
        token_of(document(**{field: value}), RING)
