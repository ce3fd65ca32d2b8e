"""The content of a refusal: the name of the error and its text, wherever a provider puts them, and the party
at fault.

An error code has a meaning only in a definition or in the standard's own field. Names and texts in other
fields are only shown to operators.
"""

import html
import re
from base64 import b64encode
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from daemon.domain.answer import Cause
from daemon.domain.provider import Definition, Provider
from daemon.domain.reply_body import Body, Parsed
from daemon.domain.request import form_value
from daemon.domain.secret import MASK, Secret, masked
from daemon.domain.sign import any_shown, is_known_value, shown_value
from daemon.domain.token import Token
from daemon.domain.token_response import at_path

# Codes that are shown as they are, together with the definition's own.
_STANDARD = frozenset(
    {"invalid_grant", "invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope"}
    | {"invalid_request", "temporarily_unavailable", "unsupported_response_type"}
    | {"interaction_required", "login_required", "consent_required"}  # OpenID Connect Core §3.1.2.6
)

_CODE_NAMES = ("errorcode", "errcode", "code", "errortype", "error", "reason", "status")
_WORD_NAMES = (
    "errordescription", "errormessage", "errormsg", "errmsg", "errorsummary", "errordetail", "errorusermsg",
    "message", "msg", "faultstring", "detail", "details", "description", "statusmessage", "title", "reason",
    "hint", "error", "errors",
)  # fmt: skip
_SUCCESS = frozenset({"", "0", "200", "ok", "success", "true", "false", "error", "fail", "failed", "failure"})
_TITLE = re.compile(r"<title[^<>]{0,99}>([^<]+)", re.IGNORECASE)
_ODD = re.compile(r"[^a-z]")
_SEARCHED = 200  # values of one body, and names of one object
_BEGINNING = 500  # characters of a text
_DEPTH = 4
_NAMED = 8  # field names that are shown
_WIDEST = 40  # characters of one
_CODE_LIMIT = 100
_LONGEST = 2000  # characters of a provider's words that are searched

