"""The description of the access service in OpenAPI 3.1. A test compares it with the table of routes.

Metrics are not in it: they are for operators, who have a token of their own.
"""

from collections.abc import Mapping, Sequence

from daemon import __version__
from daemon.runtime.access_web.token_exchange import ACCESS_TOKEN, EXCHANGE, JWT
from daemon.serving.problems import STATUS

Schema = Mapping[str, object]

_TEXT: Schema = {"type": "string"}
_TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
_NUMBER: Schema = {"type": "integer"}
_INSTANT: Schema = {"type": "string", "format": "date-time"}
_INSTANT_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
_TEXTS: Schema = {"type": "object", "additionalProperties": _TEXT}
_SPAN: Schema = {"type": "string", "pattern": "^[0-9]{1,9}(ms|s|m|h|d)$", "examples": ["5m"]}
_FAILURE: Schema = {
    "type": ["object", "null"],
    "properties": {"kind": _TEXT, "code": _TEXT, "at": _INSTANT},
}


def _object(properties: Mapping[str, Schema], *, closed: bool = True, optional: Sequence[str] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    closing = {"additionalProperties": False} if closed else {}
    return {"type": "object", "properties": properties, "required": required, **closing}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema, content_type: str = "application/json") -> Mapping[str, object]:
    return {content_type: {"schema": schema}}


