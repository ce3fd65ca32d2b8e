"""Of what a lane starts, wishes are a quarter at most, while other tokens are due."""

import pytest

from daemon.refreshing.wish_quota import WishQuota


@pytest.mark.parametrize(
    ("share", "held", "left"),
    [(16, 0, 4), (16, 3, 1), (16, 4, 0), (16, 9, 0), (5, 0, 1), (1, 0, 1), (1, 1, 0)],
)
def test_a_quarter_of_the_share_may_be_held(share, held, left):
    """Rounded down, but at least one."""
    assert WishQuota().left(share=share, held=held) == left


def test_while_nothing_else_is_due_wishes_follow_each_other():
    """Only the quarter that is held at a time limits them."""
    quota = WishQuota()
    for _ in range(10):
        assert quota.left(share=16, held=0) == 4
        quota.claimed(4, share=16)


def test_while_others_are_due_three_of_them_start_for_each_wish():
    """After a quarter at once, and whatever came before."""
    quota = WishQuota()
    quota.claimed(4, share=16)
    quota.claimed(4, share=16)
    quota.competing = True
    assert quota.left(share=16, held=0) == 0
    for started in range(1, 13):
        quota.other_started()
        assert quota.left(share=16, held=0) == started // 3
    quota.other_started()
    assert quota.left(share=16, held=0) == 4


def test_with_a_share_of_one_each_fourth_start_may_be_a_wish():
    """Though a quarter of one is nothing."""
    quota = WishQuota()
    quota.competing = True
    starts = ""
    for _ in range(12):
        if quota.left(share=1, held=0):
            quota.claimed(1, share=1)
            starts += "w"
        else:
            quota.other_started()
            starts += "."
    assert starts == "w...w...w..."
