"""Who paused a token, as its document says. Its author alone ends a pause."""

from collections.abc import Mapping

from daemon.adapters.mongo.token_document import Document
from daemon.domain.backup import MAYBE_SPENT
from daemon.domain.stored_grant import PausedBy
from daemon.domain.token import FailureKind, State

PAUSE_FIELDS = ("paused_by", "origin.key", "origin.activated", "origin.held", "last_failure", "state")


def pause_author(document: Document) -> PausedBy | None:
    """Return the author of the token's pause. One without a known author counts as an operator's."""
    if document.get("state") != State.PAUSED.value:
        return None
    origin, pause, failure = (document.get(name) for name in ("origin", "paused_by", "last_failure"))
    if isinstance(origin, Mapping) and isinstance(origin.get("key"), str) and origin.get("activated") is None:
        return PausedBy.IMPORT if origin.get("held") is None else PausedBy.OPERATOR
    if isinstance(pause, Mapping):
        applications = pause.get("kind") == PausedBy.APPLICATION.value
        return PausedBy.APPLICATION if applications else PausedBy.OPERATOR
    kind, code = (failure.get("kind"), failure.get("code")) if isinstance(failure, Mapping) else (None, None)
    of_the_daemon = kind == FailureKind.DUPLICATE.value or code == MAYBE_SPENT
    return PausedBy.DAEMON if of_the_daemon else PausedBy.OPERATOR
