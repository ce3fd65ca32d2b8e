"""Secrets don't print themselves, and what providers say is masked before anybody sees it."""

import copy
import html
import json
import pickle
import traceback
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.secret import MASK, Secret, masked, spellings

CANARY = "canary-7f3a"


@dataclass(frozen=True)
class Holder:
    secret: Secret


@pytest.mark.parametrize(
    "shown",
    [repr, str, "{}".format, "{!r}".format, "{:>20}".format, "%s".__mod__, lambda s: f"{s}"],
)
def test_a_secret_does_not_print_itself(shown):
    """No way of turning it into text gives the text."""
    assert CANARY not in shown(Secret(CANARY))
    assert MASK in shown(Secret(CANARY))


def test_a_secret_inside_other_things_does_not_print_itself_either():
    """Containers and dataclasses use its repr."""
    secret = Secret(CANARY)
    assert CANARY not in repr([{"a": secret}, Holder(secret)])


def test_a_traceback_around_a_secret_does_not_show_it():
    """An exception that carries it prints its repr."""
    with pytest.raises(KeyError) as caught:
        {}[Secret(CANARY)]
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("packed", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps])
def test_a_secret_is_neither_pickled_nor_copied_nor_dumped(packed):
    """It must not travel by accident."""
    with pytest.raises(TypeError):
        packed(Secret(CANARY))


@given(st.text(), st.text())
def test_secrets_compare_as_their_texts_do(one, other):
    """Equality, hash and truth are the text's."""
    assert (Secret(one) == Secret(other)) is (one == other)
    assert Secret(one) == Secret(one)
    assert hash(Secret(one)) == hash(Secret(one))
    assert bool(Secret(one)) is bool(one)


def test_a_secret_equals_nothing_but_a_secret():
    """Not even its own text: a comparison must be meant."""
    assert Secret(CANARY) != CANARY


def test_a_secret_that_cannot_be_encoded_still_compares():
    """An environment variable can hold lone surrogates."""
    assert Secret("\udcff") == Secret("\udcff")
    assert Secret("\udcff") != Secret("\udcfe")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("token 1//0gAbCdEfGhIjKlMnOpQr is bad", f"token {MASK} is bad"),
        ("a" * 19, "a" * 19),
        ("a" * 20, MASK),
        ("eyJhbGciOi.eyJzdWIiOjE.c2ln_bmF0-dXJl", MASK),
        ("one\r\ntwo\x00three\x1b[31m", "one  two three [31m"),
        ("half a pair \ud800", "half a pair"),
        ("sent refresh_token=short-one here", f"sent refresh_token={MASK} here"),
        ("ends in s3cret!", f"ends in {MASK}"),
    ],
)
def test_messages_are_masked(text, shown):
    """Long runs, known secrets of any length, control characters."""
    assert masked(text, [Secret("short-one"), Secret("s3cret!"), None, Secret("")]) == shown


def test_the_longer_of_two_secrets_is_masked_whole():
    """Else the shorter one's mask would leave the rest of the longer one in the clear."""
    assert masked("it was abcdef", [Secret("abc"), Secret("abcdef")]) == f"it was {MASK}"


@pytest.mark.parametrize("echo", ["pa%2Fs%20s%2B", "pa%2Fs+s%2B", "pa/s s+"])
def test_a_short_secret_is_masked_as_it_was_sent_too(echo):
    """A provider may echo the form-encoded request."""
    assert masked(f"got {echo}", [Secret("pa/s s+")]) == f"got {MASK}"


def test_a_message_is_at_most_300_characters_long():
    """The mark at its end says that there was more."""
    shown = masked("no " * 200)
    assert len(shown) == 300
    assert shown.endswith("…")


@given(st.text(), st.text(min_size=4).filter(lambda text: text not in MASK), st.text())
def test_no_message_gives_a_known_secret_away(before, secret, after):
    """Whatever stands around it, and whatever it is made of."""
    shown = masked(before + secret + after, [Secret(secret)], limit=10_000)
    assert secret not in shown or secret in (before + MASK + after)
    assert all(character.isprintable() for character in shown)
    shown.encode()


@given(st.text("aB7.~-_%+/ &<\"'\\é\n", min_size=1, max_size=5))
def test_a_secret_is_known_in_every_notation(text):
    """Also one of letters and digits alone, which most notations write as it is."""
    notations = {
        text,
        text.lower(),
        text.upper(),
        html.escape(text),
        json.dumps(text)[1:-1],
        repr(text)[1:-1],
    }
    assert notations <= set(spellings([text]))
    assert {quote(text, safe="", errors="replace"), quote_plus(text, errors="replace")} <= set(
        spellings([text])
    )


@pytest.mark.parametrize("size", [4, 8, 17])
@pytest.mark.parametrize("cut", [True, False])
def test_the_beginning_of_a_secret_at_a_cut_is_masked(cut, size):
    """Half a secret gives it away as well: one that the text breaks off in, and one that is not looked at any more."""
    secret = "Pa/s s:w'rd#7&Xy z"
    before = "word " * 10 if cut else "A1b2C3d4E5f6G7h8I9j0K " * 90 + "word " * 4
    text = before + secret[:size] if cut else before.ljust(2000 - size, ".") + secret + " and more"
    shown = masked(text, [Secret(secret)], limit=2000, cut=cut)
    assert secret[:size] not in shown
    assert "word" in shown


@pytest.mark.parametrize("end", ["\ufffd", "\ufffd\ufffd"])
def test_half_a_character_behind_a_cut_hides_no_beginning_of_a_secret(end):
    """As a decoder leaves it where a text of two or four bytes a character was cut."""
    assert masked(f"the token is Nw7Access9Kq{end}", cut=True) == f"the token is {MASK}"
    secret = Secret("see you at the station")
    assert masked(f"the token is see you at{end}", [secret], cut=True) == f"the token is {MASK}"
    assert masked(f"the token is not val{end}", cut=True) == "the token is not val"


def test_the_beginning_of_a_token_at_a_cut_is_masked_and_words_are_not():
    """Of 20 characters, perhaps only some came."""
    assert masked("the token is Nw7Access9Kq", cut=True) == f"the token is {MASK}"
    assert masked("the token is not val", cut=True) == "the token is not val"
