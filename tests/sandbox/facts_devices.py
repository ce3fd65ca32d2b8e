"""Health, homes and cars."""

from tests.sandbox.facts import (
    ALWAYS,
    EMPTY,
    GONE,
    NO_OFFLINE,
    OFFLINE,
    PAIR,
    RETOLD,
    RTE,
    SCOPED,
    Asked,
    Fact,
    Revoked,
    asked,
    fact,
    revoked,
)

FACTS: dict[str, Fact] = {
    "ecobee": fact("/token", "id", "query", RETOLD, SCOPED, GONE),
    "garmin": fact(
        "/di-oauth2-service/oauth/token", "post", "form", ALWAYS, f"{SCOPED} jti {RTE}",
        (400, {"error": "invalid_grant", "error_description": "Invalid refresh token: 1//the+presented.value"}),
    ),
    "netatmo": fact(
        "/oauth2/token", "post", "form", ALWAYS, "scope access_token expires_in refresh_token", GONE,
        client=(400, {"error": "invalid_client"}),
    ),
    "oura": fact("/oauth/token", "post", "form", ALWAYS, PAIR, (400, {"error": "invalid_request"})),
    "smartthings": fact(
        "/oauth/token", "basic", "form", ALWAYS, f"{SCOPED} access_tier installed_app_id", GONE
    ),
    "tesla": fact("/oauth2/v3/token", "id", "form", ALWAYS, PAIR, (401, {"error": "login_required"})),
    "whoop": fact(
        "/oauth/oauth2/token", "post", "form", ALWAYS, SCOPED, GONE, sent={"scope": "offline"}
    ),
    "withings": fact(
        "/v2/oauth2", "post", "form", ALWAYS, f"{SCOPED} userid csrf_token",
        (200, {"status": 503, "error": "Invalid Params: invalid refresh_token"}),
        client=(200, {"status": 503, "error": "Invalid Params: invalid client_secret"}),
        throttle=(200, {"status": 601}), broken=200, sent={"action": "requesttoken"}, inside="body", in_grace=True,
    ),
}  # fmt: skip

ASKED: dict[str, Asked] = {
    "ecobee": asked("/authorize", needs="response_type scope", pkce="ignored", fewer=True),
    "garmin": asked("/oauth2Confirm", needs="response_type code_challenge", pkce="required"),
    "netatmo": asked("/oauth2/authorize", needs="response_type", pkce="ignored", fewer=True),
    "oura": asked("/oauth/authorize", needs="response_type", pkce="ignored", fewer=True),
    "smartthings": asked("/oauth/authorize", needs="response_type", pkce="ignored", fewer=True),
    "tesla": asked(
        "/oauth2/v3/authorize",
        auth="post",
        sent=OFFLINE,
        needs="response_type",
        online=NO_OFFLINE,
        pkce="ignored",
        fewer=True,
    ),
    "whoop": asked(
        "/oauth/oauth2/auth",
        sent={"scope": "read offline"},
        needs="response_type scope state",
        online=NO_OFFLINE,
        pkce="ignored",
        fewer=True,
    ),
    "withings": asked(
        "/oauth2_user/authorize2",
        needs="response_type scope state",
        pkce="ignored",
        fewer=True,
        account="body.userid",
    ),
}

REVOKED: dict[str, Revoked] = {
    "garmin": revoked(
        "DELETE /wellness-api/rest/user/registration",
        "bearer none access",
        "account",
        (204, ""),
        (401, "invalid_token"),
    ),
    "oura": revoked("POST /oauth/revoke", "query none access", "token", EMPTY, parameter="access_token"),
    "whoop": revoked(
        "DELETE /developer/v2/user/access", "bearer none access", "account", (204, ""), (401, "invalid_token")
    ),
}
