"""Whether a reply that isn't a grant may still hold a token, which must not be discarded with it.

The rule uses names, not looks, because pages are full of long random texts. A value counts if its name sounds
like a token's, in any nesting or notation. It does not count if it is the token that was presented, if it is
masked, or if it only describes the error ("expired"). In a page for people only refresh tokens count, with
values that look like one, because its scripts mention tokens too.

Without a name only two things count: a JWT outside of a page, and a body that is one long random text or not
text at all. Either may be a grant that refreshd can't read.
"""

import html
import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from daemon.domain.reply_body import Parsed, embedded
from daemon.domain.secret import MASK
from daemon.domain.word import is_readable

_END = r"[-_ .]?token(?:[-_ ]?(?:value|key|string|data|secret))?s?"
_REFRESH = re.compile(rf"refresh{_END}\Z", re.IGNORECASE)
_ANY = re.compile(
    rf"(?:refresh|access|bearer|oauth|auth|user|session|api|id|new){_END}\Z|\A(?:tokens?|jwt)\Z",
    re.IGNORECASE,
)
_WORD = re.compile("token", re.IGNORECASE)
_BEFORE = re.compile(r"(?:(refresh)|access|bearer|oauth|auth)[-_ ]?\Z|(?<![A-Za-z_-])\Z", re.IGNORECASE)
_BEHIND = re.compile(  # in JSON, forms, XML, input fields of a page, and what programs print
    r"s?[\"'\]\\]{0,9}\s{0,9}(?:=>|[:=]|(?:\s[^<>]{0,99})?>|\svalue=)\s{0,9}(?:string\(\d+\))?[\s\"'\\]{0,9}"
    r"([^\s\"'<>&,;)}\]\\]+)"
)
_LONGEST_NAME = 10  # characters before the word "token"
_WORDS_SEARCHED = 1000
# Begins only where a word does: each other place would be another walk to the end of a long text.
_JWT = re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]*")
_OPAQUE = re.compile(r"[A-Za-z0-9._~+/=|-]{40,8192}")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_WORDS = re.compile(r"[A-Za-z]+(?:[-_.][A-Za-z]+)*")
_SAYS = re.compile(
    r"\A(?:null|none|nil|undefined|true|false|bearer|n/?a|ok)\Z|valid|expir|revok|requir|missing|blank|unknown|active"
    r"|malform|empty|error|fail|denied|disab|not|mismatch|wrong|used|reject|block|support|absent|illegal|correct|must",
    re.IGNORECASE,
)
_SHOWN = ("*", MASK, "…", "...", "<", "[")  # in what is masked, or a place for something
_LOOKS = 12  # characters at least of a token in a page
_BYTES = 64  # of a body that isn't text: fewer can't be a grant
_PICTURE = re.compile(r"(?:image|audio|video|font)/", re.IGNORECASE)
_LARGEST_CODE = 9_999_999  # of an error, as a number: a larger one may be a token
_DEPTH = 8  # names above a value
_LOOKED_AT = 1000  # values of one reply: more would hold up the others


def brings_refresh_token(parsed: Parsed, presented: Collection[str]) -> bool:
    """Return whether there is a refresh token that is none of `presented`."""
    return _holds(parsed, _REFRESH, presented)


def may_be_a_grant(parsed: Parsed, presented: Collection[str], *, content_type: str, size: int) -> bool:
    """Return whether a success may hold a token that can't be read."""
    if not parsed.whole:
        return False
    if parsed.text is None:
        return size >= _BYTES and not _PICTURE.match(content_type)
    if _holds(parsed, _ANY, presented):
        return True
    if parsed.is_page:
        return False
    texts, complete = _texts(parsed.objects)
    jwts = {text for _, text in texts if _JWT.fullmatch(text)}
    searched = parsed.text or ("" if complete else parsed.source)
    jwts.update(found[0] for found in islice(_JWT.finditer(searched), _WORDS_SEARCHED))
    text = (parsed.text or "").strip("\"'")
    opaque = _OPAQUE.fullmatch(text) is not None and text not in presented and not is_readable(text)
    return opaque or any(jwt not in presented for jwt in jwts)


def sounds_like_refresh_token(name: str) -> bool:
    return _REFRESH.search(name) is not None


def _holds(parsed: Parsed, sounds: re.Pattern[str], presented: Collection[str]) -> bool:
    texts, complete = _texts(parsed.objects)
    if any(_is_token(text, presented) for names, text in texts if any(map(sounds.search, names))):
        return True
    only_refresh = parsed.is_page or sounds is _REFRESH
    searched = parsed.text or ("" if complete else parsed.source)
    return any(
        _is_token(value, presented) and (not parsed.is_page or _stands_out(value))
        for is_refresh, value in _named_values(parsed, searched)
        if is_refresh or not only_refresh
    )


def _stands_out(value: str) -> bool:
    """Return whether `value` looks like a token amid program text."""
    return len(value) >= _LOOKS and not is_readable(value)


def _named_values(parsed: Parsed, text: str) -> Iterator[tuple[bool, str]]:
    """Yield each value under a token's name in `text`, and whether the name is a refresh token's. The last
    value of a truncated text is left out, since it may be half a token.
    """
    text = html.unescape(text) if parsed.is_page else text
    for word in islice(_WORD.finditer(text), _WORDS_SEARCHED):
        before = _BEFORE.search(text[max(0, word.start() - _LONGEST_NAME) : word.start()])
        behind = _BEHIND.match(text, word.end()) if before else None
        if before and behind and (parsed.whole or behind.end() < len(text)):
            yield before[1] is not None, behind[1]


def _texts(body: object) -> tuple[list[tuple[tuple[str, ...], str]], bool]:
    """Return each text in `body` with the names above it, outer names first, including texts inside JSON
    texts. Also return whether these are all of them.
    """
    waiting: deque[tuple[tuple[str, ...], object]] = deque([((), body)])
    found: list[tuple[tuple[str, ...], str]] = []
    complete = True
    for _ in range(_LOOKED_AT):
        if not waiting:
            return found, complete
        names, value = waiting.popleft()
        if isinstance(value, str):
            found.append((names, value))
            value = embedded(value)
        if len(names) > _DEPTH:
            complete = complete and not isinstance(value, Mapping | list)
            continue
        if isinstance(value, Mapping):
            members = islice(value.items(), _LOOKED_AT)
            waiting.extend(((*names, str(name)), inner) for name, inner in members)
        elif isinstance(value, list | tuple):
            waiting.extend((names, inner) for inner in islice(value, _LOOKED_AT))
        elif isinstance(value, int) and not isinstance(value, bool) and abs(value) > _LARGEST_CODE:
            found.append((names, str(value)))
    return found, False


def _is_token(value: str, presented: Collection[str]) -> bool:
    """Return whether `value` may be a token that refreshd does not have yet."""
    value = value.strip()
    if not _VISIBLE.fullmatch(value) or value in presented or any(mark in value for mark in _SHOWN):
        return False
    return not (_WORDS.fullmatch(value) and len(value) <= 40 and _SAYS.search(value))
