"""The access service end to end: real processes, real HTTP, a real MongoDB."""

import asyncio
import os
import signal
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from pymongo import MongoClient

from daemon.domain.handle import handle_of
from tests.certificates import Certified
from tests.e2e.daemon_process import Installation
from tests.e2e.service import PROVIDER, Place, Service, placed
from tests.support import wall_clock

ME = f"/v1/tokens/{PROVIDER}/me"
JSON = {"Content-Type": "application/json"}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(mongod: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    """One for all tests of this file, since processes take a second each to start."""
    async with placed(mongod, tmp_path_factory.mktemp("place")) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(place: Place) -> AsyncIterator[Service]:
    """A service with the tokens `me` and `team/7 é`, which no test changes, and a key that may do everything."""
    await place.add("me", "team/7 é")
    async with place.serving(await place.key()) as one:
        yield one


# ---------------------------------------------------------------- reading


async def test_an_access_token_is_served_by_a_process_that_can_open_nothing_else(
    place: Place, service: Service
):
    for path, account in (
        (ME, "me"),
        ("/v1/token?id=acme%3Ame", "me"),
        ("/v1/tokens/acme/team%2F7%20%C3%A9", "team/7 é"),
    ):
        answer = await service.get(path)
        assert answer.status == 200, answer
        body = answer.json
        assert body["access_token"] == place.consents[account]["access_token"]
        assert (body["id"], body["account"], body["provider"]) == (f"acme:{account}", account, "acme")
        assert 3500 < body["expires_in"] <= 3600
        assert answer.headers["ETag"] == f'"{body["version"]}"'
        assert answer.headers["Cache-Control"] == "no-store"
        assert "refresh_token" not in body
        assert str(place.consents[account]["refresh_token"]) not in answer.text
    again = await service.get(
        ME, headers={"If-None-Match": f'W/"x", {(await service.get(ME)).headers["ETag"]}'}
    )
    assert (again.status, again.text) == (304, "")
    head = await service.ask("HEAD", ME)
    assert (head.status, head.text) == (200, "")


@pytest.mark.parametrize(
    ("method", "path", "body", "problem"),
    [
        ("GET", "/", {}, "not-found"),
        ("GET", "/v1/tokens/acme/nobody", {}, "not-found"),
        ("GET", "/v1/tokens/ACME/me", {}, "not-found"),
        ("GET", "/v1/tokens/acme/", {}, "not-found"),
        ("GET", "/v1/tokens/acme/me/", {}, "not-found"),
        ("GET", "/v1/token", {}, "not-found"),
        ("GET", f"{ME}?id=acme%3Ame", {}, "invalid-request"),
        ("GET", f"{ME}?fresh=5m", {}, "invalid-request"),
        ("GET", f"{ME}?fresh_for=5", {}, "invalid-request"),
        ("GET", f"{ME}?fresh_for=5m&fresh_for=6m", {}, "invalid-request"),
        ("GET", f"{ME}?scope=%ff", {}, "invalid-request"),
        ("GET", f"{ME}?scope=%00", {}, "invalid-request"),
        ("GET", f"{ME}?scope=%zz", {}, "invalid-request"),
        ("GET", f"{ME}?scope=" + "a" * 5000, {}, "invalid-request"),
        ("GET", "/v1/tokens/acme/%ff", {}, "invalid-request"),
        ("GET", "/v1/tokens/acme/%0a", {}, "not-found"),
        ("GET", "/v1/tokens/acme/" + "a" * 600, {}, "not-found"),
        ("TRACE", ME, {}, "method-not-allowed"),
        ("PROPFIND", ME, {}, "method-not-allowed"),
        ("GET", f"{ME}?scope=never-granted", {}, "scope-missing"),
        ("POST", f"{ME}/refused", {"data": "{}"}, "unsupported-media-type"),
        ("POST", f"{ME}/refused", {"data": "{", "headers": JSON}, "invalid-request"),
        ("POST", f"{ME}/refused", {"data": "[]", "headers": JSON}, "invalid-request"),
        ("POST", f"{ME}/refused", {"data": b"\xff", "headers": JSON}, "invalid-request"),
        ("POST", f"{ME}/refused", {"data": "[" * 60_000, "headers": JSON}, "invalid-request"),
        ("POST", f"{ME}/refused", {"data": '{"version":1}', "headers": JSON}, "invalid-request"),
        ("POST", f"{ME}/refused", {"data": '{"version":NaN}', "headers": JSON}, "invalid-request"),
        ("POST", f"{ME}/refused", {"data": '{"version":"\\ud800"}', "headers": JSON}, "invalid-request"),
        (
            "POST",
            f"{ME}/refused",
            {"data": '{"version":"a","version":"b"}', "headers": JSON},
            "invalid-request",
        ),
        ("POST", f"{ME}/refused", {"data": '{"version":"a","b":1}', "headers": JSON}, "invalid-request"),
        ("POST", f"{ME}/refused", {"data": "a" * 70_000, "headers": JSON}, "too-large"),
        (
            "POST",
            f"{ME}/refused",
            {"data": b"x", "headers": {**JSON, "Content-Encoding": "gzip"}},
            "unsupported-media-type",
        ),
        ("POST", "/v1/tokens/acme/nobody/refused", {"data": '{"version":"a"}', "headers": JSON}, "not-found"),
    ],
)
async def test_every_bad_request_gets_a_problem_document(
    service: Service, method: str, path: str, body: dict[str, Any], problem: str
):
    answer = await service.ask(method, path, **body)
    assert answer.problem == problem, answer
    assert not service.process.seen("internal.error")


async def test_several_faults_are_named_together(service: Service):
    answer = await service.get(f"{ME}?a=1&b=2")
    assert [fault["what"] for fault in answer.json["faults"]] == [
        "has an unknown parameter: a",
        "has an unknown parameter: b",
    ]


async def test_nobody_comes_in_without_a_valid_key(place: Place):
    other = await place.key("revoked")
    await place.refreshd("access", "revoke", "revoked")
    async with place.serving(await place.key("guessed", tokens="*")) as service:
        await _guess(service, other)
        store = place.installation.tables["store"]
        with MongoClient[dict[str, Any]](str(store["uri"])) as client:
            uses = client[str(store["database"])]["tokens_access_use"]
            counted = {"by.name": "revoked", "result": "unauthorized"}
            async with asyncio.timeout(40):  # stored every ten seconds
                while (row := uses.find_one(counted)) is None:
                    await asyncio.sleep(0.2)
            assert (row["action"], row["count"], row["token"]) == ("refused", 1, None)
            assert uses.find_one({"by.name": "guessed", "result": "unauthorized"}) is None


async def _guess(service: Service, other: str) -> None:
    for key in ("", "x", other, service.key[:-1], f"{service.key[:30]}{'x' * 60}"):
        answer = await service.get(ME, key=key)
        assert answer.problem == "unauthorized"
        error = ', error="invalid_token"' if key else ""
        assert answer.headers["WWW-Authenticate"] == f'Bearer realm="refreshd"{error}'
    twice = [("Authorization", f"Bearer {service.key}"), ("Authorization", f"Bearer {service.key}")]
    async with service.session.get(service.url + ME, headers=twice) as answer:
        assert answer.status == 401
    wrong = f"{service.key[:-1]}{'0' if service.key[-1] != '0' else '1'}"
    for _ in range(10):
        last = await service.get(ME, key=wrong)
    assert last.problem == "rate-limited"
    assert int(last.headers["Retry-After"]) <= 60
    for fields in ({"client_secret": "wrong"}, {"client_id": "a" * 20}, {"client_secret": wrong}):
        there = await service.exchange(refresh_token=handle_of("acme:me"), **fields)
        assert (there.status, there.json["error"]) == (429, "temporarily_unavailable"), fields
        assert 1 <= int(there.headers["Retry-After"]) <= 60
    assert (await service.get(ME)).status == 200
    assert (await service.exchange(refresh_token=handle_of("acme:me"))).status == 200


async def test_what_is_revoked_or_paused_is_refused_at_once(place: Place, service: Service):
    await place.add("stopped")
    stopped = "/v1/tokens/acme/stopped"
    other = await place.key("other", can="read")
    assert (await service.get(stopped, key=other)).status == 200
    await place.refreshd("access", "revoke", "other")
    await asyncio.sleep(0.3)
    assert (await service.get(stopped, key=other)).problem == "unauthorized"
    await place.refreshd("pause", "acme:stopped")
    await asyncio.sleep(0.3)
    assert (await service.get(stopped)).problem == "paused"
    await place.refreshd("remove", "--yes", "acme:stopped")
    await asyncio.sleep(0.3)
    assert (await service.get(stopped)).problem == "not-found"


async def test_a_key_sees_the_tokens_that_its_selectors_name(place: Place, service: Service):
    only = await place.key("only", tokens="acme:team*", can="read")
    assert (await service.get("/v1/tokens/acme/team%2F7%20%C3%A9", key=only)).status == 200
    assert (await service.get(ME, key=only)).problem == "not-found"
    assert (
        await service.ask("POST", f"{ME}/refused", key=only, json={"version": "x"})
    ).problem == "not-found"


@pytest.mark.parametrize(
    ("method", "path", "places"),
    [
        ("GET", f"{ME}?fresh_for=x&scope=%00&foo=1", ["query", "query fresh_for", "query scope"]),
        (
            "GET",
            "/v1/tokens?limit=0&state=odd&where=x&subject=%00&foo=1",
            ["query", "query limit", "query state", "query subject", "query where"],
        ),
        ("GET", "/v1/tokens?where=subject%3Da&subject=b&limit=x", ["query limit", "query subject"]),
        ("GET", "/v1/subjects/%00/tokens?limit=0&foo=1", ["query", "query limit", "subject"]),
        (
            "GET",
            "/v1/audit?limit=0&since=x&after=y&foo=1",
            ["query", "query after", "query limit", "query since"],
        ),
        ("DELETE", "/v1/subjects/%00/tokens?revoke=x&foo=1", ["query", "query revoke", "subject"]),
        ("DELETE", f"{ME}?revoke=x&foo=1", ["query", "query revoke"]),
        ("GET", "/v1/statistics?foo=1&bar=2", ["query", "query"]),
    ],
)
async def test_every_fault_of_a_query_is_named(service: Service, method: str, path: str, places: list[str]):
    """A developer corrects all of them after one answer."""
    answer = await service.ask(method, path)
    assert answer.problem == "invalid-request"
    assert sorted(fault["where"] for fault in answer.json["faults"]) == places


async def test_a_foreign_host_is_misdirected(service: Service):
    for host, status in (("evil.example", 421), ("localhost", 200), ("[::1]:9", 200), ("127.0.0.1:1", 200)):
        assert (await service.get(ME, headers={"Host": host})).status == status, host


# ---------------------------------------------------------------- renewal on request


async def test_a_refused_token_is_renewed_while_its_caller_waits(place: Place, service: Service):
    await place.add("refused")
    refused = "/v1/tokens/acme/refused"
    first = (await service.get(refused)).json
    async with place.installation.running() as daemon:
        await daemon.ready()
        answer = await service.ask(
            "POST", f"{refused}/refused", json={"version": first["version"]}, headers={"Prefer": "wait=20"}
        )
    assert answer.status == 200, answer
    assert answer.json["access_token"] != first["access_token"]
    assert answer.json["version"] != first["version"]
    late = await service.ask("POST", f"{refused}/refused", json={"version": first["version"]})
    assert late.json["version"] == answer.json["version"]  # known already: no renewal for it
    soon = await service.ask("POST", f"{refused}/refused", json={"version": answer.json["version"]})
    assert soon.problem == "renewing"
    assert int(soon.headers["Retry-After"]) >= 1


async def test_a_thousand_callers_with_the_same_refused_token_cost_one_renewal(
    place: Place, service: Service
):
    """All are answered, nobody waits in vain, and one that is refused again and again brings no flood."""
    await place.add("thousand")
    thousand = "/v1/tokens/acme/thousand"
    first = (await service.get(thousand)).json["version"]
    authorized = {"Authorization": f"Bearer {service.key}"}
    async with (
        place.installation.running() as daemon,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1000)) as session,
    ):
        await daemon.ready()

        async def refuse(version: str) -> int:
            url, body = f"{service.url}{thousand}/refused", {"version": version}
            async with session.post(url, json=body, headers={**authorized, "Prefer": "wait=25"}) as answer:
                await answer.read()
                return answer.status

        began = asyncio.get_running_loop().time()
        statuses = Counter(await asyncio.gather(*(refuse(first) for _ in range(1000))))
        took = asyncio.get_running_loop().time() - began
        second = (await service.get(thousand)).json["version"]
        again = Counter([await refuse(second) for _ in range(50)])
    assert set(statuses) <= {
        200,
        202,
    }  # at most fifty of one key wait; those that come meanwhile may come again
    assert took < 20  # whoever is not reported a change waits for all of his 25 seconds
    assert second != first
    assert again == {503: 50}
    grants = {grant["id"]: grant for grant in place.sandbox.ledger()}
    assert grants[place.consents["thousand"]["grant"]]["generation"] == 1


