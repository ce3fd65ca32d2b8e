"""A grant is read in whatever dress it comes; a body that holds two, or half of one, is not guessed at."""

import gzip
import json
import os
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.answer import Granted, Unavailable, Unparsed
from daemon.domain.provider import Rotation
from daemon.domain.reply_body import LARGEST_TEXT, parse
from daemon.domain.secret import Secret
from tests.domain.replies import GRANT, answer

PAIR = json.dumps(GRANT).encode()
PAGE = b"<!doctype html><html><script>%s</script></html>"


def deflated(body, wbits):
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(body) + packer.flush()


DRESSES = {
    "gzip": gzip.compress(PAIR),
    "gzip twice": gzip.compress(gzip.compress(PAIR)),
    "zlib": zlib.compress(PAIR),
    "deflate": deflated(PAIR, -15),
    "UTF-8 with a mark": b"\xef\xbb\xbf" + PAIR,
    "UTF-16 with a mark": PAIR.decode().encode("utf-16"),
    "UTF-16, little end": PAIR.decode().encode("utf-16-le"),
    "UTF-16, big end": PAIR.decode().encode("utf-16-be"),
    "UTF-32": PAIR.decode().encode("utf-32"),
    "Latin-1": PAIR[:-1] + ',"name":"Müller"}'.encode("latin-1"),
    "a list": b"[" + PAIR + b"]",
    "a JSON text": json.dumps(PAIR.decode()).encode(),
    "a JSON text twice": json.dumps(json.dumps(PAIR.decode())).encode(),
    "raw line ends in a text": PAIR[:-1] + b',"scope":"a\nb\tc\x01"}',
    "a comment before": b"/* cached */ " + PAIR,
    "a comment behind": PAIR + b"\n// node 7",
    "a notice of PHP": b"<br />\n<b>Notice</b>: Undefined {index} in /srv/x.php on line <b>3</b><br />\n"
    + PAIR,
    "a guard": b")]}',\n" + PAIR,
    "a loop as a guard": b"while(1);" + PAIR,
    "JSONP": b"/**/callback(" + PAIR + b");",
    "NULs behind": PAIR + b"\x00\x00\x00",
    "blanks around": b"\r\n\t " + PAIR + b" \r\n",
    "the same twice": PAIR + b"\n" + PAIR,
    "something before": b'{"status":"ok"}\n' + PAIR,
    "an error behind": PAIR + b'{"error":"invalid_grant"}',
    "an endless number": PAIR[:-1] + b',"n":' + b"1" * 5000 + b"}",
    "a form": b"access_token=new-access&refresh_token=new-refresh&token_type=Bearer&expires_in=3600",
    "a form with a line end": b"access_token=new-access&refresh_token=new-refresh&expires_in=3600\r\n",
}


@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("content_type", ["application/json", "text/html", ""])
@pytest.mark.parametrize("dress", DRESSES)
def test_a_grant_is_read_in_any_dress(dress, content_type, status):
    """It came whole, and holds the only copy."""
    got = answer(DRESSES[dress], status, content_type=content_type, known={"rotation": Rotation.ALWAYS})
    assert isinstance(got, Granted)
    assert (got.access_token, got.refresh_token) == (Secret("new-access"), Secret("new-refresh"))


@pytest.mark.parametrize(
    "body",
    [
        PAIR + b'{"access_token":"other","refresh_token":"other"}',
        b"[" + PAIR + b',{"access_token":"other"}]',
        PAIR + b'{"access_token":"new-access","refresh_token":"other"}',
        b'{"access_token":"a","access_token":"b"}',
        b"access_token=a&access_token=b",
    ],
)
def test_two_different_grants_are_withheld(body):
    """Which one is good can't be known."""
    got = answer(body)
    assert isinstance(got, Unparsed)
    assert got.granted is None


def test_a_refresh_token_that_is_given_twice_and_differently_is_withheld():
    """The access token is used; a person looks at the reply."""
    got = answer(b'{"access_token":"a","refresh_token":"b","refresh_token":"c"}')
    assert isinstance(got, Unparsed)
    assert got.granted.access_token == Secret("a")
    assert got.granted.refresh_token is None


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("end", [len(PAIR) - 1, PAIR.index(b'"token_type'), PAIR.index(b"Bearer") + 3])
def test_a_grant_that_broke_off_behind_its_tokens_is_one(end, whole):
    """Both are complete, and presenting the old one again could cost the new one."""
    got = answer(PAIR[:end], whole=whole)
    assert isinstance(got, Granted)
    assert (got.access_token, got.refresh_token) == (Secret("new-access"), Secret("new-refresh"))


@pytest.mark.parametrize("end", range(1, PAIR.index(b"new-refresh") + len(b"new-refresh") + 1))
def test_a_grant_that_broke_off_before_that_leaves_doubt(end):
    """At every byte: no half of a token is ever stored."""
    got = answer(PAIR[:end], whole=False)
    assert isinstance(got, Unavailable)
    assert (got.code, got.in_doubt) == ("cut_short", True)


def test_a_complete_refresh_token_in_half_a_grant_is_withheld():
    """The access token is lost; the refresh token is in the journal, and the old one must rest."""
    got = answer(b'{"refresh_token":"new-refresh","access_token":"new-ac', whole=False)
    assert isinstance(got, Unparsed)


def test_an_object_inside_something_unreadable_is_not_taken_for_the_reply():
    """It may be anybody's token."""
    got = answer(b'{"user":{"access_token":"theirs","refresh_token":"theirs"},"x":oops}')
    assert isinstance(got, Unparsed)
    assert got.granted is None


def test_what_stands_in_a_pages_script_is_no_reply():
    """A page of a portal holds the tokens of its own programs."""
    got = answer(PAGE % b'window.state={"access_token":"pk.a.b"}', content_type="text/html")
    assert (got.code, got.in_doubt) == ("page", True)


def test_a_compressed_body_unfolds_to_a_bounded_size():
    """A bomb costs half a mebibyte and no more."""
    parsed = parse(gzip.compress(b" " * 10 + b"a" * 50_000_000), content_type="", whole=True)
    assert len(parsed.text) <= LARGEST_TEXT


@pytest.mark.parametrize("depth", [100, 5_000, 100_000])
@pytest.mark.parametrize("unit", [b"[", b'{"a":', b'{"a":[', b'"{', b'{"'])
def test_a_body_of_any_depth_is_parsed(unit, depth):
    """Whatever comes of it."""
    parse(unit * depth, content_type="", whole=True)


@given(st.binary(), st.booleans())
def test_any_bytes_are_parsed(body, whole):
    """Plain, and as what they unfold to."""
    for each in (body, gzip.compress(body), zlib.compress(body), os.urandom(4) + body):
        parsed = parse(each, content_type="", whole=whole)
        assert all(isinstance(found, dict) for found in parsed.objects)
