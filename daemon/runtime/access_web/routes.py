"""The table of routes, and the one place where a request becomes an answer."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from daemon.domain.claim import StoreLost
from daemon.runtime.access_web.answers import json_answer, problem_answer
from daemon.runtime.access_web.asked import Asked, pairs
from daemon.runtime.access_web.list_routes import ListRoutes
from daemon.runtime.access_web.openapi.document import document
from daemon.runtime.access_web.token_endpoint import TokenEndpoint, metadata
from daemon.runtime.access_web.token_routes import TokenRoutes, name_in
from daemon.runtime.access_web.write_routes import WriteRoutes
from daemon.serving.doorkeeper import Caller, Doorkeeper
from daemon.serving.problems import Problem
from daemon.serving.reading import SOON

Answer = Callable[[Asked, Caller], Awaitable[web.Response]]
Open = Callable[[Asked], Awaitable[web.Response]]
Observe = Callable[[str, int, float], None]
Note = Callable[[Caller, str | None, str], None]


@dataclass(frozen=True, slots=True)
class Route:
    """`path`: its segments, of which `{…}` matches any. `answer` needs an access key, `unguarded` needs none."""

    name: str
    method: str
    path: tuple[str, ...]
    answer: Answer | None = None
    unguarded: Open | None = None


def route(
    name: str, method: str, path: str, *, answer: Answer | None = None, unguarded: Open | None = None
) -> Route:
    return Route(name, method, tuple(path.removeprefix("/").split("/")), answer, unguarded)


class Routes:
    """Answers requests. `observe` receives the route's name, the status and the seconds."""

    def __init__(
        self,
        routes: Sequence[Route],
        doorkeeper: Doorkeeper,
        *,
        observe: Observe,
        refused: Callable[[str, Caller | None], None],
        failed: Callable[[str, Exception], None],
    ) -> None:
        """`refused` receives the name of each problem and its caller, `failed` unexpected exceptions."""
        self._routes: dict[tuple[object, ...], list[tuple[tuple[str, ...], dict[str, Route]]]] = {}
        for one in routes:
            self._add(one)
        self._doorkeeper = doorkeeper
        self._observe = observe
        self._refused = refused
        self._failed = failed

    async def __call__(self, asked: Asked) -> web.Response:
        """Return the answer, whatever happens."""
        began = time.perf_counter()
        name, caller = "unknown", None
        try:
            found = self._found(asked)
            name = found.name
            if found.unguarded is not None:
                answer = await found.unguarded(asked)
            else:
                caller = await self._doorkeeper.admit(asked.access_key(), asked.address, asked.peer)
                assert found.answer is not None  # noqa: S101  a route has one of the two
                answer = await found.answer(asked, caller)
        except Problem as problem:
            self._refused(problem.name, caller)
            answer = problem_answer(problem)
        except StoreLost:
            answer = problem_answer(Problem("unavailable", "MongoDB does not answer.", retry_after=SOON))
        except Exception as error:  # noqa: BLE001  a caller sees nothing of it, the operator all
            self._failed("access", error)
            answer = problem_answer(
                Problem("internal", "A bug in refreshd prevented an answer. Its log has internal.error.")
            )
        self._observe(name, answer.status, time.perf_counter() - began)
        return answer

    def _add(self, one: Route) -> None:
        paths = self._routes.setdefault(_beginning(one.path), [])
        for path, methods in paths:
            if path == one.path:
                methods[one.method] = one
                return
        paths.append((one.path, {one.method: one}))

    def _found(self, asked: Asked) -> Route:
        method = "GET" if asked.request.method == "HEAD" else asked.request.method
        allow: set[str] = set()
        named = _beginning(asked.segments)
        unnamed = (*named[:2], None)
        for path, methods in [*self._routes.get(named, []), *self._routes.get(unnamed, [])]:
            if _fits(path, asked.segments):
                if (one := methods.get(method)) is not None:
                    return one
                allow.update(methods)
        if not allow:
            raise Problem("not-found", "There is no resource at this path.")
        raise Problem("method-not-allowed", f"Use {', '.join(sorted(allow))}.", allow=sorted(allow))


def _beginning(path: Sequence[str]) -> tuple[object, ...]:
    """Return what distinguishes most paths: the number of segments and the first two. A placeholder counts as None."""
    return (len(path), *(None if step.startswith("{") else step for step in path[:2]))


def _fits(path: Sequence[str], segments: Sequence[str]) -> bool:
    for step, segment in zip(path, segments, strict=True):
        if step != segment and (step[0] != "{" or not segment):
            return False
    return True


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
