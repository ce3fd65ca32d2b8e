"""Social networks and messengers."""

from tests.sandbox.facts import (
    ALWAYS,
    EMPTY,
    GONE,
    PLAIN,
    RETOLD,
    RTE,
    SCOPED,
    THIRD_UNTOLD,
    Asked,
    Fact,
    Revoked,
    asked,
    fact,
    revoked,
)

FACTS: dict[str, Fact] = {
    "discord": fact("/api/oauth2/token", "basic post", "form", ALWAYS, SCOPED, GONE),
    "kakao": fact(
        "/oauth/token", "post", "form", THIRD_UNTOLD, f"{PLAIN} scope",
        (400, {"error": "invalid_grant", "error_code": "KOE322"}), throttle=(400, {"error_code": "KOE237"}),
    ),
    "line": fact("/oauth2/v2.1/token", "post", "form", ALWAYS, SCOPED, GONE),
    "pinterest": fact(
        "/v5/oauth/token", "basic", "form", ALWAYS, f"{SCOPED} response_type {RTE} refresh_token_expires_at",
        (401, {"code": 2, "message": "Authentication failed."}), throttle=(429, {"code": 8}),
    ),
    "snapchat": fact("/login/oauth2/access_token", "post basic", "form", RETOLD, SCOPED, GONE),
    "tiktok": fact(
        "/v2/oauth/token/", "post", "form", ALWAYS, f"{SCOPED} open_id refresh_expires_in",
        (400, {"error": "invalid_grant", "error_description": "Refresh token is invalid or expired."}),
        client=(400, {"error": "invalid_client"}), called={"client_id": "client_key"},
    ),
    "webex": fact(
        "/v1/access_token", "post", "form", RETOLD, f"{SCOPED} {RTE}",
        (400, {"errors.0.description": "The refresh token provided is expired, revoked, malformed, or invalid"}),
        wait="60",
    ),
}  # fmt: skip

ASKED: dict[str, Asked] = {
    "discord": asked("/api/oauth2/authorize", needs="response_type scope"),
    "kakao": asked("/oauth/authorize", needs="response_type", fewer=True),
    "line": asked("/oauth2/v2.1/authorize", needs="response_type scope state", fewer=True),
    "pinterest": asked(
        "/oauth/",
        needs="response_type scope",
        pkce="ignored",
        fewer=True,
        brings={"continuous_refresh": "true"},
    ),
    "snapchat": asked("/login/oauth2/authorize", needs="response_type scope", pkce="ignored"),
    "tiktok": asked(
        "/v2/auth/authorize/",
        sent={"client_id": None, "client_key": "sandbox-client"},
        needs="response_type scope",
        pkce="ignored",
        fewer=True,
        account="open_id",
    ),
    "webex": asked("/v1/authorize", needs="response_type scope"),
}

REVOKED: dict[str, Revoked] = {
    "discord": revoked("POST /api/oauth2/token/revoke", "form basic access", "grant", (200, "{}")),
    "line": revoked(
        "POST /oauth2/v2.1/revoke", "form post access", "token", EMPTY, parameter="access_token"
    ),
    "tiktok": revoked(
        "POST /v2/oauth/revoke/", "form post refresh", "grant", (200, "{}"), client_id="client_key"
    ),
}  # fmt: skip
