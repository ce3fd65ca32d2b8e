"""Handles: a token's id in another spelling."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.handle import handle_of, token_of

IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=120).map(lambda text: f"xero:{text}")


@given(IDS)
def test_a_handle_is_the_id_in_another_spelling(name):
    """It needs no quoting in a form or a URL."""
    handle = handle_of(name)
    assert token_of(handle) == name
    assert handle.replace("-", "").replace("_", "").isalnum()
    assert handle.isascii()


def test_the_longest_id_has_a_handle():
    """512 bytes of account, and a long provider."""
    name = "p" * 80 + ":" + "\u20ac" * 170
    assert token_of(handle_of(name)) == name


def spelled(raw):
    return f"rfh_{base64.urlsafe_b64encode(raw).decode()}"


@pytest.mark.parametrize(
    "text",
    [
        "xero:a",
        handle_of("xero:a").removeprefix("rfh_"),
        handle_of("xero:a").replace("rfh_", "RFH_"),
        spelled(b"xero:a-long-one"[:13]),
        handle_of("xero:ab")[:-1] + "R",
        handle_of("xero:a") + "=",
        handle_of("xero:a") + "\n",
        " " + handle_of("xero:a"),
        spelled(b"xero:\xff").rstrip("="),
        "rfh_!!!!",
        "rfh_\u0660\u0660\u0660\u0660",
        "rfh_" + "YQ" * 10_000,
        "rfh_Y",
        "",
    ],
)
def test_another_spelling_is_no_handle(text):
    """One token has one handle, so that a list of handles has no duplicates."""
    assert token_of(text) is None


@given(st.text())
def test_any_text_is_read_without_an_error(text):
    """What a caller sends is not trusted."""
    found = token_of(text)
    assert found is None or handle_of(found) == text
