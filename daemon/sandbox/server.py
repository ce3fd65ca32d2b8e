"""The sandbox on the wire: a token endpoint that looks like a provider's to a daemon, and levers beside it.

    POST   /token                  refresh_token and client_credentials; also at that provider's own path
    GET    /resource               200 while the bearer's access token is live, else 401
    POST   /grants?n=10            new consents: a list of token responses, each with its `grant` id
    DELETE /grants/{id}            the owner withdraws the consent; `POST /grants?account=me` names the account
    GET    /ledger[?grant=ID]      the truth, of all grants or one; `?summary=1` counts
    GET    /consents               what was asked of owners, and what became of each code
    GET    /assertions             what clients have signed, and what became of it; only where they sign. There,
    POST   /keys                   draws another key, and DELETE takes back all keys
    PUT    /faults                 one more fault; GET lists them, DELETE ends them all
    PUT    /behaviour              the provider changes: lifetimes, rotation, error codes, fields (`behaviour.py`)

    GET    /authorize              the consent page; POST with `decision=approve` or `deny`, and perhaps `account` and
                                   `scope`, answers it
    POST   /device_authorization   a device begins (RFC 8628); GET and POST /device is the owner's page
    POST   /revoke                 revocation (RFC 7009); these too also at that provider's own paths and in its ways,
                                   and only if the provider has them

A request takes effect the moment it was read, before `latency` and before any fault of the reply: the order of the
ledger is the order of arrival, and a client that gave up early has spent its token anyway.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Self

from aiohttp import hdrs, web

from daemon.sandbox import minting, recorded
from daemon.sandbox.assertions import AssertionDesk
from daemon.sandbox.authorization import AuthorizationEndpoint
from daemon.sandbox.behaviour import Behaviour, changed
from daemon.sandbox.browser import LONGEST_ACCOUNT, Browser
from daemon.sandbox.clients import Client
from daemon.sandbox.consents import Consents
from daemon.sandbox.demands import Asked
from daemon.sandbox.device import DeviceEndpoint
from daemon.sandbox.endpoint import TokenEndpoint
from daemon.sandbox.faults import At, FaultBoard, Standing, read_fault
from daemon.sandbox.grants import Grants
from daemon.sandbox.misbehaviour import deliver, send, wordings
from daemon.sandbox.options import SandboxOptions
from daemon.sandbox.revocation import RevocationEndpoint
from daemon.sandbox.wording import Reply

_HOST = "127.0.0.1"  # never anything else: a client that reaches it can mint and revoke
_LARGEST_REQUEST = 64 * 1024
_MOST_GRANTS_AT_ONCE = 10_000
_BACKLOG = 2048  # a daemon's whole concurrency may connect at the same time
_STOP_SECONDS = 0.5  # for replies under way; a hung one would never end


class Sandbox:
    """A local OAuth 2.0 server. Also `async with Sandbox(options) as sandbox:`.

    `start` raises OSError when the port is taken. After `stop` it can be started again on the same port with all
    grants as they were: an outage to rehearse.
    """

    def __init__(self, options: SandboxOptions | None = None) -> None:
        self.options = options or SandboxOptions()
        self.client_id = self.options.client_id
        self.client_secret = self.options.client_secret or minting.client_secret()
        self._faults = FaultBoard(seed=self.options.seed)
        self._dialect = replace(
            recorded.dialect(self.options.name), consent=self.options.consent(), device=self.options.device()
        )
        self._behaviour = Behaviour()
        self._grants = Grants(self.options.terms())
        self._consents = Consents(self._grants, most=self._dialect.consent.most)
        demands = self._dialect.demands
        client = self._client = Client(
            id=self.client_id,
            secret=self.client_secret,
            ways=demands.client,
            code_ways=demands.code_client,
        )
        self.desk: AssertionDesk | None = None
        self._key: dict[str, str] = {}
        if (assertion := self._dialect.assertion) is not None:
            options = self.options
            self.desk = AssertionDesk(
                assertion, client_id=self.client_id, users=options.users, ahead=options.clock_ahead
            )
            self._key = self.desk.draw_key()
        self._endpoint = TokenEndpoint(
            grants=self._grants,
            consents=self._consents,
            client=client,
            dialect=self._dialect,
            issuer=lambda: self.url,
            desk=self.desk,
        )
        self._device: DeviceEndpoint | None = None
        if (device := self._dialect.device) is not None:
            self._device = DeviceEndpoint(
                consents=self._consents, client=client, dialect=self._dialect, terms=device
            )
        self._revocation: RevocationEndpoint | None = None
        if (revocation := self._dialect.revocation) is not None:
            self._revocation = RevocationEndpoint(
                grants=self._grants, client=client, dialect=self._dialect, terms=revocation
            )
        self._browser = Browser(
            authorization=AuthorizationEndpoint(
                consents=self._consents,
                client_id=self.client_id,
                terms=self._dialect.consent,
                redirect_uris=self.options.redirect_uris,
            ),
            consents=self._consents,
            faults=self._faults,
            dialect=self._dialect,
            issuer=lambda: self.url,
        )
        self._port = self.options.port
        self._runner: web.AppRunner | None = None

    @property
    def _takes_secret(self) -> bool:
        return self.desk is None or "post" in self._dialect.demands.client

    @property
    def client_key(self) -> str | None:
        """The private key that was handed out at first, in PEM. None: the client signs nothing."""
        return self._key.get("client_key")

    @property
    def url(self) -> str:
        """Without a path; names the port once started."""
        return f"http://{_HOST}:{self._port}"

    @property
    def token_url(self) -> str:
        """As that provider's, but for the host; `/token` is the same."""
        return self.url + self._dialect.path

    @property
    def authorize_url(self) -> str | None:
        """As that provider's, but for the host; `/authorize` is the same. None: nobody consents there."""
        if not self._dialect.has_owners:
            return None
        return self.url + self._dialect.shown(self._dialect.consent.paths[0])

    @property
    def device_url(self) -> str | None:
        """None: that provider has no device flow."""
        device = self._dialect.device
        return None if device is None else self.url + self._dialect.shown(device.paths[0])

    @property
    def revoke_url(self) -> str | None:
        """None: nothing can be revoked at that provider. `{token}` stands for the token."""
        revocation = self._dialect.revocation
        return None if revocation is None else self.url + self._dialect.shown(revocation.paths[0])

    def describe(self) -> dict[str, str | None]:
        """What a client needs to know: the line that `refreshd sandbox` prints."""
        return {
            "url": self.url,
            "token_url": self.token_url,
            "authorize_url": None if self.desk is not None else self.authorize_url,  # nobody consents there
            "device_url": self.device_url,
            "revoke_url": self.revoke_url,
            "client_id": self.client_id,
            "client_secret": self.client_secret if self._takes_secret else None,
            **self._key,
        }

    async def start(self) -> None:
        runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=_STOP_SECONDS
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, _HOST, self._port, backlog=_BACKLOG).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._port = runner.addresses[0][1]
        self._runner = runner

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def consent(self, count: int = 1, *, account: str = "") -> list[dict[str, object]]:
        """New grants: a token response for each, with the ledger's id under `grant`. No page is asked.

        Without an `account`, each has one of its own.
        """
        now = _now()
        pairs = [self._grants.consent(now=now, account=account) for _ in range(count)]
        return [{**self._dialect.grant(pair, now=now, first=True), "grant": pair.grant} for pair in pairs]

    def ledger(self) -> list[dict[str, object]]:
        """The truth about every grant."""
        return [grant.as_json() for grant in self._grants]

    def consents(self) -> list[dict[str, object]]:
        """What was asked of owners, and what became of it."""
        return [consent.as_json() for consent in self._consents]

    def add_fault(self, wish: object) -> dict[str, object]:
        """Misbehave as the JSON of `PUT /faults` says. Raises ValueError with a sentence (`faults.read_fault`)."""
        fault = read_fault(wish)
        if fault.wording >= (known := wordings(fault.kind, self._dialect)):
            raise ValueError(f"{self._dialect.name} words this in {known} ways: wording must be below that")
        return self._faults.add(fault).as_json()

    def change_client_secret(self, secret: str) -> None:
        """Accept this secret from now on, and the one before no more, as after a rotation at the provider."""
        self.client_secret = self._client.secret = secret

    def clear_faults(self) -> int:
        """Behave again, and answer the clients that wait for a withheld reply. Returns how many faults there were."""
        return self._faults.clear()

    def change(self, wish: object) -> None:
        """Behave from now on as the JSON of `PUT /behaviour` says. Raises ValueError with a sentence."""
        self._behaviour, self._grants.terms = changed(self._behaviour, self._grants.terms, wish)

    def _application(self) -> web.Application:
        app = web.Application(client_max_size=_LARGEST_REQUEST)
        for path in dict.fromkeys([*self._dialect.paths, "/token"]):
            app.router.add_route(self._dialect.demands.method, path, self._token)
        app.add_routes(
            [
                web.get("/resource", self._resource),
                web.post("/grants", self._post_grants),
                web.delete("/grants/{id}", self._delete_grant),
                web.get("/ledger", self._get_ledger),
                web.get("/consents", self._get_consents),
                web.put("/faults", self._put_fault),
                web.get("/faults", self._get_faults),
                web.delete("/faults", self._delete_faults),
                web.put("/behaviour", self._put_behaviour),
            ]
        )
        if self.desk is not None:
            app.router.add_get("/assertions", self._get_assertions)
            app.router.add_post("/keys", self._post_key)
            app.router.add_delete("/keys", self._delete_keys)
        self._add_consent_routes(app.router)
        return app

    def _add_consent_routes(self, router: web.UrlDispatcher) -> None:
        dialect, browser = self._dialect, self._browser
        for path in dict.fromkeys([*dialect.consent.paths, "/authorize"]):
            router.add_route("GET", path, browser.show_consent)
            router.add_route("POST", path, browser.decide)
        if dialect.device is not None:
            for path in dict.fromkeys([*dialect.device.paths, "/device_authorization"]):
                router.add_route("POST", path, self._begin_device)
            for path in dict.fromkeys([dialect.device.page, "/device"]):
                router.add_route("GET", path, browser.show_device)
                router.add_route("POST", path, browser.decide_device)
        if dialect.revocation is not None:
            for path in dict.fromkeys([*dialect.revocation.paths, "/revoke"]):
                route = path.replace("{token}", "{token:.+}")
                router.add_route(dialect.revocation.method, route, self._revoke)

    async def _token(self, request: web.Request) -> web.StreamResponse:
        asked, standing = await self._take(request, "token")
        fault = None if standing is None else standing.fault
        reply, presentation = self._endpoint.take_effect(asked, fault=fault, now=_now())
        if fault is None:
            reply = self._behaviour.applied(reply)
        response = await self._answer(request, reply, standing)
        if response is None:
            return web.Response()  # goes nowhere
        if presentation is not None:
            presentation.replied_at = _now()
        return response

    async def _begin_device(self, request: web.Request) -> web.StreamResponse:
        asked, standing = await self._take(request, "device")
        if self._device is None:
            return _complain(404, "this provider has no device flow")
        fault = None if standing is None else standing.fault
        reply = self._device.take_effect(
            asked, page=self.url + self._device.terms.page, fault=fault, now=_now()
        )
        return await self._answer(request, reply, standing) or web.Response()

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        asked, standing = await self._take(request, "revoke")
        if self._revocation is None:
            return _complain(404, "nothing can be revoked at this provider")
        fault = None if standing is None else standing.fault
        in_path = request.match_info.get("token")
        reply = self._revocation.take_effect(asked, in_path=in_path, fault=fault, now=_now())
        return await self._answer(request, reply, standing) or web.Response()

    async def _take(self, request: web.Request, at: At) -> tuple[Asked, Standing | None]:
        """The request, and the fault that meets it. Nothing is awaited between the fault and the effect."""
        body = await request.read()
        asked = Asked(
            content_type=request.content_type,
            body=body,
            query=request.rel_url.raw_query_string,
            headers=request.headers,
            path=request.rel_url.raw_path,
            place=request.match_info,
        )
        return asked, self._faults.strike(at)

    async def _answer(
        self, request: web.Request, reply: Reply, standing: Standing | None
    ) -> web.StreamResponse | None:
        """Send the reply after the latency. None: the client has gone, or a fault leaves it unanswered."""
        if self.options.latency:
            await asyncio.sleep(self.options.latency.total_seconds())
        try:
            return await (send(request, reply) if standing is None else deliver(request, reply, standing))
        except ConnectionError:
            return None

    async def _resource(self, request: web.Request) -> web.Response:
        scheme, _, bearer = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() == "bearer" and self._grants.accepts(bearer.strip(), now=_now()):
            return web.json_response({"resource": "yours to read"})
        challenge = {hdrs.WWW_AUTHENTICATE: 'Bearer realm="sandbox", error="invalid_token"'}
        return web.json_response({"error": "invalid_token"}, status=401, headers=challenge)

    async def _post_grants(self, request: web.Request) -> web.Response:
        text = request.query.get("n", "1")
        count = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
        if not 1 <= count <= _MOST_GRANTS_AT_ONCE:
            return _complain(
                400, f"n must be a whole number from 1 to {_MOST_GRANTS_AT_ONCE}, not {text[:20]!r}"
            )
        account = request.query.get("account", "")
        if len(account) > LONGEST_ACCOUNT:
            return _complain(400, f"account must have at most {LONGEST_ACCOUNT} characters")
        return web.json_response(self.consent(count, account=account))

    async def _get_consents(self, _: web.Request) -> web.Response:
        return web.json_response(self.consents())

    async def _delete_grant(self, request: web.Request) -> web.Response:
        grant = self._grants.withdraw(request.match_info["id"])
        return _complain(404, "no such grant") if grant is None else web.json_response(grant.as_json())

    async def _get_ledger(self, request: web.Request) -> web.Response:
        if request.query.get("summary", "0") not in ("", "0"):
            return web.json_response(self._grants.summary())
        if (wanted := request.query.get("grant")) is None:
            return web.json_response(self.ledger())
        grant = self._grants.find(wanted)
        return _complain(404, "no such grant") if grant is None else web.json_response(grant.as_json())

    async def _put_fault(self, request: web.Request) -> web.Response:
        return await _obey(request, self.add_fault, example='{"kind": "reset", "share": 0.1}')

    async def _put_behaviour(self, request: web.Request) -> web.Response:
        return await _obey(request, self.change, example='{"lifetime": 7200}')

    async def _get_assertions(self, _: web.Request) -> web.Response:
        return web.json_response([one.as_json() for one in self._desk().presented])

    async def _post_key(self, _: web.Request) -> web.Response:
        return web.json_response(self._desk().draw_key())

    async def _delete_keys(self, _: web.Request) -> web.Response:
        return web.json_response({"deleted": self._desk().revoke_keys()})

    def _desk(self) -> AssertionDesk:
        if self.desk is None:
            raise web.HTTPNotFound
        return self.desk

    async def _get_faults(self, _: web.Request) -> web.Response:
        return web.json_response([standing.as_json() for standing in self._faults])

    async def _delete_faults(self, _: web.Request) -> web.Response:
        return web.json_response({"deleted": self.clear_faults()})


async def _obey(request: web.Request, do: Callable[[object], object], *, example: str) -> web.Response:
    """Do what the request's JSON says, and answer with the result."""
    body = await request.read()
    try:
        return web.json_response(do(json.loads(body)))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return _complain(400, f"the body is not JSON; send for example {example}")
    except (ValueError, RecursionError) as error:
        return _complain(400, str(error))


def _complain(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)


def _now() -> datetime:
    return datetime.now(UTC)
