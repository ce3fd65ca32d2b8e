"""Bytes as a case notes them: pieces, each with how often it is repeated. So a case of 256 KiB is a short line of JSON."""

import json

from hypothesis import strategies as st

LARGEST = 256 * 1024
Pieces = list[list]  # [text of Latin-1, count]

WORDS = [
    "access_token", "refresh_token", "token", "id_token", "error", "error_description", "invalid_grant", "invalid_client",
    "message", "code", "status", "errors", "expires_in", "expires_at", "scope", "token_type", "Bearer", "DPoP", "data",
    "authed_user", "temporarily unavailable", "rate limit", "null", "true", "NaN", "1e999", "-1", "3600", "9" * 400,
    "2026-11-28T00:00:00Z", "9999-12-31T23:59:59-14:00", "AADSTS700082: expired", "eyJhbGciOiJub25lIn0.eyJleHAiOjFlOTl9.x", "-eyJ", "eyJaaaaa.",
]  # fmt: skip
MARKS = [
    "{", "}", "[", "]", ":", ",", '"', "'", "\\", "\\u0000", "\\ud800", "\n", "\r\n", " ", "\0", "&", "=", "<", ">", "/*", "*/",
    "<html>", "<title>", "</title>", "\x1f\x8b", "x\x9c", "\xef\xbb\xbf", "\xff\xfe", "\xfe\xff", "\xe9", "\x85", ")]}',", "%", '\\"{', '\\"\\\\\\"', "&amp;",
]  # fmt: skip


def written(pieces: Pieces, limit: int = LARGEST) -> bytes:
    """The bytes that `pieces` stand for."""
    return b"".join(text.encode("latin-1") * count for text, count in pieces)[:limit]


def quoted(text: str) -> str:
    return json.dumps(text)


def fragments(*more: str) -> st.SearchStrategy[str]:
    """A few words and marks, some quoted; `more`: what else may stand there."""
    latin = st.text(st.characters(max_codepoint=255), max_size=8)
    word = st.sampled_from([*WORDS, *more])
    member = st.builds(
        lambda name, value: f"{quoted(name)}:{value},", word, st.one_of(word.map(quoted), word)
    )
    one = st.one_of(st.sampled_from(MARKS), word, word.map(quoted), member, latin)
    return st.lists(one, min_size=1, max_size=5).map("".join)


def pieces(*more: str, most: int = 4) -> st.SearchStrategy[Pieces]:
    """Bytes of any size up to LARGEST, most of them short."""
    once = st.tuples(fragments(*more), st.just(1)).map(list)
    some = st.tuples(fragments(*more), st.integers(2, 40)).map(list)
    many = st.tuples(fragments(*more), st.integers(41, LARGEST)).map(list)
    short = st.lists(st.one_of(once, once, some), max_size=most)
    return st.one_of(short, short, short, st.builds(lambda a, b, c: [*a, b, *c], short, many, short))
