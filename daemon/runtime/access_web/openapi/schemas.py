"""The objects that the access service takes and returns."""

from collections.abc import Mapping

from daemon.runtime.access_web.openapi.parts import (
    INSTANT,
    INSTANT_OR_NULL,
    NUMBER,
    TEXT,
    TEXT_OR_NULL,
    TEXTS,
    Schema,
    object_of,
    ref,
)
from daemon.runtime.access_web.token_exchange import ACCESS_TOKEN
from daemon.serving.problems import STATUS

_FAILURE: Schema = {
    "type": ["object", "null"],
    "properties": {"kind": TEXT, "code": TEXT, "at": INSTANT},
}

SCHEMAS: Mapping[str, Schema] = {
    "Token": object_of(
        {
            "id": TEXT,
            "provider": TEXT,
            "account": TEXT,
            "access_token": TEXT,
            "token_type": TEXT,
            "expires_at": INSTANT_OR_NULL,
            "expires_in": {"type": ["integer", "null"], "minimum": 0},
            "scope": TEXT_OR_NULL,
            "missing_scopes": {"type": "array", "items": TEXT},
            "version": TEXT,
            "revision": {"type": ["integer", "null"]},
            "extra": {"type": "object"},
            "subject": TEXT_OR_NULL,
        }
    ),
    "Item": object_of(
        {
            "id": TEXT,
            "provider": TEXT,
            "account": TEXT,
            "state": TEXT,
            "token_type": TEXT_OR_NULL,
            "scope": TEXT_OR_NULL,
            "missing_scopes": {"type": "array", "items": TEXT},
            "issued_at": INSTANT_OR_NULL,
            "expires_at": INSTANT_OR_NULL,
            "due_at": INSTANT_OR_NULL,
            "refreshed_at": INSTANT_OR_NULL,
            "failures": NUMBER,
            "last_failure": _FAILURE,
            "revision": {"type": ["integer", "null"]},
            "subject": TEXT_OR_NULL,
            "meta": TEXTS,
            "version": TEXT_OR_NULL,
            "last_used_at": INSTANT_OR_NULL,
        },
        optional=("version", "last_used_at"),
    ),
    "Page": object_of({"items": {"type": "array", "items": ref("Item")}, "next": TEXT_OR_NULL}),
    "Grant": object_of(
        {
            "response": {"type": "object", "description": "The provider's token response as it came."},
            "received_at": INSTANT,
            "consented_at": INSTANT,
            "vars": TEXTS,
            "meta": TEXTS,
            "subject": {"type": ["string", "null"], "maxLength": 512},
        },
        optional=("received_at", "consented_at", "vars", "meta", "subject"),
    ),
    "Patch": object_of(
        {
            "meta": {"type": ["object", "null"], "additionalProperties": TEXT_OR_NULL},
            "subject": {"type": ["string", "null"], "maxLength": 512},
            "state": {"enum": ["active", "paused"]},
        },
        optional=("meta", "subject", "state"),
    ),
    "Revoking": object_of({"id": TEXT, "state": {"const": "revoking"}}),
    "Removed": object_of(
        {
            "items": {"type": "array", "items": object_of({"id": TEXT, "result": TEXT})},
            "next": TEXT_OR_NULL,
        }
    ),
    "Statistics": object_of(
        {
            "at": INSTANT,
            "tokens": NUMBER,
            "providers": {
                "type": "object",
                "additionalProperties": object_of(
                    {"states": {"type": "object", "additionalProperties": NUMBER}, "expired": NUMBER}
                ),
            },
        }
    ),
    "Audit": object_of({"items": {"type": "array", "items": ref("Record")}, "next": TEXT_OR_NULL}),
    "Record": object_of(
        {
            "at": INSTANT,
            "action": TEXT,
            "token": TEXT_OR_NULL,
            "actor": TEXT_OR_NULL,
            "by": {"type": ["object", "null"]},
            "kind": TEXT_OR_NULL,
            "result": TEXT_OR_NULL,
            "count": {"type": ["integer", "null"]},
            "revision": {"type": ["integer", "null"]},
        }
    ),
    "ConnectWish": object_of(
        {
            "provider": TEXT,
            "account": TEXT,
            "scopes": {"type": "array", "items": TEXT, "maxItems": 100},
            "vars": TEXTS,
            "meta": TEXTS,
            "subject": {"type": ["string", "null"], "maxLength": 512},
            "return_url": {"type": "string", "maxLength": 2048},
            "code_challenge": {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"},
            "replace": {"type": "boolean"},
        },
        optional=("scopes", "vars", "meta", "subject", "return_url", "code_challenge", "replace"),
    ),
    "ConnectLink": object_of({"id": TEXT, "connect_url": TEXT, "expires_at": INSTANT}),
    "ConnectProof": object_of(
        {
            "connect_code": {"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$"},
            "code_verifier": {"type": "string", "pattern": "^[A-Za-z0-9._~-]{43,128}$"},
        }
    ),
    "Connect": object_of(
        {
            "id": TEXT,
            "state": {"enum": ["waiting", "asked", "done", "failed", "abandoned"]},
            "held": {"type": "boolean", "description": "The grant waits for its completion."},
            "scope": TEXT_OR_NULL,
            "missing_scopes": {"type": "array", "items": TEXT},
            "expires_at": INSTANT_OR_NULL,
            "failure": object_of({"kind": TEXT, "code": TEXT}),
        },
        optional=("failure",),
    ),
    "Problem": object_of(
        {
            "type": {"enum": [f"urn:refreshd:problem:{name}" for name in STATUS]},
            "title": TEXT,
            "status": NUMBER,
            "detail": TEXT,
        },
        closed=False,
    ),
    "OAuthToken": object_of(
        {
            "access_token": TEXT,
            "token_type": TEXT,
            "expires_in": {"type": "integer", "minimum": 0},
            "refresh_token": TEXT,
            "scope": TEXT,
        },
        optional=("expires_in", "scope"),
    ),
    "ExchangedToken": object_of(
        {
            "access_token": TEXT,
            "issued_token_type": {"const": ACCESS_TOKEN},
            "token_type": TEXT,
            "expires_in": {"type": "integer", "minimum": 0},
            "scope": TEXT,
        },
        optional=("expires_in", "scope"),
    ),
    "OAuthError": object_of({"error": TEXT, "error_description": TEXT}),
    "Readiness": object_of({"ready": {"type": "boolean"}, "checks": {"type": "object"}}, closed=False),
}