async def test_without_a_daemon_a_refusal_is_accepted_and_waits(place: Place, service: Service):
    await place.add("alone")
    alone = "/v1/tokens/acme/alone"
    first = (await service.get(alone)).json
    answer = await service.ask("POST", f"{alone}/refused", json={"version": first["version"]})
    assert answer.status == 202
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await service.get(alone)).json["access_token"] == first["access_token"]


# ---------------------------------------------------------------- the token endpoint


async def test_a_handle_is_exchanged_for_an_access_token(place: Place, service: Service):
    handle = handle_of("acme:me")
    answer = await service.exchange(refresh_token=handle)
    assert answer.status == 200, answer
    body = answer.json
    assert body["access_token"] == place.consents["me"]["access_token"]
    assert body["refresh_token"] == handle
    assert 3500 < body["expires_in"] <= 3600
    assert "no-store" in answer.headers["Cache-Control"]
    assert not any(name.lower().startswith("access-control") for name in answer.headers)
    basic = aiohttp.encode_basic_auth(service.key[4:24], service.key)
    form = {"grant_type": "refresh_token", "refresh_token": handle}
    by_header = await service.ask(
        "POST", "/v1/oauth/acme/token", key="", headers={"Authorization": basic}, data=form
    )
    assert by_header.json["access_token"] == body["access_token"]


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"refresh_token": handle_of("acme:nobody")}, 400, "invalid_grant"),
        ({"refresh_token": handle_of("xero:me")}, 400, "invalid_grant"),
        ({"refresh_token": "not a handle"}, 400, "invalid_grant"),
        ({"refresh_token": ""}, 400, "invalid_request"),
        ({}, 400, "invalid_request"),
        ({"refresh_token": handle_of("acme:me"), "grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"refresh_token": handle_of("acme:me"), "grant_type": ""}, 400, "invalid_request"),
        ({"refresh_token": handle_of("acme:me"), "scope": "never-granted"}, 400, "invalid_scope"),
        ({"refresh_token": handle_of("acme:me"), "client_secret": "wrong"}, 401, "invalid_client"),
        ({"refresh_token": handle_of("acme:me"), "client_id": "a" * 20}, 401, "invalid_client"),
    ],
)
async def test_the_token_endpoint_refuses_in_the_words_of_oauth(
    service: Service, fields: dict[str, str], status: int, error: str
):
    answer = await service.exchange(**fields)
    assert (answer.status, answer.json["error"]) == (status, error), answer
    challenge = 'Basic realm="refreshd"' if status == 401 else None  # RFC 9110 section 15.5.2
    assert answer.headers.get("WWW-Authenticate") == challenge


