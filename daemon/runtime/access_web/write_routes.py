"""The routes by which applications write: store a grant, change fields, pause, resume and remove."""

from aiohttp import web

from daemon.domain.access_key import Verb
from daemon.domain.stored_grant import REVOKING
from daemon.runtime.access_web.answers import item_of, json_answer
from daemon.runtime.access_web.asked import Asked
from daemon.serving.doorkeeper import Caller
from daemon.serving.grant_request import Offer, read_offer, read_patch, read_subject
from daemon.serving.listing import Listing
from daemon.serving.ports import Clock
from daemon.serving.preconditions import Preconditions, read_preconditions
from daemon.serving.problems import Invalid
from daemon.serving.writing import Stored, Writing

JSON, MERGE_PATCH = "application/json", "application/merge-patch+json"
GRANT = "application/vnd.refreshd.grant+json"
CREATED, ACCEPTED = 201, 202


class WriteRoutes:
    def __init__(self, writing: Writing, listing: Listing, clock: Clock) -> None:
        self._writing = writing
        self._listing = listing
        self._clock = clock

    async def put(self, asked: Asked, caller: Caller, name: str) -> web.Response:
        """`PUT`: the provider's token response as it came, or with what is known of it beside."""
        asked.query(asked.by_id).check()
        self._writing.require(caller, Verb.WRITE, name)
        body = await asked.json(JSON, GRANT)
        whole = asked.content_type() == GRANT
        offer = read_offer(body) if whole else Offer(response=body)
        stored = await self._writing.put(caller, name, offer, _conditions(asked))
        return _answer(stored, status=CREATED if stored.created else 200)

    async def patch(self, asked: Asked, caller: Caller, name: str) -> web.Response:
        """`PATCH`: a JSON merge patch (RFC 7396) of meta and subject, or another state."""
        asked.query(asked.by_id).check()
        patch = read_patch(await asked.json(JSON, MERGE_PATCH))
        return _answer(await self._writing.patch(caller, name, patch, _conditions(asked)))

    async def remove(self, asked: Asked, caller: Caller, name: str) -> web.Response:
        """`DELETE`: the daemon revokes the grant. With `?revoke=false`, it stays valid at the provider."""
        query = asked.query((*asked.by_id, "revoke"))
        revoke = query.read("revoke", _revokes, True)
        query.check()
        await self._writing.remove(caller, name, revoke=revoke, conditions=_conditions(asked))
        return (
            json_answer({"id": name, "state": REVOKING}, status=ACCEPTED)
            if revoke
            else web.Response(status=204)
        )

    async def remove_all(self, asked: Asked, caller: Caller) -> web.Response:
        """`DELETE /v1/subjects/{subject}/tokens`."""
        query = asked.query(("revoke", "after"))
        revoke = query.read("revoke", _revokes, True)
        subject = query.part(lambda: read_subject(asked.segments[2]), "")
        query.check()
        page = await self._listing.remove_all(caller, subject, revoke=revoke, after=query.given.get("after"))
        items = [{"id": one.id, "result": one.result} for one in page.items]
        return json_answer({"items": items, "next": page.next})


def _answer(stored: Stored, *, status: int = 200) -> web.Response:
    version = stored.token.version
    headers = {"ETag": f'"{version}"'} if version else {}
    return json_answer(item_of(stored.token) | {"version": version}, status=status, headers=headers)


def _conditions(asked: Asked) -> Preconditions:
    headers = asked.request.headers
    return read_preconditions(headers.getall("If-Match", []), headers.getall("If-None-Match", []))


def _revokes(given: str) -> bool:
    if given not in ("true", "false"):
        raise Invalid(("query revoke", "must be true or false"))
    return given == "true"
