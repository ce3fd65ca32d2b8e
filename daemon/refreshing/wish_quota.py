"""The quota of wishes: a wish goes first, but many of them take a quarter of the lane at most, so that tokens which
are due anyway are not late.
"""

PART = 4  # a quarter


class WishQuota:
    """Counts in starts, not in capacity: with a share of one, each fourth start may be a wish.

    `competing`: a pass is running, so other tokens are due too.
    """

    def __init__(self) -> None:
        self.competing = False
        self._owed = 0  # starts of other tokens that come first, before the next wishes

    def left(self, *, share: int, held: int) -> int:
        """Return how many more wishes may be claimed if `held` are claimed or in flight."""
        quarter = _quarter(share)
        left = quarter - held
        if self.competing:
            left = min(left, quarter - -(-self._owed // (PART - 1)))
        return max(left, 0)

    def claimed(self, count: int, *, share: int) -> None:
        """Count wishes. As many others as the remaining three quarters start before the next ones."""
        self._owed = min(self._owed + count * (PART - 1), _quarter(share) * (PART - 1))

    def other_started(self) -> None:
        """Count the start of a token that nobody asked for."""
        self._owed = max(self._owed - 1, 0)


def _quarter(share: int) -> int:
    return max(share // PART, 1)
