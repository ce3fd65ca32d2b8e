"""A token, what was sent for it, and the way of a reply to what is stored: the part that all targets share."""

from functools import cache

import bson

from daemon.adapters.keyring import KeyRing
from daemon.adapters.mongo.token_changes import written
from daemon.domain.answer import Answer
from daemon.domain.change import Change, Postponed, Retired, Withheld
from daemon.domain.dialect import read
from daemon.domain.due import Moment, Timing
from daemon.domain.policy import decide
from daemon.domain.provider import Definition, Provider
from daemon.domain.reply import NoReply, Reply
from daemon.domain.secret import Secret
from daemon.domain.token import State, Token
from daemon.runtime.config.providers.definitions import shipped
from tests.domain.replies import ASKED, PLAIN

SENT_REFRESH = "1//0gQ7Sent+Refresh/8Xk2~vB-nW4zT6yR"
SENT_ACCESS = 'ya29.Sent"Access\\5Jd9 <Hq3>&Lm1Kp8'
CLIENT_SECRET = "Cl1ent:S3cret%7Zx!Wq9Vt5'Nb2Gf"
SENT = (SENT_REFRESH, SENT_ACCESS, CLIENT_SECRET)
NEW_ACCESS = "Nw7Access9Kq2Zt8Xv5Bm3Lp6Rj1"
NEW_REFRESH = "Nw4Refresh8Hd3Ys7Wc2Gf9Tn5Qk"
NEW = (NEW_ACCESS, NEW_REFRESH)
PART = 12  # characters of a secret in a row that give it away
RING = KeyRing({"k": b"\x07" * 32}, active="k")
TIMING = Timing()


@cache
def definitions() -> dict[str, Definition]:
    return {"acme": PLAIN, **shipped()}


def provider(name: str) -> Provider:
    return Provider(definition=definitions()[name], client_id="me", client_secret=Secret(CLIENT_SECRET))


def token(name: str) -> Token:
    return Token(
        id=f"{name}:1",
        provider=name,
        account="1",
        state=State.ACTIVE,
        refresh_token=Secret(SENT_REFRESH),
        access_token=Secret(SENT_ACCESS),
        grant="refresh_token",
        issued_at=ASKED,
        revision=1,
    )


def outcome(name: str, reply: Reply | NoReply) -> tuple[Answer, Change]:
    """What a reply means and changes. It can be stored, whatever it is."""
    asked, one = provider(name), token(name)
    answer = read(asked, one, reply)
    change = decide(asked, one, answer, asked_at=ASKED, moment=Moment(ASKED, 0.5, TIMING))
    bson.encode(written(one, change, RING, now=ASKED).fields)
    return answer, change


def messages(answer: Answer, change: Change) -> str:
    """All that a person or a database reader may see of a failure."""
    said = [getattr(answer, "code", ""), getattr(answer, "message", ""), repr(answer), repr(change)]
    if isinstance(change, Postponed | Retired | Withheld):
        said += [change.failure.code, change.failure.message]
    return "\n".join(said)


def assert_hidden(text: str, secrets: tuple[str, ...]) -> None:
    """No secret stands in `text`, nor a part of one that gives it away."""
    for secret in secrets:
        for start in range(len(secret) - PART + 1):
            part = secret[start : start + PART]
            assert part not in text, f"{part!r}, a part of {secret!r}, stands in {text[:2000]!r}"
