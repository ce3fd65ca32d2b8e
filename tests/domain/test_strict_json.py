"""JSON from strangers: two readers can't read two contents."""

import pytest

from daemon.domain.strict_json import strict_json


def test_plain_json_is_read():
    assert strict_json('{"a": [1, 2.5, true, null, "é"]}'.encode()) == {"a": [1, 2.5, True, None, "é"]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"{} {}",
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'[{"a":1,"a":1}]',
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"[-1e999]",
        b"1" * 5000,
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
    ],
    ids=lambda one: repr(one[:24]),
)
def test_what_is_ambiguous_is_refused(content: bytes):
    with pytest.raises(ValueError):
        strict_json(content)
