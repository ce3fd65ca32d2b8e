"""Any bytes as a reply: it is read, decided on and stored, at a bounded cost, and no message shows a secret."""

from hypothesis import strategies as st

from daemon.domain.reply import Reply
from tests.domain.replies import ASKED
from tests.fuzz import cost
from tests.fuzz.bodies import pieces, written
from tests.fuzz.exchange import NEW, SENT, assert_hidden, definitions, messages, outcome

TYPES = ["application/json", "application/x-www-form-urlencoded", "text/html; charset=utf-8", "image/png", ""]
STATUSES = [200, 200, 201, 204, 301, 302, 400, 401, 403, 404, 408, 422, 429, 500, 503, 999]
WAITS = [
    None,
    None,
    "5",
    "-1",
    "9" * 40,
    "x",
    "Wed, 21 Oct 9999 07:28:00 GMT",
    "Mon, " * 4000,
    "," * 20_000,
    "٣",
]
PLACES = [
    None,
    "/next",
    "https://elsewhere.example/x?code=1",
    "//",
    "http://[",
    "https://a:b@c/",
    "\x00",
    "x" * 60_000,
]
# What stands where a token stands, or where an error is explained, in what a provider may echo.
ECHOES = [
    *SENT,
    *NEW,
    *(f'"access_token":"{one}",' for one in NEW),
    *(f'"refresh_token":"{one}",' for one in NEW),
    *(f'"error_description":"{"word " * 390}{one}",'.replace("\\", "") for one in NEW),
    *(f'"code":"{"w" * 90}{one}",' for one in NEW),
    *(f"<html><title>{'word ' * 58}{one}</title>" for one in NEW),
    *(f"error={one}&error_description={one}" for one in NEW),
    *(f"{'word ' * 98}{one}" for one in NEW),
]  # fmt: skip


def cases() -> st.SearchStrategy[dict]:
    return st.fixed_dictionaries(
        {
            "definition": st.sampled_from(sorted(definitions())),
            "status": st.sampled_from(STATUSES),
            "content_type": st.sampled_from(TYPES),
            "retry_after": st.one_of(st.sampled_from(WAITS), st.text(max_size=30)),
            "location": st.one_of(st.sampled_from(PLACES), st.text(max_size=30)),
            "whole": st.booleans(),
            "body": pieces(*ECHOES),
        }
    )


def check(case: dict) -> None:
    reply = Reply(
        status=case["status"],
        content_type=case["content_type"],
        retry_after=case["retry_after"],
        location=case["location"],
        body=written(case["body"]),
        whole=case["whole"],
        asked_at=ASKED,
    )
    answer, change = cost.bounded(lambda: outcome(case["definition"], reply), cost.REPLY)
    assert_hidden(messages(answer, change), SENT)
    assert_hidden("\n".join(f"{getattr(answer, name, '')}" for name in ("code", "message")), NEW)
