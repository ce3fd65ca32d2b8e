"""The small pure parts: options, client authentication, minting, the wish for a fault and when it strikes."""

import re
from base64 import b64encode
from datetime import timedelta
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.sandbox import SandboxOptions, minting
from daemon.sandbox.clients import Client
from daemon.sandbox.demands import read_form
from daemon.sandbox.faults import KINDS, FaultBoard, read_fault
from daemon.sandbox.wording import Refusal

FORM = "application/x-www-form-urlencoded"


def basic(name: str, secret: str) -> str:
    return "Basic " + b64encode(f"{quote_plus(name)}:{quote_plus(secret)}".encode()).decode()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"name": "nobody"}, "does not speak 'nobody'; it speaks: adobe, "),
        ({"port": 65536}, "port"),
        ({"reuse": "ignore"}, "reuse"),
        ({"lifetime": timedelta(milliseconds=999)}, "lifetime"),
        ({"refresh_lifetime": timedelta()}, "refresh_lifetime"),
        ({"grace": timedelta(seconds=-1)}, "grace"),
        ({"latency": timedelta(seconds=-1)}, "latency"),
        ({"client_secret": ""}, "client_secret"),
        ({"client_id": ""}, "client_id"),
        ({"pkce": "plain"}, "pkce must be 'optional' or 'required'"),
        ({"redirect_uris": ("/callback",)}, "a redirect URI is an absolute one"),
        ({"redirect_uris": ("https://app.example/cb#f",)}, "a redirect URI"),
        ({"redirect_uris": ("https://app.example/c b",)}, "a redirect URI"),
        ({"redirect_uris": ("https://[::1/cb",)}, "a redirect URI"),
        ({"redirect_uris": ("https://app.example/é",)}, "a redirect URI"),
        ({"code_lifetime": timedelta()}, "code_lifetime"),
        ({"device_lifetime": timedelta(milliseconds=1)}, "device_lifetime"),
        ({"device_interval": timedelta(seconds=-1)}, "device_interval"),
    ],
)
def test_impossible_options_are_refused_with_a_sentence(options: dict[str, Any], sentence: str) -> None:
    """A wrong flag must not become a sandbox that behaves oddly."""
    with pytest.raises(ValueError, match=re.escape(sentence)):
        SandboxOptions(**options)


@given(name=st.text(min_size=1), secret=st.text(min_size=1))
def test_basic_credentials_are_form_decoded(name: str, secret: str) -> None:
    """RFC 6749, section 2.3.1: any id and secret gets through, colons and umlauts included."""
    assert Client(id=name, secret=secret).refuses(basic(name, secret), {}) is None


def test_credentials_in_the_body_are_taken() -> None:
    """The other way of the same section."""
    assert Client(id="me", secret="x:y").refuses(None, {"client_id": "me", "client_secret": "x:y"}) is None


@pytest.mark.parametrize(
    ("authorization", "form", "complaint", "challenge"),
    [
        (None, {}, "invalid_client", False),
        (None, {"client_id": "me", "client_secret": "no"}, "invalid_client", False),
        (None, {"client_id": "me"}, "invalid_client", False),
        (basic("me", "no"), {}, "invalid_client", True),
        (basic("you", "s+"), {}, "invalid_client", True),
        ("Basic " + b64encode(b"me:s+").decode(), {}, "invalid_client", True),
        ("Basic " + b64encode(b"me").decode(), {}, "invalid_client", True),
        ("Basic " + b64encode(b"\xff:%FF").decode(), {}, "invalid_client", True),
        ("Basic not base64", {}, "invalid_client", True),
        ("Bearer abc", {}, "invalid_client", True),
        (basic("me", "s+"), {"client_id": "me", "client_secret": "s+"}, "invalid_request", False),
        (basic("me", "s+"), {"client_id": "you"}, "invalid_request", False),
    ],
)
def test_a_wrong_client_is_told_apart(
    authorization: str | None, form: dict[str, str], complaint: str, challenge: bool
) -> None:
    """Among them the secret that was not form-encoded: its plus sign would have become a space."""
    refusal = Client(id="me", secret="s+").refuses(authorization, form)
    assert refusal is not None
    assert (refusal.complaint, refusal.challenge) == (complaint, challenge)


