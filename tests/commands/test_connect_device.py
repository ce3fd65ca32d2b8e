"""`refreshd connect --device`: here the test plays the provider's device endpoint, the daemon and the operator."""

import json
from datetime import UTC, timedelta
from functools import partial
from typing import Any

import pytest

from daemon.commands import connect
from daemon.commands.support import code_handover
from daemon.domain.secret import Secret
from daemon.domain.session_proof import bound_code, proof_in, proves
from tests.commands.canned_endpoint import Endpoint
from tests.commands.test_connect import DONE, Scene
from tests.support import wall_clock
from tests.support.waiting import NO_TIME

ANSWER = {
    "device_code": "device-4711",
    "user_code": "WDJB-MJHT",
    "verification_uri": "https://login.xero.test/device",
    "verification_uri_complete": "https://login.xero.test/device?c=WDJB-MJHT",
    "expires_in": 1800,
    "interval": 7,
}


@pytest.fixture
def provider(endpoint: Endpoint) -> Endpoint:
    endpoint.body = json.dumps(ANSWER).encode()
    return endpoint


@pytest.fixture
def scene(cli: Any, database: Any, monkeypatch: pytest.MonkeyPatch, provider: Endpoint) -> Scene:
    found = Scene(cli, database, monkeypatch)
    found.configure(f'device_url = "{provider.url}"', 'scopes = ["accounting"]')
    found.cli.add("xero:7")
    return found


def stored(scene: Scene) -> dict[str, Any]:
    """Play the daemon, which stores the grant. Returns the request."""
    return scene.daemon(**DONE)


def held(
    scene: Scene, account: str | None = "T1", *, life: timedelta = timedelta(minutes=10)
) -> dict[str, Any]:
    """Play the daemon, which holds the grant until the operator has answered. Returns the request."""
    waiting = scene.request()
    fields = {
        "state": "asked",
        "provider_account": account,
        "held_until": wall_clock.now() + life,
        "grant": "sealed",
        "code": None,
    }
    scene.database.tokens_consents.update_one({"_id": waiting["_id"]}, {"$set": fields})
    return waiting


def held_then(scene: Scene, *, account: str | None = "T1") -> dict[str, Any]:
    """Play the daemon, which stores the grant once it is completed. Returns the completed request."""
    waiting = held(scene, account)
    limit = wall_clock.now() + timedelta(seconds=10)
    while not (found := scene.database.tokens_consents.find_one({"proof": {"$type": "string"}})):
        assert wall_clock.now() < limit
    scene.database.tokens_consents.update_one({"_id": waiting["_id"]}, {"$set": {"state": "done", **DONE}})
    return {**waiting, "proof": found["proof"]}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input counts as a terminal."""
    monkeypatch.setattr(connect, "confirmation", lambda *, yes: None if yes else bool)


def test_an_owner_enters_a_code_and_the_daemon_polls(scene: Scene, provider: Endpoint) -> None:
    """The command asks for the code and hands it over, sealed."""
    asked: dict[str, Any] = {}
    ran = scene.run(
        "--device", "--yes", "--json", "--subject", "u1", meanwhile=lambda: asked.update(stored(scene))
    )
    assert ran.code == 0, ran
    assert ran.json()["id"] == "xero:7"
    ((client, form),) = provider.asked
    assert client.startswith("Basic ")
    assert form == {"client_id": ["client"], "scope": ["accounting"]}
    for shown in ("xero:7", "WDJB-MJHT", "https://login.xero.test/device", "30 min", "owner only"):
        assert shown in ran.err
    assert (asked["kind"], asked["interval"], asked["redirect_uri"], asked["subject"]) == (
        "device",
        7,
        "",
        "u1",
    )
    assert asked["nonce"] is asked["code_verifier"] is None
    assert scene.cli.ring.open(asked["code"], token_id=asked["_id"], field="code") == "device-4711"
    assert "4711" not in ran.out + ran.err + str(asked)
    left = asked["expires_at"].replace(tzinfo=UTC) - wall_clock.now()
    assert timedelta(minutes=25) < left <= timedelta(minutes=31)
    assert scene.database.tokens_audit.find_one({"action": "connect"})["token"] == "xero:7"


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("answer", ["y\n", " Yes \n"])
def test_the_operator_is_asked_for_the_account_before_it_is_stored(scene: Scene, answer: str) -> None:
    """By the provider's name for it. The daemon gets a sealed proof of the answer."""
    seen: dict[str, Any] = {}
    ran = scene.run("--device", meanwhile=lambda: seen.update(held_then(scene)), stdin=answer)
    assert ran.code == 0, ran
    assert (
        "xero names the account of xero:7: T1. Is that the account that you want to connect? [y/N]" in ran.err
    )
    code = bound_code(Secret(scene.cli.ring.open(seen["code"], token_id=seen["_id"], field="code")))
    proof = proof_in(Secret(scene.cli.ring.open(seen["proof"], token_id=seen["_id"], field="code")))
    assert code.code == Secret("device-4711")
    assert proves(proof, connect_code_hash=code.connect_code_hash, challenge=seen["code_challenge"])


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("answer", ["n\n", "\n", "maybe\n", ""])
def test_a_wrong_account_is_not_stored(scene: Scene, answer: str) -> None:
    """An answer other than yes counts as no. The stored token stays, and a daemon gives the new grant up now."""
    scene.configure(
        f'device_url = "{provider_url(scene)}"', 'manage_url = "https://apps.xero.test/connected"'
    )
    before = scene.database.tokens.find_one({"_id": "xero:7"})
    ran = scene.run("--device", meanwhile=lambda: held(scene, None) and None, stdin=answer)
    assert ran.code == 1
    assert "nothing was stored" in ran.err
    assert "https://apps.xero.test/connected" in ran.err
    assert "doesn't name the account" in ran.err
    assert scene.database.tokens.find_one({"_id": "xero:7"}) == before
    found = scene.database.tokens_consents.find_one({})
    assert (found["grant"], found.get("proof"), found["connect_code_hash"]) == ("sealed", None, None)
    assert found["grant_due_at"].replace(tzinfo=UTC) <= wall_clock.now()


