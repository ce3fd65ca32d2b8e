"""An anomaly that the access service finds reaches the receiver of a hook: over the outbox, by the daemon."""

from pathlib import Path
from typing import Any

from pymongo import MongoClient

from tests.e2e.service import placed
from tests.e2e.test_hooks import OLD, hook, secret, signed_with, until
from tests.support.receiver import Receiver

TOO_MANY = 15  # requests without a valid key from one address; twenty would be too many of all requests, another anomaly
# An access service has no secret of a hook. It needs the names and the filters.
ROUTES = """
[[hooks]]
name = "security"
url = "https://security.example.com/"
events = ["anomaly.*"]

[[hooks]]
name = "crm"
url = "https://crm.example.com/"
events = ["token.*"]

[[hooks]]
name = "acme-only"
events = ["anomaly.*"]
providers = ["acme"]
"""


async def test_an_anomaly_at_the_access_service_reaches_the_receiver_of_its_hook(
    mongod: str, tmp_path: Path
) -> None:
    """Only of the hook that asks for anomalies of all providers; once, however often it is counted; with the address."""
    with Receiver() as receiver, Receiver() as other:
        async with placed(mongod, tmp_path / "place") as place:
            daemon_place = place.installation
            key = await place.key()
            with daemon_place.config.open("a") as config:
                config.write(hook("security", receiver.url, secret(OLD), 'events = ["anomaly.*"]'))
                config.write(hook("crm", other.url, secret(OLD), 'events = ["token.*"]'))
            async with daemon_place.running() as daemon, place.serving(key, more=ROUTES) as service:
                await daemon.ready()
                for _ in range(TOO_MANY):
                    refused = await service.get("/v1/tokens/acme/a", key="rfk_wrong")
                    assert refused.status in {401, 429}
                line = await service.process.event("anomaly.detected", kind="auth_failures")
                await until(lambda: len(receiver.requests) == 1)
                [headers, body] = receiver.requests[0]
                assert signed_with(headers, body) == {OLD}
                [event] = receiver.bodies
                assert event["type"] == "anomaly.detected"
                assert (event["data"]["kind"], event["data"]["code"]) == ("auth_failures", "127.0.0.1")
                assert line["level"] == "warning"
                assert await service.process.stop() == 0  # what it has noted by then is stored
                assert {one["hook"] for one in outbox(mongod, daemon_place.tables["store"])} == {"security"}
                assert await daemon.stop() == 0
    assert (len(receiver.requests), other.requests) == (1, [])


def outbox(uri: str, store: Any) -> list[dict[str, Any]]:
    with MongoClient[dict[str, Any]](uri) as client:
        return list(client[store["database"]]["tokens_outbox"].find())
