"""The form of an encrypted text in an application's store: which parts it has, and how they are put together."""

import re
from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """What a part of an encrypted text is."""

    NONCE = "nonce"
    TAG = "tag"
    CIPHERTEXT = "ciphertext"


_NAMES = {
    Role.NONCE: ("iv", "nonce"),
    Role.TAG: ("tag", "authtag", "mac"),
    Role.CIPHERTEXT: ("ciphertext", "encrypted", "encrypteddata", "data", "content", "value"),
}
_SEPARATORS = ":.;|$"


class FormInvalid(ValueError):
    """A form does not name a nonce, a tag and a ciphertext."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CipherForm:
    """`kind` is "json", "object", "+" (the joined bytes), or the separator between the parts. `names` are the
    application's, `roles` what they stand for, in the same order.
    """

    kind: str
    names: tuple[str, ...]
    roles: tuple[Role, ...]


def read_form(text: str) -> CipherForm:
    """Return the parts of "json:A,B,C", "object:A,B,C", "A+B+C", or "A:B:C". Raises FormInvalid."""
    kind, _, rest = text.partition(":")
    if kind in ("json", "object") and "," in rest:
        names = tuple(rest.split(","))
    else:
        kind = "+" if "+" in text else next((one for one in _SEPARATORS if one in text), ":")
        names = tuple(text.split(kind))
    roles = [role for name in names if (role := _role(name)) is not None]
    if len(names) != len(Role) or set(roles) != set(Role):
        raise FormInvalid
    return CipherForm(kind=kind, names=names, roles=tuple(roles))


def _role(name: str) -> Role | None:
    bare = re.sub(r"[^a-z]", "", name.lower())
    return next((role for role, names in _NAMES.items() if bare in names), None)
