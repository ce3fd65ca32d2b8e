"""Social networks and messengers."""

from tests.providers.row import DAY, HOUR, SECOND_HAND, UNSHOWN, Rows, row

ROWS: Rows = (
    row(
        "discord", every=1, documented=7 * DAY, unsettled=SECOND_HAND,
        says={"throttle": ["Unavailable http_429"], "throttle, Retry-After: 7": ["Unavailable http_429, wait 7 s"]},
    )
    | row(
        "instagram", every=0, told=False, client="nobody", documented=60 * DAY, unsettled=SECOND_HAND,
        says={
            "dead grant": ["Rejected 190"] * 2,
            "wrong client": ["Misconfigured 100 (token)"],
            "throttle": ["Unavailable 4", "Unavailable 17", "Unavailable 32"],
            "throttle, Retry-After: 7": [f"Unavailable {code}, wait 7 s" for code in (4, 17, 32)],
            "server error": ["Unavailable 2, in doubt"],
        },
    )
    | row(
        "kakao", every=0, told=False, refresh_ends=60 * DAY, documented=6 * HOUR,
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
        "threads", every=0, told=False, client="nobody", documented=60 * DAY,
        unsettled="the same platform's words are taken for its own",
        says={
            "dead grant": ["Rejected 190"] * 2,
            "wrong client": ["Unavailable 100"],
            "throttle": ["Unavailable 4", "Unavailable 17", "Unavailable 32"],
            "throttle, Retry-After: 7": [f"Unavailable {code}, wait 7 s" for code in (4, 17, 32)],
            "server error": ["Unavailable 2, in doubt"],
        },
    )
    | row(
        "tiktok", every=1, always=True, refresh_ends=180 * DAY, documented=2 * HOUR, unsettled=SECOND_HAND,
        keeps={"open_id": "afd97af1-b87b-48b9-ac98-410aghda5344"},
    )
    | row(
        "tiktok-business", every=1, success="code", refresh_ends=365 * DAY, documented=DAY, inside="data", unsettled=UNSHOWN,
        keeps={"data_open_id": "723f24d7-e717-40f8-a2b6-cb8464cd23b4"},
        says={  # any number but 0, with status 200
            "dead grant": ["Unavailable 40105"],
            "wrong client": ["Unavailable 40001"],
            "throttle": ["Unavailable 40100"],
            "throttle, Retry-After: 7": ["Unavailable 40100, wait 7 s"],
        },
    )
    | row(
        "webex", every=0, refresh_ends=90 * DAY, documented=14 * DAY, unsettled=SECOND_HAND,
        says={
            "dead grant": ["Unavailable http_400", "Rejected invalid_grant"],
            "throttle": ["Unavailable http_429, wait 60 s"],
            "throttle, Retry-After: 7": ["Unavailable http_429, wait 7 s"],
        },
    )
    | row(
        "wechat", every=0, success="errcode", client="id", refresh_ends=30 * DAY, documented=2 * HOUR, confirmed=HOUR / 60,
        keeps={"openid": "o6_bmjrPTlm6_2sgVt7hMZOPfL2M"}, first={"unionid": "o6_bmasdasdsad6_2sgVt7hMZOPfL"},
        says={  # any number but 0, with status 200
            "dead grant": ["Rejected 40030", "Rejected 42002", "Rejected 42007"],
            "wrong client": ["Misconfigured 40013 (client)"],
            "throttle": ["Unavailable 45009", "Unavailable 45011"],
            "throttle, Retry-After: 7": ["Unavailable 45009, wait 7 s", "Unavailable 45011, wait 7 s"],
            "server error": ["Unavailable -1"],
        },
    )
)  # fmt: skip
