"""Hostile HTTP clients: malformed, huge, slow and many, all drawn from one seed, so that what hurt once can be had again.

    python bench/attack.py --port 9464 --requests 10000 --seed 7

Each "request" is one connection and what is done with it. What comes back is counted, not judged.
"""

import argparse
import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from itertools import pairwise
from random import Random

HOST = "127.0.0.1"
FROM = ("127.0.0.2", "127.0.0.3")  # addresses of their own, as strangers have
CLIENTS = 48
PATIENCE = 30  # seconds after which a connection that was neither answered nor closed counts as hung
PATHS = (b"/", b"/status", b"/metrics", b"/readyz", b"/livez", b"/healthz", b"/favicon.ico")
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}) ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What to send, with pauses in seconds after each part, and whether to wait for what comes back."""

    parts: Sequence[tuple[bytes, float]]
    listens: bool = True


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of the connections. `answers`: by status; one connection may hold several."""

    seed: int
    sent: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    closed: int = 0  # without a word
    left: int = 0  # by us
    hung: list[str] = field(default_factory=list)
    told: list[bytes] = field(default_factory=list)  # the bodies and headers of all 200s


def head(chance: Random, *, method: bytes = b"GET", path: bytes = b"", lines: Sequence[bytes] = ()) -> bytes:
    """A request as a stranger would send it."""
    first = method + b" " + (path or chance.choice(PATHS)) + b" HTTP/1.1"
    return b"\r\n".join([first, b"Host: attacker.example", *lines, b"", b""])


def noise(chance: Random, least: int, most: int) -> bytes:
    return chance.randbytes(chance.randint(least, most))


def whole(said: bytes) -> Case:
    return Case(parts=[(said, 0)])


def random_bytes(chance: Random) -> Case:
    return whole(noise(chance, 1, 4000) + b"\r\n\r\n")


def mutated(chance: Random) -> Case:
    """A good request with some bytes changed, taken out or put in."""
    said = bytearray(head(chance, lines=[b"Accept: */*", b"User-Agent: x"]))
    for _ in range(chance.randint(1, 6)):
        place = chance.randrange(len(said))
        said[place : place + chance.randint(0, 3)] = noise(chance, 0, 4)
    return whole(bytes(said) + b"\r\n\r\n")


def wrong_verb(chance: Random) -> Case:
    verbs = (
        b"POST",
        b"PUT",
        b"DELETE",
        b"TRACE",
        b"CONNECT",
        b"OPTIONS",
        b"PRI",
        b"get",
        b"BREW",
        b"G" * 3000,
    )
    return whole(head(chance, method=chance.choice(verbs)))


def weird_path(chance: Random) -> Case:
    paths = (
        b"*", b"//", b"/../../etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd", b"/%00", b"/%", b"/%zz", b"/status%20",
        b"/status/../metrics", b"http://attacker.example/", b"http://[::1", b"http://user:pass@[", b"/?" + b"a=1&" * 900,
        b"/metrics?format=" + b"%41" * 500, b"/\xff\xfe", "/\u2028".encode(), b"/" + noise(chance, 1, 60).hex().encode(),
        b"/" + b"a/" * 3000, b"///status", b"\\status", b"/;/status", b"//attacker.example/status", b"status",
    )  # fmt: skip
    return whole(head(chance, path=chance.choice(paths)))


