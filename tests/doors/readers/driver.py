"""Does what a case of cases.json says with the installed package. A line of JSON in, a line of JSON out.

Its first argument is the way to use the package: `sync` or `async`.
"""

import asyncio
import json
import os
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import httpx
import refreshd_reader
from refreshd_reader import AsyncTokens, ReaderError, Token, Tokens, cache

PROVIDER = "sandbox"
REAL_CLOCK = cache.clock


def token_named(name):
    return Token(provider="p", account=name, access_token=name, version=name)


def consent_of(one):
    return {
        "state": one.state,
        "held": one.held,
        "scope": one.scope,
        "missing_scopes": list(one.missing_scopes),
        "ends": one.expires_at is not None,
        "failure": one.failure_kind and {"kind": one.failure_kind, "code": one.failure_code},
    }


def link_of(one):
    return {"id": one.id, "url": one.url, "verifier": one.verifier, "ends": one.expires_at is not None}


def token_of(token):
    return {
        "access_token": token.access_token,
        "expires_at": token.expires_at and token.expires_at.timestamp(),
        "token_type": token.token_type,
        "scope": token.scope,
        "missing_scopes": list(token.missing_scopes),
        "extra": dict(token.extra),
        "subject": token.subject,
        "version": token.version,
    }


def error_of(error):
    if not isinstance(error, ReaderError):
        return {"kind": "Setting" if isinstance(error, ValueError) else type(error).__name__}
    found = {"kind": type(error).__name__}
    for name in ("reconnect_url", "retry_after", "problem", "code"):
        if hasattr(error, name):
            found[name] = getattr(error, name)
    return found


def printed(token):
    forms = [repr(token), str(token), f"{token}", repr([token]), repr(vars(refreshd_reader))]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        try:
            forms.append(repr(pickle.dumps(token, protocol)))
        except TypeError as why:
            forms.append(str(why))
    return forms


def body_of(request):
    kind = request.get("body")
    if kind == "stream":
        return (part.encode() for part in ("one", "two"))
    return kind


async def async_body_of(request):
    async def stream():
        yield b"one"
        yield b"two"

    return stream() if request.get("body") == "stream" else request.get("body")


class Sync:
    def __init__(self):
        self.tokens, self.token, self.link = None, None, None

    async def open(self, request):
        self.tokens = Tokens.from_env()
        return True

    async def get(self, request):
        self.token = self.tokens.get(PROVIDER, request["account"])
        return token_of(self.token)

    async def is_valid(self, request):
        return self.tokens.is_valid(PROVIDER, request["account"])

    async def refused(self, request):
        self.token, self.before = self.tokens.refused(self.token), self.token
        return token_of(self.token)

    async def refused_before(self, request):
        return token_of(self.tokens.refused(self.before))

    async def fetch(self, request):
        auth = self.tokens.auth(PROVIDER, request["account"])
        with httpx.Client(auth=auth, follow_redirects=True) as client:
            answer = client.request(request.get("method", "GET"), request["url"], content=body_of(request))
        return {"status": answer.status_code}

    async def burst(self, request):
        with ThreadPoolExecutor(20) as threads:
            found = [threads.submit(self.tokens.get, PROVIDER, request["account"]) for _ in range(20)]
        return {"versions": sorted({one.result().version for one in found})}

    async def advance(self, request):
        """Move the clock of the cache."""
        cache.clock = lambda: REAL_CLOCK() + request["seconds"]
        return True

    async def least_recently_used(self, request):
        """Return which of three tokens a cache of two has kept."""
        small = cache.Cache(2)
        for name in "ab":
            small.put(("p", name), token_named(name), seconds_left=None, age=0)
        small.get(("p", "a"))
        small.put(("p", "c"), token_named("c"), seconds_left=None, age=0)
        return [name for name in "abc" if small.get(("p", name))]

    async def printed(self, request):
        return printed(self.token)

    async def store(self, request):
        consented_at = request.get("consented_at")
        more = {"consented_at": datetime.fromisoformat(consented_at)} if consented_at else {}
        return self.tokens.store(
            PROVIDER, request["account"], request["response"], subject=request.get("subject"), **more
        )

    async def remove(self, request):
        return self.tokens.remove(PROVIDER, request["account"], revoke=request.get("revoke", True)).state

    async def remove_all(self, request):
        endings = self.tokens.remove_all(request["subject"], revoke=request.get("revoke", True))
        return sorted([one.id, one.state] for one in endings)

    async def connect(self, request):
        self.link = self.tokens.connect(PROVIDER, request["account"], **request["wish"])
        return link_of(self.link)

    async def printed_link(self, request):
        return [repr(self.link), str(self.link), f"{[self.link]}"]

    async def complete(self, request):
        verifier = request.get("verifier") or self.link.verifier
        return consent_of(self.tokens.complete(request.get("id") or self.link.id, request["code"], verifier))

    async def consent(self, request):
        return consent_of(self.tokens.consent(request.get("id") or self.link.id))

    async def close(self):
        if self.tokens is not None:
            self.tokens.close()


