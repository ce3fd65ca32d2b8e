"""Social networks and messengers."""

from tests.sandbox.facts import (
    ALWAYS,
    EMPTY,
    GONE,
    NONE,
    PLAIN,
    RETOLD,
    RTE,
    SCOPED,
    UNTOLD,
    Asked,
    Fact,
    Revoked,
    asked,
    fact,
    revoked,
)

FACTS: dict[str, Fact] = {
    "discord": fact("/api/oauth2/token", "basic post", "form", ALWAYS, SCOPED, GONE),
    "instagram": fact(
        "/refresh_access_token", "nobody", "query", NONE, PLAIN,
        (400, {"error.code": 190, "error.type": "OAuthException"}), client=(400, {"error.code": 100}),
        throttle=(400, {"error.code": 4}), method="GET", grant="ig_refresh_token", presents="access_token",
        exchange=True,
    ),
    "kakao": fact(
        "/oauth/token", "post", "form", UNTOLD, f"{PLAIN} scope",
        (400, {"error": "invalid_grant", "error_code": "KOE322"}), throttle=(400, {"error_code": "KOE237"}),
    ),
    "line": fact("/oauth2/v2.1/token", "post", "form", ALWAYS, SCOPED, GONE),
    "pinterest": fact(
        "/v5/oauth/token", "basic", "form", ALWAYS, f"{SCOPED} response_type {RTE} refresh_token_expires_at",
        (401, {"code": 2, "message": "Authentication failed."}), throttle=(429, {"code": 8}),
    ),
    "snapchat": fact("/login/oauth2/access_token", "post basic", "form", RETOLD, SCOPED, GONE),
    "threads": fact(
        "/refresh_access_token", "nobody", "query", NONE, PLAIN,
        (400, {"error.code": 190, "error.type": "OAuthException"}), client=(400, {"error.code": 100}),
        throttle=(400, {"error.code": 4}), method="GET", grant="th_refresh_token", presents="access_token",
        exchange=True,
    ),
    "tiktok": fact(
        "/v2/oauth/token/", "post", "form", ALWAYS, f"{SCOPED} open_id refresh_expires_in",
        (400, {"error": "invalid_grant", "error_description": "Refresh token is invalid or expired."}),
        client=(400, {"error": "invalid_client"}), called={"client_id": "client_key"},
    ),
    "tiktok-business": fact(
        "/open_api/v1.3/tt_user/oauth2/refresh_token/", "post", "json", ALWAYS, f"{SCOPED} {RTE} open_id",
        (200, {"code": 40105}), client=(200, {"code": 40001}), throttle=(200, {"code": 40100}), inside="data",
    ),
    "webex": fact(
        "/v1/access_token", "post", "form", RETOLD, f"{SCOPED} {RTE}",
        (400, {"errors.0.description": "The refresh token provided is expired, revoked, malformed, or invalid"}),
        wait="60",
    ),
    "wechat": fact(
        "/sns/oauth2/refresh_token", "id", "query", RETOLD, "access_token expires_in refresh_token openid scope",
        (200, {"errcode": 40030}), client=(200, {"errcode": 40013}), throttle=(200, {"errcode": 45009}), broken=200,
        method="GET", called={"client_id": "appid", "client_secret": "secret"},
    ),
}  # fmt: skip

ASKED: dict[str, Asked] = {
    "discord": asked("/api/oauth2/authorize", needs="response_type scope"),
    "instagram": asked("/oauth/authorize", needs="response_type scope", pkce="ignored", fewer=True),
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
    "threads": asked(
        "/oauth/authorize",
        needs="response_type scope",
        pkce="ignored",
        fewer=True,
        account="user_id",
    ),
    "tiktok": asked(
        "/v2/auth/authorize/",
        sent={"client_id": None, "client_key": "sandbox-client"},
        needs="response_type scope",
        pkce="ignored",
        fewer=True,
        account="open_id",
    ),
    "tiktok-business": asked(
        "/v2/auth/authorize/",
        sent={"client_id": None, "client_key": "sandbox-client"},
        needs="response_type scope",
        pkce="ignored",
        fewer=True,
        account="data.open_id",
    ),
    "webex": asked("/v1/authorize", needs="response_type scope"),
    "wechat": asked(
        "/connect/qrconnect",
        sent={"client_id": None, "appid": "sandbox-client"},
        needs="response_type scope",
        pkce="ignored",
        fewer=True,
        account="openid",
    ),
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
