"""The cost of the cache: the time of a hit, and the memory of 10,000 tokens.

    python bench.py        exits with 1 if a hit takes 50 microseconds or more, or 10,000 tokens 10 MB or more

No refreshd is needed: the transport here makes tokens up.
"""

import asyncio
import gc
import json
import statistics
import sys
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from refreshd_reader import AsyncTokens, Token, Tokens
from refreshd_reader.http_transport import reading_of
from refreshd_reader.transport import Grant, Reading

TOKENS = 10_000
TEXT = 200  # characters of an access token
HITS, ROUNDS = 100_000, 7
MOST_MICROSECONDS, MOST_MEGABYTES = 50, 10


class MadeUp:
    """A transport that needs no network."""

    def read(self, provider: str, account: str) -> Reading:
        expires_at = datetime.now(UTC) + timedelta(hours=1)
        answer = {
            "id": f"{provider}:{account}",
            "access_token": f"{account}-".ljust(TEXT, "x"),
            "token_type": "Bearer",
            "expires_at": expires_at.isoformat(),
            "expires_in": 3600,
            "scope": "offline_access accounting.transactions accounting.contacts",
            "missing_scopes": [],
            "version": f"{account}-".ljust(22, "v"),
            "extra": {"api_domain": f"https://{account}.example.com"},
        }
        reading = reading_of(provider, account, json.loads(json.dumps(answer)))
        assert reading is not None  # noqa: S101 - it is this token
        return reading

    def refused(self, token: Token) -> Reading:
        return self.read(token.provider, token.account)

    def store(self, provider: str, account: str, grant: Grant) -> NoReturn:
        raise NotImplementedError

    def remove(self, provider: str, account: str, *, revoke: bool) -> NoReturn:
        raise NotImplementedError

    def remove_all(self, subject: str, *, revoke: bool) -> NoReturn:
        raise NotImplementedError

    def forked(self) -> None: ...

    def close(self) -> None: ...


def hit() -> float:
    """Return the microseconds of one hit, in a full cache."""
    tokens = full(Tokens(MadeUp()))
    started = time.perf_counter()
    for number in range(HITS):
        tokens.get("xero", f"company-{number % TOKENS}")
    return (time.perf_counter() - started) / HITS * 1e6


async def async_hit() -> float:
    """Return the microseconds of one awaited hit."""
    tokens = AsyncTokens(MadeUp())
    await tokens.get("xero", "company-1")
    started = time.perf_counter()
    for _ in range(HITS):
        await tokens.get("xero", "company-1")
    took = (time.perf_counter() - started) / HITS * 1e6
    await tokens.aclose()
    return took


def megabytes() -> float:
    """Return the memory of a full cache, with texts of TEXT characters."""
    gc.collect()
    tracemalloc.start()
    tokens = full(Tokens(MadeUp()))
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(tokens._core.cache) == TOKENS  # noqa: S101, SLF001 - else the figure says nothing
    return used / 1e6


def full(tokens: Tokens) -> Tokens:
    for number in range(TOKENS):
        tokens.get("xero", f"company-{number}")
    return tokens


def main() -> int:
    sync = statistics.median(hit() for _ in range(ROUNDS))
    awaited = statistics.median(asyncio.run(async_hit()) for _ in range(ROUNDS))
    memory = megabytes()
    print(f"hit                    {sync:6.2f} µs")
    print(f"hit, AsyncTokens       {awaited:6.2f} µs")
    print(f"{TOKENS:,} tokens of {TEXT} characters  {memory:.1f} MB")
    return int(max(sync, awaited) >= MOST_MICROSECONDS or memory >= MOST_MEGABYTES)


if __name__ == "__main__":
    sys.exit(main())
