"""Developers' tools, identity and healthcare."""

from tests.sandbox.facts import (
    ALWAYS,
    BARE,
    EMPTY,
    GONE,
    NO_OFFLINE,
    OFFLINE,
    PAIR,
    PLAIN,
    SCOPED,
    THIRD,
    UNTOLD,
    Asked,
    Fact,
    Revoked,
    asked,
    fact,
    revoked,
)

BAD_CLIENT = (400, {"error": "invalid_client"})
INSTALLATION = "a8e5d37a-696c-4c54-adb5-b3f28d64c7de"

FACTS: dict[str, Fact] = {
    "cognito": fact("/oauth2/token", "basic", "form", UNTOLD, PLAIN, GONE, client=BAD_CLIENT),
    "cognito-rotating": fact("/oauth2/token", "basic", "form", ALWAYS, PAIR, GONE, client=BAD_CLIENT),
    "digitalocean": fact(
        "/v1/oauth/refresh", "nobody", "query", ALWAYS, f"{SCOPED} info", GONE, named=(400, {"error": "invalid_request"})
    ),
    "mcp": fact("/oauth/token", "id", "form", ALWAYS, SCOPED, GONE, sent={"resource": "https://mcp.example.com"}),
    "ory": fact("/oauth2/token", "basic", "form", ALWAYS, SCOPED, GONE),
    "pagerduty": fact("/oauth/token", "post", "form", ALWAYS, f"{SCOPED} client_info id_token", GONE),
    "sentry": fact(
        f"/api/0/sentry-app-installations/{INSTALLATION}/authorizations/", "post", "json", ALWAYS,
        "id access_token refresh_token dateCreated expires_at state application scopes",
        (401, {"detail": "Given refresh token does not exist"}),
        client=(401, {"detail": "Could not find matching Application for given client_id"}), status=201,
        names={"access_token": "token", "refresh_token": "refreshToken", "expires_at": "expiresAt"},
    ),
    "smart-on-fhir": fact("/auth/token", "basic", "form", THIRD, f"{SCOPED} patient need_patient_banner", GONE),
    "supabase": fact("/v1/oauth/token", "basic", "form", ALWAYS, PAIR, GONE),
    "yandex": fact("/token", "basic post", "form", ALWAYS, PAIR, GONE, client=BAD_CLIENT),
}  # fmt: skip

ASKED: dict[str, Asked] = {
    "cognito": asked("/oauth2/authorize", needs="response_type"),
    "cognito-rotating": asked("/oauth2/authorize", needs="response_type"),
    "digitalocean": asked(
        "/v1/oauth/authorize", needs="response_type", pkce="ignored", fewer=True, account="info.uuid"
    ),
    "mcp": asked(
        "/authorize",
        sent={"resource": "https://mcp.example.com"},
        needs="response_type resource code_challenge",
        pkce="required",
        fewer=True,
    ),
    "ory": asked("/oauth2/auth", sent=OFFLINE, needs="response_type state", online=NO_OFFLINE, fewer=True),
    "pagerduty": asked("/oauth/authorize", needs="response_type code_challenge", pkce="required", fewer=True),
    "sentry": asked(f"/sentry-apps/{INSTALLATION}/external-install/", sent=BARE, pkce="ignored"),
    "smart-on-fhir": asked(
        "/auth/authorize",
        sent={**OFFLINE, "aud": "https://fhir.example.com"},
        needs="response_type scope state aud code_challenge",
        online=NO_OFFLINE,
        pkce="required",
        fewer=True,
    ),
    "supabase": asked("/v1/oauth/authorize", needs="response_type"),
    "yandex": asked("/authorize", needs="response_type", fewer=True),
}

REVOKED: dict[str, Revoked] = {
    "cognito": revoked("POST /oauth2/revoke", "form basic refresh", "grant", EMPTY),
    "cognito-rotating": revoked("POST /oauth2/revoke", "form basic refresh", "grant", EMPTY),
    "digitalocean": revoked("POST /v1/oauth/revoke", "query none access", "token", (200, "{}")),
    "ory": revoked("POST /oauth2/revoke", "form basic refresh", "grant", EMPTY),
}
