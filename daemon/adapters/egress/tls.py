"""TLS to other machines' servers."""

import ssl


def client_context() -> ssl.SSLContext:
    """Return a context that checks certificates and names against this machine's authorities.

    Unlike `ssl.create_default_context`, it does not write session keys to the file in $SSLKEYLOGFILE.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context
