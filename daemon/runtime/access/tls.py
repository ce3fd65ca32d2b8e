"""The certificate of the access service."""

import os
import ssl

from daemon.runtime.config.access import AccessSettings


class SslInvalid(Exception):
    """The certificate or its key can't be used. The text is a sentence for operators."""


def tls_context(settings: AccessSettings) -> ssl.SSLContext | None:
    """Return the TLS context. Its key never stands in a file of its own for longer than the loading takes."""
    table = settings.access.tls
    if table is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, table.key.reveal().encode())
        context.load_cert_chain(settings.beside(table.cert), f"/proc/self/fd/{descriptor}")
    except (OSError, ssl.SSLError) as error:
        raise SslInvalid(f"access.tls: the certificate or its key can't be used: {error}") from None
    finally:
        os.close(descriptor)
    return context