async def test_the_token_endpoint_takes_credentials_once_and_from_the_body(service: Service):
    basic = {"Authorization": aiohttp.encode_basic_auth(service.key[4:24], service.key)}
    form = {"grant_type": "refresh_token", "refresh_token": handle_of("acme:me")}
    whole = {**form, "client_id": service.key[4:24], "client_secret": service.key}
    path = "/v1/oauth/acme/token"
    twice = await service.ask("POST", path, key="", headers=basic, data=whole)
    in_query = await service.ask("POST", f"{path}?client_secret={service.key}", key="", data=form)
    not_a_form = await service.ask("POST", path, key="", json=whole)
    repeated = await service.ask(
        "POST",
        path,
        key="",
        headers={**basic, "Content-Type": "application/x-www-form-urlencoded"},
        data="grant_type=refresh_token&grant_type=refresh_token&refresh_token=x",
    )
    for answer in (twice, in_query, not_a_form, repeated):
        assert (answer.status, answer.json["error"]) == (400, "invalid_request"), answer
    wrong = await service.get(path)
    assert (wrong.problem, wrong.headers["Allow"]) == ("method-not-allowed", "POST")


async def test_a_paused_token_is_away_for_a_library_and_a_dead_one_gone(place: Place, service: Service):
    await place.add("resting")
    handle = handle_of("acme:resting")
    await place.refreshd("pause", "acme:resting")
    await asyncio.sleep(0.3)
    paused = await service.exchange(refresh_token=handle)
    assert (paused.status, paused.json["error"]) == (503, "temporarily_unavailable")
    assert int(paused.headers["Retry-After"]) >= 1
    store = place.installation.tables["store"]
    with MongoClient[dict[str, Any]](str(store["uri"])) as client:
        tokens = client[str(store["database"])]["tokens"]
        tokens.update_one({"_id": "acme:resting"}, {"$set": {"state": "needs_reauth"}})
    await asyncio.sleep(0.3)
    dead = await service.exchange(refresh_token=handle)
    assert dead.json == (await service.exchange(refresh_token=handle_of("acme:nobody"))).json


