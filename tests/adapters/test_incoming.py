"""Replies as they come in: however faulty their form, and in whatever pieces, what came is there."""

import gc
import weakref

import pytest
from aiohttp import ServerDisconnectedError
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.incoming import LARGEST_REPLY, Incoming

NEXT = b'{"refresh_token": "next"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LENGTH = OK + b"Content-Length: 25\r\n\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

GOOD = {
    "a length": LENGTH + NEXT,
    "one chunk": CHUNKED + b"19\r\n" + NEXT + b"\r\n0\r\n\r\n",
    "chunks with extensions and a trailer": CHUNKED
    + b"1;x=y\r\n{\r\n018 \r\n"
    + NEXT[1:]
    + b"\r\n0\r\nX-T: v\r\n\r\n",
    "interim replies before": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: "
    + b"a" * 200
    + b"\r\n\r\n"
    + LENGTH
    + NEXT,
    "no reason": b"HTTP/1.1 200\r\nContent-Type: application/json\r\nContent-Length: 25\r\n\r\n" + NEXT,
    "odd spelling": b"HTTP/1.1 200 OK\r\ncontent-TYPE:application/json\r\nCONTENT-length:  25 \r\n\r\n"
    + NEXT,
    "a long header": OK + b"X: " + b"x" * 9_000 + b"\r\nContent-Length: 25\r\n\r\n" + NEXT,
    "many headers": OK + b"X: x\r\n" * 200 + b"Content-Length: 25\r\n\r\n" + NEXT,
    "odd headers": OK
    + b"X Y: a\r\n: b\r\nno colon\r\n folded\r\nX : y\r\nX: \xff\0\r\nContent-Length: 25\r\n\r\n"
    + NEXT,
}
WHOLE = {
    "line feeds alone": LENGTH.replace(b"\r\n", b"\n") + NEXT,
    "a length twice": LENGTH.replace(b"\r\n\r\n", b"\r\nContent-Length: 25\r\n\r\n") + NEXT,
    "a length and chunks": CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n") + b"19\r\n" + NEXT + b"\r\n0\r\n\r\n",
    "chunks ended by line feeds": CHUNKED + b"19\n" + NEXT + b"\n0\n\n",
    "it closes": LENGTH.replace(b"200 OK\r\n", b"200 OK\r\nConnection: close\r\n") + NEXT,
    "the version before": LENGTH.replace(b"1.1", b"1.0") + NEXT,
    "a version to come": LENGTH.replace(b"1.1", b"2") + NEXT,
    "line ends before": b"\r\n\n" + LENGTH + NEXT,
}  # fmt: skip
FAULTY = {
    "a length too short": (LENGTH.replace(b"25", b"23") + NEXT, NEXT),
    "no length at all": (LENGTH.replace(b"25", b"many") + NEXT, NEXT),
    "a length below zero": (LENGTH.replace(b"25", b"-1") + NEXT, NEXT),
    "two lengths": (LENGTH.replace(b"\r\n\r\n", b"\r\nContent-Length: 9\r\n\r\n") + NEXT, NEXT),
    "junk behind": (LENGTH + NEXT + b"junk", NEXT + b"junk"),
    "half a reply behind": (LENGTH + NEXT + b"HTTP/1.1 4", NEXT + b"HTTP/1.1 4"),
    "no chunks where they were announced": (CHUNKED + NEXT, NEXT),
    "a chunk that is none": (CHUNKED + b"19\r\n" + NEXT + b"\r\nZZ\r\n", NEXT + b"ZZ\r\n"),
    "a chunk that does not end": (CHUNKED + b"19\r\n" + NEXT + b"XX", NEXT + b"XX"),
    "a chunk beyond all bounds": (CHUNKED + b"19\r\n" + NEXT + b"\r\n" + b"F" * 16 + b"\r\n", NEXT + b"F" * 16 + b"\r\n"),
    "junk behind chunks": (CHUNKED + b"19\r\n" + NEXT + b"\r\n0\r\n\r\njunk", NEXT + b"junk"),
}  # fmt: skip
CUT = {
    "a length": LENGTH + NEXT[:9],
    "a chunk": CHUNKED + b"19\r\n" + NEXT[:9],
    "chunks": CHUNKED + b"9\r\n" + NEXT[:9] + b"\r\n",
    "the size of a chunk": CHUNKED + b"9\r\n" + NEXT[:9] + b"\r\n1",
}