def huge(chance: Random) -> Case:
    """A line, a field, a number of fields, or all of it, beyond any limit."""
    size = chance.choice((8_000, 9_000, 40_000, 400_000))
    return whole(
        chance.choice(
            (
                head(chance, path=b"/" + b"a" * size),
                head(chance, lines=[b"X: " + b"b" * size]),
                head(chance, lines=[b"X-%d: y" % n for n in range(size // 10)]),
                head(chance, lines=[b"Cookie: " + b"c" * 4000] * (size // 4000)),
                head(chance, lines=[b"Authorization: Bearer " + b"d" * size]),
                head(chance, method=b"POST", lines=[b"Content-Length: %d" % (size * 1000)]) + b"e" * size,
            )
        )
    )


def body(chance: Random) -> Case:
    """Bodies that nobody asked for: chunked without end, falsely sized, compressed."""
    chunk = b"%x\r\n" % 4096 + b"f" * 4096 + b"\r\n"
    return whole(
        chance.choice(
            (
                head(chance, method=b"POST", lines=[b"Transfer-Encoding: chunked"]) + chunk * 60,
                head(chance, lines=[b"Transfer-Encoding: chunked"]) + b"fffffffffffffffff\r\nx",
                head(chance, lines=[b"Transfer-Encoding: chunked"]) + b"-1\r\nx\r\n0\r\n\r\n",
                head(chance, lines=[b"Content-Length: -1"]),
                head(chance, lines=[b"Content-Length: 1e3"]) + b"x",
                head(chance, lines=[b"Content-Length: 99999999999999999999"]) + b"x",
                head(chance, method=b"PUT", lines=[b"Content-Encoding: gzip", b"Content-Length: 9"])
                + b"not gzip!",
                head(chance, lines=[b"Expect: 100-continue", b"Content-Length: 5"]),
            )
        )
    )


def smuggled(chance: Random) -> Case:
    """Two readings of one message."""
    second = head(chance, path=b"/metrics")
    lines: Sequence[Sequence[bytes]] = (
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Content-Length: 5", b"Content-Length: 6"],
        [b"Content-Length: 5, 5"],
        [b"Content-Length : 5"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        [b"Transfer-Encoding:\x0bchunked"],
        [b"X: a", b" folded", b"Content-Length: 0"],
        [b"X: a\nContent-Length: 5"],
        [b"X: a\x00b"],
        [b"Host: localhost"],
        [b": nameless"],
        [b"X\xff: y", b"Content-Length: 0"],
    )
    return whole(head(chance, lines=chance.choice(lines)) + b"0\r\n\r\n" + second)


def upgrade(chance: Random) -> Case:
    lines = (
        [b"Upgrade: websocket", b"Connection: Upgrade"],
        [b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings"],
    )
    return whole(head(chance, lines=chance.choice(lines)) + noise(chance, 0, 20_000))


def pipelined(chance: Random) -> Case:
    return whole(
        b"".join(head(chance) for _ in range(chance.randint(2, 6))) + noise(chance, 0, 200) + b"\r\n\r\n"
    )


def guessed_token(chance: Random) -> Case:
    guess = chance.choice((b"", b"Bearer", b"Bearer ", b"Bearer " + noise(chance, 1, 40).hex().encode(), b"Bearer \xe4",
                           b"Basic OjoK", b"Digest x=y", b"bearer\tx"))  # fmt: skip
    return whole(head(chance, lines=[b"Authorization: " + guess]))


def slow(chance: Random) -> Case:
    """A request in pieces, with pauses, and mostly never its end."""
    said = head(chance, lines=[b"X: slow"])
    stop = len(said) if chance.random() < 0.3 else chance.randrange(1, len(said))
    cuts = sorted({0, stop, *(chance.randrange(stop) for _ in range(3))})
    parts = [(said[a:b], chance.uniform(0, 0.3)) for a, b in pairwise(cuts)]
    return Case(parts=parts, listens=stop == len(said) or chance.random() < 0.02)


def silent(chance: Random) -> Case:
    return Case(parts=[(b"", chance.uniform(0, 0.5))], listens=chance.random() < 0.01)


def run_away(chance: Random) -> Case:
    """Asked, and gone before the answer."""
    return Case(parts=[(head(chance), 0)], listens=False)


KINDS: dict[Callable[[Random], Case], int] = {
    random_bytes: 10, mutated: 20, wrong_verb: 8, weird_path: 12, huge: 8, body: 8, smuggled: 12, upgrade: 4,
    pipelined: 4, guessed_token: 4, slow: 12, silent: 8, run_away: 10,
}  # fmt: skip


async def attack(port: int, *, requests: int, seed: int, clients: int = CLIENTS) -> Tally:
    """`requests` connections by `clients` at a time. The same seed sends the same, though not in the same order."""
    tally, numbers = Tally(seed=seed), iter(range(requests))

    async def client() -> None:
        for number in numbers:
            chance = Random(f"{seed}/{number}")
            kind = chance.choices(list(KINDS), list(KINDS.values()))[0]
            tally.sent += 1
            tally.kinds[kind.__name__] += 1
            await _one(
                port, kind(chance), FROM[number % len(FROM)], f"{kind.__name__} {seed}/{number}", tally
            )

    await asyncio.gather(*(client() for _ in range(clients)))
    return tally


async def _one(port: int, case: Case, address: str, name: str, tally: Tally) -> None:
    writer = None
    heard = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(HOST, port, local_addr=(address, 0))
            for part, pause in case.parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
            while case.listens and b"\r\n\r\n" not in heard and (more := await reader.read(65536)):
                heard += more
    except TimeoutError:
        tally.hung.append(name)
    except OSError:
        pass  # closed: the worst that may happen to them
    finally:
        if writer is not None:
            writer.transport.abort()
    statuses = [status.decode() for status in _STATUS.findall(heard)]
    tally.answers.update(statuses)
    if "200" in statuses:
        tally.told.append(bytes(heard))
    if not case.listens:
        tally.left += 1
    elif not statuses:
        tally.closed += 1


def main() -> None:
    parser = argparse.ArgumentParser(description="Attacks an HTTP server on this machine.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        tally = asyncio.run(attack(options.port, requests=options.requests, seed=options.seed))
        print(
            json.dumps(
                {slot.name: getattr(tally, slot.name) for slot in fields(tally) if slot.name != "told"}
            )
        )


if __name__ == "__main__":
    main()