async def test_the_token_endpoint_describes_itself(service: Service):
    path = "/.well-known/oauth-authorization-server/v1/oauth"
    answer = await service.get(f"{path}/acme", key="")
    assert answer.json["issuer"] == f"{service.url}/v1/oauth/acme"
    assert answer.json["token_endpoint"] == f"{service.url}/v1/oauth/acme/token"
    assert (await service.get(f"{path}/nobody", key="")).problem == "unknown-provider"


# ---------------------------------------------------------------- the process


async def test_callers_on_the_socket_are_known_by_their_user(place: Place, service: Service):
    key, path = service.key, place.installation.directory / "access.sock"
    async with place.serving(key, access={"socket": str(path)}) as own:
        assert own.url == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o660
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession(connector=connector) as session:
            headers = {"Authorization": f"Bearer {own.key}"}
            while (answer := await session.get(f"http://anything{ME}", headers=headers)).status == 503:
                await asyncio.sleep(0.05)
            assert answer.status == 200
        assert await own.process.stop() == 0
    assert not path.exists()


async def test_callers_are_served_over_tls(place: Place, service: Service):
    key = service.key
    authority = Certified.made("authority")
    certificate = Certified.made("localhost", issuer=authority)
    directory = place.installation.directory
    (directory / "cert.pem").write_bytes(certificate.public)
    (directory / "key.pem").touch(mode=0o600)
    (directory / "key.pem").write_bytes(certificate.key)
    tls = {"cert": str(directory / "cert.pem"), "key": {"file": str(directory / "key.pem")}}
    async with place.serving(key, access={"tls": tls}) as own:
        trusting = ssl.create_default_context(cadata=authority.public.decode())
        headers = {"Authorization": f"Bearer {own.key}"}
        url = own.url + ME
        while (answer := await own.session.get(url, headers=headers, ssl=trusting)).status == 503:
            await asyncio.sleep(0.05)
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientError):
            await own.session.get(url.replace("https:", "http:"))


