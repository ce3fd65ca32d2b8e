"""TLS towards servers of others."""

import ssl


def client_context() -> ssl.SSLContext:
    """Certificates and names are checked against this machine's authorities. Unlike `ssl.create_default_context`, this
    does not write each session's keys to the file that $SSLKEYLOGFILE names.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context
