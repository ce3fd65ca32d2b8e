"""Two daemons as `/status` and `/readyz` tell of them: one that is well, and one on a bad night."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from daemon.runtime.web.server import CHECKS

AT = datetime(2026, 11, 21, 3, 12, 40, tzinfo=UTC)


def text(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ago(**span: float) -> str:
    return text(AT - timedelta(**span))


def provider(active: int, dead: int = 0, **more: object) -> dict[str, object]:
    states = {"active": active} | ({"needs_reauth": dead} if dead else {})
    usual = {
        "configured": True,
        "paused": None,
        "next_probe_at": None,
        "expired": 0,
        "stuck": 0,
        "revocation_failed": 0,
        "in_flight": 0,
    }
    return {**usual, "states": states, **more}


def waves(height: float, *, count: int = 60, low: float = 0.4) -> list[int]:
    return [
        round(height * (low + (1 - low) * (0.5 + 0.5 * math.sin(n / 5) * math.cos(n / 17))))
        for n in range(count)
    ]


def failure(token: str, kind: str, code: str, message: str, at: str) -> dict[str, object]:
    return {
        "token": token,
        "provider": token.partition(":")[0],
        "kind": kind,
        "code": code,
        "message": message,
        "at": at,
    }


_COMMON: Mapping[str, Any] = {
    "at": text(AT),
    "version": "0.1.0",
    "versions": {"python": "3.11.7", "aiohttp": "3.14.5", "cryptography": "48.0.0", "pymongo": "4.17.0"},
    "instance": "7d0c51f2-refresh-1",
    "started_at": ago(days=41, hours=7),
    "draining": False,
    "counted_at": ago(seconds=9),
    "counted_age_seconds": 9.0,
    "count_late": False,
    "needs_reauth": [],
}

HEALTHY: Mapping[str, Any] = {
    **_COMMON,
    "ready": True,
    "providers": {
        "google": provider(8214, in_flight=3),
        "hubspot": provider(1920),
        "intranet": provider(37),
        "xero": provider(2466, in_flight=1),
    },
    "next_due_at": text(AT + timedelta(seconds=4)),
    "oldest_due_age_seconds": 0.0,
    "overdue": 0,
    "journal_entries": 0,
    "due_next_hour": waves(1180, count=12, low=0.7),
    "last_failures": [],
    "last_hour": {
        "outcomes": {"renewed": waves(236), "superseded": [0] * 37 + [1] + [0] * 22},
        "shortest_lead_seconds": [270 + n % 7 * 3.5 for n in range(60)],
        "mean_lead_seconds": [297 + n % 5 * 2.5 for n in range(60)],
        "late": 0,
    },
}
WELL = {
    "store": (True, "MongoDB answers and has a writable primary"),
    "journal": (True, "0 replies wait for MongoDB"),
    "keys": (True, "key 2026-11 seals and opens"),
    "sweep": (True, "the last successful sweep was 4 s ago"),
    "clock": (True, "this machine's clock is +0.0 s from MongoDB's"),
    "lanes": (True, "no provider's lane is failing"),
    "secrets": (True, "every secret has come"),
}

_DEAD = "the refresh token is invalid, expired or revoked"
FAILING: Mapping[str, Any] = {
    **_COMMON,
    "ready": False,
    "providers": {
        "google": provider(8199, 15, in_flight=2),
        "hubspot": provider(
            1920, paused="outage", next_probe_at=text(AT + timedelta(seconds=41)), expired=12
        ),
        "intranet": provider(
            37, paused="wrong_client", next_probe_at=text(AT + timedelta(minutes=8)), expired=9
        ),
        "old-crm": provider(4, configured=False),
        "xero": provider(2460, 6, ending=2, stuck=3),
    },
    "needs_reauth": [
        "google:marta.lindqvist@example.com",
        "xero:<script>alert(1)</script>",
        "xero:acme\u202egpj.exe",
    ],
    "next_due_at": ago(minutes=14),
    "oldest_due_age_seconds": 851.0,
    "overdue": 431,
    "journal_entries": 3,
    "due_next_hour": [612, 1180, 1104, 983, 871, 902, 968, 1007, 1093, 1121, 1034, 940],
    "last_failures": [
        *(
            failure(f"hubspot:portal-{n}", "unavailable", "http_503", "Service Unavailable", ago(seconds=s))
            for n, s in ((2210043, 8), (118, 9), (7003, 11), (44102, 14))
        ),
        failure(
            "hubspot:portal-9918200",
            "unavailable",
            "timeout",
            "no answer within 30 s: ConnectTimeoutError",
            ago(seconds=21),
        ),
        failure("google:marta.lindqvist@example.com", "rejected", "invalid_grant", _DEAD, ago(minutes=2)),
        failure(
            "intranet:payroll",
            "misconfigured",
            "invalid_client",
            "client authentication failed",
            ago(minutes=3),
        ),
        failure(
            "hubspot:portal-5512",
            "in_doubt",
            "connection_lost",
            "the connection ended after the request was sent",
            ago(minutes=13),
        ),
        failure("xero:<script>alert(1)</script>", "rejected", "invalid_grant", _DEAD, ago(minutes=31)),
        failure(
            "xero:acme-" + "x" * 120,
            "unreadable",
            "unopenable",
            "sealed with key 2024-02, which is not on the ring",
            ago(hours=3),
        ),
    ],
    "last_hour": {
        "outcomes": {
            "renewed": [*waves(236, count=45), *(n * 3 for n in range(15, 0, -1))],
            "unavailable": [0] * 44 + [2, 9, 30, 44, 51, 49, 55, 52, 58, 50, 47, 53, 50, 54, 49, 31],
            "rejected": [0, 0, 1] * 20,
            "misconfigured": [0] * 50 + [3, 1, 1, 1, 1, 1, 1, 1, 1, 1],
            "in_doubt": [0] * 46 + [4, 2] + [0] * 12,
        },
        "shortest_lead_seconds": [270 + n % 7 * 3.5 for n in range(45)]
        + [240, 190, 160, 120, 90, 61, 44, 12, -8, -35, -71, None, None, 15, 40],
        "mean_lead_seconds": [297 + n % 5 * 2.5 for n in range(45)]
        + [290, 280, 270, 240, 230, 200, 180, 160, 120, 90, 60, None, None, 80, 95],
        "late": 21,
    },
}
ILL = {
    **WELL,
    "journal": (True, "3 replies wait for MongoDB"),
    "clock": (False, "this machine's clock is +47.2 s from MongoDB's"),
}
assert set(WELL) == set(ILL) == set(CHECKS)
