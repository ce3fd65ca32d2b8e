"""Every error that a reader raises.

    ReaderError
    ├── NeedsReauth    the customer has to connect again: reconnect_url
    ├── NotConnected   there is no such token, or this access key may not see it
    ├── Paused         an operator or the application has paused the token
    ├── Expired        no usable token now, but refreshd is renewing it: retry_after
    ├── Unavailable    refreshd or MongoDB can't answer now: retry_after
    ├── ConsentFailed  no token was stored by `complete`: kind, code
    ├── Rejected       refreshd has rejected the request: problem, status
    └── NotSupported   MongoDB alone, or this version of refreshd, can't do this

A wrong setting, such as a missing environment variable, raises ValueError.
"""

from dataclasses import dataclass


class ReaderError(Exception):
    """No token, or the request was not carried out. The text contains no secret."""


class NotConnected(ReaderError):
    """The account was never connected, was removed, or is hidden from this access key. Ask to connect it."""


class Paused(ReaderError):
    """The token is paused. Do not call the provider until the token is resumed."""


class NotSupported(ReaderError):
    """MongoDB alone can't do this (use `refreshd serve`), or the version of refreshd is too old for it."""


class NeedsReauth(ReaderError):
    """The provider has refused the refresh token for good. Ask the customer to connect again."""

    def __init__(self, message: str, *, reconnect_url: str | None = None) -> None:
        super().__init__(message)
        self.reconnect_url = reconnect_url  # a page of your application, if refreshd's configuration names it


class Expired(ReaderError):
    """The stored token is past its end and refreshd is renewing it. Try again after `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(ReaderError):
    """The source of tokens can't answer. Try again later; `retry_after` is in seconds, if it is known."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Rejected(ReaderError):
    """refreshd has rejected the request. `problem` is the name of an RFC 9457 problem, such as `conflict`."""

    def __init__(self, message: str, *, problem: str, status: int) -> None:
        super().__init__(message)
        self.problem = problem
        self.status = status


class ConsentFailed(ReaderError):
    """The owner's consent led to no token. `kind` is refreshd's, such as `refused`; `code` the provider's, if any."""

    def __init__(self, message: str, *, kind: str, code: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code


@dataclass(frozen=True, slots=True)
class Ending:
    """The result of `remove` and `remove_all` for one token."""

    id: str
    state: str  # "revoking": the provider is asked to revoke the grant. "removed": nothing is left to do
