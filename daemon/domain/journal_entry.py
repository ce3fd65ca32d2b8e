"""One reply in the journal."""

from dataclasses import dataclass

from daemon.domain.reply import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One reply in the journal. `key` names it there; `provider` is the token's; `spent` and its field the claim's."""

    key: int
    token: str
    provider: str
    claim: str
    spent: str | None
    spent_field: str = "refresh_token"
    reply: Reply