@pytest.mark.usefixtures("terminal")
def test_an_answer_that_comes_too_late_stores_nothing(scene: Scene) -> None:
    """A daemon has given the grant up."""
    ran = scene.run("--device", meanwhile=lambda: held(scene, life=NO_TIME) and None, stdin="y\n")
    assert ran.code == 1
    assert "too late" in ran.err


def provider_url(scene: Scene) -> str:
    """The device endpoint that is configured."""
    (line,) = [one for one in scene.cli.config.read_text().splitlines() if one.startswith("device_url")]
    return str(line.partition(" = ")[2].strip('"'))


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"error": "invalid_client"}, "invalid_client"),
        (400, {"error": "unauthorized_client"}, "device flow"),
        (200, {**ANSWER, "verification_uri": "javascript:alert(1)"}, "https"),
        (200, {**ANSWER, "user_code": "\u001b[2J"}, "user code"),
        (200, {}, "no device code"),
    ],
)
def test_without_a_device_code_nothing_is_stored(
    scene: Scene, provider: Endpoint, status: int, body: object, words: str
) -> None:
    """The provider's words are shown, and none of its control characters."""
    provider.status, provider.body = status, json.dumps(body).encode()
    ran = scene.run("--device", "--yes")
    assert ran.code == 1
    assert words in ran.err
    assert "\x1b" not in ran.err
    assert scene.database.tokens_consents.count_documents({}) == 0


def test_a_provider_that_is_away_is_unavailable(scene: Scene, provider: Endpoint) -> None:
    """69, as where a daemon finds it away."""
    scene.configure('device_url = "http://127.0.0.1:1/device"')
    ran = scene.run("--device", "--yes")
    assert ran.code == 69
    assert scene.database.tokens_consents.count_documents({}) == 0
    assert not provider.asked


@pytest.mark.parametrize(
    ("kind", "words"), [("denied", "the owner has refused"), ("expired", "no answer in time")]
)
def test_an_owner_who_refuses_or_is_late_is_a_failure(scene: Scene, kind: str, words: str) -> None:
    """In the daemon's words."""
    failure = {"kind": kind, "code": kind, "message": words}
    ran = scene.run(
        "--device", "--yes", meanwhile=lambda: scene.daemon(state="failed", failure=failure) and None
    )
    assert ran.code == 1
    assert words in ran.err


def test_without_a_daemon_the_code_is_withdrawn(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """So no daemon polls for it later."""
    short = partial(code_handover.follow_device, taken_within=timedelta(milliseconds=300))
    monkeypatch.setattr(connect, "follow_device", short)
    ran = scene.run("--device", "--yes")
    assert ran.code == 69
    assert "no daemon" in ran.err
    found = scene.database.tokens_consents.find_one({})
    assert (found["state"], found["code"]) == ("failed", None)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--device",), 2, "--yes"),  # standard input is no terminal
        (("--device", "--paste", "--yes"), 2, "exclude"),
        (("--device", "--yes", "--scope", "two words"), 2, "scope"),
    ],
)
def test_a_wrong_combination_is_explained(
    scene: Scene, provider: Endpoint, options: tuple[str, ...], code: int, words: str
) -> None:
    """Before the provider is asked."""
    ran = scene.run(*options)
    assert ran.code == code
    assert words in ran.err
    assert not provider.asked


def test_a_provider_without_a_device_flow_is_named(scene: Scene) -> None:
    """With the way that it has."""
    scene.configure('authorize_url = "https://login.xero.test/authorize"')
    ran = scene.run("--device", "--yes")
    assert ran.code == 78
    assert "device_url" in ran.err
    assert "Leave out --device" in ran.err
