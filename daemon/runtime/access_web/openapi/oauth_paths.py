"""The paths of the token endpoint for OAuth libraries and workloads."""

from daemon.runtime.access_web.openapi.parts import ACCOUNT, TEXT, Schema, answers, json_of, operation, ref
from daemon.runtime.access_web.token_exchange import ACCESS_TOKEN, EXCHANGE, JWT

_FORM: Schema = {
    "type": "object",
    "properties": {
        "grant_type": {"const": "refresh_token"},
        "refresh_token": {"type": "string", "description": "The token's handle."},
        "client_id": {"type": "string", "description": "The access key's id."},
        "client_secret": {"type": "string", "description": "The whole access key."},
        "scope": TEXT,
    },
    "required": ["grant_type", "refresh_token"],
}
_EXCHANGE: Schema = {
    "type": "object",
    "properties": {
        "grant_type": {"const": EXCHANGE},
        "subject_token": {"type": "string", "description": "The workload's JWT."},
        "subject_token_type": {"const": JWT},
        "audience": {"type": "string", "description": "The token: PROVIDER:ACCOUNT."},
        "requested_token_type": {"const": ACCESS_TOKEN},
        "scope": TEXT,
    },
    "required": ["grant_type", "subject_token", "subject_token_type", "audience"],
}


def oauth_paths() -> dict[str, object]:
    """Return the paths of token endpoints."""
    error = json_of(ref("OAuthError"))
    provider = ACCOUNT[0]
    return {
        "/v1/oauth/{provider}/token": {
            "post": operation(
                "exchange",
                "The token endpoint for OAuth libraries (RFC 6749 §6): a handle in place of the refresh token; and"
                " for workloads that have a JWT of a trusted issuer (RFC 8693).",
                answers(
                    {
                        "200": (
                            "The access token, and the same handle, if there was one.",
                            json_of({"oneOf": [ref("OAuthToken"), ref("ExchangedToken")]}),
                        ),
                        **dict.fromkeys(
                            ("400", "401", "413", "429", "503"), ("An error (RFC 6749 §5.2).", error)
                        ),
                    },
                ),
                parameters=(provider,),
                body=json_of({"oneOf": [_FORM, _EXCHANGE]}, "application/x-www-form-urlencoded"),
                guarded=False,
            )
        },
        "/.well-known/oauth-authorization-server/v1/oauth/{provider}": {
            "get": operation(
                "getMetadata",
                "The metadata of a token endpoint (RFC 8414).",
                answers({"200": ("The metadata.", json_of({"type": "object"}))}),
                parameters=(provider,),
                guarded=False,
            )
        },
    }