_SCHEMAS: Mapping[str, Schema] = {
    "Token": _object(
        {
            "id": _TEXT,
            "provider": _TEXT,
            "account": _TEXT,
            "access_token": _TEXT,
            "token_type": _TEXT,
            "expires_at": _INSTANT_OR_NULL,
            "expires_in": {"type": ["integer", "null"], "minimum": 0},
            "scope": _TEXT_OR_NULL,
            "missing_scopes": {"type": "array", "items": _TEXT},
            "version": _TEXT,
            "revision": {"type": ["integer", "null"]},
            "extra": {"type": "object"},
            "subject": _TEXT_OR_NULL,
        }
    ),
    "Item": _object(
        {
            "id": _TEXT,
            "provider": _TEXT,
            "account": _TEXT,
            "state": _TEXT,
            "token_type": _TEXT_OR_NULL,
            "scope": _TEXT_OR_NULL,
            "missing_scopes": {"type": "array", "items": _TEXT},
            "issued_at": _INSTANT_OR_NULL,
            "expires_at": _INSTANT_OR_NULL,
            "due_at": _INSTANT_OR_NULL,
            "refreshed_at": _INSTANT_OR_NULL,
            "failures": _NUMBER,
            "last_failure": _FAILURE,
            "revision": {"type": ["integer", "null"]},
            "subject": _TEXT_OR_NULL,
            "meta": _TEXTS,
            "version": _TEXT_OR_NULL,
            "last_used_at": _INSTANT_OR_NULL,
        },
        optional=("version", "last_used_at"),
    ),
    "Page": _object({"items": {"type": "array", "items": _ref("Item")}, "next": _TEXT_OR_NULL}),
    "Grant": _object(
        {
            "response": {"type": "object", "description": "The provider's token response as it came."},
            "received_at": _INSTANT,
            "consented_at": _INSTANT,
            "vars": _TEXTS,
            "meta": _TEXTS,
            "subject": {"type": ["string", "null"], "maxLength": 512},
        },
        optional=("received_at", "consented_at", "vars", "meta", "subject"),
    ),
    "Patch": _object(
        {
            "meta": {"type": ["object", "null"], "additionalProperties": _TEXT_OR_NULL},
            "subject": {"type": ["string", "null"], "maxLength": 512},
            "state": {"enum": ["active", "paused"]},
        },
        optional=("meta", "subject", "state"),
    ),
    "Revoking": _object({"id": _TEXT, "state": {"const": "revoking"}}),
    "Removed": _object(
        {
            "items": {"type": "array", "items": _object({"id": _TEXT, "result": _TEXT})},
            "next": _TEXT_OR_NULL,
        }
    ),
    "Statistics": _object(
        {
            "at": _INSTANT,
            "tokens": _NUMBER,
            "providers": {
                "type": "object",
                "additionalProperties": _object(
                    {"states": {"type": "object", "additionalProperties": _NUMBER}, "expired": _NUMBER}
                ),
            },
        }
    ),
    "Audit": _object({"items": {"type": "array", "items": _ref("Record")}, "next": _TEXT_OR_NULL}),
    "Record": _object(
        {
            "at": _INSTANT,
            "action": _TEXT,
            "token": _TEXT_OR_NULL,
            "actor": _TEXT_OR_NULL,
            "by": {"type": ["object", "null"]},
            "kind": _TEXT_OR_NULL,
            "result": _TEXT_OR_NULL,
            "count": {"type": ["integer", "null"]},
            "revision": {"type": ["integer", "null"]},
        }
    ),
    "ConnectWish": _object(
        {
            "provider": _TEXT,
            "account": _TEXT,
            "scopes": {"type": "array", "items": _TEXT, "maxItems": 100},
            "vars": _TEXTS,
            "meta": _TEXTS,
            "subject": {"type": ["string", "null"], "maxLength": 512},
            "return_url": {"type": "string", "maxLength": 2048},
            "code_challenge": {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"},
            "replace": {"type": "boolean"},
        },
        optional=("scopes", "vars", "meta", "subject", "return_url", "code_challenge", "replace"),
    ),
    "ConnectLink": _object({"id": _TEXT, "connect_url": _TEXT, "expires_at": _INSTANT}),
    "ConnectProof": _object(
        {
            "connect_code": {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"},
            "code_verifier": {"type": "string", "pattern": "^[A-Za-z0-9._~-]{43,128}$"},
        }
    ),
    "Connect": _object(
        {
            "id": _TEXT,
            "state": {"enum": ["waiting", "asked", "done", "failed", "abandoned"]},
            "held": {"type": "boolean", "description": "The grant waits for its completion."},
            "scope": _TEXT_OR_NULL,
            "missing_scopes": {"type": "array", "items": _TEXT},
            "expires_at": _INSTANT_OR_NULL,
            "failure": _object({"kind": _TEXT, "code": _TEXT}),
        },
        optional=("failure",),
    ),
    "Problem": _object(
        {
            "type": {"enum": [f"urn:refreshd:problem:{name}" for name in STATUS]},
            "title": _TEXT,
            "status": _NUMBER,
            "detail": _TEXT,
        },
        closed=False,
    ),
    "OAuthToken": _object(
        {
            "access_token": _TEXT,
            "token_type": _TEXT,
            "expires_in": {"type": "integer", "minimum": 0},
            "refresh_token": _TEXT,
            "scope": _TEXT,
        },
        optional=("expires_in", "scope"),
    ),
    "ExchangedToken": _object(
        {
            "access_token": _TEXT,
            "issued_token_type": {"const": ACCESS_TOKEN},
            "token_type": _TEXT,
            "expires_in": {"type": "integer", "minimum": 0},
            "scope": _TEXT,
        },
        optional=("expires_in", "scope"),
    ),
    "OAuthError": _object({"error": _TEXT, "error_description": _TEXT}),
    "Readiness": _object({"ready": {"type": "boolean"}, "checks": {"type": "object"}}, closed=False),
}

_ACCOUNT = (
    {"name": "provider", "in": "path", "required": True, "schema": _TEXT},
    {
        "name": "account",
        "in": "path",
        "required": True,
        "schema": _TEXT,
        "description": "Percent-encoded; a slash in it as %2F.",
    },
)
_ID = ({"name": "id", "in": "query", "required": True, "schema": _TEXT, "description": "PROVIDER:ACCOUNT"},)
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "schema": _TEXT,
    "description": "wait=SECONDS: how long to wait for a renewal (RFC 7240).",
}


def _query(name: str, schema: Schema = _TEXT, description: str = "") -> Mapping[str, object]:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _header(name: str) -> Mapping[str, object]:
    return {"name": name, "in": "header", "schema": _TEXT}


def _operation(
    name: str,
    summary: str,
    answers: Mapping[str, object],
    *,
    parameters: Sequence[object] = (),
    body: Mapping[str, object] | None = None,
    guarded: bool = True,
) -> dict[str, object]:
    operation: dict[str, object] = {"operationId": name, "summary": summary, "responses": answers}
    if parameters:
        operation["parameters"] = list(parameters)
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    if not guarded:
        operation["security"] = []
    return operation


def _answers(
    good: Mapping[str, tuple[str, Mapping[str, object] | None]], *, problems: bool = True
) -> dict[str, object]:
    found: dict[str, object] = {
        status: {"description": text, **({"content": content} if content else {})}
        for status, (text, content) in good.items()
    }
    if problems:
        problem = _json(_ref("Problem"), "application/problem+json")
        found["429"] = {
            "description": "The access key is used too often: by all its callers together, or by this one.",
            "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}},
            "content": problem,
        }
        found["default"] = {"description": "A problem document (RFC 9457).", "content": problem}
    return found


def _of_one(place: Sequence[object], suffix: str) -> dict[str, object]:
    token = _json(_ref("Token"))
    item = _json(_ref("Item"))
    return {
        "get": _operation(
            f"getToken{suffix}",
            "Return the access token, renewed before if it does not live long enough.",
            _answers(
                {"200": ("The token.", token), "304": ("The version in If-None-Match is current.", None)}
            ),
            parameters=(
                *place,
                _query("fresh_for", _SPAN, "How long the access token must still live."),
                _query("scope", _TEXT, "Words that the scope must contain, separated by blanks."),
                _PREFER,
                _header("If-None-Match"),
            ),
        ),
        "put": _operation(
            f"putToken{suffix}",
            "Store a grant: the provider's token response.",
            _answers({"200": ("It replaced a stored grant.", item), "201": ("It is new.", item)}),
            parameters=(*place, _header("If-Match")),
            body={
                **_json({"type": "object"}),
                **_json(_ref("Grant"), "application/vnd.refreshd.grant+json"),
            },
        ),
        "patch": _operation(
            f"patchToken{suffix}",
            "Change meta and subject, or pause and resume (RFC 7396).",
            _answers({"200": ("The token as it is now.", item)}),
            parameters=(*place, _header("If-Match")),
            body={**_json(_ref("Patch")), **_json(_ref("Patch"), "application/merge-patch+json")},
        ),
        "delete": _operation(
            f"deleteToken{suffix}",
            "Revoke the grant at the provider. With revoke=false, only remove the token: its grant stays valid.",
            _answers(
                {
                    "202": ("The daemon revokes the grant.", _json(_ref("Revoking"))),
                    "204": ("It is removed.", None),
                }
            ),
            parameters=(*place, _query("revoke", {"type": "boolean", "default": True}), _header("If-Match")),
        ),
    }


def _connect() -> dict[str, object]:
    """Return the paths of consents that an application begins."""
    consent = ({"name": "id", "in": "path", "required": True, "schema": _TEXT},)
    secret = ({"name": "secret", "in": "path", "required": True, "schema": _TEXT},)
    state, html = _json(_ref("Connect")), _json(_TEXT, "text/html")
    other = ("A page that says why the link can't be used.", html)
    return {
        "/v1/connect": {
            "post": _operation(
                "connect",
                "Begin to connect an account: make a link for its owner, which works once, for 15 minutes.",
                _answers({"201": ("The link.", _json(_ref("ConnectLink")))}),
                body=_json(_ref("ConnectWish")),
            )
        },
        "/v1/connect/{id}": {
            "get": _operation(
                "getConnect",
                "Return the state of a consent that this key has begun.",
                _answers({"200": ("The state.", state)}),
                parameters=consent,
            )
        },
        "/v1/connect/{id}/complete": {
            "post": _operation(
                "completeConnect",
                "Prove that the browser that came to return_url belongs to the session that began the consent.",
                _answers({"200": ("The token is stored.", state), "202": ("It is being stored.", state)}),
                parameters=consent,
                body=_json(_ref("ConnectProof")),
            )
        },
        "/connect/{secret}": {
            "get": _operation(
                "showConnect",
                "The page for the account's owner. It changes nothing.",
                _answers({"200": ("The page.", html), **dict.fromkeys(("404", "503"), other)}),
                parameters=secret,
                guarded=False,
            ),
            "post": _operation(
                "pressConnect",
                "The page's button, for browsers only: it spends the link and leads to the provider.",
                _answers(
                    {
                        "303": ("To the provider, with a cookie.", None),
                        "200": ("The same for browsers: a page that leads on.", html),
                        **dict.fromkeys(("403", "404", "503"), other),
                    }
                ),
                parameters=secret,
                guarded=False,
            ),
        },
        "/connect/callback/{provider}": {
            "get": _operation(
                "callBack",
                "The redirect URI at the provider. It leads the owner's browser to return_url.",
                _answers(
                    {
                        "303": ("To return_url.", None),
                        "200": ("The same for browsers, or a page if there is no return_url.", html),
                        **dict.fromkeys(
                            ("400", "503"), ("A page that says why nothing was connected.", html)
                        ),
                    }
                ),
                parameters=(_ACCOUNT[0],),
                guarded=False,
            )
        },
    }


def document(base: str) -> dict[str, object]:
    """Return the description of the service that is reached under `base`."""
    page = _answers({"200": ("A page of tokens, by id.", _json(_ref("Page")))})
    paging = (
        _query("after", _TEXT, "`next` of the page before."),
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 500, "default": 100}),
    )
    provider = _ACCOUNT[0]
    subject = {"name": "subject", "in": "path", "required": True, "schema": _TEXT}
    error = _json(_ref("OAuthError"))
    form: Schema = {
        "type": "object",
        "properties": {
            "grant_type": {"const": "refresh_token"},
            "refresh_token": {"type": "string", "description": "The token's handle."},
            "client_id": {"type": "string", "description": "The access key's id."},
            "client_secret": {"type": "string", "description": "The whole access key."},
            "scope": _TEXT,
        },
        "required": ["grant_type", "refresh_token"],
    }
    exchange: Schema = {
        "type": "object",
        "properties": {
            "grant_type": {"const": EXCHANGE},
            "subject_token": {"type": "string", "description": "The workload's JWT."},
            "subject_token_type": {"const": JWT},
            "audience": {"type": "string", "description": "The token: PROVIDER:ACCOUNT."},
            "requested_token_type": {"const": ACCESS_TOKEN},
            "scope": _TEXT,
        },
        "required": ["grant_type", "subject_token", "subject_token_type", "audience"],
    }
    paths: dict[str, object] = {
        "/v1/tokens/{provider}/{account}": _of_one(_ACCOUNT, ""),
        "/v1/token": _of_one(_ID, "ById"),
        "/v1/tokens/{provider}/{account}/refused": {
            "post": _operation(
                "refuseToken",
                "Report that the provider refuses the access token of this version. It is renewed early.",
                _answers(
                    {
                        "200": ("The successor.", _json(_ref("Token"))),
                        "202": ("The renewal is under way.", _json({"type": "object"})),
                    }
                ),
                parameters=(*_ACCOUNT, _PREFER),
                body=_json(_object({"version": {"type": "string", "minLength": 1, "maxLength": 64}})),
            )
        },
        "/v1/tokens": {
            "get": _operation(
                "listTokens",
                "List the tokens that the key may see, without their secrets.",
                page,
                parameters=(
                    _query("provider"),
                    _query("state"),
                    _query("subject"),
                    _query("where", _TEXT, "meta.NAME=TEXT or subject=TEXT; may be given several times."),
                    *paging,
                ),
            )
        },
        "/v1/subjects/{subject}/tokens": {
            "get": _operation(
                "listSubject", "List one subject's tokens.", page, parameters=(subject, *paging)
            ),
            "delete": _operation(
                "deleteSubject",
                "Revoke or remove one subject's tokens, by id, at most 100 of them. `next` says that more are left.",
                _answers({"200": ("What became of each.", _json(_ref("Removed")))}),
                parameters=(subject, _query("revoke", {"type": "boolean", "default": True}), paging[0]),
            ),
        },
        "/v1/statistics": {
            "get": _operation(
                "getStatistics",
                "Count the tokens that the key may see.",
                _answers({"200": ("The counts.", _json(_ref("Statistics")))}),
            )
        },
        "/v1/audit": {
            "get": _operation(
                "getAudit",
                "Return the records that the key may see, newest first. A short page may have a `next`.",
                _answers(
                    {
                        "200": (
                            "The records. As CSV, the header Link leads to the next page.",
                            {**_json(_ref("Audit")), "text/csv": {"schema": _TEXT}},
                        )
                    }
                ),
                parameters=(
                    _query("token"),
                    _query("actor"),
                    _query("since", _TEXT, "An instant, or seconds since 1970."),
                    *paging,
                ),
            )
        },
        "/v1/oauth/{provider}/token": {
            "post": _operation(
                "exchange",
                "The token endpoint for OAuth libraries (RFC 6749 §6): a handle in the place of the refresh token; and"
                " for workloads that have a JWT of a trusted issuer (RFC 8693).",
                _answers(
                    {
                        "200": (
                            "The access token, and the same handle, if there was one.",
                            _json({"oneOf": [_ref("OAuthToken"), _ref("ExchangedToken")]}),
                        ),
                        **dict.fromkeys(
                            ("400", "401", "413", "429", "503"), ("An error (RFC 6749 §5.2).", error)
                        ),
                    },
                ),
                parameters=(provider,),
                body=_json({"oneOf": [form, exchange]}, "application/x-www-form-urlencoded"),
                guarded=False,
            )
        },
        "/.well-known/oauth-authorization-server/v1/oauth/{provider}": {
            "get": _operation(
                "getMetadata",
                "The metadata of a token endpoint (RFC 8414).",
                _answers({"200": ("The metadata.", _json({"type": "object"}))}),
                parameters=(provider,),
                guarded=False,
            )
        },
        **_connect(),
        "/openapi.json": {
            "get": _operation(
                "getDescription",
                "This document.",
                _answers({"200": ("OpenAPI 3.1.", _json({"type": "object"}))}),
                guarded=False,
            )
        },
        "/livez": {
            "get": _operation(
                "getLiveness",
                "Whether the process works.",
                _answers({"200": ("It does.", _json(_object({"live": {"type": "boolean"}})))}),
                guarded=False,
            )
        },
        "/readyz": {
            "get": _operation(
                "getReadiness",
                "Whether the service can answer.",
                _answers(dict.fromkeys(("200", "503"), ("The checks.", _json(_ref("Readiness"))))),
                guarded=False,
            )
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "refreshd access service",
            "version": __version__,
            "summary": "Access tokens that are always fresh.",
        },
        "servers": [{"url": base}],
        "security": [{"accessKey": []}],
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"accessKey": {"type": "http", "scheme": "bearer", "bearerFormat": "rfk_…"}},
        },
    }
