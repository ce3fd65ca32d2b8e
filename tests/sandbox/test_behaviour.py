"""A provider that changes while it runs: what was asked for holds for each later reply, and nothing else changes."""

from typing import Any

import pytest


async def test_lifetime_and_rotation_change_from_the_next_reply_on(peer: Any) -> None:
    """The refresh token of before stays good."""
    _, token = await peer.consent()
    await peer.call("PUT", "/behaviour", json={"lifetime": 7200, "changes_every": 0})
    status, reply = await peer.refresh(token)
    assert (status, reply["refresh_token"]) == (200, token)
    assert 7190 <= reply["expires_in"] <= 7200
    await peer.call("PUT", "/behaviour", json={"changes_every": 1})
    _, reply = await peer.refresh(token)
    assert reply["refresh_token"] != token
    assert 7190 <= reply["expires_in"] <= 7200


async def test_fields_come_and_go(peer: Any) -> None:
    """One that is null is left out, also if it is the provider's own."""
    _, token = await peer.consent()
    await peer.call("PUT", "/behaviour", json={"fields": {"region": "eu", "token_type": None}})
    _, reply = await peer.refresh(token)
    assert reply["region"] == "eu"
    assert "token_type" not in reply
    await peer.call("PUT", "/behaviour", json={"fields": {}})
    _, reply = await peer.refresh(reply["refresh_token"])
    assert "region" not in reply
    assert "token_type" in reply


async def test_refusals_have_another_code(peer: Any) -> None:
    await peer.call("PUT", "/behaviour", json={"code": "grant_gone"})
    status, reply = await peer.refresh("nobody's")
    assert (status, reply["error"]) == (400, "grant_gone")
    await peer.call("PUT", "/behaviour", json={"code": None})
    assert (await peer.refresh("nobody's"))[1]["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        ([], "a behaviour is a JSON object"),
        ({"life": 1}, "unknown key 'life'"),
        ({"lifetime": 0}, "lifetime must be a whole number from 1"),
        ({"lifetime": True}, "lifetime must be a whole number"),
        ({"changes_every": -1}, "changes_every must be a whole number from 0"),
        ({"code": 7}, "code must be a text or null"),
        ({"fields": []}, "fields must be an object"),
    ],
)
async def test_an_impossible_wish_is_refused_in_one_sentence(peer: Any, wish: object, sentence: str) -> None:
    answer = await peer.call("PUT", "/behaviour", json=wish, status=400)
    assert answer["error"].startswith(sentence)
