"""Lists of tokens, of one subject's tokens and of audit records, and counts. No list holds a secret."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from daemon.domain.access_key import Verb
from daemon.domain.audit_position import Position
from daemon.domain.consent_request import END_CONSENTS
from daemon.domain.selection import Counted, Listed, RecordPage, RecordSelection, Selection
from daemon.domain.stored_grant import Author
from daemon.serving.doorkeeper import Caller
from daemon.serving.ports import Deeds, Lists, Unfinished
from daemon.serving.problems import Problem, not_found
from daemon.serving.writing import Writing

USUAL, MOST = 100, 500
SOON = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`next`: the id after which the next page begins, or None at the end."""

    items: Sequence[Listed]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A caller's selection."""

    provider: str | None = None
    state: str | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    after: str | None = None
    limit: int = USUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What became of one token. `result`: "revoking", "removed", or the name of a problem."""

    id: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedPage:
    """`next`: the id after which tokens are left, or None at the end."""

    items: Sequence[Removed]
    next: str | None


class Listing:
    """Every method raises Problem, StoreLost."""

    def __init__(self, lists: Lists, writing: Writing, unfinished: Unfinished, deeds: Deeds) -> None:
        self._lists = lists
        self._writing = writing
        self._unfinished = unfinished
        self._deeds = deeds

    async def tokens(self, caller: Caller, wish: Wish) -> Page:
        """Return a page of the tokens that the key may see, by id."""
        _require(caller, Verb.LIST)
        found = await self._lists.tokens(_selection(caller, wish), limit=wish.limit + 1)
        items = found[: wish.limit]
        return Page(items=items, next=items[-1].token.id if len(found) > wish.limit else None)

    async def count(self, caller: Caller) -> Sequence[Counted]:
        """Return the numbers of the tokens that the key may see, by provider and state."""
        _require(caller, Verb.LIST)
        return await self._lists.count(_selection(caller, Wish()))

    async def remove_all(
        self, caller: Caller, subject: str, *, revoke: bool, after: str | None = None
    ) -> RemovedPage:
        """Revoke or remove tokens of `subject` that the key may revoke, by id, at most USUAL at a time. Each has its own
        result. Its consents that the key may revoke and that store nothing yet end first, so that none of them stores a
        token afterwards, and they have one record together.
        """
        _require(caller, Verb.REVOKE)
        mine = [
            one.id for one in await self._unfinished.of(subject) if caller.key.may(Verb.REVOKE, one.token)
        ]
        if mine:
            key = caller.key
            author = Author(key=key.id, name=key.name, ip=caller.address, peer=caller.peer)
            await self._deeds.note(author, END_CONSENTS, None, subject=subject, count=len(mine))
            await self._unfinished.end(mine)
        selection = _selection(caller, Wish(where={"subject": subject}, after=after))
        found = await self._lists.tokens(selection, limit=USUAL + 1)
        items = [await self._removed(caller, one.token.id, revoke=revoke) for one in found[:USUAL]]
        return RemovedPage(items=items, next=items[-1].id if len(found) > USUAL else None)

    async def _removed(self, caller: Caller, name: str, *, revoke: bool) -> Removed:
        try:
            result = await self._writing.remove(caller, name, revoke=revoke)
        except Problem as problem:
            result = problem.name
        return Removed(id=name, result=result)

    async def records(
        self,
        caller: Caller,
        *,
        token: str | None = None,
        actor: str | None = None,
        since: datetime | None = None,
        after: Position | None = None,
        limit: int = USUAL,
    ) -> RecordPage:
        """Return a page of the audit records that the key may see, newest first."""
        _require(caller, Verb.AUDIT)
        selection = RecordSelection(
            key=caller.key.id,
            selectors=caller.key.tokens,
            limits=caller.key.where,
            token=token,
            actor=actor,
            since=since,
            after=after,
        )
        return await self._lists.records(selection, limit=limit)


def _require(caller: Caller, verb: Verb) -> None:
    if verb not in caller.key.can:
        raise not_found()
    if caller.away:
        raise Problem("unavailable", "MongoDB does not answer.", retry_after=SOON)


def _selection(caller: Caller, wish: Wish) -> Selection:
    return Selection(
        selectors=caller.key.tokens,
        limits=caller.key.where,
        provider=wish.provider,
        state=wish.state,
        where=wish.where,
        after=wish.after,
    )
