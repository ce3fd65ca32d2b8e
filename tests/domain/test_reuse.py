"""The words by which providers say that a refresh token was used before."""

import pytest

from daemon.domain.answer import Rejected
from daemon.domain.dialect import read
from daemon.domain.reuse import Presented, says_used_before
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token


@pytest.mark.parametrize(
    "words",
    [
        "Invalid Refresh Token: Already Used",
        "refresh_token_already_used",
        "Refresh token already exchanged.",
        "The refresh token has already been used.",
        "the grant has already been redeemed",
        "Maximum allowed refresh token reuse exceeded",
        "refresh token reuse detected",
        "this refresh token was used before",
        "the token has been consumed",
    ],
)
def test_words_of_reuse(words):
    assert says_used_before(f"invalid_grant {words}")


@pytest.mark.parametrize(
    "words",
    [
        "the refresh token is unknown, spent, expired or revoked",
        "The grant is invalid, revoked, or was used before.",
        "The token may have been used: it has already been used",
        "the refresh token has expired: it was already used for 90 days",
        "The refresh token has not been used for 90 days.",
        "Unknown or invalid refresh token.",
        "the token can be used once",
        "the user has been blocked",
        "",
    ],
)
def test_words_that_do_not_state_it(words):
    assert not says_used_before(f"invalid_grant {words}")


def token(name: str = "acme:1", refresh_token: str | None = "r") -> Token:
    secret = None if refresh_token is None else Secret(refresh_token)
    return Token(id=name, provider="acme", account="1", state=State.ACTIVE, refresh_token=secret)


def test_a_rejection_carries_the_statement():
    from tests.refreshing.fakes import answered, provider

    def answer(description: str):
        body = {"error": "invalid_grant", "error_description": description}
        return read(provider(), token(), answered(body, status=400))

    said = answer("Refresh token already used")
    assert isinstance(said, Rejected)
    assert said.used_before
    other = answer("Refresh token was revoked")
    assert isinstance(other, Rejected)
    assert not other.used_before


def test_what_was_presented_is_remembered_by_token_and_value_and_bounded():
    presented = Presented(most=2)
    assert token() not in presented
    presented.add(token())
    assert token() in presented
    assert token("acme:2") not in presented
    assert token(refresh_token="s") not in presented
    presented.add(token(refresh_token="s"))
    presented.add(token(refresh_token="t"))
    assert token() not in presented
    presented.add(token(refresh_token=None))
    assert token(refresh_token=None) not in presented
