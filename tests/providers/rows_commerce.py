"""Providers of commerce and payments."""

from datetime import timedelta

from tests.providers.row import DAY, HOUR, SECOND_HAND, UNSHOWN, Rows, row

ROWS: Rows = (
    row("amazon-ads", every=0, confirmed=timedelta(minutes=1))
    | row(
        "clover", every=1, always=True, refresh_ends=365 * DAY, client="id", unsettled=UNSHOWN,
        names={"expires_at": "access_token_expiration"},
        says={
            "dead grant": ["Unavailable http_401", "Rejected invalid_grant"],
            "wrong client": ["Unavailable http_401"],
            "throttle": ["Unavailable http_429"],
            "throttle, Retry-After: 7": ["Unavailable http_429, wait 7 s"],
        },
    )
    | row(
        "coinbase", every=1, always=True, refresh_ends=547 * DAY,
        unsettled="the status is known, the code is not",
    )
    | row(
        "etsy", every=1, always=True, refresh_ends=90 * DAY, client="id", unsettled=SECOND_HAND,
        says={"server error": ["Unavailable Server Error, in doubt"]},
    )
    | row(
        "mercadolibre", every=1, always=True, refresh_ends=182 * DAY, documented=6 * HOUR,
        keeps={"user_id": 8035443},
        says={
            "wrong client": ["Misconfigured bad_request (client)"],
            "throttle": ["Unavailable local_rate_limited"],
            "throttle, Retry-After: 7": ["Unavailable local_rate_limited, wait 7 s"],
        },
    )
    | row("paypal", every=0, told=False, keeps={"app_id": "APP-80W284485P519543T"}, unsettled=UNSHOWN)
    | row(
        "square", every=0, names={"expires_at": "expires_at"}, documented=30 * DAY,
        keeps={"merchant_id": "MLEXAMPLE123"}, unsettled=SECOND_HAND,
        says={"dead grant": ["Rejected http_401"]},
    )
    | row(
        "tiktok-shop", every=1, always=True, refresh_ends=365 * DAY, documented=DAY, inside="data", success="code",
        names={"expires_at": "access_token_expire_in", "scope": "granted_scopes"},
        keeps={
            "data_open_id": "7010736057180325637",
            "data_seller_name": "Example Shop",
            "data_seller_base_region": "GB",
            "data_user_type": 0,
        },
        unsettled="one user's number for it, which may stand for other things",
        says={  # any number but 0, with status 200
            "dead grant": ["Unavailable 98001006"],
            "wrong client": ["Unavailable 36009004"],
            "throttle": ["Unavailable 36009002"],
            "throttle, Retry-After: 7": ["Unavailable 36009002, wait 7 s"],
        },
    )
    | row("wise", every=0, refresh_ends=timedelta(days=3660), documented=12 * HOUR)
)  # fmt: skip
