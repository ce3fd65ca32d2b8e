"""A token as an application gets it. It never prints the access token."""

import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn, Self


class Token:
    """An access token and what the provider said about it. Immutable; `repr`, `str` and `format` hide the text."""

    __slots__ = (
        "_access_token",
        "_extra",
        "account",
        "expires_at",
        "missing_scopes",
        "provider",
        "scope",
        "subject",
        "token_type",
        "version",
    )

    def __init__(
        self,
        *,
        provider: str,
        account: str,
        access_token: str,
        version: str,
        expires_at: datetime | None = None,
        token_type: str = "Bearer",  # noqa: S107 - a type and no token
        scope: str | None = None,
        missing_scopes: tuple[str, ...] = (),
        extra: Mapping[str, object] | None = None,
        subject: str | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "provider", provider)
        put(self, "account", account)
        put(self, "_access_token", access_token)
        put(self, "version", version)  # changes exactly when the access token does
        put(self, "expires_at", expires_at)  # aware, UTC. None: no end is known
        put(self, "token_type", sys.intern(token_type))  # thousands of tokens share one
        put(self, "scope", scope if scope is None else sys.intern(scope))
        put(self, "missing_scopes", missing_scopes)
        put(
            self,
            "_extra",
            tuple(part for name, value in (extra or {}).items() for part in (sys.intern(name), value)),
        )
        put(self, "subject", subject)

    provider: str
    account: str
    version: str
    expires_at: datetime | None
    token_type: str
    scope: str | None
    missing_scopes: tuple[str, ...]
    subject: str | None
    _access_token: str
    _extra: tuple[Any, ...]  # names and values in turn: a third of the memory of a dict

    @property
    def access_token(self) -> str:
        """The text itself, which is a secret."""
        return self._access_token

    @property
    def extra(self) -> dict[str, Any]:
        """Other fields of the provider's response, such as `api_domain`."""
        return dict(zip(self._extra[::2], self._extra[1::2], strict=True))

    @property
    def id(self) -> str:
        """The id of the token in refreshd."""
        return f"{self.provider}:{self.account}"

    @property
    def authorization(self) -> str:
        """The value of an `Authorization` header."""
        return f"Bearer {self._access_token}"

    def __repr__(self) -> str:
        return f"<Token {self.id} version {self.version} expires_at {self.expires_at}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Token):
            return NotImplemented
        mine, theirs = (
            (token.provider, token.account, token.version, token.expires_at) for token in (self, other)
        )
        return mine == theirs

    def __hash__(self) -> int:
        return hash((self.provider, self.account, self.version))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Token does not change")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError("a Token does not change")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a Token is not pickled: it is a secret. Ask for it again instead")
