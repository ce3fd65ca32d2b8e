"""A consent at one provider of the sandbox, without a socket: the daemon's own request builders on one side, the sandbox's
endpoints on the other. The path of each request has to be one that the sandbox listens on.
"""

import re
from datetime import datetime
from urllib.parse import unquote, urlsplit

from multidict import CIMultiDict

from daemon.domain.authorization import (
    SECRET_BYTES,
    Authorization,
    Code,
    Denied,
    authorization_url,
    new_authorization,
    read_callback,
)
from daemon.domain.code_reply import CodeGrant, read_code_reply
from daemon.domain.consent_request import ConsentFailure, ConsentRequest
from daemon.domain.provider import Provider
from daemon.domain.reply import Reply
from daemon.domain.request import Request, code_request
from daemon.domain.token import Token
from daemon.sandbox import Sandbox, SandboxOptions
from daemon.sandbox.authorization import Asked as AskedOwner
from daemon.sandbox.authorization import Decision, Redirect
from daemon.sandbox.demands import Asked
from daemon.sandbox.wording import Reply as Sent
from tests.providers import samples
from tests.providers.row import TOLD, Row
from tests.providers.wire import CLOCK

ISSUER = "http://127.0.0.1:0"
REDIRECT_URI = "http://127.0.0.1:8917/callback"
SCOPES = ("read",)  # asked for if the definition leaves the scopes to operators


def is_among(path: str, templates: tuple[str, ...]) -> str | None:
    """Return what stands in the place `{token}` of the template that fits `path`, or "" for a template without that place;
    None if none fits.
    """
    for template in templates:
        parts = re.split(r"(\{[^}]+\})", template)
        pattern = "".join(
            "(?P<token>.+)" if part == "{token}" else "[^/]+" if part.startswith("{") else re.escape(part)
            for part in parts
        )
        if found := re.fullmatch(pattern, path):
            return unquote(found.groupdict().get("token") or "")
    return None


class Connecting:
    """One provider of the sandbox, and a client with the shipped definition of it."""

    def __init__(self, row: Row) -> None:
        self.row, self.name = row, row.definition
        self.provider: Provider = samples.provider(row.definition)
        self.definition = self.provider.definition
        self.variables = samples.VARIABLES.get(row.definition, {})
        self.scopes = self.definition.scopes or SCOPES
        options = SandboxOptions(
            name=row.sandbox,
            lifetime=TOLD,
            client_id=samples.CLIENT_ID,
            client_secret=samples.CLIENT_SECRET,
            redirect_uris=(REDIRECT_URI,),
        )
        self.sandbox = Sandbox(options)
        self.dialect = self.sandbox._dialect

    def authorization(self, *scopes: str) -> Authorization:
        random = bytes(range(3 * SECRET_BYTES))
        return new_authorization(
            self.provider, random=random, redirect_uri=REDIRECT_URI, scopes=scopes or self.scopes
        )

    def asked(self, authorization: Authorization) -> AskedOwner:
        """What the provider reads in the authorization URL. The owner would see a page of it."""
        url = urlsplit(authorization_url(self.provider, authorization, self.variables))
        assert is_among(url.path, self.dialect.consent.paths) is not None, url.path
        asked = self.sandbox._browser.authorization.read(url.query, issuer=ISSUER)
        assert isinstance(asked, AskedOwner), asked
        return asked

    def called_back(
        self, authorization: Authorization, *, account: str = "1234", approved: bool = True
    ) -> Code | Denied:
        """What the daemon reads in the callback after the owner's decision."""
        decision = Decision(approved=approved, account=account, scopes=None)
        redirect = self.sandbox._browser.authorization.decide(
            self.asked(authorization), decision, issuer=ISSUER, fault=None, now=CLOCK.now()
        )
        assert isinstance(redirect, Redirect)
        assert redirect.to.startswith(f"{REDIRECT_URI}?")
        return read_callback(urlsplit(redirect.to).query, authorization)

    def exchange(self, code: Code, authorization: Authorization) -> CodeGrant | ConsentFailure:
        """What the daemon reads in the reply to the code."""
        request = code_request(
            self.provider,
            code=code.code,
            code_verifier=authorization.code_verifier,
            redirect_uri=authorization.redirect_uri,
            variables=self.variables,
            now=CLOCK.now(),
        )
        consent = ConsentRequest(
            id="c1",
            provider=self.name,
            account="a",
            nonce=authorization.nonce,
            redirect_uri=authorization.redirect_uri,
            scopes=authorization.scopes,
            expires_at=CLOCK.now(),
        )
        return read_code_reply(self.provider, consent, self.ask(request), now=CLOCK.now())

    def token(self, grant: CodeGrant) -> Token:
        """The token that the daemon stores."""
        given = grant.consent
        return samples.token(
            self.name,
            access_token=given.access_token,
            refresh_token=given.refresh_token,
            issued_at=given.issued_at,
            expires_at=given.expires_at,
        )

    def ask(self, request: Request) -> Reply:
        """The token endpoint's reply."""
        url, now = urlsplit(request.url), CLOCK.now()
        assert is_among(url.path, self.dialect.paths) is not None, url.path
        assert request.method == self.dialect.demands.method
        reply, _ = self.sandbox._endpoint.take_effect(_asked(request), fault=None, now=now)
        return _received(reply, now)

    def revoke(self, request: Request) -> Reply:
        """The revocation endpoint's reply."""
        endpoint, url, now = self.sandbox._revocation, urlsplit(request.url), CLOCK.now()
        assert endpoint is not None
        in_path = is_among(url.path, endpoint.terms.paths)
        assert in_path is not None, url.path
        assert request.method == endpoint.terms.method
        reply = endpoint.take_effect(_asked(request), in_path=in_path or None, fault=None, now=now)
        return _received(reply, now)

    def ledger(self) -> list[dict[str, object]]:
        return self.sandbox.ledger()


def _asked(request: Request) -> Asked:
    headers = CIMultiDict(request.headers)
    return Asked(
        content_type=headers.get("Content-Type", "application/octet-stream"),
        body=request.body,
        query=urlsplit(request.url).query,
        headers=headers,
    )


def _received(reply: Sent, asked_at: datetime) -> Reply:
    return Reply(
        status=reply.status,
        body=reply.body,
        content_type=reply.content_type,
        retry_after=reply.headers.get("Retry-After"),
        whole=True,
        asked_at=asked_at,
    )
