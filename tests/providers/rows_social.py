"""Social networks and messengers."""

from tests.providers.row import DAY, HOUR, SECOND_HAND, UNSHOWN, Rows, row

ROWS: Rows = (
    row(
        "discord", every=1, documented=7 * DAY, unsettled=SECOND_HAND,
        says={"throttle": ["Unavailable http_429"], "throttle, Retry-After: 7": ["Unavailable http_429, wait 7 s"]},
    )
    | row(
        "kakao", every=3, told=False, refresh_ends=30 * DAY, documented=6 * HOUR,
        says={
            "throttle": ["Unavailable invalid_request"],
            "throttle, Retry-After: 7": ["Unavailable invalid_request, wait 7 s"],
        },
    )
    | row("line", every=1, refresh_ends=90 * DAY, documented=30 * DAY, unsettled=UNSHOWN)
    | row(
        "pinterest", every=1, refresh_ends=60 * DAY, documented=30 * DAY, unsettled=UNSHOWN,
        says={
            "dead grant": ["Unavailable 2", "Rejected invalid_grant"],
            "throttle": ["Unavailable 8"],
            "throttle, Retry-After: 7": ["Unavailable 8, wait 7 s"],
        },
    )
    | row("snapchat", every=0, documented=HOUR / 2, unsettled=UNSHOWN)
    | row(
        "tiktok", every=1, always=True, refresh_ends=180 * DAY, documented=2 * HOUR, unsettled=SECOND_HAND,
        keeps={"open_id": "afd97af1-b87b-48b9-ac98-410aghda5344"},
    )
    | row(
        "webex", every=0, refresh_ends=90 * DAY, documented=14 * DAY, unsettled=SECOND_HAND,
        says={
            "dead grant": ["Unavailable http_400", "Rejected invalid_grant"],
            "throttle": ["Unavailable http_429, wait 60 s"],
            "throttle, Retry-After: 7": ["Unavailable http_429, wait 7 s"],
        },
    )
)  # fmt: skip
