"""The one place where a request becomes an answer: its route, its caller, and problems."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from daemon.domain.claim import StoreLost
from daemon.runtime.access_web.answers import problem_answer
from daemon.runtime.access_web.asked import Asked
from daemon.serving.doorkeeper import Caller, Doorkeeper
from daemon.serving.problems import Problem
from daemon.serving.reading import SOON

Answer = Callable[[Asked, Caller], Awaitable[web.Response]]
Open = Callable[[Asked], Awaitable[web.Response]]
Observe = Callable[[str, int, float], None]


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