def fed(*pieces: bytes) -> Incoming:
    incoming = Incoming()
    for piece in pieces:
        incoming.feed(piece)
    return incoming


def cuts(came: bytes) -> list[tuple[bytes, ...]]:
    """In one piece, in two at each place, and byte by byte."""
    places = range(1, len(came)) if len(came) < 1_000 else range(1, len(came), 97)
    return [
        (came,),
        *((came[:at], came[at:]) for at in places),
        tuple(came[at : at + 1] for at in range(len(came))),
    ]


@pytest.mark.parametrize("came", GOOD.values(), ids=GOOD)
def test_a_good_reply_is_the_same_in_all_pieces(came):
    for pieces in cuts(came):
        incoming = fed(*pieces)
        assert (incoming.status, incoming.headers["content-type"]) == (200, "application/json")
        assert incoming.body == NEXT
        assert (incoming.over, incoming.whole, incoming.reusable) == (True, True, True)
        assert incoming.settled.is_set()


@pytest.mark.parametrize("came", GOOD.values(), ids=GOOD)
def test_no_reply_is_over_before_its_end(came):
    incoming = fed(came[:-1])
    assert not incoming.over
    assert not incoming.settled.is_set()


@pytest.mark.parametrize("came", WHOLE.values(), ids=WHOLE)
def test_a_reply_of_odd_form_is_whole_but_its_connection_is_not_used_again(came):
    for pieces in cuts(came):
        incoming = fed(*pieces)
        assert (incoming.status, incoming.body) == (200, NEXT)
        assert (incoming.over, incoming.whole) == (True, True)
    if came not in {
        WHOLE["line feeds alone"],
        WHOLE["line ends before"],
        WHOLE["chunks ended by line feeds"],
    }:
        assert not incoming.reusable


@pytest.mark.parametrize(("came", "body"), FAULTY.values(), ids=FAULTY)
def test_all_of_a_faulty_reply_is_kept(came, body):
    head = came.index(b"\r\n\r\n") + 4
    for pieces in ((came,), (came[:head], came[head:]), (came[: head - 9], came[head - 9 :])):
        incoming = fed(*pieces)
        assert (incoming.status, incoming.body) == (200, body)
        assert (incoming.faulty, incoming.over, incoming.whole, incoming.reusable) == (
            True,
            False,
            False,
            False,
        )
        assert incoming.settled.is_set()
        incoming.feed(b"more")
        incoming.lost(None)
        assert incoming.body == body + b"more"
        assert (incoming.over, incoming.whole, incoming.reusable) == (True, False, False)


@pytest.mark.parametrize("came", CUT.values(), ids=CUT)
def test_a_reply_that_breaks_off_is_kept_as_far_as_it_came(came):
    for pieces in cuts(came):
        incoming = fed(*pieces)
        assert not incoming.settled.is_set()
        incoming.lost(None)
        assert (incoming.body, incoming.whole, incoming.reusable) == (NEXT[:9], False, False)
        assert incoming.settled.is_set()


@pytest.mark.parametrize(("why", "whole"), [(None, True), (ConnectionResetError(), False)])
def test_a_body_that_announced_no_end_ends_with_an_orderly_connection(why, whole):
    """A reset is not the end that such a body has."""
    incoming = fed(OK + b"\r\n", NEXT[:9], NEXT[9:])
    assert not incoming.over
    incoming.lost(why)
    assert (incoming.body, incoming.whole, incoming.reusable) == (NEXT, whole, False)


@pytest.mark.parametrize("status", [b"101 Switching", b"204 No Content", b"304 Not Modified"])
def test_a_reply_without_a_body_is_over_with_its_head(status):
    came = OK.replace(b"200 OK", status) + b"\r\n"
    for pieces in cuts(came):
        incoming = fed(*pieces)
        assert (incoming.status, incoming.body) == (int(status[:3]), b"")
        assert (incoming.over, incoming.whole, incoming.reusable) == (True, True, False)


