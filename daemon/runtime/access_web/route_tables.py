"""The tables of routes for applications: one that reads tokens, and one that writes, lists and counts."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from daemon.runtime.access_web.answers import json_answer
from daemon.runtime.access_web.asked import Asked
from daemon.runtime.access_web.list_routes import ListRoutes
from daemon.runtime.access_web.openapi.document import document
from daemon.runtime.access_web.query import pairs
from daemon.runtime.access_web.routes import Answer, Route, route
from daemon.runtime.access_web.token_endpoint import TokenEndpoint, metadata
from daemon.runtime.access_web.token_routes import TokenRoutes, name_in
from daemon.runtime.access_web.write_routes import WriteRoutes
from daemon.serving.doorkeeper import Caller
from daemon.serving.problems import Problem

Note = Callable[[Caller, str | None, str], None]


def token_table(
    tokens: TokenRoutes, endpoint: TokenEndpoint, *, base: Callable[[Asked], str], note: Note
) -> list[Route]:
    """Return the routes that read tokens. `base`: the URL under which a caller reaches the service. `note` receives
    each use.
    """

    async def get(asked: Asked, caller: Caller) -> web.Response:
        return await read(asked, caller, name_in(asked.segments[2:4]))

    async def get_by_id(asked: Asked, caller: Caller) -> web.Response:
        return await read(asked, caller, id_of(asked))

    async def read(asked: Asked, caller: Caller, name: str) -> web.Response:
        answer = await tokens.get(asked, caller, name)
        note(caller, name, "read")
        return answer

    async def refused(asked: Asked, caller: Caller) -> web.Response:
        name = name_in(asked.segments[2:4])
        answer = await tokens.refused(asked, caller, name)
        note(caller, name, "refuse")
        return answer

    async def token(asked: Asked) -> web.Response:
        return await endpoint.answer(asked, asked.segments[2])

    async def described(asked: Asked) -> web.Response:
        provider = asked.segments[4]
        if not endpoint.knows(provider):
            raise Problem("unknown-provider", "No provider of this name is configured.")
        return json_answer(metadata(base(asked), provider, exchanges=endpoint.exchanges))

    async def description(asked: Asked) -> web.Response:
        return json_answer(document(base(asked)))

    return [
        route("openapi", "GET", "/openapi.json", unguarded=description),
        route("token", "GET", "/v1/tokens/{provider}/{account}", answer=get),
        route("token", "GET", "/v1/token", answer=get_by_id),
        route("refused", "POST", "/v1/tokens/{provider}/{account}/refused", answer=refused),
        route("oauth", "POST", "/v1/oauth/{provider}/token", unguarded=token),
        route(
            "metadata",
            "GET",
            "/.well-known/oauth-authorization-server/v1/oauth/{provider}",
            unguarded=described,
        ),
    ]


def write_table(writes: WriteRoutes, lists: ListRoutes, *, note: Note) -> list[Route]:
    """Return the routes that write, list and count. `note` receives each use; writes are in the audit themselves."""

    def of_one(work: Callable[[Asked, Caller, str], Awaitable[web.Response]]) -> Sequence[Answer]:
        """Return the answers for a token in the path, and for one in the query."""

        async def by_path(asked: Asked, caller: Caller) -> web.Response:
            return await done(asked, caller, name_in(asked.segments[2:4]))

        async def by_id(asked: Asked, caller: Caller) -> web.Response:
            return await done(asked, caller, id_of(asked))

        async def done(asked: Asked, caller: Caller, name: str) -> web.Response:
            answer = await work(asked, caller, name)
            note(caller, None, "write")
            return answer

        return by_path, by_id

    def listed(work: Answer) -> Answer:
        async def answered(asked: Asked, caller: Caller) -> web.Response:
            answer = await work(asked, caller)
            note(caller, None, "list")
            return answer

        return answered

    one, by_id = "/v1/tokens/{provider}/{account}", "/v1/token"
    table = []
    for name, method, work in (
        ("put", "PUT", writes.put),
        ("patch", "PATCH", writes.patch),
        ("delete", "DELETE", writes.remove),
    ):
        for path, answer in zip((one, by_id), of_one(work), strict=True):
            table.append(route(name, method, path, answer=answer))

    async def remove_all(asked: Asked, caller: Caller) -> web.Response:
        answer = await writes.remove_all(asked, caller)
        note(caller, None, "write")
        return answer

    subject = "/v1/subjects/{subject}/tokens"
    return [
        *table,
        route("tokens", "GET", "/v1/tokens", answer=listed(lists.tokens)),
        route("subject", "GET", subject, answer=listed(lists.of_subject)),
        route("delete_subject", "DELETE", subject, answer=remove_all),
        route("statistics", "GET", "/v1/statistics", answer=listed(lists.statistics)),
        route("audit", "GET", "/v1/audit", answer=listed(lists.audit)),
    ]


def id_of(asked: Asked) -> str:
    """Return the token id in `?id=`. Raises Problem."""
    name = pairs(asked.request.rel_url.raw_query_string, "query").get("id", "")
    provider, _, account = name.partition(":")
    return name_in((provider, account))
