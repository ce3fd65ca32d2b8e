"""The bounds of an option's number in its help."""

import pytest

from daemon.commands.support.ranges import with_bounds_in_words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("At most N.  [1<=x<=100]", "At most N.  [1 to 100]"),
        ("At most N.  [default: 50; 1<=x<=2147483647]", "At most N.  [default: 50; at least 1]"),
        ("At least N.  [0<=x<=2147483647]", "At least N."),
        ("The entry.  [x<=9223372036854775807; required]", "The entry.  [required]"),
        ("A number.  [x>=3]", "A number.  [at least 3]"),
        ("A number.  [x<=7]", "A number.  [at most 7]"),
        ("A port.  [default: x; 0<=x<=65535]", "A port.  [default: x; 0 to 65535]"),
        ("No bounds.  [default: 14d]", "No bounds.  [default: 14d]"),
        ("A key of [keys.ring] with x<=9.", "A key of [keys.ring] with x<=9."),
        ("[keys.ring]", "[keys.ring]"),
        ("", ""),
    ],
)
def test_bounds_are_words_and_those_that_limit_nobody_are_left_out(text, shown):
    assert with_bounds_in_words(text) == shown