def test_a_form_is_read_strictly() -> None:
    """An empty parameter counts as left out; twice the same one, another type or broken text is refused."""
    assert read_form(FORM, b"grant_type=refresh_token&scope=&refresh_token=a%2Fb+c") == {
        "grant_type": "refresh_token",
        "refresh_token": "a/b c",
    }
    for content_type, body in [
        ("application/json", b"{}"),
        (FORM, b"a=1&a=2"),
        (FORM, b"a=%ff"),
        (FORM, b"\xff=1"),
        (FORM, b"&".join(b"k%d=1" % number for number in range(40))),
    ]:
        refusal = read_form(content_type, body)
        assert isinstance(refusal, Refusal)
        assert refusal.complaint == "invalid_request"


def test_refresh_tokens_are_awkward_and_of_several_lengths() -> None:
    """A client that forgets to form-encode must fail on every one of them."""
    values = [minting.refresh_token() for _ in range(200)]
    assert all(set("/+.-") <= set(value) and 60 <= len(value) <= 90 for value in values)
    assert len({len(value) for value in values}) > 3
    assert len(set(values)) == 200
    assert {len(minting.access_token()) for _ in range(200)} == {40, 160, 800}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_can_be_asked_for_by_name_alone(kind: str) -> None:
    """Defaults: always, for ever; those that carry the real reply let the request take effect."""
    fault = read_fault({"kind": kind})
    assert (fault.share, fault.count, fault.retry_after) == (1.0, None, None)
    carries = {"garbage", "cut", "slow", "huge", "wrong_type", "withhold"}
    carries |= {"no_refresh_token", "wrong_state", "wrong_issuer"}
    assert fault.after_processing == (kind in carries)


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ([], "a fault is a JSON object"),
        ({"kind": "hang", "chance": 1}, "unknown key 'chance'"),
        ({}, "kind must be one of hang, reset"),
        ({"kind": ["hang"]}, "kind must be one of"),
        ({"kind": "hang", "share": 1.5}, "share must be a number from 0 to 1"),
        ({"kind": "hang", "share": float("nan")}, "share must be"),
        ({"kind": "hang", "share": True}, "share must be"),
        ({"kind": "hang", "count": 0}, "count must be"),
        ({"kind": "hang", "count": 1.5}, "count must be"),
        ({"kind": "hang", "retry_after": 3}, "retry_after goes with throttle and outage"),
        ({"kind": "throttle", "retry_after": "1\r\nX: y"}, "retry_after must be"),
        ({"kind": "throttle", "retry_after": True}, "retry_after must be"),
        ({"kind": "hang", "after_processing": "yes"}, "after_processing must be true or false"),
        ({"kind": "throttle", "after_processing": True}, "always strikes before"),
        ({"kind": "withhold", "after_processing": False}, "withhold holds back"),
        ({"kind": "slow", "seconds": -1}, "seconds must be"),
        ({"kind": "outage", "wording": True}, "wording must be a whole number"),
        ({"kind": "outage", "wording": -1}, "wording must be a whole number"),
    ],
)
def test_a_wrong_wish_for_a_fault_gets_a_sentence(wish: object, sentence: str) -> None:
    """A fault that silently does something else would make a test prove nothing."""
    with pytest.raises(ValueError, match=re.escape(sentence)):
        read_fault(wish)


def test_retry_after_may_be_seconds_or_a_date() -> None:
    """Both forms of the header, as the client will have to read them."""
    assert read_fault({"kind": "throttle", "retry_after": 7}).retry_after == "7"
    date = "Sun, 01 Nov 2026 10:00:00 GMT"
    assert read_fault({"kind": "outage", "retry_after": date}).retry_after == date


def test_a_fault_strikes_as_often_as_asked_and_then_leaves_room_for_the_next() -> None:
    """The first that strikes is the only one."""
    board = FaultBoard(seed=1)
    board.add(read_fault({"kind": "reset", "count": 2}))
    board.add(read_fault({"kind": "error", "count": 1}))
    struck = [standing and standing.fault.kind for standing in (board.strike() for _ in range(4))]
    assert struck == ["reset", "reset", "error", None]
    assert [standing.struck for standing in board] == [2, 1]
    assert board.clear() == 2
    assert board.strike() is None


def test_a_share_is_met_and_a_seed_repeats_it() -> None:
    """Chance is an argument: two boards of one seed strike alike."""
    draws = []
    for _ in range(2):
        board = FaultBoard(seed=42)
        board.add(read_fault({"kind": "hang", "share": 0.25}))
        draws.append([board.strike() is not None for _ in range(2000)])
    assert draws[0] == draws[1]
    assert 400 < sum(draws[0]) < 600
    never = FaultBoard(seed=42)
    never.add(read_fault({"kind": "hang", "share": 0}))
    assert not any(never.strike() for _ in range(100))