async def test_at_a_stop_the_open_requests_are_answered(place: Place, service: Service):
    await place.add("waiting")
    path = "/v1/tokens/acme/waiting"
    async with place.serving(service.key) as own:
        version = (await own.get(path)).json["version"]
        waiting = asyncio.create_task(
            own.ask("POST", f"{path}/refused", json={"version": version}, headers={"Prefer": "wait=30"})
        )
        await asyncio.sleep(0.3)
        assert await own.process.stop(within=timedelta(seconds=5)) == 0
        assert (await waiting).status == 202
        assert own.process.seen("access.stopped", drained=True)


async def test_it_starts_without_mongodb_and_says_so(place: Place, service: Service):
    key = service.key
    with socket.create_server(("127.0.0.1", 0)) as nothing:
        uri = f"mongodb://127.0.0.1:{nothing.getsockname()[1]}/?serverSelectionTimeoutMS=500"
        alone = Installation(place.installation.directory / "alone", uri="", database="", providers={})
        alone.configure(
            {
                "store": {"uri": uri},
                "keys": await place.door_keys(),
                "access": {"port": 0},
                "log": {"format": "json"},
            }
        )
        nothing.close()
        async with alone.serving() as process, aiohttp.ClientSession() as session:
            url = await process.url()
            async with session.get(f"{url}/readyz") as answer:
                assert answer.status == 503
            async with session.get(f"{url}/livez") as answer:
                assert answer.status == 200
            async with session.get(url + ME, headers={"Authorization": f"Bearer {key}"}) as answer:
                assert answer.status == 503
                assert (await answer.json(content_type=None))["type"] == "urn:refreshd:problem:unavailable"
            assert await process.stop(signal.SIGHUP) == 0  # as by SIGTERM: there is no reload
            assert process.seen("access.stopped", drained=True)


