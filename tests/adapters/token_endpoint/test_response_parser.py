"""Replies as they come in: however faulty their form, and in whatever pieces, what came is there."""

import gc
import sys
import weakref
from typing import Self

import pytest
from aiohttp import ServerDisconnectedError
from hypothesis import given
from hypothesis import strategies as st

from daemon.adapters.token_endpoint.response_parser import (
    LARGEST_FRAMING,
    LARGEST_HEAD,
    LARGEST_REPLY,
    MOST_FIELDS,
    MOST_INTERIM,
    PORTION,
    Endless,
    ResponseParser,
)

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
INTERIM = b"HTTP/1.1 103 Early\r\n" + b"a: b\r\n" * 200 + b"\r\n"
ENDLESS = {
    "interim replies": (b"", b"HTTP/1.1 100 \r\n\r\n"),
    "interim replies with many fields": (b"", INTERIM),
    "switched protocols": (b"", b"HTTP/1.1 101 \r\n\r\n"),
    "line feeds": (b"", b"\n"),
    "line ends": (b"", b"\r\n"),
    "carriage returns in a head": (OK, b"\r"),
    "a status line": (b"HTTP/1.1", b" "),
    "a header": (OK + b"X: ", b"x"),
    "headers": (OK, b"a:\n"),
    "a folded header": (OK + b"X: x\r\n", b" x\r\n"),
    "lengths": (OK, b"Content-Length: 25\r\n"),
    "a body without a length": (OK + b"\r\n", b"x"),
    "a body with one": (LENGTH.replace(b"25", b"999999999"), b"x"),
    "junk behind a reply": (LENGTH + NEXT, b"x"),
    "line ends behind a reply": (LENGTH + NEXT, b"\r\n"),
    "replies behind a reply": (LENGTH + NEXT, LENGTH + NEXT),
    "no chunks where they were announced": (CHUNKED, b"x"),
    "the size of a chunk": (CHUNKED, b"0"),
    "a chunk": (CHUNKED + b"FFFFFFFFF\r\n", b"x"),
    "a chunk's extension": (CHUNKED + b"1;", b"x"),
    "chunks' extensions": (CHUNKED, b"1;" + b"x" * 60 + b"\r\na\r\n"),
    "small chunks": (CHUNKED, b"1\r\nx\r\n"),
    "small chunks with small ends": (CHUNKED, b"1\nx\n"),
    "small chunks with long sizes": (CHUNKED, b"000000000000001\r\nx\r\n"),
    "a trailer": (CHUNKED + b"0\r\nX: ", b"x"),
    "trailers": (CHUNKED + b"19\r\n" + NEXT + b"\r\n0\r\n", b"a\n"),
    "blanks in trailers": (CHUNKED + b"0\r\n", b" \t\r"),
}  # fmt: skip
CUT = {
    "a length": LENGTH + NEXT[:9],
    "a chunk": CHUNKED + b"19\r\n" + NEXT[:9],
    "chunks": CHUNKED + b"9\r\n" + NEXT[:9] + b"\r\n",
    "the size of a chunk": CHUNKED + b"9\r\n" + NEXT[:9] + b"\r\n1",
}


def fed(*pieces: bytes) -> ResponseParser:
    response = ResponseParser()
    for piece in pieces:
        response.feed(piece)
    return response


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
        response = fed(*pieces)
        assert (response.status, response.headers["content-type"]) == (200, "application/json")
        assert response.body == NEXT
        assert (response.ended, response.complete, response.keep_alive) == (True, True, True)
        assert response.settled.is_set()


@pytest.mark.parametrize("came", GOOD.values(), ids=GOOD)
def test_no_reply_is_over_before_its_end(came):
    response = fed(came[:-1])
    assert not response.ended
    assert not response.settled.is_set()


@pytest.mark.parametrize("came", WHOLE.values(), ids=WHOLE)
def test_a_reply_of_odd_form_is_whole_but_its_connection_is_not_used_again(came):
    for pieces in cuts(came):
        response = fed(*pieces)
        assert (response.status, response.body) == (200, NEXT)
        assert (response.ended, response.complete) == (True, True)
    if came not in {
        WHOLE["line feeds alone"],
        WHOLE["line ends before"],
        WHOLE["chunks ended by line feeds"],
    }:
        assert not response.keep_alive


@pytest.mark.parametrize(("came", "body"), FAULTY.values(), ids=FAULTY)
def test_all_of_a_faulty_reply_is_kept(came, body):
    head = came.index(b"\r\n\r\n") + 4
    for pieces in ((came,), (came[:head], came[head:]), (came[: head - 9], came[head - 9 :])):
        response = fed(*pieces)
        assert (response.status, response.body) == (200, body)
        assert (response.framing_error, response.ended, response.complete, response.keep_alive) == (
            True,
            False,
            False,
            False,
        )
        assert response.settled.is_set()
        response.feed(b"more")
        response.lost(None)
        assert response.body == body + b"more"
        assert (response.ended, response.complete, response.keep_alive) == (True, False, False)


