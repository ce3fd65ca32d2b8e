r"""What people read holds no character that they would not see, and what they type back is what was meant."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.visible import typed, visible

UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("xero:acme", "xero:acme"),
        ("xero:Caf\u00e9 \u5f35 \u0634\u0631\u0643\u0629", "xero:Caf\u00e9 \u5f35 \u0634\u0631\u0643\u0629"),
        ("co\u00adop", r"co\u00adop"),
        ("\x1b]0;PWN\x07", r"\u001b]0;PWN\u0007"),
        ("a\x9b31m", r"a\u009b31m"),
        ("acme\u202egpj", r"acme\u202egpj"),
        ("a\nb\r", r"a\u000ab\u000d"),
        ("a\u00a0b", r"a\u00a0b"),
        ("\u3164", r"\u3164"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("heart\ufe0f", r"heart\ufe0f"),
        ("\udcff", r"\udcff"),
        (r"DOMAIN\user", r"DOMAIN\user"),
    ],
)
def test_what_is_not_seen_is_shown_by_its_code_point(text, shown):
    """Letters of every script stay as they are."""
    assert visible(text) == shown
    assert typed(shown) == text


def test_no_character_of_unicode_slips_through():
    """By the categories of Unicode, whatever `str.isprintable` says."""
    slipped = [
        number
        for number in range(sys.maxunicode + 1)
        if unicodedata.category(chr(number)) in UNSEEN and visible(chr(number)) == chr(number)
    ]
    assert slipped == []


def test_line_ends_stay_if_they_are_wanted():
    """In a text of several lines; nothing else is kept with them."""
    assert visible("a\nb\rc", keep="\n") == "a\nb\\u000dc"


@given(st.text())
def test_what_was_shown_can_be_typed(text):
    """Each escape stands for one character again. A text that held escapes before is another matter."""
    if typed(text) == text:
        assert typed(visible(text)) == text
    assert visible(visible(text)) == visible(text)


def test_a_number_beyond_unicode_is_not_an_escape():
    """It stays as it was typed."""
    assert typed(r"a\Uffffffffb") == r"a\Uffffffffb"
