"""What applications send: parsed, and every fault named."""

import pytest

from daemon.serving.grant_request import read_offer, read_patch, read_wish
from daemon.serving.problems import Problem


def places(problem: Problem) -> list[str]:
    faults = problem.fields["faults"]
    assert isinstance(faults, list)
    return [str(one["where"]) for one in faults]


def test_a_grant_with_all_that_is_known_of_it():
    offer = read_offer(
        {
            "response": {"access_token": "x"},
            "received_at": "2026-11-21T11:59:00Z",
            "consented_at": "2026-11-20T00:00:00+01:00",
            "vars": {"shop": "north"},
            "meta": {"tenant": "acme"},
            "subject": "ann",
        },
    )
    assert (offer.vars, offer.meta, offer.subject) == ({"shop": "north"}, {"tenant": "acme"}, "ann")
    assert offer.received_at is not None
    assert offer.received_at.isoformat() == "2026-11-21T11:59:00+00:00"
    assert "access_token" not in repr(offer)


def test_every_fault_of_a_grant_is_named():
    body = {
        "response": "text",
        "received_at": "soon",
        "consented_at": 5,
        "vars": {"a.b": "x", "n": 1},
        "meta": {"$where": "x", "a.b": "x", "gone": None, "long": "x" * 1025, "nul": "\x00"},
        "subject": "",
        "state": "active",
    }
    with pytest.raises(Problem) as caught:
        read_offer(body)
    assert caught.value.name == "invalid-request"
    assert places(caught.value) == [
        "body",
        "response",
        "received_at",
        "consented_at",
        "vars",
        "vars.n",
        "meta",
        "meta",
        "meta.long",
        "meta.nul",
        "meta",
        "subject",
    ]


@pytest.mark.parametrize("text", ["1", "0.5", "3600", "1796005619", "1796005619000", " 5 "])
def test_a_number_is_not_an_instant(text: str):
    """A lifetime in the place of an instant would pass for now, and a spent response for a new one."""
    with pytest.raises(Problem) as caught:
        read_offer({"response": {}, "received_at": text, "consented_at": text})
    assert places(caught.value) == ["received_at", "consented_at"]


@pytest.mark.parametrize("value", [0, 1, 1.0, "true", []])
def test_only_a_boolean_allows_to_replace_an_account(value: object):
    with pytest.raises(Problem) as caught:
        read_wish({"provider": "acme", "account": "me", "replace": value})
    assert places(caught.value) == ["replace"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"state": "needs_reauth"}, ["state"]),
        ({"state": None}, ["state"]),
        ({"state": ["active"]}, ["state"]),
        ({"state": "active", "subject": "x"}, ["state"]),
        ({"vars": {}}, ["body"]),
        ({"access_token": "x"}, ["body"]),
        ({"meta": []}, ["meta"]),
        ({"meta": {"a": {"b": "c"}}}, ["meta.a"]),
        ({"meta": {str(one): "x" for one in range(51)}}, ["meta"]),
        ({"subject": "x" * 513}, ["subject"]),
        ({"subject": 5}, ["subject"]),
        ({"subject": "a\nb"}, ["subject"]),
    ],
)
def test_every_fault_of_a_patch_is_named(body: dict[str, object], where: list[str]):
    with pytest.raises(Problem) as caught:
        read_patch(body)
    assert places(caught.value) == where


def test_a_patch_tells_null_from_absent():
    absent = read_patch({})
    assert not absent.sets_subject
    assert not absent.clears_meta
    assert read_patch({"subject": None}).sets_subject
    assert read_patch({"meta": None}).clears_meta
    assert read_patch({"meta": {"a": None}}).meta == {"a": None}
