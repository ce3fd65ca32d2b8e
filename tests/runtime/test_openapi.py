"""The description of the access service: every route, and nothing that is none."""

import json
from unittest.mock import Mock

from daemon.runtime.access_web.admin_routes import AdminRoutes
from daemon.runtime.access_web.connect_routes import ConnectRoutes
from daemon.runtime.access_web.openapi.document import document
from daemon.runtime.access_web.route_tables import token_table, write_table
from daemon.runtime.access_web.routes import Route

BASE = "https://tokens.example.com"
DESCRIBED = document(BASE)


def routes() -> list[Route]:
    nothing = Mock()
    admin = AdminRoutes(nothing, bearer_token=None)
    return [
        *token_table(nothing, nothing, base=nothing, note=nothing),
        *write_table(nothing, nothing, note=nothing),
        *ConnectRoutes(nothing, nothing, public_url=nothing, note=nothing).table(),
        *(one for one in admin.public() if one.name != "metrics"),
    ]


def operations() -> dict[tuple[str, str], dict[str, object]]:
    paths = DESCRIBED["paths"]
    assert isinstance(paths, dict)
    return {(method.upper(), path): one for path, ways in paths.items() for method, one in ways.items()}


def test_every_route_is_described_and_nothing_else():
    assert set(operations()) == {(one.method, "/" + "/".join(one.path)) for one in routes()}


def test_what_needs_no_key_says_so():
    unguarded = {(one.method, "/" + "/".join(one.path)) for one in routes() if one.unguarded is not None}
    said = {place for place, one in operations().items() if one.get("security") == []}
    assert said == unguarded


def test_every_route_that_needs_a_key_may_answer_that_it_is_used_too_often():
    guarded = [one for one in operations().values() if one.get("security") != []]
    assert guarded
    assert all("429" in one["responses"] for one in guarded)  # type: ignore[operator]


def test_it_is_a_whole_document():
    text = json.dumps(DESCRIBED)
    for name in DESCRIBED["components"]["schemas"]:  # type: ignore[index]
        assert f"#/components/schemas/{name}" in text, name
    identities = [one["operationId"] for one in operations().values()]
    assert len(identities) == len(set(identities))
    for _, path in operations():
        named = {step[1:-1] for step in path.split("/") if step.startswith("{")}
        for one in (each for place, each in operations().items() if place[1] == path):
            parameters = one.get("parameters", [])
            assert isinstance(parameters, list)
            assert {each["name"] for each in parameters if each["in"] == "path"} == named, path
