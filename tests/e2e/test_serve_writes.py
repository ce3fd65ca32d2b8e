"""Applications store, change, list and remove tokens by HTTP, and the daemon works with what they stored."""

import asyncio
import csv
import io
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import pytest_asyncio
from pymongo import MongoClient

from tests.e2e.service import PROVIDER, Place, Reply, Service, placed

GRANT = {"Content-Type": "application/vnd.refreshd.grant+json"}
JSON = {"Content-Type": "application/json"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(mongod: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with placed(mongod, tmp_path_factory.mktemp("place")) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(place: Place) -> AsyncIterator[Service]:
    """A service with a key that may do everything, for every token."""
    async with place.serving(await place.key(tokens="*")) as one:
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other_tenant(place: Place) -> str:
    """A key that may do everything with the tokens of another tenant."""
    return await place.key("other-tenant", "--where", "meta.tenant=b", tokens="*")


FIRST = '{"access_token":"first","refresh_token":"first","expires_in":3600}'


def path(account: str) -> str:
    return f"/v1/tokens/{PROVIDER}/{account}"


async def put(place: Place, service: Service, account: str, **more: Any) -> dict[str, Any]:
    """Store a new grant of the sandbox as it came, or with what is known of it."""
    (response,) = place.sandbox.consent(1)
    body, headers = ({"response": response, **more}, GRANT) if more else (response, JSON)
    answer = await service.ask("PUT", path(account), data=json.dumps(body), headers=headers)
    assert answer.status in (200, 201), answer
    return dict(response)


async def test_a_stored_grant_is_served_and_renewed(place: Place, service: Service):
    """The daemon opens what the service sealed, and can't open itself."""
    response = await put(place, service, "new")
    served = await service.get(path("new"))
    assert served.json["access_token"] == response["access_token"]
    again = await service.ask("PUT", path("new"), data=json.dumps(response), headers=JSON)
    assert (again.status, again.json["revision"]) == (200, 2)
    assert again.headers["ETag"] == f'"{again.json["version"]}"'
    async with place.installation.running() as daemon:
        await place.refreshd("refresh", "--wait", f"{PROVIDER}:new")
        await daemon.stop()
    renewed = await service.get(path("new"))
    assert renewed.json["access_token"] != response["access_token"]


async def test_what_is_known_of_a_grant_is_stored_with_it(place: Place, service: Service):
    await put(place, service, "known", meta={"tenant": "a"}, subject="ann", received_at=None)
    (item,) = (await service.get("/v1/tokens?subject=ann&where=meta.tenant%3Da")).json["items"]
    assert (item["id"], item["meta"], item["subject"]) == ("acme:known", {"tenant": "a"}, "ann")
    assert (await service.get("/v1/subjects/ann/tokens")).json["items"] == [item]
    assert not {"access_token", "refresh_token"} & item.keys()


async def test_fields_change_and_pauses_end(place: Place, service: Service):
    await put(place, service, "patched")
    by_id = "/v1/token?id=acme%3Apatched"
    patch = {"data": '{"meta":{"plan":"gold"},"subject":"bob"}'}
    answer = await service.ask(
        "PATCH", by_id, headers={"Content-Type": "application/merge-patch+json"}, **patch
    )
    assert (answer.status, answer.json["meta"], answer.json["subject"]) == (200, {"plan": "gold"}, "bob")
    late = await service.ask("PATCH", by_id, headers={**JSON, "If-Match": '"other"'}, **patch)
    assert late.problem == "precondition-failed"
    stored = await service.ask("PATCH", by_id, headers={**JSON, "If-Match": "*"}, **patch)
    assert stored.status == 200
    paused = await service.ask("PATCH", by_id, data='{"state":"paused"}', headers=JSON)
    assert paused.json["state"] == "paused"
    assert (await service.get(path("patched"))).problem == "paused"
    await service.ask("PATCH", by_id, data='{"state":"active"}', headers=JSON)
    assert (await service.get(path("patched"))).status == 200


async def test_a_grant_is_only_created_if_the_caller_says_so(place: Place, service: Service):
    """`If-None-Match: *` (RFC 9110 section 13.1.2): of two writers, one creates the token and the other learns of it."""
    responses = place.sandbox.consent(2)
    only_new = {**JSON, "If-None-Match": "*"}

    async def create(response: Any) -> Reply:
        return await service.ask("PUT", path("once"), data=json.dumps(response), headers=only_new)

    answers = await asyncio.gather(*map(create, responses))
    assert sorted(one.status for one in answers) == [201, 412]
    [winner] = [response for response, one in zip(responses, answers, strict=True) if one.status == 201]
    [refused] = [one for one in answers if one.status == 412]
    assert refused.problem == "precondition-failed"
    assert (await service.get(path("once"))).json["access_token"] == winner["access_token"]
    gone = await service.ask("DELETE", path("once") + "?revoke=false", headers={"If-None-Match": "*"})
    assert gone.problem == "precondition-failed"
    await service.ask("DELETE", path("once") + "?revoke=false")
    (third,) = place.sandbox.consent(1)
    assert (await create(third)).status == 201


async def test_a_removed_token_is_unknown_and_the_daemon_deletes_it(place: Place, service: Service):
    await put(place, service, "leaving")
    assert (await service.ask("DELETE", path("leaving"))).problem == "no-revocation"
    assert (await service.ask("DELETE", path("leaving") + "?revoke=no")).problem == "invalid-request"
    removed = await service.ask("DELETE", path("leaving") + "?revoke=false")
    assert (removed.status, removed.text) == (204, "")
    assert (await service.get(path("leaving"))).problem == "not-found"
    assert (await service.ask("DELETE", path("leaving") + "?revoke=false")).problem == "not-found"
    found = (await service.get("/v1/tokens?provider=acme&after=acme%3Al&limit=500")).json["items"]
    assert "acme:leaving" not in {item["id"] for item in found}
    async with place.installation.running() as daemon:
        await daemon.event("token.removed", token="acme:leaving")
        await daemon.stop()
    listed = await place.refreshd("list", "--json")
    assert "acme:leaving" not in listed


async def test_all_tokens_of_a_subject_go_together(place: Place, service: Service):
    for account in ("one", "two"):
        await put(place, service, account, subject="group 7/é")
    subject = "/v1/subjects/group%207%2F%C3%A9/tokens"
    unrevoked = (await service.ask("DELETE", subject)).json["items"]
    assert {item["result"] for item in unrevoked} == {"no-revocation"}
    answer = await service.ask("DELETE", subject + "?revoke=false")
    assert answer.json["items"] == [
        {"id": "acme:one", "result": "removed"},
        {"id": "acme:two", "result": "removed"},
    ]
    assert answer.json["next"] is None
    assert (await service.get(subject)).json == {"items": [], "next": None}


SUBJECTS = [
    "a/b",
    "/",
    "a//b",
    "100%",
    "%2F",
    "two words",
    " ",
    "a+b",
    "a?b#c&d=e;f",
    "..",
    ".",
    "../..",
    "$where",
    "$gt",
    "*",
    "subject.name",
    "back\\slash",
    "'\"<>",
    "ann@example.com",
    "\U0001f600",
    "\u202eturned",
    "\u00e9" * 256,
    "x" * 512,
]


@pytest.mark.parametrize("subject", SUBJECTS)
async def test_a_subject_of_any_characters_names_its_own_tokens(
    place: Place, service: Service, other_tenant: str, subject: str
):
    """In the path, in the query and in the body; and for a key of another tenant it names none."""
    await put(place, service, "odd", subject=subject, meta={"tenant": "a"})
    try:
        encoded = quote(subject, safe="")
        in_path, in_query = f"/v1/subjects/{encoded}/tokens", f"/v1/tokens?subject={encoded}"
        for where in (in_path, in_query):
            found = (await service.get(where)).json["items"]
            assert [(one["id"], one["subject"]) for one in found] == [("acme:odd", subject)]
            assert (await service.get(where, key=other_tenant)).json == {"items": [], "next": None}
        for state in ("paused", "active"):
            patch = {"data": json.dumps({"state": state}), "headers": JSON}
            assert (await service.ask("PATCH", path("odd"), key=other_tenant, **patch)).problem == "not-found"
            assert (await service.ask("PATCH", path("odd"), **patch)).json["state"] == state
        removal = in_path + "?revoke=false"
        nothing = {"items": [], "next": None}
        assert (await service.ask("DELETE", removal, key=other_tenant)).json == nothing
        removed = (await service.ask("DELETE", removal)).json
        assert removed == {"items": [{"id": "acme:odd", "result": "removed"}], "next": None}
        assert (await service.ask("DELETE", removal)).json == nothing
    finally:
        await service.ask("DELETE", path("odd") + "?revoke=false")


@pytest.mark.parametrize(
    "encoded",
    ["", "%00", "a%00b", "%0A", "%7F", "%C2%85", "%FF", "%ED%A0%80", "%zz", "x" * 513, "%C3%A9" * 257],
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_text_that_can_be_no_subject_is_refused(service: Service, method: str, encoded: str):
    answer = await service.ask(
        method,
        f"/v1/subjects/{encoded}/tokens?revoke=false"
        if method == "DELETE"
        else f"/v1/subjects/{encoded}/tokens",
    )
    assert answer.problem in ("invalid-request", "not-found")
    assert not service.process.seen("internal.error")


async def test_counts_and_the_audit(place: Place, service: Service):
    await put(place, service, "counted", meta={"formula": "=1+1"})
    answer = await service.get("/v1/statistics")
    assert answer.json["providers"]["acme"]["states"]["active"] >= 1
    assert answer.json["tokens"] >= 1
    records = (await service.get("/v1/audit?token=acme%3Acounted")).json["items"]
    assert [(one["action"], one["kind"], one["by"]["name"]) for one in records] == [("add", "access", "app")]
    await service.ask("PATCH", path("counted"), data='{"subject":"ann"}', headers=JSON)
    of_token = "/v1/audit?limit=1&actor=app&token=acme%3Acounted"  # whose records no count joins in between
    table = await service.get(of_token, headers={"Accept": "text/csv"})
    following = table.headers["Link"].removeprefix("<").removesuffix('>; rel="next"')
    assert parse_qs(urlsplit(following).query)["actor"] == ["app"]
    assert table.headers["Vary"] == "Accept"
    second = (await service.get(following)).json
    assert ([one["action"] for one in second["items"]], second["next"]) == (["add"], None)
    assert (await service.get(of_token)).json["next"] is not None
    assert table.headers["Content-Type"] == "text/csv; charset=utf-8"
    names, row = csv.reader(io.StringIO(table.text))
    found = dict(zip(names, row, strict=True))
    assert (found["action"], found["token"], found["name"]) == ("update", "acme:counted", "app")
    shown = await place.refreshd("audit", "--who", "app", "--limit", "1")
    assert "by the access key app from 127.0.0.1" in shown


async def test_no_cell_of_the_audit_is_a_formula(place: Place, service: Service):
    await place.refreshd("pause", "acme:counted", "--reason", "=cmd()")
    table = await service.get("/v1/audit?token=acme%3Acounted", headers={"Accept": "text/csv"})
    assert ",'=cmd()" in table.text
    await place.refreshd("resume", "acme:counted")


async def test_uses_are_stored_and_shown(place: Place, service: Service, tmp_path: Path):
    """At the latest when the service stops."""
    await put(place, service, "used")
    key = await place.key("reader", can="read", tokens="acme:used")
    async with place.serving(key, access={"port": 0}) as other:
        for _ in range(3):
            assert (await other.get(path("used"))).status == 200
        assert (await other.get(path("new"))).problem == "not-found"
        await other.process.stop()
    shown = await place.refreshd("audit", "--json", "--who", "reader")
    counted = {
        (one["action"], one["token"], one["result"]): one["count"]
        for one in map(json.loads, shown.splitlines())
    }
    assert counted == {("read", "acme:used", None): 3, ("refused", None, "not-found"): 1}
    (listed,) = [
        one
        for one in map(json.loads, (await place.refreshd("access", "list", "--json")).splitlines())
        if one["name"] == "reader"
    ]
    assert listed["last_used_at"] is not None


@pytest.mark.parametrize(
    ("method", "where", "body", "headers", "problem"),
    [
        ("PUT", path("x"), "{}", {}, "unsupported-media-type"),
        ("PUT", path("x"), "{}", JSON, "invalid-request"),
        ("PUT", path("x"), "[", JSON, "invalid-request"),
        ("PUT", path("x"), '{"response":{}}', GRANT, "invalid-request"),
        ("PUT", path("x"), '{"response":{},"meta":5,"vars":[]}', GRANT, "invalid-request"),
        ("PUT", path("x"), '{"access_token":"a b"}', JSON, "invalid-request"),
        ("PUT", path("x"), "x" * 70_000, JSON, "too-large"),
        ("PUT", "/v1/tokens/other/x", "{}", JSON, "unknown-provider"),
        ("PUT", "/v1/token?id=acme", "{}", JSON, "not-found"),
        ("PUT", path("x") + "?fresh_for=5m", "{}", JSON, "invalid-request"),
        ("PUT", path("x") + "?id=acme%3Anew", FIRST, JSON, "invalid-request"),
        ("PUT", path("x"), FIRST, {**JSON, "If-Match": "*"}, "precondition-failed"),
        ("PATCH", path("new") + "?id=acme%3Ax", '{"subject":"x"}', JSON, "invalid-request"),
        ("PATCH", path("none"), '{"subject":"x"}', {**JSON, "If-Match": "*"}, "not-found"),
        ("DELETE", path("new") + "?revoke=false&id=acme%3Ax", None, {}, "invalid-request"),
        ("PATCH", path("new"), '{"vars":{}}', JSON, "invalid-request"),
        ("PATCH", path("new"), '{"state":"dead"}', JSON, "invalid-request"),
        ("PATCH", path("new"), '{"meta":{"a.b":"c"}}', JSON, "invalid-request"),
        ("PATCH", path("none"), '{"subject":"x"}', JSON, "not-found"),
        ("GET", "/v1/tokens?limit=0", None, {}, "invalid-request"),
        ("GET", "/v1/tokens?limit=501", None, {}, "invalid-request"),
        ("GET", "/v1/tokens?limit=5&limit=6", None, {}, "invalid-request"),
        ("GET", "/v1/tokens?where=account%3Dx", None, {}, "invalid-request"),
        ("GET", "/v1/tokens?where=subject%3Da&where=subject%3Db", None, {}, "invalid-request"),
        ("GET", "/v1/tokens?subject=", None, {}, "invalid-request"),
        ("GET", "/v1/tokens?" + "&".join(["where=subject%3Da"] * 200), None, {}, "invalid-request"),
        ("GET", "/v1/audit?after=x", None, {}, "invalid-request"),
        ("GET", "/v1/audit?after=", None, {}, "invalid-request"),
        ("GET", "/v1/audit?limit=501", None, {}, "invalid-request"),
        ("GET", "/v1/audit?token=a%00b", None, {}, "invalid-request"),
        ("GET", "/v1/audit?until=1", None, {}, "invalid-request"),
        ("DELETE", "/v1/subjects/a/tokens?limit=5", None, {}, "invalid-request"),
        ("GET", "/v1/audit?since=yesterday", None, {}, "invalid-request"),
        ("GET", "/v1/audit?since=60", None, {}, "invalid-request"),
        ("GET", "/v1/tokens?state=dead", None, {}, "invalid-request"),
        ("GET", "/v1/statistics?x=1", None, {}, "invalid-request"),
        ("GET", "/v1/subjects/%0a/tokens", None, {}, "invalid-request"),
        ("POST", "/v1/tokens", "{}", JSON, "method-not-allowed"),
    ],
)
async def test_every_bad_request_gets_a_problem_document(
    place: Place,
    service: Service,
    method: str,
    where: str,
    body: str | None,
    headers: dict[str, str],
    problem: str,
):
    answer = await service.ask(method, where, data=body, headers=headers)
    assert answer.problem == problem, answer
    assert not service.process.seen("internal.error")


async def test_a_killed_service_loses_the_counts_of_ten_seconds_and_no_deed(
    place: Place, service: Service, mongod: str
):
    """What was counted before is stored, and each write was recorded before it was done."""
    await put(place, service, "killed")
    key = await place.key("victim", tokens="acme:killed")
    with MongoClient[dict[str, Any]](mongod) as client:
        database = client[str(place.installation.tables["store"]["database"])]
        counts = database["tokens_access_use"]

        def stored() -> int:
            rows = counts.find({"by.name": "victim", "action": "read"})
            return sum(one["count"] for one in rows)

        async with place.serving(key, access={"port": 0}) as other:
            for _ in range(5):
                assert (await other.get(path("killed"))).status == 200
            async with asyncio.timeout(30):
                while stored() < 5:
                    await asyncio.sleep(0.1)
            for number in range(3):
                assert (await other.get(path("killed"))).status == 200
                patch = json.dumps({"meta": {"number": str(number)}})
                assert (await other.ask("PATCH", path("killed"), data=patch, headers=JSON)).status == 200
            await other.process.stop(signal.SIGKILL)
        assert 5 <= stored() <= 8
        assert database["tokens_audit"].count_documents({"by.name": "victim", "action": "update"}) == 3
