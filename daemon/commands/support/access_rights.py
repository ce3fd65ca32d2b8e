"""What an access key allows, as an operator types it: selectors, conditions, verbs, networks, rate and lifetime.

Every fault is found in one run. Each is a sentence that quotes the value and says what to write instead.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TypeVar

from daemon.domain.access_key import ANY, META, NAME_FORM, SUBJECT, Verb, is_field
from daemon.domain.provider import Rate
from daemon.domain.token import PROVIDER_NAME, token_id
from daemon.domain.visible import typed
from daemon.runtime.config.fields import duration
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.providers.life_keys import rate_of

Network = IPv4Network | IPv6Network
Value = TypeVar("Value")
_LONGEST_TEXT = 512  # bytes, of a subject and of any other text that `where` compares
_VERBS = ", ".join(Verb)


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """The options of `refreshd access create`, as they were typed."""

    name: str
    tokens: Sequence[str]
    can: Sequence[str]
    where: Sequence[str] = ()
    networks: Sequence[str] = ()
    rate: str | None = None
    expires: str | None = None


@dataclass(slots=True, kw_only=True)
class Rights:
    """What was read. If there are `faults`, the rest is incomplete."""

    tokens: list[str] = field(default_factory=list)
    can: list[Verb] = field(default_factory=list)
    where: dict[str, str] = field(default_factory=dict)
    networks: list[Network] = field(default_factory=list)
    rate: Rate | None = None
    lifetime: timedelta | None = None
    faults: list[str] = field(default_factory=list)


class _Fault(ValueError):
    """A value can't be used. The text says why, and what to write instead."""


def read_rights(given: Typed) -> Rights:
    """Read all options, and collect every fault."""
    faults: list[str] = []
    _each(faults, "NAME", [given.name], _check_name)
    rights = Rights(
        tokens=_distinct(_each(faults, "--tokens", _parts(given.tokens), _selector)),
        can=_distinct(_each(faults, "--can", _parts(given.can), _verb)),
        networks=_distinct(_each(faults, "--from", _parts(given.networks), _network)),
        faults=faults,
    )
    for name, text in _each(faults, "--where", given.where, _condition):
        if rights.where.setdefault(name, text) != text:
            faults.append(
                f"--where asks for two texts of {name}, and no token has both. Create a key for each"
            )
    for limit in _each(faults, "--rate", _given(given.rate), rate_of):
        rights.rate = limit
    for lifetime in _each(faults, "--expires", _given(given.expires), _lifetime):
        rights.lifetime = lifetime
    if Verb.REPLACE in rights.can and Verb.WRITE not in rights.can:
        faults.append("--can replace only extends the verb write. Write --can write,replace")
    return rights


def _each(
    faults: list[str], option: str, texts: Iterable[str], reader: Callable[[str], Value]
) -> Sequence[Value]:
    """Return what `reader` makes of each text, and add a sentence for each that it refuses."""
    found: list[Value] = []
    for text in texts:
        try:
            text.encode()
            found.append(reader(text))
        except UnicodeEncodeError:
            faults.append(f"{option} {text!r} is not valid Unicode. Write it in UTF-8")
        except _Fault as why:
            faults.append(f"{option} {text!r} {why}")
        except InvalidValue as why:
            faults.append(f"{option} {text!r} {why.what}. {why.do.removesuffix('.')}")
    return found


def _given(text: str | None) -> Sequence[str]:
    return [] if text is None else [text]


def _parts(texts: Iterable[str]) -> Sequence[str]:
    """Return the elements of comma lists. Blanks at their ends stay, because an account may end in one."""
    return [part.lstrip(" ") for text in texts for part in text.split(",")]


def _distinct(found: Iterable[Value]) -> list[Value]:
    return list(dict.fromkeys(found))


def _check_name(text: str) -> None:
    if not NAME_FORM.fullmatch(text):
        raise _Fault(
            "is not a name for a key. Use 1 to 64 of A to Z, a to z, 0 to 9, '.', '_' and '-', beginning with a letter or"
            " digit"
        )


def _selector(text: str) -> str:
    """Read a whole ID, or the beginning of IDs with a final `*`. Escapes stand for their characters."""
    if text == ANY:
        return ANY
    beginning, star = text.removesuffix(ANY), text.endswith(ANY)
    if ANY in beginning:
        raise _Fault(
            f"has a * before its end, and only a final one stands for any text. Write {beginning.partition(ANY)[0]}*"
        )
    provider, colon, account = beginning.partition(":")
    if not PROVIDER_NAME.fullmatch(provider):
        raise _Fault(
            "is neither an ID nor the beginning of one. Write PROVIDER:ACCOUNT, PROVIDER:* or *; write a comma that"
            " belongs to an account as \\u002c"
        )
    if not colon and star:
        raise _Fault(
            f"would also name other providers whose names begin with {provider}. Write {provider}:* for all tokens of"
            " one provider"
        )
    if not colon:
        raise _Fault(
            f"is a provider without an account. Write {provider}:* for all of its tokens, or {provider}:ACCOUNT for one"
        )
    meant = typed(account)
    if meant.endswith(ANY) and not star:
        raise _Fault("is an ID that ends in *, which a key can't name alone. Write the ID's beginning and *")
    try:
        token_id(provider, meant or "x" if star else meant)
    except ValueError as why:
        raise _Fault(f"can't name a token ({why}). Copy the ID from `refreshd list`") from None
    return f"{provider}:{meant}{ANY if star else ''}"


def _verb(text: str) -> Verb:
    text = text.strip()
    try:
        return Verb(text)
    except ValueError:
        close = get_close_matches(text, list(Verb), n=1)
        hint = f"Did you mean {close[0]}? " if close else ""
        raise _Fault(f"is not a verb. {hint}Use some of: {_VERBS}") from None


def _condition(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    value = typed(value)
    if not equals or not is_field(name):
        raise _Fault(f"is not a condition. Write {_meant(name, value or 'TEXT')}")
    if not value:
        raise _Fault(f"has no text behind the equals sign. Write {name}=TEXT")
    if len(value.encode()) > _LONGEST_TEXT:
        raise _Fault(f"has a text of over {_LONGEST_TEXT} bytes. Write a shorter one")
    return name, value


def _meant(name: str, value: str) -> str:
    for each in (name, f"{META}{name}"):
        if is_field(each):
            return f"{each}={value}"
    return f"{META}NAME={value} or {SUBJECT}={value}"


def _network(text: str) -> Network:
    text = text.strip()
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise _Fault(
            "is not a network. Write it like 10.0.0.0/8, 2001:db8::/32, or 10.0.0.7 for one address"
        ) from None
    mapped = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        raise _Fault(f"is an IPv4 network in IPv6's notation. Write {mapped}/{network.prefixlen - 96}")
    try:
        return ip_network(text)
    except ValueError:
        raise _Fault(f"is an address inside a network. Write {network} for that network") from None


def _lifetime(text: str) -> timedelta:
    lifetime = duration(text)
    if not lifetime:
        raise _Fault("ends immediately. Write a longer time, like 90d")
    return lifetime
