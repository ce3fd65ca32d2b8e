"""Any document as a token: it is used or set aside, never asked in a hot loop, and no message shows what is sealed."""

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import InvalidBSON
from hypothesis import strategies as st

from daemon.adapters.keyring import DecryptionError
from daemon.adapters.mongo.token_changes import written
from daemon.adapters.mongo.token_document import InvalidDocument, token_of
from daemon.domain.dialect import read
from daemon.domain.due import Moment, first_look
from daemon.domain.policy import decide
from daemon.domain.reply import NoReply
from daemon.domain.request import refresh_request
from daemon.domain.token_url import NotSendable
from tests.adapters.mongo.test_documents import FIELDS, VALUES, document
from tests.domain.replies import ASKED, reply
from tests.fuzz.exchange import (
    CLIENT_SECRET,
    NEW,
    RING,
    SENT,
    TIMING,
    assert_hidden,
    definitions,
    messages,
    provider,
)

CODEC = CodecOptions(tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO)
REPLIES = {
    "grant": reply({"access_token": NEW[0], "refresh_token": NEW[1], "expires_in": 3600}),
    "access only": reply({"access_token": NEW[0]}),
    "far end": reply({"access_token": NEW[0], "expires_in": 10**30}),
    "dead": reply({"error": "invalid_grant", "error_description": f"{SENT[0]} is dead"}, 400),
    "wrong client": reply({"error": "invalid_client", "error_description": CLIENT_SECRET}, 401),
    "throttled": reply({"error": "slow_down"}, 429, retry_after="9" * 20),
    "nothing": NoReply(code="timeout", message="no answer", sent=True, asked_at=ASKED),
    "not sent": NoReply(code="refused", message="no connection", sent=False, asked_at=ASKED),
}


def cases() -> st.SearchStrategy[dict]:
    odd = st.dictionaries(st.sampled_from(FIELDS[1:]), st.sampled_from(sorted(VALUES)), max_size=6)
    return st.fixed_dictionaries(
        {
            "definition": st.sampled_from(sorted(definitions())),
            "fields": odd,
            "vars": st.one_of(st.none(), st.dictionaries(st.sampled_from(["tenant", "domain", "region", "api_url"]), st.text(max_size=12))),
            "reply": st.sampled_from(sorted(REPLIES)),
            "hours": st.sampled_from([0, 1, 24, 24 * 400]),
        }
    )  # fmt: skip


def check(case: dict) -> None:
    name = case["definition"]
    try:
        stored = bson.decode(bson.encode(_document(case)), CODEC)
    except (InvalidBSON, bson.errors.InvalidDocument):
        return  # nobody can store that
    try:
        one = token_of(stored, RING)
    except (InvalidDocument, DecryptionError) as why:
        assert_hidden(str(why), SENT)
        return
    asked = provider(name)
    planned = first_look(asked, one, moment=Moment(ASKED, 0.5, TIMING))
    assert planned is None or planned.due_at is None or planned.due_at > ASKED, "it is due again immediately"
    try:
        refresh_request(asked, one, now=ASKED)
    except NotSendable as why:
        assert_hidden(str(why), SENT)
    answer = read(asked, one, REPLIES[case["reply"]])
    change = decide(asked, one, answer, asked_at=ASKED, moment=Moment(ASKED, 0.5, TIMING))
    bson.encode(written(one, change, RING, now=ASKED).fields)
    assert_hidden(messages(answer, change), (*SENT, *NEW))


def _document(case: dict) -> dict:
    provider_id = case["definition"]
    name = f"{provider_id}:1"
    made = document("1", _id=name, provider=provider_id, vars=case["vars"])
    for field, text in zip(("refresh_token", "access_token"), SENT, strict=False):
        made[field] = RING.seal(text, token_id=name, field=field)
    for field, value in case["fields"].items():
        outer, _, inner = field.partition(".")
        if inner and not isinstance(made.get(outer), dict):
            made[outer] = {}
        if inner:
            made[outer] = {**made[outer], inner: VALUES[value]}
        else:
            made[outer] = VALUES[value]
    return made