@pytest.mark.parametrize("came", CUT.values(), ids=CUT)
def test_a_reply_that_breaks_off_is_kept_as_far_as_it_came(came):
    for pieces in cuts(came):
        response = fed(*pieces)
        assert not response.settled.is_set()
        response.lost(None)
        assert (response.body, response.complete, response.keep_alive) == (NEXT[:9], False, False)
        assert response.settled.is_set()


@pytest.mark.parametrize(("why", "whole"), [(None, True), (ConnectionResetError(), False)])
def test_a_body_that_announced_no_end_ends_with_an_orderly_connection(why, whole):
    """A reset is not the end that such a body has."""
    response = fed(OK + b"\r\n", NEXT[:9], NEXT[9:])
    assert not response.ended
    response.lost(why)
    assert (response.body, response.complete, response.keep_alive) == (NEXT, whole, False)


@pytest.mark.parametrize("status", [b"101 Switching", b"204 No Content", b"304 Not Modified"])
def test_a_reply_without_a_body_is_over_with_its_head(status):
    came = OK.replace(b"200 OK", status) + b"\r\n"
    for pieces in cuts(came):
        response = fed(*pieces)
        assert (response.status, response.body) == (int(status[:3]), b"")
        assert (response.ended, response.complete, response.keep_alive) == (True, True, False)


def test_no_content_with_content_is_read_all_the_same():
    for pieces in cuts(LENGTH.replace(b"200 OK", b"204 No Content") + NEXT):
        response = fed(*pieces)
        assert (response.status, response.body, response.complete) == (204, NEXT, True)


def test_a_connection_that_goes_behind_a_whole_reply_takes_nothing_of_it():
    response = fed(LENGTH + NEXT)
    response.lost(ConnectionResetError())
    assert (response.body, response.complete, response.keep_alive) == (NEXT, True, False)


def test_what_comes_behind_a_reply_spoils_its_connection():
    for pieces in ((LENGTH + NEXT, b"H"), (LENGTH + NEXT + b"\r\n",)):
        response = fed(*pieces)
        assert (response.body, response.complete, response.keep_alive) == (NEXT, True, False)


