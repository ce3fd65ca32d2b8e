"""Providers of commerce and payments."""

from tests.sandbox.facts import (
    ALWAYS,
    BARE,
    EMPTY,
    GONE,
    PAIR,
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
    "amazon-ads": fact("/auth/o2/token", "post", "form", RETOLD, PAIR, GONE),
    "clover": fact(
        "/oauth/v2/refresh", "id", "json", ALWAYS, "access_token expires_at refresh_token refresh_token_expiration",
        (401, {"message": "Failed to validate refresh token"}), client=(401, {"message": "401 Unauthorized"}),
        throttle=(429, {"message": "429 Too Many Requests"}), grant="", names={"expires_at": "access_token_expiration"},
    ),
    "coinbase": fact(
        "/oauth2/token", "post", "form", ALWAYS, SCOPED, (401, {"error": "invalid_grant"})
    ),
    "etsy": fact(
        "/v3/public/oauth/token", "id", "form json", ALWAYS, PAIR,
        (400, {"error": "invalid_grant", "error_description": "refresh_token is revoked"}),
    ),
    "mercadolibre": fact(
        "/oauth/token", "post", "form", ALWAYS, f"{SCOPED} user_id",
        (400, {"error": "invalid_grant", "status": 400, "cause": []}),
        client=(400, {"message": "invalid client_id or client_secret"}),
        throttle=(429, {"error": "local_rate_limited"}),
    ),
    "paypal": fact("/v1/oauth2/token", "basic", "form", UNTOLD, f"{PLAIN} scope app_id nonce", GONE),
    "square": fact(
        "/oauth2/token", "post", "json", RETOLD,
        "access_token token_type expires_at merchant_id refresh_token short_lived",
        (401, {"message": "Invalid refresh token", "type": "service.not_authorized"}),
    ),
    "tiktok-shop": fact(
        "/api/v2/token/refresh", "post", "form", ALWAYS,
        "access_token access_token_expire_in refresh_token refresh_token_expire_in open_id seller_name"
        " seller_base_region user_type granted_scopes",
        (200, {"code": 98001006}), client=(200, {"code": 36009004}), throttle=(200, {"code": 36009002}),
        inside="data", called={"client_id": "app_key", "client_secret": "app_secret"},
    ),
    "wise": fact(
        "/oauth/token", "basic", "form", RETOLD, f"{SCOPED} {RTE} expires_at created_at", GONE
    ),
}  # fmt: skip

ASKED: dict[str, Asked] = {
    "amazon-ads": asked("/ap/oa", needs="response_type scope", pkce="ignored"),
    "clover": asked("/oauth/v2/authorize", sent=BARE, auth="post"),
    "coinbase": asked(
        "/oauth2/auth",
        sent={"scope": "read,offline_access"},
        needs="response_type",
        online={"scope": "read"},
        fewer=True,
    ),
    "etsy": asked(
        "/oauth/connect", needs="response_type scope state code_challenge", pkce="required", fewer=True
    ),
    "mercadolibre": asked(
        "/authorization",
        sent={"scope": "read offline_access"},
        needs="response_type",
        online={"scope": "read"},
        account="user_id",
    ),
    "paypal": asked("/signin/authorize", needs="response_type"),
    "square": asked("/oauth2/authorize", sent=BARE, pkce="ignored", fewer=True, account="merchant_id"),
    "tiktok-shop": asked(
        "/open/authorize",
        sent={**BARE, "client_id": None, "service_id": "sandbox-client"},
        needs="state",
        pkce="ignored",
        account="data.open_id",
    ),
    "wise": asked("/oauth/authorize", needs="response_type"),
}

REVOKED: dict[str, Revoked] = {
    "coinbase": revoked("POST /oauth2/revoke", "form post access", "token", EMPTY),
}
