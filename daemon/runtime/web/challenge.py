"""The challenge of an answer 401 to a request without a valid bearer token."""


def bearer_challenge(*, presented: bool) -> str:
    """Return the value of `WWW-Authenticate`. It names an error only if a token was sent and is refused, so that a client
    distinguishes a wrong token from a missing one (RFC 6750 section 3.1).
    """
    return 'Bearer realm="refreshd"' + (', error="invalid_token"' if presented else "")