@pytest.mark.parametrize(
    "came",
    [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 2x0 OK\r\n\r\n{}", b"HTTP/1.1 099 OK\r\n\r\n", b"<html>\n\n", b"\0"],
)
def test_what_is_no_reply_is_over_at_once(came):
    for pieces in cuts(came):
        response = fed(*pieces)
        assert (response.status, response.ended, response.connection_error) == (0, True, None)


@pytest.mark.parametrize(
    "came", [b"", b"\r\n\r\n", b"HTT", LENGTH[:-2], b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 2"]
)
def test_half_a_head_is_no_reply(came):
    for pieces in cuts(came):
        response = fed(*pieces)
        assert not response.ended
        response.lost(None)
        assert (response.status, response.ended) == (0, True)
        assert isinstance(response.connection_error, ServerDisconnectedError)


def test_a_body_of_just_the_limit_is_whole_and_one_beyond_is_not():
    for size, whole in ((LARGEST_REPLY, True), (LARGEST_REPLY + 1, False)):
        came = LENGTH.replace(b"25", str(size).encode()) + bytes(size)
        for pieces in ((came,), (came[:9_000], came[9_000:])):
            response = fed(*pieces)
            assert (response.ended, response.complete) == (True, whole)


class Work:
    """Counts calls, in Python and into C: a measure of work that is the same on every machine."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _frame: object, event: str, _arg: object) -> None:
        self.calls += event in {"call", "c_call"}

    def __enter__(self) -> Self:
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


MOST_RECEIVED = LARGEST_HEAD + LARGEST_FRAMING + LARGEST_REPLY


@pytest.mark.parametrize("size", [1 << 18, 1460, 29])
@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS)
def test_what_never_ends_is_ended(start, more, size):
    """Whatever it consists of: bytes count although they are not kept, and a step costs the same however much has come.
    No more is fed until what has come is understood, as `line` does it.
    """
    came = start + more * (2 * MOST_RECEIVED // len(more))
    response, received, longest = ResponseParser(), 0, 0
    with Work() as all_work:
        for at in range(0, len(came), size):
            piece = came[at : at + size]
            before = all_work.calls
            response.feed(piece)
            longest = max(longest, all_work.calls - before)
            while response.behind:
                before = all_work.calls
                response.go_on()
                longest = max(longest, all_work.calls - before)
            received += len(piece)
            if response.ended:
                break
    assert response.ended
    assert response.settled.is_set()
    assert not response.keep_alive
    assert len(response.body) < LARGEST_REPLY + size
    assert received - len(response.body) < LARGEST_HEAD + LARGEST_FRAMING + size
    assert len(response._waiting) <= LARGEST_HEAD + size
    assert longest <= 20 * PORTION
    assert all_work.calls <= 150_000 + 40 * received // size


@pytest.mark.parametrize("size", [1460, 1])
@pytest.mark.parametrize(("start", "more"), ENDLESS.values(), ids=ENDLESS)
def test_nothing_is_searched_twice(start, more, size):
    """A search begins where the last one ended: with each byte from the start, it would take minutes."""
    response = ResponseParser()
    response.feed(start)
    for _ in range((LARGEST_HEAD + LARGEST_FRAMING) // size):
        response.feed((more * (size // len(more) + 1))[:size])
        while response.behind:
            response.go_on()
        if response.ended:
            break
        assert len(response._waiting) - response._searched < 300


def test_pieces_that_come_faster_than_they_are_read_are_ended_too():
    """Even one who feeds on and on gets no more of the memory."""
    response = fed(CHUNKED, *[b"1\r\nx\r\n" * 10_000] * 20)
    assert (response.ended, response.behind, len(response._waiting)) == (True, False, 0)


def test_a_grant_in_tiny_chunks_is_read():
    """Three thousand of them, a portion at a time."""
    grant = b'{"refresh_token": "' + b"n" * 3_000 + b'"}'
    response = fed(CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in grant) + b"0\r\n\r\n")
    assert (response.greedy, response.ended) == (True, False)
    portions = 0
    while response.behind:
        response.go_on()
        portions += 1
    assert portions == 3 * len(grant) // PORTION
    assert (response.body, response.complete, response.keep_alive, response.greedy) == (
        grant,
        True,
        True,
        False,
    )


def test_what_is_not_understood_when_the_time_is_up_is_kept_as_it_came():
    """To understand it then would take as long as it was not to take."""
    chunks = b"1\r\nx\r\n" * 3_000
    for end in (ResponseParser.stop, lambda response: response.lost(None)):
        response = fed(CHUNKED + b"19\r\n" + NEXT + b"\r\n" + chunks)
        assert (response.behind, response.ended) == (True, False)
        end(response)
        assert (response.behind, response.framing_error, response.complete) == (False, True, False)
        assert response.body.startswith(NEXT + b"x" * 60)
        assert response.body.endswith(chunks[-9_000:])
        assert not response.keep_alive


def test_a_grant_behind_many_interim_replies_and_a_long_head_is_read():
    """As far as the limits go."""
    head = OK + b"X: x\r\n" * (MOST_FIELDS - 2) + b"Content-Length: 25\r\n\r\n"
    came = b"\r\n" * 100 + b"HTTP/1.1 102 Processing\r\n\r\n" * MOST_INTERIM + head
    came = came.replace(b"X: x", b"X: " + b"x" * (LARGEST_HEAD - len(came) - 1), 1) + NEXT
    for pieces in ((came,), (came[:9_000], came[9_000:])):
        response = fed(*pieces)
        assert (response.status, response.body, response.complete) == (200, NEXT, True)


def test_interim_replies_beyond_all_bounds_are_the_end():
    """However short they are."""
    response = fed(b"HTTP/1.1 100 \r\n\r\n" * (MOST_INTERIM + 1) + LENGTH + NEXT)
    assert (response.status, response.ended, response.keep_alive) == (0, True, False)
    assert isinstance(response.connection_error, Endless)


def test_fields_beyond_all_bounds_are_ignored_and_the_body_is_read():
    """It has no length that way; so it lasts as long as its connection."""
    response = fed(OK + b"X: x\r\n" * 5_000 + b"Content-Length: 25\r\n\r\n" + NEXT)
    response.lost(None)
    assert (response.status, len(response.headers), response.body) == (200, MOST_FIELDS, NEXT)


@pytest.mark.parametrize("behind", [b"a\n", b"x" * 60])
def test_a_grant_before_endless_trailers_is_kept(behind):
    """All of the body had come by then."""
    response = fed(CHUNKED + b"19\r\n" + NEXT + b"\r\n0\r\n", *[behind * 1_000] * 30)
    assert (response.status, response.body, response.ended) == (200, NEXT, True)


@pytest.mark.parametrize("trailer", [b"", b"X: y\r\n", b"X: y\nZ\n", b"\tX: y \r\n" * 500])
@pytest.mark.parametrize("blank", [b"\r\n", b"\n", b" \t\r\n"])
def test_trailers_end_with_a_blank_line(trailer, blank):
    """Whatever stands in them, in whatever pieces it comes."""
    came = CHUNKED + b"19\r\n" + NEXT + b"\r\n0\r\n" + trailer
    for pieces in ((came, blank), (came + blank,), tuple(bytes([one]) for one in came + blank)):
        response = fed(*pieces)
        assert (response.body, response.ended, response.complete) == (NEXT, True, True)
    assert not fed(came + blank[:-1]).ended


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
    """Nothing raises, nothing is guarded of a connection that is not exactly at an end."""
    came = b"".join(pieces)
    response = fed(*((came[at : at + 1] for at in range(len(came))) if bytewise else pieces))
    assert not response.keep_alive or response.complete
    assert response.settled.is_set() == (response.ended or response.framing_error)
    response.lost(None)
    assert response.ended
    assert not response.keep_alive