async def test_a_taken_port_is_named(place: Place, service: Service):
    other = Installation(place.installation.directory / "other", uri="", database="", providers={})
    port = int(service.url.rpartition(":")[2])
    other.configure(
        {
            "store": place.installation.tables["store"],
            "keys": await place.door_keys(),
            "access": {"port": port},
        }
    )
    done = await other.refreshd("serve")
    assert done.code == 75
    assert f"access.port: 127.0.0.1:{port} is in use by pid {service.process.pid}" in done.stderr


async def test_a_certificate_that_is_a_pipe_ends_the_start(place: Place, service: Service):
    """It would hang, without a word."""
    os.mkfifo(cert := place.installation.directory / "cert.fifo")
    (key := place.installation.directory / "fifo.key").touch(mode=0o600)
    key.write_bytes(Certified.made("localhost").key)
    piped = Installation(place.installation.directory / "piped", uri="", database="", providers={})
    piped.configure(
        {
            "store": place.installation.tables["store"],
            "keys": await place.door_keys(),
            "access": {"port": 0, "tls": {"cert": str(cert), "key": {"file": str(key)}}},
        }
    )
    done = await piped.refreshd("serve")
    assert done.code == 78
    assert f"access.tls.cert: {cert} can't be used: it is a pipe" in done.stderr