_PASSES = frozenset({408, 425, 429})
_REFUSES = frozenset({400, 401, 422})  # also without a word, it is most likely about what was sent
_TEMPORARY = frozenset({"temporarily_unavailable", "server_error", "slow_down"})
_SLOW_DOWN = re.compile(r"rate.?limit|too.?many|throttl|slow.?down|quota|exceeded your", re.IGNORECASE)
# The same as in the pattern below, from servers that translate their errors.
_LATER_TRANSLATED = (
    *("vorübergehend", "zeitweilig", "nicht verfügbar", "später erneut", "später noch"),  # German
    *("temporaire", "indisponible", "plus tard", "temporal", "no disponible", "más tarde"),  # French, Spanish
    *("temporari", "indisponível", "mais tarde", "temporane", "più tardi"),  # Portuguese, Italian
    *(
        "稍后",
        "稍後",
        "暂时",
        "暫時",
        "一時的",
        "しばらく",
        "временно",
        "позже",
    ),  # Chinese, Japanese, Russian
)
_LATER = re.compile(
    r"temporar(?:y|ily)|transient|try again later|system (?:is )?busy|maintenance|service unavailable|overload"
    r"|internal.(?:server.)?error|(?:database|backend|upstream(?: connect)?) error|deadlock|read.?only mode"
    r"|(?:request|gateway|upstream|server|backend|database|connection|lock wait) time(?:d )?.?out"
    r"|connection (?:refused|reset|failed)|(?:refresh|request|operation)\b.{0,20} in progress|"
    + "|".join(_LATER_TRANSLATED),
    re.IGNORECASE,
)
# A dead grant does not come to life by waiting, so a text that mentions waiting or the network isn't a verdict.
_NOT_DEAD = re.compile(
    r"not (?:yet )?expired|(?:still|already) valid|too (?:early|soon)|log[io]n.?hours|outside.{0,30}hours"
    r"|not yet valid|issued in the future|clock.?skew|short-lived token"  # about an assertion: the clocks differ
    r"|(?<![A-Za-z])ip.{0,12}(?:restrict|not allowed|not permitted|blocked|denied)|restricted.ip|untrusted.ip|(?:un|not ).{0,4}available",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The content of a refusal. `name`: the error according to the standard or the definition. `code` and
    `message`: for people, masked. `words`: the complete text, unmasked.
    """

    name: str
    code: str
    message: str
    words: str = field(repr=False)


def refusal_of(provider: Provider, token: Token, status: int, parsed: Parsed, body: Body) -> Refusal:
    """Return the content of the refusal in a reply. `body`: the object in it that looks like an error."""
    definition, hide = provider.definition, hidden(provider, token)
    name = code_of(definition, body)
    readable = name in _STANDARD or is_known_value(name, definition)
    label = name if readable else masked(name, hide, limit=_CODE_LIMIT)
    label = (
        label
        or shown_value(definition, status, body)
        or masked(_code_elsewhere(body, status), hide, limit=_CODE_LIMIT)
    )
    words, cut = (_words_in(definition, body), False) if parsed.objects else _words_of_text(parsed)
    message = masked(words, hide, cut=cut) or (label if name else "") or f"HTTP {status}"
    if body and not name and 200 <= status < 300:
        fields = f" (HTTP {status} without a token; its fields: {_names_in(body, hide)})"
        message = (message[:200] + fields)[:300]
    searched = f"{name[:_LONGEST]} {label} {words[:_LONGEST]}"
    return Refusal(name=name, code=label or f"http_{status}", message=message, words=searched)


def is_known_code(code: str, definition: Definition) -> bool:
    """Return whether the standard or the definition gives `code` a meaning."""
    return code in _STANDARD or code in _TEMPORARY or is_known_value(code, definition)


def is_error(definition: Definition, status: int, body: Body) -> bool:
    """Return whether `body` names an error, according to the standard or the definition."""
    return bool(code_of(definition, body)) or any_shown(definition, status, body)


def hidden(provider: Provider, token: Token) -> tuple[Secret | None, ...]:
    """Return the secrets that were sent and so may be echoed, including Basic credentials."""
    secret = provider.client_secret
    sent = (token.refresh_token, token.access_token, secret)
    if secret is None:
        return sent
    plain, encoded = secret.reveal(), form_value(secret.reveal())
    pairs = {f"{provider.client_id}:{plain}", f"{form_value(provider.client_id)}:{encoded}", f"{encoded}:"}
    return (*sent, *(Secret(b64encode(pair.encode(errors="replace")).decode()) for pair in pairs))


def code_of(definition: Definition, body: Body) -> str:
    """Return the error's name from the fields in which it has the standard's meaning."""
    for path in definition.reply.error_code:
        value = at_path(body, path)
        if isinstance(value, str | int) and not isinstance(value, bool) and value:
            return str(value)
    return ""


def _code_elsewhere(body: Body, status: int) -> str:
    """Return a text in another field that looks like an error's name, unless it only repeats the HTTP status."""
    for value in _ranked(body, _CODE_NAMES):
        if isinstance(value, str | int) and not isinstance(value, bool):
            text = str(value)
            if text != str(status) and text.lower() not in _SUCCESS and " " not in text and MASK not in text:
                return text
    return ""


def _words_in(definition: Definition, body: Body) -> str:
    """Return the provider's own text about the error."""
    for path in definition.reply.error_message:
        for text in _texts_of(at_path(body, path)):
            return text
    for value in _ranked(body, _WORD_NAMES):
        for text in _texts_of(value):
            return text
    return ""


def _texts_of(value: object) -> Iterator[str]:
    """Yield the texts in a value that is a text or a list."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and text.strip():
            yield text


def _words_of_text(parsed: Parsed) -> tuple[str, bool]:
    """Return a page's title, or the beginning of a text, and whether there is more. For unreadable JSON the
    text is empty.
    """
    text = parsed.text or ""
    if parsed.is_page:
        title = _TITLE.search(text)
        return " ".join(html.unescape(title[1]).split()) if title else "", not parsed.whole
    shown = "" if text[:1] in ("{", "[", "<") else text[:_BEGINNING]
    return " ".join(shown.split()), not parsed.whole or len(text) > _BEGINNING


def _names_in(body: Body, hide: tuple[Secret | None, ...]) -> str:
    """Return the names of `body`'s fields, for people. `hide`: secrets that were sent."""
    shown = [masked(str(name), hide, limit=_WIDEST) for name in list(body)[:_NAMED]]
    if len(body) > _NAMED:
        shown.append("…")
    return ", ".join(shown)


def says_not_dead(words: str) -> bool:
    """Return whether `words` contradict a verdict."""
    return any(sign.search(words) for sign in (_NOT_DEAD, _SLOW_DOWN, _LATER))


def asks_to_slow_down(status: int, words: str) -> bool:
    return status == 429 or _SLOW_DOWN.search(words) is not None


def cause_of(status: int, code: str, words: str, *, body: Body, page: bool) -> Cause:
    """Return the cause of a refusal that is in no definition.

    An error with a name concerns the token or its tenant, and so do the statuses that reject the request
    itself. Any other page, and any other status without a text, comes from a server in between.
    """
    if status in _PASSES or status >= 500 or code in _TEMPORARY or page:
        return Cause.OUTAGE
    if _SLOW_DOWN.search(words) or _LATER.search(words):
        return Cause.OUTAGE
    return Cause.REFUSAL if body or status in _REFUSES else Cause.OUTAGE


def _ranked(body: Body, names: tuple[str, ...]) -> Iterator[object]:
    """Yield the values under `names`, in the order of the names, outer ones before inner ones."""
    found: dict[str, list[object]] = {}
    waiting: deque[tuple[int, object]] = deque([(0, body)])
    for _ in range(_SEARCHED):
        if not waiting:
            break
        depth, value = waiting.popleft()
        inside: Iterable[object] = value if isinstance(value, list) else ()
        if isinstance(value, Mapping):
            for name, inner in islice(value.items(), _SEARCHED):
                found.setdefault(_ODD.sub("", str(name).lower()[:_WIDEST]), []).append(inner)
            inside = value.values()
        if depth < _DEPTH - 1:
            waiting.extend((depth + 1, inner) for inner in islice(inside, _SEARCHED))
    for name in names:
        yield from found.get(name, ())
