"""Developers' tools, identity and healthcare."""

from tests.providers.row import DAY, HOUR, UNSHOWN, Rows, row

STANDARD_ONLY = "a standard has it so, and each server is another"

ROWS: Rows = (
    row("cognito", every=0, told=False, refresh_ends=30 * DAY, unsettled=UNSHOWN)
    | row("cognito", sandbox="cognito-rotating", every=1, refresh_ends=30 * DAY, unsettled=UNSHOWN)
    | row(
        "digitalocean", every=1, always=True, client="nobody", documented=30 * DAY, unsettled=UNSHOWN,
        keeps={
            "info_uuid": "e028b1b918853eca7fba208a9d7e9d29a6e93c57",
            "info_team_uuid": "d2a4c0c1b918853eca7fba208a9d7e9d29a6e93c",
        },
    )
    | row(
        "mcp", every=1, client="id", unsettled=STANDARD_ONLY,
        says={  # of one server: the others' tokens go on
            "wrong client": ["Misconfigured invalid_client (token)"] * 2 + ["Misconfigured invalid_target (token)"],
        },
    )
    | row(
        "ory", every=1, always=True, refresh_ends=30 * DAY, unsettled=UNSHOWN,
        says={"dead grant": ["Rejected invalid_grant", "Rejected token_inactive"]},
    )
    | row("pagerduty", every=1, always=True, refresh_ends=30 * DAY, documented=DAY, unsettled=UNSHOWN)
    | row(
        "sentry", every=1, always=True, documented=8 * HOUR,
        names={
            "access_token": "token",
            "refresh_token": "refreshToken",
            "expires_at": "expiresAt",
            "scope": "scopes",
        },
        says={
            "dead grant": ["Rejected http_401"],
            "wrong client": ["Misconfigured http_401 (client)", "Misconfigured http_400 (token)"],
            "throttle": ["Unavailable http_429"],
            "throttle, Retry-After: 7": ["Unavailable http_429, wait 7 s"],
            "server error": ["Unavailable http_500, in doubt"],
        },
    )
    | row(
        "smart-on-fhir", every=3, keeps={"patient": "123"}, unsettled=STANDARD_ONLY
    )
    | row("supabase", every=1, unsettled=UNSHOWN)
    | row("yandex", every=1, always=True, unsettled=UNSHOWN)
)  # fmt: skip
