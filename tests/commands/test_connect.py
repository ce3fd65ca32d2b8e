"""`refreshd connect`: here the test plays the owner, the provider and the daemon."""

import http.client
import queue
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from daemon.commands import connect
from daemon.commands.support import browser_consent, code_handover
from tests.commands.canned_endpoint import Endpoint
from tests.support import wall_clock
from tests.support.ports import free_port

STATE = "A" * 43  # of 32 zero bytes
XERO = ('authorize_url = "https://login.xero.test/authorize"', 'scopes = ["openid", "accounting"]')


class Scene:
    """The command line, with another authorization endpoint of xero."""

    def __init__(self, cli: Any, database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cli, self.database = cli, database
        self.port = free_port()
        self.opened: queue.Queue[str] = queue.Queue()
        self.pages: list[int] = []
        self._monkeypatch = monkeypatch
        self.configure(*XERO)
        beginning = connect.new_authorization

        def begun(provider: Any, *, random: bytes, **more: Any) -> Any:
            fixed = bytes(32) + bytes([1]) * (len(random) - 32)
            return beginning(provider, random=fixed, **more)

        monkeypatch.setattr(connect, "new_authorization", begun)
        monkeypatch.setattr(browser_consent, "open_browser", self.opened.put)

    def configure(self, *keys: str, more: str = "") -> None:
        """Set keys of xero, and `more` tables."""
        text = self.cli.config.read_text()
        old, _, rest = text.partition("[providers.xero]\n")
        _, _, rest = rest.partition("[providers.acme]")
        client = ('client_id = "client"', 'client_secret = { env = "TEST_CLIENT_SECRET" }')
        lines = "\n".join((*client, *keys))
        self.cli.write(f"{old}[providers.xero]\n{lines}\n[providers.acme]{rest}{more}")

    def within(self, limit: timedelta) -> None:
        """Wait only so long for a daemon."""
        short = partial(code_handover.hand_over, taken_within=limit)
        self._monkeypatch.setattr(connect, "hand_over", short)

    def run(
        self,
        *options: str,
        meanwhile: Callable[[], None] = lambda: None,
        stdin: str = "",
        provider: str = "xero",
    ) -> Any:
        errors: list[BaseException] = []

        def act() -> None:
            try:
                meanwhile()
            except BaseException as error:  # noqa: BLE001  the test raises it
                errors.append(error)

        thread = threading.Thread(target=act)
        thread.start()
        ran = self.cli.run("connect", provider, "7", *options, stdin=stdin)
        thread.join(timeout=20)
        if errors:
            raise errors[0]
        return ran

    def listened(self, *options: str, meanwhile: Callable[[], None], provider: str = "xero") -> Any:
        return self.run("--port", str(self.port), *options, meanwhile=meanwhile, provider=provider)

    def answer(self, **fields: str) -> dict[str, list[str]]:
        """The owner's browser: it opens the address, and is sent back with these fields. Returns what was asked."""
        url = self.opened.get(timeout=10)
        query = "&".join(f"{name}={value}" for name, value in fields.items())
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", f"/callback?{query}")
        self.pages.append(connection.getresponse().status)
        connection.close()
        return parse_qs(urlsplit(url).query)

    def request(self) -> dict[str, Any]:
        """Wait for the stored request, and return it."""
        limit = wall_clock.now() + timedelta(seconds=10)
        while (found := self.database.tokens_consents.find_one({"state": "waiting"})) is None:
            assert wall_clock.now() < limit
        return dict(found)

    def daemon(self, **end: Any) -> dict[str, Any]:
        """A daemon that takes the request, and ends it like this. Returns the request."""
        found = self.request()
        self.database.tokens_consents.update_one({"_id": found["_id"]}, {"$set": end})
        return found


DONE = {
    "state": "done",
    "result": {
        "scope": "openid",
        "missing_scopes": ["accounting"],
        "expires_at": datetime(2026, 12, 1, tzinfo=UTC),
    },
}


@pytest.fixture
def scene(cli: Any, database: Any, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(cli, database, monkeypatch)


def test_an_owner_consents_and_the_daemon_stores_the_token(scene: Scene) -> None:
    """The command only hands the code over, sealed."""
    asked: dict[str, Any] = {}

    def meanwhile() -> None:
        asked.update(url=scene.answer(state=STATE, code="code-4711"), request=scene.daemon(**DONE))

    ran = scene.listened("--json", "--subject", "u1", "--meta", "tenant=t1", "--replace", meanwhile=meanwhile)
    assert (ran.code, scene.pages) == (0, [200])
    assert ran.json() == {
        "id": "xero:7",
        "state": "done",
        "scope": "openid",
        "missing_scopes": ["accounting"],
        "expires_at": "2026-12-01T00:00:00.000Z",
    }
    assert asked["url"]["redirect_uri"] == [f"http://127.0.0.1:{scene.port}/callback"]
    assert asked["url"]["scope"] == ["openid accounting"]
    assert asked["url"]["code_challenge_method"] == ["S256"]
    request = asked["request"]
    assert (request["provider"], request["account"], request["subject"]) == ("xero", "7", "u1")
    assert (request["meta"], request["replace"], request["scopes"]) == (
        {"tenant": "t1"},
        True,
        ["openid", "accounting"],
    )
    assert "4711" not in str(request)
    assert scene.cli.ring.open(request["code"], token_id=request["_id"], field="code") == "code-4711"
    assert request["nonce"] == asked["url"]["nonce"][0]
    assert STATE not in str(request)
    assert "code-4711" not in ran.out + ran.err


def test_the_audit_has_who_began_and_why(scene: Scene) -> None:
    """Before the owner is asked."""

    def meanwhile() -> None:
        scene.answer(state=STATE, code="c")
        scene.daemon(**DONE)

    scene.listened("--reason", "ticket 12", meanwhile=meanwhile)
    record = scene.database.tokens_audit.find_one({"action": "connect"})
    assert (record["token"], record["by"]["reason"]) == ("xero:7", "ticket 12")


def test_a_strangers_callback_does_not_end_the_wait(scene: Scene) -> None:
    """Another state, and no state."""

    def meanwhile() -> None:
        url = scene.opened.get(timeout=10)
        for fields in ({"state": "B" * 43, "code": "evil"}, {"code": "evil"}, {"error": "access_denied"}):
            scene.opened.put(url)
            scene.answer(**fields)
        scene.opened.put(url)
        scene.answer(state=STATE, code="good")
        scene.daemon(**DONE)

    ran = scene.listened(meanwhile=meanwhile)
    assert (ran.code, scene.pages) == (0, [400, 400, 400, 200])
    assert ran.out == "xero:7\n"


def test_a_refusal_is_a_failure_and_stores_nothing(scene: Scene) -> None:
    """With the provider's words."""
    ran = scene.listened(
        meanwhile=lambda: (
            scene.answer(state=STATE, error="access_denied", error_description="Not%20now") and None
        )
    )
    assert ran.code == 1
    assert "access_denied" in ran.err
    assert "Not now" in ran.err
    assert scene.database.tokens_consents.count_documents({}) == 0


def test_a_failed_exchange_is_a_failure(scene: Scene) -> None:
    """In the daemon's words."""

    def meanwhile() -> None:
        scene.answer(state=STATE, code="c")
        scene.daemon(
            state="failed",
            failure={"kind": "no_refresh_token", "code": "no_refresh_token", "message": "ask again"},
        )

    ran = scene.listened(meanwhile=meanwhile)
    assert ran.code == 1
    assert "no_refresh_token" in ran.err


def test_without_a_daemon_it_is_unavailable(scene: Scene) -> None:
    """The code is withdrawn, and the provider's name is in the text."""
    scene.within(timedelta(milliseconds=300))
    ran = scene.listened(meanwhile=lambda: scene.answer(state=STATE, code="c") and None)
    assert ran.code == 69
    assert "no daemon" in ran.err
    found = scene.database.tokens_consents.find_one({})
    assert (found["state"], found["code"]) == ("failed", None)


def test_the_address_can_be_pasted(scene: Scene) -> None:
    """A wrong one is asked for again."""
    address = f"http://127.0.0.1:8917/callback?state={STATE}&code=pasted"
    wrong = f"https://evil.test/?state={STATE}&code=evil"
    ran = scene.run("--paste", stdin=f"{wrong}\n{address}\n", meanwhile=lambda: scene.daemon(**DONE) and None)
    assert ran.code == 0
    assert "https://login.xero.test/authorize?" in ran.err
    assert ran.out == "xero:7\n"


@pytest.mark.parametrize(
    ("lines", "words"),
    [("", "ended"), ("https://evil.test/?code=1\n", "ended"), ("no address\n" * 9, "none of the addresses")],
)
def test_without_the_right_address_nothing_is_stored(scene: Scene, lines: str, words: str) -> None:
    """The end of the input, and too many wrong ones."""
    ran = scene.run("--paste", stdin=lines)
    assert ran.code == 1
    assert words in ran.err
    assert scene.database.tokens_consents.count_documents({}) == 0


def test_a_taken_port_is_named(scene: Scene) -> None:
    """75, as for the other ports."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", scene.port))
        other.listen()
        ran = scene.listened(meanwhile=lambda: None)
    assert ran.code == 75
    assert str(scene.port) in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["connect", "nope", "7"], 2, "unknown"),
        (["connect", "acme", "7"], 78, "authorize_url"),
        (["connect", "xero", ""], 2, "account"),
        (["connect", "xero", "a\nb"], 2, "control"),
        (["connect", "xero", "7", "--var", "x=1"], 2, "no such variable"),
        (["connect", "xero", "7", "--meta", "x"], 2, "NAME=VALUE"),
        (["connect", "xero", "7", "--meta", "x=1", "--meta", "x=2"], 2, "twice"),
        (["connect", "xero", "7", "--subject", ""], 2, "--subject"),
        (["connect", "xero", "7", "--scope", "two words"], 2, "scope"),
        (["connect", "xero", "7", "--port", "0"], 2, "port"),
        (["connect", "xero", "7", "--port", "70000"], 2, "port"),
    ],
)
def test_a_wrong_argument_is_explained(scene: Scene, arguments: list[str], code: int, words: str) -> None:
    """Before anything is stored or listened to."""
    ran = scene.cli.run(*arguments)
    assert ran.code == code
    assert words in ran.err
    assert scene.database.tokens_consents.count_documents({}) == 0


def test_the_variables_of_the_stored_token_are_kept(scene: Scene) -> None:
    """The exchange needs them for the token URL."""
    scene.cli.add("xero:7")
    scene.database.tokens.update_one({"_id": "xero:7"}, {"$set": {"vars": {"shop": "blue"}}})
    asked: dict[str, Any] = {}

    def meanwhile() -> None:
        scene.answer(state=STATE, code="c")
        asked.update(scene.daemon(**DONE))

    scene.listened(meanwhile=meanwhile)
    assert asked["vars"] == {"shop": "blue"}


ZOHO = """
[providers.zoho]
client_id = "client"
client_secret = { env = "TEST_CLIENT_SECRET" }
scopes = ["ZohoCRM.modules.ALL"]
"""


def zoho(scene: Scene, server: str) -> Any:
    """Connect an account whose callback names this accounts server."""
    scene.configure(more=ZOHO)
    asked: dict[str, Any] = {}

    def meanwhile() -> None:
        scene.answer(state=STATE, code="c", **{"accounts-server": server})
        if "zoho.eu" in server:
            asked.update(scene.daemon(**DONE))

    ran = scene.listened(provider="zoho", meanwhile=meanwhile)
    return ran, asked


def test_the_callback_of_zoho_names_the_server_that_exchanges_the_code(scene: Scene) -> None:
    """The token keeps it as a variable, for its renewals."""
    ran, asked = zoho(scene, "https%3A%2F%2Faccounts.zoho.eu")
    assert ran.code == 0
    assert asked["vars"] == {"accounts-server": "https://accounts.zoho.eu"}


@pytest.mark.parametrize(
    "server",
    [
        "https%3A%2F%2Fevil.test",
        "http%3A%2F%2Faccounts.zoho.com",
        "https%3A%2F%2Faccounts.zoho.com.evil.test",
        "x",
    ],
)
def test_a_callback_can_not_lead_the_code_and_the_secret_elsewhere(scene: Scene, server: str) -> None:
    """Only into the definition's domains."""
    ran, _ = zoho(scene, server)
    assert ran.code == 1
    assert "callback" in ran.err
    assert scene.database.tokens_consents.count_documents({}) == 0


def test_a_client_without_an_id_can_not_ask_for_a_consent(scene: Scene) -> None:
    """Stripe's apps renew with the secret alone."""
    scene.configure(more='\n[providers.stripe-apps]\nclient_secret = { env = "TEST_CLIENT_SECRET" }\n')
    ran = scene.cli.run("connect", "stripe-apps", "7")
    assert ran.code == 78
    assert "providers.stripe-apps.client_id" in ran.err


PAR = """
[providers.pushing]
token_url = "https://acme.example/token"
authorize_url = "https://acme.example/authorize"
par_url = "{url}"
client_auth = "post"
client_id = "client"
client_secret = {{ env = "TEST_CLIENT_SECRET" }}
"""


def test_a_request_is_pushed_before_the_browser_opens(scene: Scene, endpoint: Endpoint) -> None:
    """RFC 9126: the browser carries the reference alone."""
    endpoint.status, endpoint.body = 201, b'{"request_uri": "urn:r:1", "expires_in": 60}'
    scene.configure(more=PAR.format(url=endpoint.url))
    asked: dict[str, Any] = {}

    def meanwhile() -> None:
        asked.update(scene.answer(state=STATE, code="c"))
        scene.daemon(**DONE)

    ran = scene.listened(provider="pushing", meanwhile=meanwhile)
    assert ran.code == 0, ran
    assert asked == {"client_id": ["client"], "request_uri": ["urn:r:1"]}
    ((_, form),) = endpoint.asked
    assert (form["state"], form["code_challenge_method"]) == ([STATE], ["S256"])
    assert form["redirect_uri"] == [f"http://127.0.0.1:{scene.port}/callback"]


def test_a_request_that_the_provider_does_not_take_is_explained(scene: Scene, endpoint: Endpoint) -> None:
    """Nobody is sent to a page then."""
    endpoint.status, endpoint.body = 400, b'{"error": "invalid_request", "error_description": "redirect_uri"}'
    scene.configure(more=PAR.format(url=endpoint.url))
    ran = scene.listened(provider="pushing", meanwhile=lambda: None)
    assert ran.code == 1
    assert "invalid_request" in ran.err
    assert scene.opened.empty()
