"""The access service's answers are JSON for every parser, whatever a document holds."""

import json
from typing import NoReturn

import pytest
from bson import Decimal128

from daemon.runtime.access_web.answers import json_answer


def refused(name: str) -> NoReturn:
    raise AssertionError(f"{name} is no JSON")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_number_that_json_can_not_hold_is_answered_as_text(number: str):
    """A provider may send 1e400, and an application may store anything. JSON.parse refuses the whole answer then, and
    with it the access token.
    """
    odd = float(number)
    response = json_answer({"access_token": "a", "extra": {"n": odd, "in": [odd, {"n": odd}], "one": 1.5}})
    assert isinstance(response.body, bytes)
    assert json.loads(response.body, parse_constant=refused) == {
        "access_token": "a",
        "extra": {"n": number, "in": [number, {"n": number}], "one": 1.5},
    }


def test_a_number_of_another_kind_is_answered_as_text_beside_it():
    """What the driver has a type of its own for."""
    response = json_answer({"n": float("nan"), "d": Decimal128("1.5")})
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == {"n": "nan", "d": "1.5"}
