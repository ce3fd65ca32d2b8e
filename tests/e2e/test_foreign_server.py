"""The daemon against django-oauth-toolkit, an OAuth 2.0 server that nobody here wrote.

It rotates, has no grace, and ends a whole family of refresh tokens when one of them is presented twice: a single
token lost, mixed up or sent again would show. For a longer life than the test's own:

    FOREIGN_LIFETIME=60 FOREIGN_GENERATIONS=3 python -m pytest tests/e2e/test_foreign_server.py -m slow -s
"""

import asyncio
import json
import os
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from pymongo import MongoClient

from tests.e2e.daemon_process import DaemonProcess, Install, Installation
from tests.e2e.oauth_server.foreign_server import ForeignServer, StartServer, digest
from tests.support import wall_clock

LIFETIME = timedelta(seconds=int(os.environ.get("FOREIGN_LIFETIME", "10")))
GENERATIONS = int(os.environ.get("FOREIGN_GENERATIONS", "5"))
PEOPLE = 50
BY_COMMAND = 10  # a command takes a second of one core; the others are written as an application would
AT_ONCE = 2
LATE = 0.05  # so many renewals may come after the old token's end: the machine is shared, the lead is three seconds

Documents = list[dict[str, Any]]


def _person(index: int) -> str:
    return f"person-{index}"


async def _add(place: Installation, server: ForeignServer, index: int) -> None:
    """As an operator does: the server's token response into the command."""
    response = json.dumps(await server.consent(index))
    done = await place.refreshd("add", "foreign", _person(index), stdin=response)
    assert done.code == 0, done
    assert f"foreign:{_person(index)}" in done.stdout


async def _write(place: Installation, server: ForeignServer, tokens: Any, index: int) -> None:
    """As the contract lets an application do: a document of its own, sealed with the same key."""
    response = await server.consent(index)
    name = f"foreign:{_person(index)}"
    expires_at = wall_clock.now() + timedelta(seconds=response["expires_in"])
    document = {
        "_id": name,
        "provider": "foreign",
        "account": _person(index),
        "state": "active",
        **{
            field: place.keyring.seal(response[field], token_id=name, field=field)
            for field in ("access_token", "refresh_token")
        },
        "expires_at": expires_at,
        "due_at": expires_at - timedelta(minutes=5),
    }
    await asyncio.to_thread(tokens.insert_one, document)


async def _hand_over(place: Installation, server: ForeignServer, tokens: Any) -> None:
    """All consents, each handed over as soon as it is given: its life is short."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(index: int) -> None:
        async with gate:
            if index < BY_COMMAND:
                await _add(place, server, index)
            else:
                await _write(place, server, tokens, index)

    await asyncio.gather(*map(one, range(PEOPLE)))


async def _generations(daemon: DaemonProcess) -> None:
    """Wait until every token was renewed often enough."""
    limit = (GENERATIONS + 5) * LIFETIME
    names = [f"foreign:{_person(index)}" for index in range(PEOPLE)]
    await asyncio.gather(
        *(daemon.event("token.renewed", count=GENERATIONS, within=limit, token=name) for name in names)
    )


def _stored(place: Installation, documents: Documents) -> dict[str, str]:
    """The refresh tokens that are stored, by person."""
    return {
        document["account"]: place.keyring.open(
            document["refresh_token"], token_id=document["_id"], field="refresh_token"
        )
        for document in documents
    }


@pytest.mark.slow
async def test_fifty_tokens_stay_alive_for_generations_and_not_one_request_is_refused(
    install: Install, foreign_server: StartServer, mongod: str, database_name: str
) -> None:
    """Both ledgers, the server's and ours, tell the same story, and what is stored at the end still works."""
    server = await foreign_server(lifetime=LIFETIME, consents=PEOPLE)
    place = install({"foreign": server.provider})
    with MongoClient[dict[str, Any]](mongod) as client:
        tokens = client[database_name]["tokens"]
        async with place.running() as daemon:
            await daemon.ready()
            await _hand_over(place, server, tokens)
            await _generations(daemon)
            assert await daemon.stop() == 0, daemon.logs
        documents = list(tokens.find())

    renewed = daemon.seen("token.renewed")
    complaints = [line for line in daemon.lines if line["level"] in ("warning", "error")]
    late = [line["lead_s"] for line in renewed if line["lead_s"] is not None and line["lead_s"] < 0]
    print(f"\n{len(renewed)} renewals, {dict(server.answers())}, {len(late)} late: {sorted(late)}")
    assert complaints == []
    assert server.answers() == Counter({(200, None): len(renewed)})
    assert len(late) <= LATE * len(renewed)
    assert all(line["rotated"] for line in renewed)

    stored = _stored(place, documents)
    families = server.families()
    assert {document["state"] for document in documents} == {"active"}
    assert stored.keys() == families.keys() == {_person(index) for index in range(PEOPLE)}
    for person, family in families.items():
        assert family.issued > GENERATIONS
        assert family.issued == 1 + len(daemon.seen("token.renewed", token=f"foreign:{person}"))
        assert family.working == {digest(stored[person])}
        status, reply = await server.refresh(stored[person])
        assert status == 200, (person, reply)
        assert reply["refresh_token"] != stored[person]


