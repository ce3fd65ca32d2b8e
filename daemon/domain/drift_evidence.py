"""Evidence that a provider no longer behaves as its definition says, from one renewal after the other.

Each class remembers little, for one provider in one process, and is as strict as it must be so that chance,
another tenant's settings or one odd reply never look like a change.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import timedelta

# In a row. Lifetimes that differ at random agree with the first of them within a twentieth: once in 10^11 runs.
CHANGED = 12
NEVER_MET = 20  # in a row and since the start, without one that is as documented
CONTRADICTIONS = 10  # of the documented rotation, in a row
WITHHELD = 3  # so many replies without a refresh token pause the provider, where one must come
SIGHTINGS = 5  # of one unknown error code; one with a random part is never seen so often
LEARNING = 20  # renewals whose fields are the usual ones
NEW_FIELD = 10  # in a row
INTERRUPTIONS = 3  # of such a row: a field that comes and goes is usual

_MOST_TOKENS, _MOST_CODES, _MOST_FIELDS, _MOST_COHORTS = 64, 16, 128, 128
_LEAST, _LEAST_AGREED = timedelta(seconds=30), timedelta(seconds=15)  # clocks and rounding differ by as much


def near(documented: timedelta) -> tuple[timedelta, timedelta]:
    """Return the shortest and the longest lifetime that are as documented: within a tenth or half a minute."""
    allowed = max(documented / 10, _LEAST)
    return documented - allowed, documented + allowed


def is_near(life: timedelta, documented: timedelta) -> bool:
    shortest, longest = near(documented)
    return shortest <= life <= longest


def _agree(one: timedelta, other: timedelta) -> bool:
    return abs(one - other) <= max(other / 20, _LEAST_AGREED)


class Lifetimes:
    """Whether access tokens live as long as documented.

    A token is a witness if it lived as long as documented before. A tenant with a lifetime of its own has no
    witnesses. Without any witness since the start, a definition that no tenant can differ from is wrong if all
    renewals agree on another lifetime.
    """

    __slots__ = ("_is_met", "_last_access", "_other", "_run", "_witnesses")

    def __init__(self) -> None:
        self._is_met = False
        self._other = timedelta(0)
        self._run = 0
        self._witnesses: set[int] = set()
        self._last_access: int | None = None

    def as_documented(self) -> None:
        self._is_met = True
        self._run = 0
        if self._witnesses:
            self._witnesses.clear()

    def differs(
        self, life: timedelta, *, token: int, access: int, was_met: bool, varies: bool
    ) -> timedelta | None:
        """Return the lifetime to document, once it is certain.

        `token`, `access`: hashes of the token's id and of its new access token. `was_met`: the token lived as
        documented before. `varies`: tenants may have lifetimes of their own.
        """
        self._is_met |= was_met
        if was_met and len(self._witnesses) < _MOST_TOKENS:
            self._witnesses.add(token)
        if (self._is_met or varies) and token not in self._witnesses:
            return None
        if access == self._last_access:  # issued once and given to several: one piece of evidence
            return None
        self._last_access = access
        if self._run == 0 or not _agree(life, self._other):
            self._other, self._run = life, 0
        self._run += 1
        return self._other if self._run >= (CHANGED if self._is_met else NEVER_MET) else None


class Rotations:
    """Whether refresh tokens are replaced as documented."""

    __slots__ = ("_run",)

    def __init__(self) -> None:
        self._run = 0

    def weigh(self, *, contradicts: bool, withheld: bool) -> bool:
        """Return whether enough renewals in a row contradict the definition. `withheld`: the token is renewed no more
        for it.
        """
        self._run = self._run + 1 if contradicts else 0
        return self._run >= (WITHHELD if withheld else CONTRADICTIONS)


class Codes:
    """Error codes that the definition does not know."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: OrderedDict[str, int] = OrderedDict()

    def weigh(self, code: str) -> bool:
        """Return whether an unknown code was seen often enough to be part of the provider's language."""
        count = self._seen.pop(code, 0) + 1
        self._seen[code] = count
        if len(self._seen) > _MOST_CODES:
            self._seen.popitem(last=False)
        return count >= SIGHTINGS


class Fields:
    """Fields of replies that came or went.

    A *mark* is the name of a field, or a hyphen and the name of a stored field that is absent. A *cohort* is
    the tokens of one tenant with one scope: only a cohort whose replies had none but usual marks before can show
    that a mark is new.
    """

    __slots__ = ("_cohorts", "_interrupted", "_last", "_learned", "_runs", "_usual")

    def __init__(self, *, usual: set[str]) -> None:
        """`usual`: marks that are never news."""
        self._usual = set(usual)
        self._learned = 0
        self._cohorts: set[int] = set()
        self._runs: dict[str, int] = {}
        self._interrupted: dict[str, int] = {}
        self._last: Sequence[str] = ()

    def is_usual(self, marks: Sequence[str], *, cohort: int) -> bool:
        """Return whether a reply is like the one before, which had nothing new. This is the fast path."""
        known = cohort in self._cohorts or len(self._cohorts) >= _MOST_COHORTS
        return known and marks == self._last and not self._runs

    def weigh(self, marks: Sequence[str], *, cohort: int) -> Iterable[str]:
        """Return the marks that are certainly new. Each is returned once."""
        if self._learned < LEARNING:
            self._learned += 1
            self._usual.update(marks[: max(0, _MOST_FIELDS - len(self._usual))])
            self._remember(cohort)
            return ()
        new = [mark for mark in marks if mark not in self._usual]
        for mark in self._runs.keys() - set(new):
            self._interrupt(mark)
        if not new:
            self._last = marks
            self._remember(cohort)
            return ()
        return [] if cohort not in self._cohorts else [mark for mark in new if self._is_certain(mark)]

    def _is_certain(self, mark: str) -> bool:
        if mark not in self._runs and len(self._runs) >= _MOST_FIELDS:
            return False
        self._runs[mark] = self._runs.get(mark, 0) + 1
        if self._runs[mark] < NEW_FIELD:
            return False
        del self._runs[mark]
        self._usual.add(mark)
        return True

    def _interrupt(self, mark: str) -> None:
        del self._runs[mark]
        count = self._interrupted.pop(mark, 0) + 1
        if count < INTERRUPTIONS and len(self._interrupted) < _MOST_FIELDS:
            self._interrupted[mark] = count
        elif len(self._usual) < 2 * _MOST_FIELDS:
            self._usual.add(mark)

    def _remember(self, cohort: int) -> None:
        if len(self._cohorts) < _MOST_COHORTS:
            self._cohorts.add(cohort)
