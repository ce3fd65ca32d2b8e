"""A grant in any dress, cut anywhere, among anything: it is used or withheld, and never thrown away or stored in half."""

import gzip
import json
import zlib
from collections.abc import Callable

from hypothesis import strategies as st

from daemon.domain.answer import Granted, Unparsed
from daemon.domain.provider import Grant
from daemon.domain.reply import Reply
from tests.domain.replies import ASKED
from tests.fuzz import cost
from tests.fuzz.bodies import quoted
from tests.fuzz.exchange import (
    NEW,
    NEW_ACCESS,
    NEW_REFRESH,
    SENT,
    assert_hidden,
    definitions,
    messages,
    outcome,
)
from tests.fuzz.replies import STATUSES, TYPES

ELSEWHERE = ["result", "payload.oauth", "a.b.c.d", "tokens.0", "response.credentials.new"]
EXTRAS = {
    "token_type": "Bearer", "expires_in": 3600, "scope": "a b", "id": 12, "ok": True, "name": "Müller", "note": "a\nb", "x": None,
    "list": [1, {"a": []}], "url": "https://a.example/?b=c&d", "quoted": '{"a":"b"}', "open": "{[", "html": "<b>x</b>", "empty": {},
}  # fmt: skip
TEXTS: dict[str, Callable[[str], str]] = {
    "list": lambda text: f"[{text}]",
    "list with others": lambda text: f'[1, "x", {text}, {{"other": 1}}]',
    "JSON text": quoted,
    "twice": lambda text: f"{text}\n{text}",
    "guard": lambda text: f")]}}',\n{text}",
    "loop": lambda text: f"for(;;);{text}",
    "JSONP": lambda text: f"/**/cb({text});",
    "comment": lambda text: f"/* cached, node 7 */ {text} // end",
    "notice": lambda text: (
        f"<br />\n<b>Notice</b>: Undefined index in /srv/x.php on line <b>3</b><br />\n{text}"
    ),
    "status before": lambda text: f'{{"status":"ok"}}\n{text}',
    "log line before": lambda text: f"2026-11-28 12:00:00 [info] request 7 (node a): {text}",
    "blanks": lambda text: f"\r\n \t{text}\n\n",
    "NULs": lambda text: f"{text}\0\0\0",
    "raw lines": lambda text: text.replace("\\n", "\n"),
}
BYTES: dict[str, Callable[[str], bytes]] = {
    "utf-8": str.encode,
    "latin-1": lambda text: text.encode("latin-1"),
    "utf-8 with a mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "utf-16-le": lambda text: text.encode("utf-16-le"),
    "utf-16-be": lambda text: text.encode("utf-16-be"),
    "utf-32": lambda text: text.encode("utf-32"),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda body: body,
    "gzip": lambda body: gzip.compress(body, mtime=0),
    "zlib": zlib.compress,
    "deflate": lambda body: zlib.compress(body, wbits=-15),
    "gzip of gzip": lambda body: gzip.compress(gzip.compress(body, mtime=0), mtime=0),
}


def cases() -> st.SearchStrategy[dict]:
    return st.fixed_dictionaries(
        {
            "definition": st.sampled_from(sorted(definitions())),
            "place": st.sampled_from(["known", "known", "known", *ELSEWHERE]),
            "access": st.booleans(),
            "refresh": st.booleans(),
            "error": st.sampled_from(
                [None, None, None, "invalid_grant", "temporarily_unavailable", "odd_error", 40105]
            ),
            "extras": st.lists(st.sampled_from(sorted(EXTRAS)), unique=True, max_size=5),
            "fillers": st.one_of(st.just(0), st.just(0), st.integers(1, 40), st.integers(41, 6_000)),
            "last": st.booleans(),
            "ascii": st.booleans(),
            "texts": st.lists(st.sampled_from(sorted(TEXTS)), max_size=2, unique=True),
            "bytes": st.sampled_from(sorted(BYTES)),
            "packed": st.sampled_from(["plain", "plain", "plain", *sorted(PACKED)]),
            "cut": st.one_of(st.none(), st.none(), st.floats(0, 1)),
            "status": st.sampled_from(STATUSES),
            "content_type": st.sampled_from(TYPES),
        }
    )


def check(case: dict) -> None:
    """What holds of a grant depends on how much of it came, and on whether anything can be lost."""
    known = definitions()[case["definition"]]
    rotates = known.grant is Grant.REFRESH_TOKEN
    text = json.dumps(_grant(case), ensure_ascii=case["ascii"])
    for name in case["texts"]:
        text = TEXTS[name](text)
    body = PACKED[case["packed"]](BYTES[case["bytes"]](text))
    end = len(body) if case["cut"] is None else int(len(body) * case["cut"])
    reply = Reply(
        status=case["status"],
        content_type=case["content_type"],
        retry_after=None,
        body=body[:end],
        whole=case["cut"] is None,
        asked_at=ASKED,
    )
    answer, change = cost.bounded(lambda: outcome(case["definition"], reply), cost.REPLY)
    assert_hidden(messages(answer, change), (*SENT, *NEW))
    granted = answer if isinstance(answer, Granted) else getattr(answer, "granted", None)
    if granted is not None:
        assert granted.access_token.reveal() == NEW_ACCESS
        assert granted.refresh_token is None or granted.refresh_token.reveal() == NEW_REFRESH
    if _must_be_kept(case, body[:end], rotates=rotates):
        assert isinstance(answer, Granted | Unparsed), f"thrown away: {answer}"
        if rotates and case["refresh"] and isinstance(answer, Granted):
            assert granted is not None
            assert granted.refresh_token is not None, "the refresh token is thrown away"


def _must_be_kept(case: dict, body: bytes, *, rotates: bool) -> bool:
    """A refresh token always; an access token alone only if nothing says that it's an error. Of a reply that broke off,
    only what came with the mark behind it, in a dress that can be read before its end.
    """
    if case["cut"] is not None:
        legible = case["packed"] == "plain" and case["bytes"] == "utf-8" and not case["texts"]
        came = f'"{NEW_REFRESH}"'.encode() in body
        return legible and came and rotates and case["refresh"]
    if rotates and case["refresh"]:
        return True
    return case["access"] and case["error"] is None and 200 <= case["status"] < 300


def _grant(case: dict) -> dict:
    shape = definitions()[case["definition"]].reply
    made: dict = {}
    fillers = {f"filler_{n}": n for n in range(case["fillers"])}
    if case["last"]:
        made |= fillers
    made |= {name: EXTRAS[name] for name in case["extras"]}
    if case["error"] is not None:
        made |= {"error": case["error"], "error_description": f"The token {SENT[0]} is not usable"}
    paths = (shape.access_token[0], shape.refresh_token[0])
    if case["place"] != "known":
        paths = (f"{case['place']}.access_token", f"{case['place']}.refresh_token")
    for wanted, path, value in zip((case["access"], case["refresh"]), paths, NEW, strict=True):
        if wanted:
            _put(made, path, value)
    return made | fillers


def _put(made: dict, path: str, value: str) -> None:
    *outer, name = path.split(".")
    for step in outer:
        made = made.setdefault(step, {})
    made[name] = value
