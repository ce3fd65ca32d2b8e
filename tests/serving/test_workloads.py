"""Who asks, by a JWT: one answer for everything that proves nothing, and the reason for the operator alone."""

import json
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from daemon.adapters.issuer_keys.key_set import parse_key_set
from daemon.domain.issuer import Issuer
from daemon.domain.jwt import Fault, Jwt, KeysAway
from daemon.domain.provider import Rate
from daemon.serving.doorkeeper import WRONG_ALLOWED
from daemon.serving.problems import Problem
from daemon.serving.workloads import Workloads
from tests.serving.fakes import MINUTE, NOON
from tests.support.clocks import SetClock
from tests.support.jwts import AUDIENCE, ISSUER, SigningKey, claims, key_set

KEY = SigningKey("a", "EdDSA")
RATE = Rate(count=100, per=MINUTE)
HERE = "10.0.0.1"


class Keys:
    """The keys of an issuer, without a network. `away`: none is known."""

    def __init__(self) -> None:
        self.away = False
        self.looked = 0

    async def fault(self, jwt: Jwt) -> Fault | None:
        self.looked += 1
        if self.away:
            raise KeysAway(timedelta(seconds=10))
        return _SET.fault(jwt)


_SET = parse_key_set(json.dumps(key_set(KEY)).encode())


def rule(**changed: Any) -> Issuer:
    usual: dict[str, Any] = {
        "name": "ci",
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "claims": {"sub": "repo:acme/app:*"},
        "tokens": ("acme:me",),
    }
    return Issuer(**{**usual, **changed})


class Door:
    def __init__(self, *rules: Issuer) -> None:
        self.clock = SetClock(NOON)
        self.keys = Keys()
        self.seen: list[tuple[str, str, str]] = []
        self.door = Workloads(
            rules or (rule(),),
            {ISSUER: self.keys},
            self.clock,
            rate=RATE,
            refused=lambda *what: self.seen.append(what),
        )

    async def names(self, address: str = HERE, **changed: object) -> list[str]:
        """The names of the rules that admit the usual JWT, changed so."""
        callers = await self.door.admit(KEY.jwt(claims(self.clock.now(), **changed)), address)
        return [one.key.name for one in callers]

    async def refused(self, text: str, address: str = HERE) -> Problem:
        with pytest.raises(Problem) as caught:
            await self.door.admit(text, address)
        return caught.value


async def test_a_right_jwt_is_admitted():
    door = Door()
    (caller,) = await door.door.admit(KEY.jwt(claims(NOON)), HERE, 1000)
    assert (caller.address, caller.peer, caller.away) == (HERE, 1000, False)
    assert caller.workload is not None
    assert (caller.workload.issuer, caller.workload.subject, caller.workload.jwt) == (
        ISSUER,
        "repo:acme/app:ref:refs/heads/main",
        "1",
    )
    assert not door.seen


WRONG = {
    "malformed": "x",
    "too_large": "x" * 17_000,
    "issuer": KEY.jwt(claims(NOON, iss="https://issuer.example/")),
    "audience": KEY.jwt(claims(NOON, aud="https://tokens.example/")),
    "expired": KEY.jwt(claims(NOON - timedelta(minutes=10))),
    "early": KEY.jwt(claims(NOON + timedelta(minutes=10))),
    "too_long": KEY.jwt(claims(NOON, exp=int(NOON.timestamp()) + 7200)),
    "algorithm": KEY.jwt(claims(NOON), header={"alg": "none"}),
    "header": KEY.jwt(claims(NOON), header={"jwk": KEY.jwk}),
    "key": KEY.jwt(claims(NOON), header={"kid": "b"}),
    "signature": SigningKey("a", "EdDSA").jwt(claims(NOON)),
    "claims": KEY.jwt(claims(NOON, sub="repo:acme/other:x")),
}


@pytest.mark.parametrize("reason", WRONG)
async def test_every_wrong_jwt_gets_the_same_answer(reason: str):
    door = Door()
    problem = await door.refused(WRONG[reason])
    assert (problem.name, problem.detail, problem.fields) == (
        "invalid-request",
        "The subject token is not accepted.",
        {},
    )
    unread = reason in ("malformed", "too_large", "issuer", "header", "algorithm")
    assert door.seen == [("unknown" if unread else "ci", reason, HERE)]


async def test_what_can_be_refused_without_a_key_costs_no_signature():
    door = Door()
    for reason, text in WRONG.items():
        if reason not in ("key", "signature", "claims"):
            await door.refused(text, address=reason)
    assert door.keys.looked == 0


async def test_a_rule_may_limit_algorithms_and_networks():
    door = Door(rule(algorithms=frozenset({"RS256"})))
    await door.refused(KEY.jwt(claims(NOON)))
    door = Door(rule(networks=(ip_network("10.1.0.0/16"),)))
    await door.refused(KEY.jwt(claims(NOON)))
    assert door.seen == [("ci", "network", HERE)]
    assert await door.names("10.1.2.3") == ["ci"]
    await door.refused(KEY.jwt(claims(NOON)), "unix")


async def test_each_rule_that_is_fulfilled_admits():
    door = Door(
        rule(name="one"),
        rule(name="other", claims={"sub": "repo:acme/other:*"}),
        rule(name="three", claims={"environment": "production"}, tokens=("acme:*",)),
        rule(name="four", audience="https://other.example"),
    )
    assert await door.names() == ["one"]
    assert await door.names(environment="production") == ["one", "three"]
    assert await door.names(sub=None, environment="production") == ["three"]
    assert await door.names(aud=[AUDIENCE, "https://other.example"]) == ["one", "four"]


async def test_without_the_issuers_keys_there_is_no_verdict():
    door = Door()
    door.keys.away = True
    problem = await door.refused(KEY.jwt(claims(NOON)))
    assert (problem.name, problem.retry_after) == ("unavailable", timedelta(seconds=10))
    assert door.seen == [("ci", "keys_unavailable", HERE)]


async def test_wrong_jwts_slow_down_only_wrong_ones_from_the_same_address():
    door = Door()
    for _ in range(WRONG_ALLOWED):
        assert (await door.refused("x")).name == "invalid-request"
    problem = await door.refused("x")
    assert (problem.name, problem.retry_after) == ("rate-limited", MINUTE)
    assert (await door.refused("x", "10.0.0.2")).name == "invalid-request"
    assert await door.names() == ["ci"]
    door.clock.passed += MINUTE
    assert (await door.refused("x")).name == "invalid-request"


async def test_each_workload_has_its_own_rate():
    door = Door(rule(rate=Rate(count=2, per=MINUTE)))
    for _ in range(2):
        await door.names()
    with pytest.raises(Problem) as caught:
        await door.names(jti="another")
    assert (caught.value.name, caught.value.retry_after) == ("rate-limited", timedelta(seconds=30))
    assert await door.names(sub="repo:acme/app:other") == ["ci"]
    door.clock.passed += timedelta(seconds=30)
    assert await door.names() == ["ci"]


async def test_a_rule_without_a_rate_has_the_general_one():
    door = Door()
    for _ in range(RATE.count):
        await door.names()
    with pytest.raises(Problem) as caught:
        await door.names()
    assert caught.value.name == "rate-limited"


async def test_a_workload_has_no_key_that_could_be_presented():
    (caller,) = await Door().door.admit(KEY.jwt(claims(NOON)), HERE)
    assert caller.key.secret_hash == ""
