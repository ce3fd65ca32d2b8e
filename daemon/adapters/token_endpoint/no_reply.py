"""The reason that no answer arrived, in this module's own words: the library's message would quote the URL,
whose query may hold the refresh token, or the proxy's URL, which may hold a password.
"""

import os
import ssl
from datetime import datetime

import aiohttp

from daemon.adapters.egress.permitted import PrivateAddress
from daemon.adapters.token_endpoint.response_parser import Endless, NotHttp
from daemon.domain.answer import Concern
from daemon.domain.reply import NoReply
from daemon.domain.secret import masked

_PRIVATE = (
    "the token's variables lead to an address that is not public; if that is intended, list the host in allowed_hosts, "
    "or set allow_private"
)
_REFUSED = frozenset({403, 407})  # a proxy's status when it refuses this host or its password


def no_reply_for(error: Exception, *, sent: bool, asked_at: datetime) -> NoReply:
    """Return the NoReply that `error` stands for. `sent`: the request may have reached the provider."""
    if not sent:
        code, message, concerns = _unsent(error)
        return NoReply(code=code, message=message, sent=False, concerns=concerns, asked_at=asked_at)
    late = isinstance(error, TimeoutError)
    message = f"{'no response in time' if late else _broken(error)}; the request was sent, so it may have been processed"
    return NoReply(code="timeout" if late else "connection", message=message, sent=True, asked_at=asked_at)


def _unsent(error: Exception) -> tuple[str, str, Concern | None]:
    """Return the code, the message and whose configuration must change, if any."""
    match error:
        case PrivateAddress() | aiohttp.ClientConnectorError(os_error=PrivateAddress()):
            return "private_address", _PRIVATE, Concern.TOKEN
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return "tls", f"no TLS with {error.host}: {_reason(error)}", Concern.PROVIDER
        case aiohttp.ClientHttpProxyError():
            concerns = Concern.PROVIDER if error.status in _REFUSED else None
            return "proxy", f"the proxy answered {error.status}", concerns
        case aiohttp.ClientProxyConnectionError():
            return "proxy", f"no connection to the proxy at {error.host}: {_reason(error)}", None
        case aiohttp.ClientConnectorError():
            return "connection", f"no connection to {error.host}: {_reason(error)}", None
        case TimeoutError():
            return "timeout", "no connection in time", None
        case ValueError() | aiohttp.NonHttpUrlClientError():
            return "bad_url", "the token URL, or a header, is malformed", Concern.PROVIDER
        case _:
            return "connection", _broken(error), None


def _broken(error: Exception) -> str:
    """Describe how an established connection ended."""
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):
        return "TLS broke off"  # its numbers are not the system's
    match error:
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed without a response"
        case Endless():
            return "the head of the response has no end"
        case NotHttp() | aiohttp.ClientResponseError():
            return "the response is not HTTP"
        case OSError(errno=int(number)):
            return os.strerror(number)
        case _:
            return f"the request failed ({type(error).__name__})"


def _reason(error: Exception) -> str:
    """Return the system's text: "Name or service not known", "self-signed certificate", ..."""
    cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None)
    return masked(getattr(cause, "strerror", None) or type(cause).__name__, limit=200)
