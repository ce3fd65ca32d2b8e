"""Bulk work by subject, drawn at random: a key lists, pauses and removes the subject's tokens that it may use, and
touches no other.
"""

import random
from collections.abc import Mapping
from typing import Any

import pytest

from daemon.domain.access_key import Verb
from daemon.serving.doorkeeper import Caller
from daemon.serving.listing import Wish
from tests.serving.access_bench import AccessBench, bench, caller

__all__ = ["bench"]
ROUNDS = 30
SUBJECTS = ["ann", "Ann", "ann ", "a/b", "..", "$gt", "%", "*", "\U0001f600", "é" * 256]
SELECTORS = [("*",), ("acme:*",), ("acme:1", "shop:3"), ("shop:*",), ("acme:1*",), ("Acme:*",)]
TENANTS = ["a", "b", "A"]
Documents = dict[str, dict[str, Any]]


def drawn(chance: random.Random, subjects: list[str]) -> Documents:
    return {
        name: {
            "subject": chance.choice([*subjects, *subjects, None, [subjects[0]]]),
            "meta": chance.choice([{"tenant": chance.choice(TENANTS)}, {"tenant": ["a"]}, {}]),
            "state": chance.choice(["active", "active", "active", "paused", "removed", "revoked"]),
        }
        for name in (f"{provider}:{one}" for provider in ("acme", "shop") for one in (1, 2, 3, 11))
    }


def may_use(
    selectors: tuple[str, ...], where: Mapping[str, str], name: str, stored: Mapping[str, Any]
) -> bool:
    """The rule, written a second time."""
    named = any(name.startswith(one[:-1]) if one[-1] == "*" else name == one for one in selectors)
    fulfils = all(
        stored["meta"].get("tenant") == text if field == "meta.tenant" else stored["subject"] == text
        for field, text in where.items()
    )
    return named and fulfils and stored["state"] not in ("removed", "revoked")


async def listed(bench: AccessBench, who: Caller, subject: str) -> list[str]:
    page = await bench.listing.tokens(who, Wish(where={"subject": subject}))
    return [one.token.id for one in page.items]


async def test_a_key_sees_and_touches_the_tokens_of_a_subject_that_it_may_use(bench: AccessBench):
    chance = random.Random(3)
    touched, untouched = 0, 0
    for _ in range(ROUNDS):
        bench.tokens.delete_many({})
        subjects = chance.sample(SUBJECTS, 2)
        stored = drawn(chance, subjects)
        for name, fields in stored.items():
            bench.insert(name, **fields)
        subject, selectors = subjects[0], chance.choice(SELECTORS)
        where = chance.choice(
            [{}, {"meta.tenant": chance.choice(TENANTS)}, {"subject": chance.choice(subjects)}]
        )
        who = caller(*selectors, where=where)
        wanted = sorted(
            name
            for name, one in stored.items()
            if one["subject"] == subject and may_use(selectors, where, name, one)
        )
        assert await listed(bench, who, subject) == wanted
        before = {one["_id"]: one for one in bench.tokens.find()}
        for name in wanted:
            if stored[name]["state"] == "active":
                await bench.patch(who, name, state="paused")
            else:  # an operator has paused it
                assert (await bench.problem(bench.patch(who, name, state="paused"))).name == "conflict"
        others = [name for name, one in stored.items() if one["subject"] == subject and name not in wanted]
        for name in others:
            assert (await bench.problem(bench.patch(who, name, state="paused"))).name == "not-found"
        paused = {one["_id"]: one for one in bench.tokens.find()}
        assert all(paused[name]["state"] == "paused" for name in wanted)
        assert all(paused[name] == before[name] for name in before if name not in wanted)
        page = await bench.listing.remove_all(who, subject, revoke=False)
        assert [(one.id, one.result) for one in page.items] == [(name, "removed") for name in wanted]
        left = {one["_id"]: one for one in bench.tokens.find()}
        assert all(left[name]["state"] == "removed" for name in wanted)
        assert all(left[name] == before[name] for name in before if name not in wanted)
        assert await listed(bench, who, subject) == []
        touched += len(wanted)
        untouched += len(others)
    assert min(touched, untouched) > ROUNDS / 2


@pytest.mark.parametrize("verb", [Verb.READ, Verb.WRITE, Verb.PAUSE, Verb.LIST])
async def test_the_removal_of_a_subject_needs_revoke(bench: AccessBench, verb: Verb):
    bench.insert(subject="ann")
    problem = await bench.problem(bench.listing.remove_all(caller(can=(verb,)), "ann", revoke=False))
    assert problem.name == "not-found"
    assert bench.document()["state"] == "active"