def test_no_content_with_content_is_read_all_the_same():
    for pieces in cuts(LENGTH.replace(b"200 OK", b"204 No Content") + NEXT):
        incoming = fed(*pieces)
        assert (incoming.status, incoming.body, incoming.whole) == (204, NEXT, True)


def test_a_connection_that_goes_behind_a_whole_reply_takes_nothing_of_it():
    incoming = fed(LENGTH + NEXT)
    incoming.lost(ConnectionResetError())
    assert (incoming.body, incoming.whole, incoming.reusable) == (NEXT, True, False)


def test_what_comes_behind_a_reply_spoils_its_connection():
    for pieces in ((LENGTH + NEXT, b"H"), (LENGTH + NEXT + b"\r\n",)):
        incoming = fed(*pieces)
        assert (incoming.body, incoming.whole, incoming.reusable) == (NEXT, True, False)


@pytest.mark.parametrize(
    "came",
    [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n{}", b"HTTP/1.1 099 OK\r\n\r\n", b"<html>\n\n", b"\0"],
)
def test_what_is_no_reply_is_over_at_once(came):
    for pieces in cuts(came):
        incoming = fed(*pieces)
        assert (incoming.status, incoming.over, incoming.broken) == (0, True, None)


@pytest.mark.parametrize(
    "came", [b"", b"\r\n\r\n", b"HTT", LENGTH[:-2], b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 2"]
)
def test_half_a_head_is_no_reply(came):
    for pieces in cuts(came):
        incoming = fed(*pieces)
        assert not incoming.over
        incoming.lost(None)
        assert (incoming.status, incoming.over) == (0, True)
        assert isinstance(incoming.broken, ServerDisconnectedError)


def test_a_body_of_just_the_limit_is_whole_and_one_beyond_is_not():
    for size, whole in ((LARGEST_REPLY, True), (LARGEST_REPLY + 1, False)):
        came = LENGTH.replace(b"25", str(size).encode()) + bytes(size)
        for pieces in ((came,), (came[:9_000], came[9_000:])):
            incoming = fed(*pieces)
            assert (incoming.over, incoming.whole) == (True, whole)


@pytest.mark.parametrize("piece", [b"12345", b"a:b\r\n"])
@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nX: ",
        OK + b"\r\n",
        CHUNKED,
        CHUNKED + b"0\r\n",
        LENGTH.replace(b"25", b"999999999"),
    ],
)
def test_what_never_ends_is_bounded_in_memory_and_in_time(start, piece):
    """More than a quarter of a megabyte in small pieces: a host may come from a database."""
    incoming = fed(start)
    for _ in range(60_000):
        incoming.feed(piece)
    assert not incoming.whole
    assert len(incoming.body) + len(incoming._waiting) <= LARGEST_REPLY + 5
    if not incoming.status and not incoming.over:
        assert (
            incoming._searched == len(incoming._waiting) - 2
        )  # nothing is searched twice: half a minute, else


def test_a_reply_is_gone_with_the_last_that_knows_it():
    """Not only when the garbage collector comes round: many thousands come in a minute."""
    gc.disable()
    try:
        gone = [
            weakref.ref(fed(*pieces))
            for pieces in ((), (LENGTH,), (LENGTH + NEXT,), (CHUNKED + NEXT,), (b"SSH",))
        ]
        assert [one() for one in gone] == [None] * 5
    finally:
        gc.enable()


PIECES = st.sampled_from([LENGTH, CHUNKED, OK, NEXT, b"\r\n", b"0\r\n\r\n", b"19\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"Content-Length: "])  # fmt: skip


@given(st.lists(PIECES | st.binary(max_size=9), max_size=12), st.booleans())
def test_any_bytes_in_any_pieces_are_taken(pieces, bytewise):
    """Nothing raises, nothing is promised of a connection that is not exactly at an end."""
    came = b"".join(pieces)
    incoming = fed(*((came[at : at + 1] for at in range(len(came))) if bytewise else pieces))
    assert not incoming.reusable or incoming.whole
    assert incoming.settled.is_set() == (incoming.over or incoming.faulty)
    incoming.lost(None)
    assert incoming.over
    assert not incoming.reusable