class Async(Sync):
    async def open(self, request):
        await self.close()
        self.tokens = AsyncTokens.from_env()
        return True

    async def get(self, request):
        self.token = await self.tokens.get(PROVIDER, request["account"])
        return token_of(self.token)

    async def is_valid(self, request):
        return await self.tokens.is_valid(PROVIDER, request["account"])

    async def refused(self, request):
        self.before, self.token = self.token, await self.tokens.refused(self.token)
        return token_of(self.token)

    async def refused_before(self, request):
        return token_of(await self.tokens.refused(self.before))

    async def fetch(self, request):
        auth = self.tokens.auth(PROVIDER, request["account"])
        async with httpx.AsyncClient(auth=auth, follow_redirects=True) as client:
            content = await async_body_of(request)
            answer = await client.request(request.get("method", "GET"), request["url"], content=content)
        return {"status": answer.status_code}

    async def burst(self, request):
        asked = (self.tokens.get(PROVIDER, request["account"]) for _ in range(20))
        return {"versions": sorted({one.version for one in await asyncio.gather(*asked)})}

    async def store(self, request):
        consented_at = request.get("consented_at")
        more = {"consented_at": datetime.fromisoformat(consented_at)} if consented_at else {}
        return await self.tokens.store(
            PROVIDER, request["account"], request["response"], subject=request.get("subject"), **more
        )

    async def remove(self, request):
        ending = await self.tokens.remove(PROVIDER, request["account"], revoke=request.get("revoke", True))
        return ending.state

    async def remove_all(self, request):
        endings = await self.tokens.remove_all(request["subject"], revoke=request.get("revoke", True))
        return sorted([one.id, one.state] for one in endings)

    async def connect(self, request):
        self.link = await self.tokens.connect(PROVIDER, request["account"], **request["wish"])
        return link_of(self.link)

    async def complete(self, request):
        verifier = request.get("verifier") or self.link.verifier
        return consent_of(
            await self.tokens.complete(request.get("id") or self.link.id, request["code"], verifier)
        )

    async def consent(self, request):
        return consent_of(await self.tokens.consent(request.get("id") or self.link.id))

    async def close(self):
        if self.tokens is not None:
            await self.tokens.aclose()


async def main():
    driver = {"sync": Sync, "async": Async}[sys.argv[1]]()
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "open":
            cache.clock = REAL_CLOCK
            for name in ("REFRESHD_URL", "REFRESHD_ACCESS_KEY", "MONGODB_URI", "REFRESHD_READERS"):
                os.environ.pop(name, None)
            os.environ.update(request["env"])
        try:
            answer = {"value": await getattr(driver, request["do"])(request)}
        except Exception as error:  # noqa: BLE001 - the case says which
            answer = {"error": error_of(error), "message": str(error)}
        print(json.dumps(answer), flush=True)


asyncio.run(main())
