"""Any bytes as they come in, in any pieces: they are read the same way, at a bounded cost, and come to an end."""

from itertools import pairwise

from hypothesis import strategies as st

from daemon.adapters.token_endpoint.response_parser import (
    LARGEST_FRAMING,
    LARGEST_HEAD,
    LARGEST_REPLY,
    ResponseParser,
)
from tests.fuzz import cost
from tests.fuzz.bodies import written

LARGEST = LARGEST_HEAD + LARGEST_FRAMING + LARGEST_REPLY + 10_000
PARTS = [
    "HTTP/1.1 200 OK\r\n", "HTTP/1.0 200\n", "http/2 204 \r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 101 X\r\n\r\n", "HTTP/1.1 999\r\n",
    "Content-Length: 5\r\n", "Content-Length: 25\r\n", "Content-Length: 262144\r\n", "Content-Length: 999999999999\r\n", "Content-Length: -1\r\n",
    "Transfer-Encoding: chunked\r\n", "transfer-encoding:gzip, chunked\n", "Connection: close\r\n", "Connection: keep-alive\r\n",
    "Content-Type: application/json\r\n", "Location: /x\r\n", " folded\r\n", "X: \xff\0\r\n", ": \r\n", "\r\n", "\n", "\r", "\r\n\r\n", " ", "\t", "\0",
    "5\r\nhello\r\n", "19\r\n", "1;x=y\r\nh\r\n", "0\r\n\r\n", "0\r\nX: t\r\n\r\n", "ffffffffffffff\r\n", "F" * 16 + "\r\n", "g\r\n", "1\nx\n",
    "hello", '{"refresh_token": "next"}', "x", "\xff\xfe",
]  # fmt: skip
STARTS = [
    "HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\n",
    "",
]


def cases() -> st.SearchStrategy[dict]:
    part = st.one_of(st.sampled_from(PARTS), st.text(st.characters(max_codepoint=255), max_size=5))
    unit = st.lists(part, min_size=1, max_size=6).map("".join)
    count = st.one_of(st.just(1), st.just(1), st.integers(2, 60), st.integers(61, LARGEST))
    pieces = st.lists(st.tuples(unit, count).map(list), max_size=5)
    start = st.sampled_from(STARTS).map(lambda text: [[text, 1]])
    return st.fixed_dictionaries(
        {
            "bytes": st.builds(lambda first, rest: first + rest, start, pieces),
            "cuts": st.lists(st.floats(0, 1), max_size=12),
            "each": st.one_of(st.just(0), st.integers(1, 3)),
            "lost": st.booleans(),
        }
    )


def check(case: dict) -> None:
    came = written(case["bytes"], LARGEST)
    places = {0, len(came), *(int(cut * len(came)) for cut in case["cuts"])}
    if case["each"]:  # byte by byte at the beginning, where the marks are
        places.update(range(0, min(len(came), 2_000), case["each"]))
    ordered = sorted(places)
    pieces = [came[start:end] for start, end in pairwise(ordered)]
    incoming, used = cost.bounded(lambda: _fed(pieces), cost.REPLY + len(pieces) * cost.PIECE)
    whole, _ = cost.bounded(lambda: _fed([came[:used]]), cost.REPLY)
    if incoming.connection_error is None and whole.connection_error is None:
        assert _state(incoming) == _state(whole), "the pieces make a difference"
    else:
        assert not any(one.complete or one.keep_alive for one in (incoming, whole))
    assert len(incoming.body) <= LARGEST
    incoming.lost(OSError(104, "reset") if case["lost"] else None)
    assert incoming.ended
    assert incoming.settled.is_set()
    assert not incoming.keep_alive
    assert not incoming.complete or len(incoming.body) <= LARGEST_REPLY


def _fed(pieces: list[bytes]) -> tuple[ResponseParser, int]:
    """A reply that was given `pieces`, and how many bytes it took until it was over."""
    incoming, used = ResponseParser(), 0
    for piece in pieces:
        if incoming.ended:
            break
        used += len(piece)
        incoming.feed(piece)
        for _ in range(LARGEST):
            if not incoming.behind:
                break
            incoming.go_on()
        assert not incoming.behind, "it does not get on"
    return incoming, used


def _state(incoming: ResponseParser) -> dict:
    names = ("status", "body", "framing_error", "ended", "complete", "keep_alive")
    return {name: getattr(incoming, name) for name in names} | {"headers": [*incoming.headers.items()]}
