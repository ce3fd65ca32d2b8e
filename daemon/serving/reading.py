"""An access token for a caller: permitted, fresh enough or renewed, and opened."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from daemon.domain.access_key import Stored, Verb
from daemon.domain.early_renewal import (
    Answer,
    NotBefore,
    Renew,
    TooOften,
    Underway,
    bounded,
    for_freshness,
    for_refused,
    is_fresh,
)
from daemon.domain.known import Known
from daemon.domain.provider import Definition
from daemon.domain.secret import Secret
from daemon.domain.served_token import ServedToken
from daemon.serving.doorkeeper import Caller
from daemon.serving.ports import Clock, Opener, Tokens
from daemon.serving.problems import Problem, not_found
from daemon.serving.seats import Seats

SOON = timedelta(seconds=2)  # until the next attempt of a caller, if no better time is known
NO_WAIT = timedelta(0)
_UNKNOWN = Definition(name="", title="", token_url="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The answer: the token with its opened access token. `away`: from memory, since the store does not answer."""

    token: ServedToken
    access_token: Secret
    away: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The renewal has been asked for, and has not ended within the caller's wait."""

    retry_after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A caller's conditions. `fresh_for`: how long the access token must still live; None: as configured, and a
    token that lives shorter is better than none. `scope`: words that its scope must contain.
    """

    fresh_for: timedelta | None = None
    scope: frozenset[str] = frozenset()
    wait: timedelta = NO_WAIT


class Reading:
    """`fresh_for`: for callers that name none. `reconnect_url`: the application's page for a dead grant, with `{id}`.
    `refused_again` receives the caller and the token id if one access token after the other is refused. Every method raises Problem, StoreLost.
    """

    def __init__(
        self,
        tokens: Tokens,
        opener: Opener,
        clock: Clock,
        *,
        definitions: Callable[[], Mapping[str, Definition]],
        fresh_for: timedelta,
        reconnect_url: str | None = None,
        seats: Seats | None = None,
        refused_again: Callable[[Caller, str], None] = lambda _caller, _token: None,
    ) -> None:
        self._tokens = tokens
        self._opener = opener
        self._clock = clock
        self._definitions = definitions
        self._fresh_for = fresh_for
        self._reconnect_url = reconnect_url
        self._seats = seats or Seats()
        self._refused_again = refused_again
        self._waiting_ends = asyncio.Event()

    def stop_waiting(self) -> None:
        """Answer the callers that wait for a renewal now, since the process is about to end."""
        self._waiting_ends.set()

    async def read(self, caller: Caller, name: str, wanted: Wanted) -> Served:
        """Return the token for a caller that may read it."""
        known, token = await self._in_use(caller, Verb.READ, name)
        self._require_scope(token, wanted)
        if known.away or caller.away:
            return self._last_known(token)
        asked = self._fresh_for if wanted.fresh_for is None else wanted.fresh_for
        need = bounded(asked, token, self._definition(token))
        if not is_fresh(token, need, self._clock.now()):
            token = await self._renewed(
                caller, token, wanted, lambda one: is_fresh(one, need, self._clock.now())
            )
        return self._opened(token)

    async def refused(self, caller: Caller, name: str, version: str, wait: timedelta) -> Served | Accepted:
        """Ask for an early renewal, because the provider refuses the access token of this version. Return the
        successor if it came within `wait`.
        """
        known, token = await self._in_use(caller, Verb.REFUSE, name)
        if known.away or caller.away:
            raise Problem("unavailable", "MongoDB does not answer.", retry_after=SOON)
        if token.version == version:
            answer = for_refused(token, self._definition(token), self._clock.now())
            if isinstance(answer, TooOften):
                self._refused_again(caller, name)
            await self._ask(token, answer)
            token = await self._awaited(
                caller, token, wait, lambda one: one.version != version and one.is_usable(self._clock.now())
            )
        if token.version == version or not token.is_usable(self._clock.now()):
            return Accepted(retry_after=SOON)
        return self._opened(token)

    # ---------------------------------------------------------------- may they

    async def permitted(self, caller: Caller, verb: Verb, name: str) -> ServedToken:
        """Return the token, in any state, if the caller may do `verb` with it."""
        _, token = await self._found(caller, verb, name)
        return token

    async def _in_use(self, caller: Caller, verb: Verb, name: str) -> tuple[Known[ServedToken], ServedToken]:
        """Return the token if the caller may do `verb` with it and it is in use."""
        known, token = await self._found(caller, verb, name)
        self._require_use(token)
        return known, token

    async def _found(self, caller: Caller, verb: Verb, name: str) -> tuple[Known[ServedToken], ServedToken]:
        """Look the token up only for a key that may do `verb` with a token of this name."""
        if verb not in caller.key.can or not caller.key.names(name):
            raise not_found()
        known = await self._tokens.find(name)
        token = known.value
        if token is None or not _may(caller, verb, token):
            raise not_found()
        return known, token

    def _require_use(self, token: ServedToken) -> None:
        match token.state:
            case "active":
                return
            case "needs_reauth":
                raise self._needs_reauth(token)
            case "paused":
                raise Problem("paused", "An operator or an application has paused this token.")
            case "revoking":
                raise Problem("revoking", "This token is being revoked.")
            case _:
                raise not_found()

    def _needs_reauth(self, token: ServedToken) -> Problem:
        fields: dict[str, object] = {"last_failure": None}
        if (failure := token.last_failure) is not None:
            fields["last_failure"] = {"kind": failure.kind.value, "code": failure.code, "at": failure.at}
        if self._reconnect_url is not None:
            fields["reconnect_url"] = self._reconnect_url.replace("{id}", quote(token.id, safe=""))
        return Problem("needs-reauth", "The account's owner must give consent again.", fields=fields)

    def _require_scope(self, token: ServedToken, wanted: Wanted) -> None:
        if not wanted.scope or token.scope is None:
            return
        missing = wanted.scope - frozenset(token.scope.split())
        if missing:
            raise Problem(
                "scope-missing",
                "The account's owner has not granted this scope.",
                fields={"missing_scopes": sorted(missing)},
            )

    # ---------------------------------------------------------------- fresh enough, or renewed

    async def _renewed(
        self, caller: Caller, token: ServedToken, wanted: Wanted, fresh: Callable[[ServedToken], bool]
    ) -> ServedToken:
        """Ask for a renewal and wait for it. Without an explicit demand, a usable token is good enough."""
        answer = for_freshness(token, self._definition(token), self._clock.now())
        usable_is_enough = wanted.fresh_for is None and token.is_usable(self._clock.now())
        if token.due_at is None and not token.is_usable(self._clock.now()):
            raise self._needs_reauth(token)
        try:
            await self._ask(token, answer)
        except Problem:
            if not usable_is_enough:
                raise
            return token
        token = await self._awaited(caller, token, wanted.wait, fresh)
        if fresh(token) or (wanted.fresh_for is None and token.is_usable(self._clock.now())):
            return token
        raise self._renewing(token.due_at)

    async def _ask(self, token: ServedToken, answer: Answer) -> None:
        """Write the wish for an early renewal, if that is allowed. The daemon fulfils it."""
        match answer:
            case NotBefore(at=at):
                raise self._renewing(at)
            case TooOften(usual=usual):
                raise Problem(
                    "refused-again",
                    "The provider has refused several new access tokens in a row, so this one is renewed at its usual"
                    " time only.",
                    fields={"renewed_at": usual},
                )
            case Renew(refusals=refusals):
                if await self._tokens.is_resting(token.provider):
                    raise self._renewing(token.due_at)
                await self._tokens.wish(token, refusals)
            case Underway():
                pass

    async def _awaited(
        self, caller: Caller, token: ServedToken, wait: timedelta, enough: Callable[[ServedToken], bool]
    ) -> ServedToken:
        """Return the token as soon as it is `enough`, or as it is after `wait`."""
        if wait <= NO_WAIT:
            return token
        end = self._clock.boot() + wait
        verb = Verb.READ if Verb.READ in caller.key.can else Verb.REFUSE
        with self._seats.taken(caller.key.id) as seated, self._tokens.watching(token.id) as changed:
            while seated:
                # Read only now that changes are reported: one that came while the wish was written has been missed.
                _, token = await self._in_use(caller, verb, token.id)
                left = end - self._clock.boot()
                if enough(token) or left <= NO_WAIT or not await self._in_time(changed(), left):
                    break
        return token

    async def _in_time(self, work: Coroutine[None, None, None], left: timedelta) -> bool:
        """Return whether `work` ended within `left`, and before all waiting ended."""
        tasks = {asyncio.create_task(work), asyncio.create_task(self._waiting_ends.wait())}
        try:
            done, _ = await asyncio.wait(
                tasks, timeout=left.total_seconds(), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in tasks:
                task.cancel()
        return bool(done) and not self._waiting_ends.is_set()

    def _renewing(self, at: datetime | None) -> Problem:
        wait = SOON if at is None else max(at - self._clock.now(), timedelta(seconds=1))
        return Problem("renewing", "A new access token is not available yet.", retry_after=wait)

    # ---------------------------------------------------------------- answers

    def _last_known(self, token: ServedToken) -> Served:
        """Return what memory holds: only a token with a known end that has not come."""
        if token.expires_at is None or not token.is_usable(self._clock.now()):
            raise Problem("unavailable", "MongoDB does not answer.", retry_after=SOON)
        return self._opened(token, away=True)

    def _opened(self, token: ServedToken, *, away: bool = False) -> Served:
        if not token.is_usable(self._clock.now()):
            raise self._renewing(token.due_at)
        access_token = self._opener.open(token)
        if access_token is None:
            raise Problem("unavailable", "The stored access token can't be opened with the service's keys.")
        return Served(token=token, access_token=access_token, away=away)

    def _definition(self, token: ServedToken) -> Definition:
        return self._definitions().get(token.provider, _UNKNOWN)


def _may(caller: Caller, verb: Verb, token: ServedToken) -> bool:
    return caller.key.may(verb, Stored(id=token.id, fields=token.selected))
