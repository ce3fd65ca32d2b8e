"""Token exchange end to end: a real service, a real MongoDB, JWTs over HTTP, and an issuer that changes its keys."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from pymongo import MongoClient

from tests.e2e.service import PROVIDER, Place, Reply, Service, placed
from tests.support import wall_clock
from tests.support.jwts import AUDIENCE, ISSUER, KeyServer, SigningKey, claims, encoded, key_set

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"
ALGORITHMS = ("RS256", "ES256", "EdDSA")
OPERATOR = "an-operator-s-token-of-this-test"
KEYS = {one: SigningKey(one.lower(), one) for one in ALGORITHMS}
FORGER = {one: SigningKey(key.kid if one != "RS256" else "forger", one) for one, key in KEYS.items()}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def issuer() -> AsyncIterator[KeyServer]:
    async with KeyServer() as one:
        one.body = key_set(*KEYS.values())
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(mongod: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with placed(mongod, tmp_path_factory.mktemp("place")) as one:
        await one.add("acme")
        with MongoClient[dict[str, Any]](mongod) as client:
            tokens = client[str(one.installation.tables["store"]["database"])]["tokens"]
            stored = tokens.find_one({"_id": "acme:acme"})
            tokens.update_one({"_id": "acme:acme"}, {"$set": {"meta": {"tenant": "acme"}}})
            for account, state in (("other", "active"), ("dead", "needs_reauth")):  # nobody opens them
                tokens.insert_one({**stored, "_id": f"acme:{account}", "account": account, "state": state})
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(place: Place, issuer: KeyServer) -> AsyncIterator[Service]:
    rule = {"issuer": ISSUER, "audience": AUDIENCE, "jwks": issuer.url, "allow_private": True}
    rules = [
        {
            **rule,
            "name": "ci",
            "claims": {"sub": "repo:acme/app:*"},
            "tokens": [f"{PROVIDER}:{{tenant}}", f"{PROVIDER}:dead"],
        },
        {
            **rule,
            "name": "tenants",
            "claims": {"kind": "pod"},
            "tokens": [f"{PROVIDER}:*"],
            "where": {"meta.tenant": "{tenant}"},
        },
    ]
    # Many forgers: each test of forged JWTs asks as another address.
    access = {"issuers": rules, "trusted_proxies": ["127.0.0.1/32"], "bearer_token": OPERATOR}
    async with place.serving("", access=access) as one:
        yield one


async def exchange(
    service: Service, jwt: str, audience: str = f"{PROVIDER}:acme", address: str = "192.0.2.1", **fields: str
) -> Reply:
    form = {
        "grant_type": EXCHANGE,
        "subject_token": jwt,
        "subject_token_type": JWT,
        "audience": audience,
        **fields,
    }
    return await service.ask(
        "POST",
        f"/v1/oauth/{PROVIDER}/token",
        key="",
        data={name: text for name, text in form.items() if text},
        headers={"X-Forwarded-For": address},
    )


def jwt(algorithm: str = "EdDSA", header: Any = None, **changed: object) -> str:
    return KEYS[algorithm].jwt(claims(wall_clock.now(), **{"tenant": "acme", **changed}), header=header)


# ---------------------------------------------------------------- rotation
# It comes first: an invented key is looked for once a minute, and later tests invent some.


async def test_keys_that_change_under_load_fail_nobody(service: Service, issuer: KeyServer):
    """Each new key is published before it signs, and its predecessor is withdrawn when the next one comes."""
    current, ended = KEYS["EdDSA"], False
    statuses: list[int] = []

    async def asks(number: int) -> None:
        while not ended:
            text = current.jwt(claims(wall_clock.now(), tenant="acme"))
            statuses.append((await exchange(service, text, address=f"198.51.100.{number}")).status)

    load = [asyncio.create_task(asks(number)) for number in range(8)]
    try:
        for number in range(5):
            new = SigningKey(f"new-{number}", ALGORITHMS[number % 3])
            issuer.body = key_set(*KEYS.values(), current, new)
            current = new
            while len(statuses) < 12 * (number + 1):
                await asyncio.sleep(0.01)
    finally:
        ended = True
        await asyncio.gather(*load)
        issuer.body = key_set(*KEYS.values())
    assert set(statuses) == {200}


# ---------------------------------------------------------------- 6 right ones

POD = {"sub": "system:serviceaccount:shop:billing", "kind": "pod"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("changed", [{}, POD], ids=["ci", "pod"])
async def test_a_right_jwt_gets_the_access_token(
    place: Place, service: Service, algorithm: str, changed: dict[str, object]
):
    answer = await exchange(service, jwt(algorithm, **changed))
    assert answer.status == 200, answer
    body = answer.json
    assert 0 < body.pop("expires_in") <= 3600
    assert body == {
        "access_token": place.consents["acme"]["access_token"],
        "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "token_type": "Bearer",
        **({"scope": body["scope"]} if "scope" in body else {}),
    }
    assert answer.headers["Cache-Control"] == "no-store"


# ---------------------------------------------------------------- 12 forged ones


def _hmac_with_the_public_key() -> str:
    """The old confusion: a verifier that trusts `alg` would use the RSA key as a shared secret."""
    public = json.dumps(KEYS["RS256"].jwk).encode()
    signed = f"{encoded({'alg': 'HS256', 'kid': 'rs256'})}.{encoded(claims(wall_clock.now(), tenant='acme'))}"
    return f"{signed}.{encoded(hmac.new(public, signed.encode(), hashlib.sha256).digest())}"


def _unsigned() -> str:
    return f"{encoded({'alg': 'none'})}.{encoded(claims(wall_clock.now(), tenant='acme'))}."


def _changed_afterwards() -> str:
    head, _, signature = jwt("ES256").split(".")
    return f"{head}.{encoded(claims(wall_clock.now(), tenant='other'))}.{signature}"


def _of_forger(algorithm: str) -> Callable[[], str]:
    key = FORGER[algorithm]
    return lambda: key.jwt(claims(wall_clock.now(), tenant="acme"), header={"kid": KEYS[algorithm].kid})


def _claims_twice() -> str:
    text = b'{"tenant":"acme","iss":"%s","aud":"%s","sub":"repo:acme/app:x","exp":%d,"tenant":"other"}' % (
        ISSUER.encode(),
        AUDIENCE.encode(),
        int(wall_clock.timestamp()) + 60,
    )
    return KEYS["EdDSA"].jwt(text)


HOUR = timedelta(hours=1)
FORGED: dict[str, Callable[[], str]] = {
    "another_key_RS256": _of_forger("RS256"),
    "another_key_ES256": _of_forger("ES256"),
    "another_key_EdDSA": _of_forger("EdDSA"),
    "alg_none": _unsigned,
    "hmac_with_the_public_key": _hmac_with_the_public_key,
    "changed_afterwards": _changed_afterwards,
    "own_key_in_the_header": lambda: FORGER["ES256"].jwt(
        claims(wall_clock.now(), tenant="acme"), header={"jwk": FORGER["ES256"].jwk}
    ),
    "another_algorithm": lambda: jwt("RS256", {"alg": "ES256"}),
    "another_issuer": lambda: jwt(iss="https://issuer.example.evil"),
    "another_audience": lambda: jwt(aud="https://api.example"),
    "expired": lambda: KEYS["EdDSA"].jwt(claims(wall_clock.now() - HOUR, tenant="acme")),
    "from_the_future": lambda: KEYS["EdDSA"].jwt(claims(wall_clock.now() + HOUR, tenant="acme")),
    "too_long": lambda: jwt(exp=int(wall_clock.timestamp()) + 86_400),
    "given_twice": _claims_twice,
    "critical": lambda: jwt(header={"crit": ["exp"]}),
    "unknown_key": lambda: jwt(header={"kid": "nobody"}),
    "another_repository": lambda: jwt(sub="repo:acme/application:x"),
    "no_jwt": lambda: "eyJhbGciOiJub25lIn0",
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_forged_jwt_gets_one_answer_whatever_is_wrong(service: Service, name: str):
    address = f"192.0.2.{10 + list(FORGED).index(name)}"
    answer = await exchange(service, FORGED[name](), address=address)
    assert (answer.status, answer.json) == (
        400,
        {"error": "invalid_request", "error_description": "The subject token is not accepted."},
    )


async def test_a_large_jwt_is_refused_before_it_is_read(service: Service):
    assert (await exchange(service, jwt(note="x" * 20_000))).json["error"] == "invalid_request"
    assert (await exchange(service, "x" * 70_000)).status == 413
    assert (await exchange(service, "x" * 1_000_000)).status == 413


async def test_a_flood_of_invented_keys_asks_the_issuer_once(service: Service, issuer: KeyServer):
    before = issuer.asked
    for number in range(12):
        answer = await exchange(service, jwt(header={"kid": f"x{number}"}), address="192.0.2.99")
        assert answer.status == (400 if number < 10 else 429), answer
    assert issuer.asked <= before + 1
    assert (await exchange(service, jwt(), address="192.0.2.99")).status == 200


# ---------------------------------------------------------------- what it may have


async def test_unknown_forbidden_and_dead_tokens_look_alike(service: Service):
    answers = [
        await exchange(service, jwt(**changed), audience)
        for audience, changed in (
            (f"{PROVIDER}:other", {}),
            (f"{PROVIDER}:other", POD),
            (f"{PROVIDER}:unknown", {}),
            (f"{PROVIDER}:dead", {}),
            ("xero:acme", {}),
            ("acme", {}),
            (f"{PROVIDER}:acme", {**POD, "tenant": "else"}),
        )
    ]
    assert {(one.status, one.text) for one in answers} == {(400, answers[0].text)}
    assert answers[0].json["error"] == "invalid_target"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"audience": ""}, "invalid_request"),
        ({"subject_token": ""}, "invalid_request"),
        ({"subject_token_type": ""}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"actor_token": "x"}, "invalid_request"),
        ({"resource": "https://api.example"}, "invalid_request"),
        ({"client_secret": "x"}, "invalid_request"),
        ({"scope": "no-such-scope"}, "invalid_scope"),
        ({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}, "invalid_client"),
    ],
)
async def test_a_malformed_request_says_what_is_wrong(service: Service, fields: dict[str, str], code: str):
    answer = await exchange(service, jwt(), **{"audience": f"{PROVIDER}:acme", **fields})
    assert answer.json["error"] == code
    assert "eyJ" not in answer.text


async def test_credentials_and_parameters_belong_in_one_place(service: Service):
    form = {
        "grant_type": EXCHANGE,
        "subject_token": jwt(),
        "subject_token_type": JWT,
        "audience": "acme:acme",
    }
    path = f"/v1/oauth/{PROVIDER}/token"
    basic = await service.ask("POST", path, key="", data=form, headers={"Authorization": "Basic YTpi"})
    assert basic.json["error"] == "invalid_request"
    query = await service.ask("POST", f"{path}?audience=acme:acme", key="", data=form)
    assert query.json["error"] == "invalid_request"
    twice = await service.ask("POST", path, key="", data=[*form.items(), ("audience", "acme:other")])
    assert twice.json["error"] == "invalid_request"


async def test_a_jwt_opens_no_other_route(service: Service):
    for method, path in (
        ("GET", f"/v1/tokens/{PROVIDER}/acme"),
        ("GET", "/v1/tokens"),
        ("DELETE", f"/v1/tokens/{PROVIDER}/acme"),
    ):
        assert (await service.ask(method, path, key=jwt())).status == 401


async def test_it_describes_itself(service: Service):
    answer = await service.get(f"/.well-known/oauth-authorization-server/v1/oauth/{PROVIDER}")
    assert answer.json["grant_types_supported"] == ["refresh_token", EXCHANGE]
    assert "none" in answer.json["token_endpoint_auth_methods_supported"]


# ---------------------------------------------------------------- what operators see


async def test_the_audit_has_the_workload_and_the_log_the_reasons(place: Place, service: Service):
    """It comes last, since the end of the service stores what it counted."""
    metrics = (await service.get("/metrics", key=OPERATOR)).text
    for rule, reason in (("ci", "signature"), ("unknown", "issuer"), ("ci", "expired")):
        assert f'exchange_failures_total{{issuer="{rule}",reason="{reason}"}}' in metrics
    assert "repo:acme" not in metrics
    await exchange(service, jwt(jti="last-one"))
    assert await service.process.stop() == 0
    table = place.installation.tables["store"]
    with MongoClient[dict[str, Any]](str(table["uri"])) as client:
        uses = client[str(table["database"])]["tokens_access_use"]
        (row,) = uses.find({"action": "read", "by.sub": {"$regex": "^repo:acme"}})
        assert row["by"]["iss"] == ISSUER
        assert row["by"]["jti"] == "last-one"
        assert (row["actor"], row["token"]) == ("ci", "acme:acme")
        assert not list(uses.find({"kind": "key"}))  # a row that would never end
    shown = await place.refreshd("audit", "--token", "acme:acme")
    assert "by the workload repo:acme/app:ref:refs/heads/main of ci from 192.0.2.1" in shown
    reasons = {str(one["reason"]) for one in service.process.seen("access.jwt_refused")}
    assert {"signature", "algorithm", "issuer", "audience", "expired", "early"} <= reasons
    assert "eyJ" not in service.process.logs
