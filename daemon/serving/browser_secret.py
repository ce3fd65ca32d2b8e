"""Secrets of 256 bits for links, browsers and sessions."""

from base64 import urlsafe_b64encode
from collections.abc import Callable

from daemon.domain.authorization import SECRET_BYTES
from daemon.domain.secret import Secret


def new_secret(random: Callable[[int], bytes]) -> Secret:
    """Return a new secret of 256 bits."""
    return Secret(urlsafe_b64encode(random(SECRET_BYTES)).rstrip(b"=").decode())
