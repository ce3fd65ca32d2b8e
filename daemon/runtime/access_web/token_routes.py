"""The routes of one token: read it, and report that the provider refuses it."""

from collections.abc import Sequence
from datetime import timedelta

from aiohttp import web

from daemon.domain.token import token_id
from daemon.runtime.access_web.answers import json_answer, seconds, token_answer, token_headers
from daemon.runtime.access_web.asked import Asked
from daemon.runtime.access_web.query import span
from daemon.serving.doorkeeper import Caller
from daemon.serving.ports import Clock
from daemon.serving.problems import Invalid, not_found
from daemon.serving.reading import Accepted, Reading, Wanted

LONGEST_SCOPE = 4096  # characters
LONGEST_VERSION = 64


class TokenRoutes:
    """`max_wait`: the longest wait for a renewal."""

    def __init__(self, reading: Reading, clock: Clock, *, max_wait: timedelta) -> None:
        self._reading = reading
        self._clock = clock
        self._max_wait = max_wait

    async def get(self, asked: Asked, caller: Caller, name: str) -> web.Response:
        """`GET /v1/tokens/{provider}/{account}` and `GET /v1/token?id=`."""
        query = asked.query(("fresh_for", "scope", *asked.by_id))
        wanted = Wanted(
            fresh_for=query.read("fresh_for", span("fresh_for"), None),
            scope=query.read("scope", _scope, frozenset[str]()),
            wait=asked.wait(self._max_wait),
        )
        query.check()
        served = await self._reading.read(caller, name, wanted)
        answer = token_answer(served, self._clock.now())
        if served.token.version and _names(
            asked.request.headers.getall("If-None-Match", []), served.token.version
        ):
            return web.Response(status=304, headers=token_headers(served))
        return answer

    async def refused(self, asked: Asked, caller: Caller, name: str) -> web.Response:
        """`POST .../refused`."""
        asked.query().check()
        body = await asked.json("application/json")
        faults = [("body", "has an unknown member")] if body.keys() - {"version"} else []
        version = body.get("version")
        if not isinstance(version, str) or not 0 < len(version) <= LONGEST_VERSION:
            faults.append(("version", "must be the version of the refused access token"))
            version = ""
        if faults:
            raise Invalid(*faults)
        done = await self._reading.refused(caller, name, version, asked.wait(self._max_wait))
        if isinstance(done, Accepted):
            wait = seconds(done.retry_after)
            return json_answer(
                {"id": name, "version": version}, status=202, headers={"Retry-After": str(wait)}
            )
        return token_answer(done, self._clock.now())


def name_in(segments: Sequence[str]) -> str:
    """Return the token id in a path's provider and account. Raises Problem."""
    provider, account = segments
    try:
        return token_id(provider, account)
    except ValueError:
        raise not_found() from None


def _scope(text: str) -> frozenset[str]:
    if len(text) > LONGEST_SCOPE:
        raise Invalid(("query scope", "is too long"))
    return frozenset(text.split())


def _names(headers: Sequence[str], version: str) -> bool:
    """Return whether `If-None-Match` names this version."""
    tags = [tag.strip().removeprefix("W/") for tag in ",".join(headers).split(",")]
    return f'"{version}"' in tags or tags == ["*"]
