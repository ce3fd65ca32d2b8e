"""The certificate of the access service."""

import os
import ssl

from daemon.adapters.trusted_files import require_file
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
    cert = settings.beside(table.cert)
    try:
        require_file(cert)
    except OSError as error:
        raise SslInvalid(
            f"access.tls.cert: {cert} can't be used: {error.strerror}. Name the file with the certificate in PEM."
        ) from None
    descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, table.key.reveal().encode())
        context.load_cert_chain(cert, f"/proc/self/fd/{descriptor}", password=_no_passphrase)
    except (OSError, ssl.SSLError) as error:
        raise SslInvalid(f"access.tls: the certificate or its key can't be used: {error}") from None
    finally:
        os.close(descriptor)
    return context


def _no_passphrase() -> str:
    """Refuse an encrypted key. Without a function that is asked for its passphrase, OpenSSL waits for one at the terminal."""
    raise OSError(
        "the key is encrypted. Store it without a passphrase, in a file that only this user can read"
    )