async def test_a_refresh_token_that_was_spent_elsewhere_needs_its_owner_and_disturbs_nobody(
    install: Install, foreign_server: StartServer, mongod: str, database_name: str
) -> None:
    """The strictness is real: one value presented by somebody else ends its family, and the daemon says whose it is."""
    server = await foreign_server(lifetime=timedelta(seconds=6), consents=2)
    place = install({"foreign": server.provider})
    stolen, kept = f"foreign:{_person(0)}", f"foreign:{_person(1)}"
    with MongoClient[dict[str, Any]](mongod) as client:
        tokens = client[database_name]["tokens"]
        await _write(place, server, tokens, 0)
        await _write(place, server, tokens, 1)
        status, _ = await server.refresh(_stored(place, list(tokens.find()))[_person(0)])
        assert status == 200
        async with place.running() as daemon:
            verdict = await daemon.event("token.needs_reauth", token=stolen)
            await daemon.event("token.renewed", token=kept, count=2)
            assert await daemon.stop() == 0
        states = {document["_id"]: document["state"] for document in tokens.find()}

    assert (verdict["kind"], verdict["code"]) == ("rejected", "invalid_grant")
    assert states == {stolen: "needs_reauth", kept: "active"}
    assert server.answers()[400, "invalid_grant"] == 1
    families = server.families()
    assert families[_person(0)].working == frozenset()
    assert len(families[_person(1)].working) == 1


async def test_revocations_beside_renewals_leave_no_refresh_token_alive(
    install: Install, foreign_server: StartServer, mongod: str, database_name: str
) -> None:
    """By RFC 7009, while each token is renewed every few seconds. A neighbour's grant lives on."""
    people = 6
    server = await foreign_server(lifetime=timedelta(seconds=4), consents=people)
    provider = {**server.provider, "revoke_url": server.token_url.replace("/token/", "/revoke_token/")}
    place = install({"foreign": provider})
    leaving = [f"foreign:{_person(index)}" for index in range(people - 1)]
    with MongoClient[dict[str, Any]](mongod) as client:
        tokens = client[database_name]["tokens"]
        for index in range(people):
            await _write(place, server, tokens, index)
        async with place.running() as daemon:
            await asyncio.gather(*(daemon.event("token.renewed", token=name) for name in leaving))
            done = await place.refreshd("revoke", *leaving, "--yes", "--wait", "--json")
            assert done.code == 0, done
            await daemon.event("token.renewed", token=f"foreign:{_person(people - 1)}", count=2)
            assert await daemon.stop() == 0, daemon.logs
        states = {document["_id"]: document["state"] for document in tokens.find()}
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert results == [{"id": name, "result": "revoked"} for name in leaving]
    assert states == {**dict.fromkeys(leaving, "revoked"), f"foreign:{_person(people - 1)}": "active"}
    families = server.families()
    assert [families[_person(index)].working for index in range(people - 1)] == [frozenset()] * (people - 1)
    assert len(families[_person(people - 1)].working) == 1