async def test_keys_of_another_store_make_it_unready(place: Place, service: Service, tmp_path: Path):
    async with place.installation.running() as daemon:
        await daemon.ready()  # stores the check value
    strange = Installation(
        tmp_path / "strange",
        uri=str(place.installation.tables["store"]["uri"]),
        database="strange",
        providers={},
    )
    readers = (await strange.refreshd("keys", "reader")).stdout
    (tmp_path / "strange.jsonl").touch(mode=0o600)
    (tmp_path / "strange.jsonl").write_text(readers)
    wrong = Installation(tmp_path / "service", uri="", database="", providers={})
    wrong.configure(
        {
            "store": place.installation.tables["store"],
            "keys": {"readers": {"file": str(tmp_path / "strange.jsonl")}},
            "access": {"port": 0},
            "log": {"format": "json"},
        }
    )
    async with wrong.serving() as process, aiohttp.ClientSession() as session:
        await process.event("keys.wrong")
        async with session.get(f"{await process.url()}/readyz") as answer:
            assert answer.status == 503
            assert (await answer.json())["checks"]["keys"]["ok"] is False


async def test_metrics_are_for_operators(place: Place, service: Service):
    async with place.serving(service.key, access={"bearer_token": "a-token-for-operators"}) as own:
        assert (await own.get("/metrics", key="")).status == 401
        await own.get("/v1/tokens/acme/nobody")
        answer = await own.get("/metrics", key="a-token-for-operators")
        assert 'refreshd_access_requests_total{route="token",status="404"} 1.0' in answer.text
        assert "refreshd_store_up 1.0" in answer.text
        assert "detail" in (await own.get("/readyz", key="a-token-for-operators")).text
        assert "detail" not in (await own.get("/readyz", key="")).text


# ---------------------------------------------------------------- anomalies


async def test_a_stolen_key_and_wrong_ones_are_noticed(place: Place, service: Service):
    """A key that was in use from one network is used from another one, where ten wrong keys were tried before."""
    key = await place.key("stolen", can="read")
    now = wall_clock.now()
    row = {"_id": f"key {key[4:24]}", "kind": "key", "key": key[4:24], "since": now - timedelta(days=2)}
    known = [{"network": "127.0.0.0/24", "at": now - timedelta(hours=1)}]
    store = place.installation.tables["store"]
    with MongoClient[dict[str, Any]](store["uri"]) as client:
        client[store["database"]]["tokens_access_use"].insert_one({**row, "networks": known})
    access = {"bearer_token": "a-token-for-operators"}
    async with place.serving(key, access=access) as own:
        assert (await own.get(ME)).status == 200
        connector = aiohttp.TCPConnector(local_addr=("127.0.1.1", 0))
        async with aiohttp.ClientSession(connector=connector) as session:
            stranger = Service(own.process, own.url, session, key)
            wrong = [(await stranger.get(ME, key="wrong")).status for _ in range(8)]
            handle = {"refresh_token": handle_of("acme:me")}
            wrong += [(await stranger.exchange(key=f"{key[:-1]}x", **handle)).status for _ in range(3)]
            assert wrong == [401] * 10 + [429]  # the eleventh wrong one waits, wherever it is sent
            assert (await stranger.get(ME)).status == 200
        failed = await own.process.event("anomaly.detected", kind="auth_failures")
        assert (failed["key"], failed["count"]) == ("127.0.1.1", 10)
        text = (await own.get("/metrics", key=access["bearer_token"])).text
        assert 'refreshd_anomalies_total{kind="auth_failures"} 1.0' in text
        assert 'refreshd_access_auth_failures_total{reason="unauthorized"} 10.0' in text
        await own.process.stop()
        [moved] = own.process.seen("anomaly.detected", kind="key_from_new_network")
    assert (moved["key"], moved["name"], moved["count"]) == (key[4:24], "stolen", 1)
    assert "127.0.1.0/24" in str(moved["message"])
    assert key not in str(own.process.logs)
    with MongoClient[dict[str, Any]](store["uri"]) as client:
        found = client[store["database"]]["tokens_access_use"].find_one({"_id": row["_id"]})
    assert found is not None
    assert [one["network"] for one in found["networks"]] == ["127.0.0.0/24", "127.0.1.0/24"]
