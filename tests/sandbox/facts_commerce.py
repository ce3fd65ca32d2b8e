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
    "wise": fact(
        "/oauth/token", "basic", "form", RETOLD, f"{SCOPED} {RTE} expires_at created_at", GONE
    ),
}  # fmt: skip

ASKED: dict[str, Asked] = {
    "amazon-ads": asked("/ap/oa", needs="response_type scope", pkce="ignored"),
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
    "wise": asked("/oauth/authorize", needs="response_type"),
}

REVOKED: dict[str, Revoked] = {
    "coinbase": revoked("POST /oauth2/revoke", "form post access", "token", EMPTY),
}
