"""The shipped dashboard: its expressions are PromQL, ask for what there is, and bring something to look at."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from pymongo import AsyncMongoClient

from daemon.sandbox import Sandbox, SandboxOptions
from tests.e2e.daemon_process import Installation
from tests.operations.exposition import exposed, exposition
from tests.operations.expressions import metrics_in
from tests.operations.monitoring import HOST, Prometheus, rules, shipped
from tests.support import wall_clock
from tests.support.ports import free_port

pytestmark = pytest.mark.operations

FILE = Path(__file__).parents[2] / "deploy" / "grafana" / "refreshd.json"
DASHBOARD = json.loads(FILE.read_text())
OF_PROMETHEUS = {"up", "ALERTS"}
HOOK = f"""
[[hooks]]
name = "crm"
url = "http://{HOST}:1/"
secret = "whsec_{"c2VjcmV0" * 4}"
allow_private = true
"""
ISSUER = f"""
[[access.issuers]]
name = "ci"
issuer = "https://{HOST}:1"
jwks = "https://{HOST}:1/keys"
allow_private = true
audience = "https://tokens.example.com"
claims = {{ sub = "build" }}
tokens = ["sandbox:*"]
"""
VARIABLES = {"$job": "refreshd.*", "$provider": ".*", "$__range": "1h"}  # as Grafana fills them in for "All"


def expressions() -> Iterator[str]:
    """All that the dashboard asks Prometheus, variables filled in."""
    asked = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    for text in [*asked, *(one["expr"] for one in DASHBOARD["annotations"]["list"])]:
        filled = text
        for name, value in VARIABLES.items():
            filled = filled.replace(name, value)
        yield filled


def selectors() -> Iterator[str]:
    """What the choices at its top are read from: the series inside label_values(series, label)."""
    for one in DASHBOARD["templating"]["list"]:
        if one["type"] == "query":
            inside = one["query"]["query"].removeprefix("label_values(").removesuffix(")")
            yield inside.rpartition(",")[0].replace("$job", VARIABLES["$job"])


def asked() -> set[str]:
    return {name for text in [*expressions(), *selectors()] for name in metrics_in(text)}


def test_every_expression_is_promql_and_every_variable_is_filled_in():
    """A parser that is not Prometheus' own reads each of them."""
    for text in [*expressions(), *selectors()]:
        assert "$" not in text
        assert metrics_in(text)


def test_it_is_laid_out_without_gaps_or_overlaps():
    """Grafana moves what overlaps; each panel has a place of its own, a title, and says what it shows."""
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        assert panel["type"] == "row" or panel["description"]
        taken |= cells
    assert len(taken) == 24 * (1 + max(y for _, y in taken))
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_every_recording_rule_is_used():
    """Nothing is reckoned that nobody looks at."""
    assert {rule["record"] for rule in rules(shipped("recording.yml"))} <= asked()


async def test_each_expression_brings_something_from_a_live_prometheus(
    mongod: str, database_name: str, tmp_path: Path, prometheus: str
):
    """Every metric is there on a running daemon; and of what is not only for bad times, each brings at least one series."""
    port, access = free_port(), free_port()
    targets = [f"{HOST}:{port}", f"{HOST}:{access}"]
    watch = Prometheus(prometheus, tmp_path / "prometheus", targets=targets)
    async with Sandbox(SandboxOptions(refresh_lifetime=timedelta(days=30))) as sandbox:
        place = Installation(
            tmp_path / "place",
            uri=mongod,
            database=database_name,
            providers={
                "sandbox": {
                    "token_url": sandbox.token_url,
                    "client_id": sandbox.client_id,
                    "client_secret": sandbox.client_secret,
                    "client_auth": "basic",
                    "confirm_after": "0s",
                }
            },
            server={"port": port},
            access={"port": 0, "admin_port": access},
        )
        place.config.write_text(place.config.read_text() + HOOK + ISSUER)
        await fill(mongod, database_name, place, sandbox)
        async with place.running() as daemon, place.serving() as service, watch.running():
            url = await daemon.ready()
            await service.url()
            await daemon.event("token.renewed")
            recorded = {rule["record"] for rule in rules(shipped("recording.yml"))}
            while "refreshd_outbox_events" not in (there := exposed(await exposition(url))):
                await asyncio.sleep(0.05)  # it is counted soon after the start
            private = f"http://{HOST}:{access}/metrics"
            async with aiohttp.ClientSession() as session, session.get(private) as answer:
                there |= exposed(await answer.text())
            assert asked() - there == OF_PROMETHEUS | recorded
            quiet = {text for text in expressions() if text.endswith("> 0")}
            await asyncio.gather(*(watch.until(text) for text in {*expressions(), *selectors()} - quiet))
            for text in quiet:
                await watch.ask(text)


async def fill(mongod: str, database: str, place: Installation, sandbox: Sandbox) -> None:
    """One token, due now, whose refresh token has an end."""
    [consent] = sandbox.consent()
    now = wall_clock.now()
    document: dict[str, Any] = {
        "_id": "sandbox:one",
        "provider": "sandbox",
        "account": "one",
        "state": "active",
        "issued_at": now,
        "expires_at": now + timedelta(minutes=1),
        "due_at": now,
        "revision": 1,
    }
    for field in ("access_token", "refresh_token"):
        document[field] = place.keyring.seal(str(consent[field]), token_id="sandbox:one", field=field)
    async with AsyncMongoClient(mongod) as client:
        await client[database]["tokens"].insert_one(document)
