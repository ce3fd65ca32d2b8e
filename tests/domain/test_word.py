"""Error codes, class names and hosts are readable; what looks like a token is not."""

import random
import string

import pytest

from daemon.domain.word import is_readable

WORDS = [
    "account_suspended_by_admin",
    "ERROR_INVALID_REFRESH_TOKEN",
    "InvalidRefreshTokenException",
    "com.example.auth.InvalidTokenException",
    "ServerSelectionTimeoutError",
    "TLSV1_ALERT_INTERNAL_ERROR",
    "UNEXPECTED_EOF_WHILE_READING",
    "ConnectionResetError",
    "incorrect_client_credentials",
    "unsupported_response_type",
    "NotPrimaryNoSecondaryOk",
    "ReadConcernMajorityNotAvailableYet",
    "InterruptedDueToReplStateChange",
    "NetworkInterfaceExceededTimeLimit",
    "ClientConnectorCertificateError",
    "login.microsoftonline.com/common/oauth2/v2.0/token",
    "CERTIFICATE_VERIFY_FAILED",
    "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "REFRESH_TOKEN_NOT_FOUND_FOR_CLIENT",
    "org.springframework.security.oauth2.common.exceptions.InvalidGrantException",
    "OAuth2AuthenticationException",
    "ERR_OAUTH_REFRESH_TOKEN_EXPIRED",
    "error_code=invalid_refresh_token",
    "account-is-temporarily-locked",
    "ThrottlingExceptionRequestLimitExceeded",
    "/usr/lib/python3/site-packages/connector.py",
    "FlowControlDataQueue",
]


@pytest.mark.parametrize("word", WORDS)
def test_words_are_readable(word):
    """As they were met in the field."""
    assert is_readable(word)


@pytest.mark.parametrize(
    "token",
    [
        "1//0gAbCdEfGhIjKlMnOpQr",
        "ya29.a0AfH6SMBxQzVbN",
        "eyJhbGciOi.eyJzdWIiOjE.c2ln_bmF0-dXJl",
        "qwxzjkvbnmplokrtyhgf",
        "QWXZJKVBNMPLOKRTYHGF",
        "kJhGfDsAqWeRtYuIoPlM",
        "aaaaaaaaaaaaaaaaaaaa",
        "internationalizationalized",
        "c2VjcmV0LXNlY3JldC1zZWNyZXQ=",
        "abcdefabcdefabcdefabcdef==",
        "550e8400-e29b-41d4-a716-446655440000",
        "rt-new-0123456789abcdef",
        "sk_live_4eC39HqLyjWDarjtT1zdp7dc",
        "xoxe-1-My0xLTEyMzQ1Njc4OTA",
        "a" * 501,
        "word_" * 101,
    ],
)
def test_tokens_are_not(token):
    """Also those of letters only."""
    assert not is_readable(token)


@pytest.mark.parametrize(
    ("alphabet", "length", "most"),
    [
        (string.ascii_letters + string.digits, 20, 20),
        (string.ascii_letters + string.digits + "-_", 32, 2),
        (string.ascii_letters, 40, 20),
        (string.ascii_lowercase, 20, 0),
        (string.ascii_uppercase + "234567", 26, 2),
        ("0123456789abcdef", 32, 0),
    ],
)
def test_hardly_any_random_token_passes_for_words(alphabet, length, most):
    """Out of 10,000. (One that was sent, or is stored, is masked whatever it looks like.)"""
    chance = random.Random(length)
    tokens = ("".join(chance.choices(alphabet, k=length)) for _ in range(10_000))
    assert sum(map(is_readable, tokens)) <= most
