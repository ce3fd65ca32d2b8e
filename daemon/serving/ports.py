"""What the access service needs of the world. The adapters fit these protocols by shape."""

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

from daemon.domain.access_key import AccessKey
from daemon.domain.anomaly import AnomalyKind
from daemon.domain.consent_request import (
    Completion,
    ConsentFailure,
    ConsentProgress,
    ConsentRequest,
    UnfinishedConsent,
)
from daemon.domain.habit import Habit, Seen
from daemon.domain.jwt import Fault, Jwt
from daemon.domain.known import Known
from daemon.domain.secret import Secret
from daemon.domain.selection import Counted, Listed, RecordPage, RecordSelection, Selection
from daemon.domain.served_token import Refusals, ServedToken
from daemon.domain.session_proof import Proof
from daemon.domain.stored_grant import Author, Edit, StoredGrant
from daemon.domain.token import Token
from daemon.domain.use import Use, UseKey


class Keys(Protocol):
    async def find(self, key_id: str) -> Known[AccessKey]:
        """Return the access key. Raises StoreLost if it isn't known well enough."""


class IssuerKeys(Protocol):
    async def fault(self, jwt: Jwt) -> Fault | None:
        """Return the fault of the JWT's signature, or None if the issuer has signed it. Raises KeysAway."""


class Tokens(Protocol):
    async def find(self, token: str) -> Known[ServedToken]:
        """Return the token. Raises StoreLost if it isn't known well enough."""

    def watching(self, token: str) -> AbstractContextManager[Callable[[], Coroutine[None, None, None]]]:
        """Return a function that waits until the token may have changed since the last call."""

    async def wish(self, token: ServedToken, refusals: Refusals | None) -> None:
        """Make the token due now, unless it has changed. Raises StoreLost."""

    async def is_resting(self, provider: str) -> bool:
        """Return whether the provider is paused. Raises StoreLost."""


class Opener(Protocol):
    def open(self, token: ServedToken) -> Secret | None:
        """Return the access token, or None if the keys of this process don't open it."""


class Writes(Protocol):
    """Writes of the access service. Each is recorded in the audit before it is done, and is done only if the document is
    still what the decision was made on, and still matches `where`, the fields that the key is limited to.

    A decision may raise to write nothing, and is asked again if the document has changed meanwhile. Every method raises
    StoreLost, KeepsChanging, Unclear.
    """

    def fingerprints(self, refresh_token: Secret) -> Sequence[str]:
        """Return the fingerprints by which a stored refresh token is recognized."""

    async def put(
        self,
        author: Author,
        where: Mapping[str, str],
        token: Token,
        extra: Mapping[str, object],
        meta: Mapping[str, str],
        decide: Callable[[StoredGrant | None], Edit],
    ) -> tuple[bool, ServedToken]:
        """Store a consent. Return whether the id is new, and the token as it is stored now. Raises DuplicateGrant
        and GrantOver.
        """

    async def edit(
        self,
        author: Author,
        where: Mapping[str, str],
        name: str,
        decide: Callable[[StoredGrant | None], tuple[str, Edit] | None],
        *,
        alone: bool = False,
    ) -> ServedToken:
        """Change a token as decided; the text is what the audit calls it. None: nothing is changed. Return the token as
        it is stored now. `alone`: raise DuplicateGrant if another active token holds the same refresh token.
        """

    async def stored(self, name: str) -> StoredGrant | None:
        """Return the token as it is stored now, or None."""


class Consents(Protocol):
    """Consent requests that applications have begun. Every method raises StoreLost."""

    async def insert(self, request: ConsentRequest, *, state_hash: str | None, link_hash: str | None) -> None:
        """Store a request that has a link and no code yet."""

    async def by_link(self, link_hash: str) -> ConsentRequest | None:
        """Return the request of a link that can still be used. Nothing is changed."""

    async def spend_link(
        self, link_hash: str, *, browser_hash: str, state_hash: str, code_verifier: Secret | None
    ) -> ConsentRequest | None:
        """Use a link, which happens once: from now on, a callback with this state and from this browser is expected."""

    async def called_back(self, provider: str, state_hash: str, browser_hash: str) -> ConsentRequest | None:
        """Use a state, which happens once. None: there is no such state, or its browser or provider is another one; the
        consent has failed then.
        """

    async def give_code(self, consent: str, *, code: Secret, connect_code_hash: str | None) -> bool:
        """Give the code to a daemon. Returns False if the consent has ended."""

    async def refuse(self, consent: str, failure: ConsentFailure) -> bool:
        """End a consent that no daemon has taken. Returns False if one has."""

    async def progress(self, consent: str) -> ConsentProgress | None:
        """Return the state of a consent, or None if it is gone."""

    async def recall(self, consent: str) -> ConsentRequest | None:
        """Return a consent whose code a daemon has taken, without the code."""

    async def complete(self, consent: str, *, key: str, proof: Proof) -> Completion:
        """Let a daemon bind a held grant, if the proof is that of the consent, and the key too."""


class Unfinished(Protocol):
    """Consents that store nothing yet. Every method raises StoreLost."""

    async def of(self, subject: str) -> Sequence[UnfinishedConsent]:
        """Return the unfinished consents of a subject."""

    async def end(self, consents: Collection[str]) -> int:
        """End those of these consents that are unfinished. Returns their number."""


class Deeds(Protocol):
    """The audit of what access keys and browsers do."""

    async def note(
        self,
        author: Author,
        action: str,
        token: str | None,
        *,
        result: str | None = None,
        subject: str | None = None,
        count: int | None = None,
    ) -> None:
        """Record a deed before it is done. `token`: None for a deed of several consents, whose number is `count`. Raises
        StoreLost.
        """


class Lists(Protocol):
    """What a key may see. Every method raises StoreLost."""

    async def tokens(self, selection: Selection, *, limit: int) -> Sequence[Listed]:
        """Return at most `limit` of the selected tokens, by id."""

    async def count(self, selection: Selection) -> Sequence[Counted]:
        """Return the numbers of the selected tokens, by provider and state."""

    async def records(self, selection: RecordSelection, *, limit: int) -> RecordPage:
        """Return a page of the selected audit records, newest first."""


class Uses(Protocol):
    async def add(self, uses: dict[UseKey, Use]) -> None:
        """Add to the stored counts, and remove from `uses` what is stored. Raises StoreLost; what is left then may be
        stored in part.
        """


class Habits(Protocol):
    """The habits of access keys, which all replicas share. Every method raises StoreLost."""

    async def of(self, keys: Collection[str]) -> Mapping[str, Habit]:
        """Return the stored habits, by key. A key that was never used has none."""

    async def add(self, seen: Mapping[str, Seen]) -> None:
        """Add to the stored habits."""

    async def claim(self, key: str, kind: AnomalyKind, hour: datetime) -> bool:
        """Return whether no process has claimed an anomaly of this kind, key and hour yet. The key has a stored habit."""


class Clock(Protocol):
    def boot(self) -> timedelta: ...
    def now(self) -> datetime: ...
