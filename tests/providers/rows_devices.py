"""Health, homes and cars."""

from datetime import timedelta

from tests.providers.row import DAY, HOUR, SECOND_HAND, UNSHOWN, Rows, row

ROWS: Rows = (
    row("ecobee", every=0, refresh_ends=365 * DAY, client="id", unsettled=UNSHOWN)
    | row("garmin", every=1, always=True, refresh_ends=90 * DAY, documented=DAY, unsettled=SECOND_HAND)
    | row("netatmo", every=1, always=True, documented=3 * HOUR, unsettled=SECOND_HAND)
    | row(
        "oura", every=1, always=True, documented=DAY,
        unsettled="wrong requests are worded alike, so that it is believed only as the standard has it",
        says={"dead grant": ["Unavailable invalid_request", "Rejected invalid_grant"]},
    )
    | row("smartthings", every=1, always=True, refresh_ends=30 * DAY, documented=DAY, unsettled=SECOND_HAND)
    | row(
        "tesla", every=1, always=True, refresh_ends=90 * DAY, documented=8 * HOUR, client="id",
        confirmed=timedelta(minutes=10), unsettled="good grants were told the same, for days",
        says={"dead grant": ["Rejected login_required"]},
    )
    | row("whoop", every=1, always=True, confirmed=timedelta(minutes=1))
    | row(
        "withings", every=1, always=True, refresh_ends=365 * DAY, documented=3 * HOUR, inside="body", success="status",
        keeps={"body_userid": "363"},
        says={  # all with status 200, and the words decide
            "dead grant": ["Rejected 503"],
            "wrong client": ["Misconfigured 503 (client)"] * 2,
            "throttle": ["Unavailable 601, wait 60 s"],
            "throttle, Retry-After: 7": ["Unavailable 601, wait 60 s"],
            "server error": ["Unavailable 522, in doubt"],
        },
    )
)  # fmt: skip
