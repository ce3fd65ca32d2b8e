"""A provider's statement that a refresh token was used before, and whether refreshd itself may have used it."""

import re
from collections import OrderedDict

from daemon.domain.token import Token

MOST_REMEMBERED = 10_000
_USED = re.compile(
    r"already[ _-](?:been[ _-])?(?:used|redeemed|exchanged|consumed|rotated|spent)"
    r"|(?:has|had) been (?:used|redeemed|exchanged|consumed)\b|was used (?:before|already)|used (?:before|more than once)"
    r"|re-?use[ _-](?:was[ _-])?(?:detected|exceeded)|refresh[ _-]?token[ _-](?:re-?used?)\b",
    re.IGNORECASE,
)
# A text that lists several possible causes states none of them.
_UNSURE = re.compile(r"\bor\b|\bmay\b|\bmight\b|\bexpired\b", re.IGNORECASE)


def says_used_before(words: str) -> bool:
    """Return whether a provider's words state that the refresh token was used before."""
    return _USED.search(words) is not None and _UNSURE.search(words) is None


def is_unused(token: Token) -> bool:
    """Return whether refreshd, in any replica, has not presented the stored refresh token before: a request without an
    answer leaves a doubt, any other failure leaves its record, and a success replaces both.
    """
    return token.doubt is None and token.last_failure is None and token.failures == 0


class Presented:
    """The refresh tokens that this process presented lately. An application may write an old one back. Only hashes are
    kept, which Python keys with a random secret of the process.
    """

    def __init__(self, *, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._hashes: OrderedDict[int, None] = OrderedDict()

    def add(self, token: Token) -> None:
        if token.refresh_token is not None:
            self._hashes[_hash(token)] = None
            if len(self._hashes) > self._most:
                self._hashes.popitem(last=False)

    def __contains__(self, token: Token) -> bool:
        return token.refresh_token is not None and _hash(token) in self._hashes


def _hash(token: Token) -> int:
    return hash((token.id, token.refresh_token))
