"""The private key of a client in use: for client assertions, and for claims that the client signs."""

from dataclasses import dataclass, replace

from daemon.adapters.token_endpoint.claims_signer import JwtSigner
from daemon.adapters.token_endpoint.client_assertion import ClientAssertion, SigningKey, signing_key
from daemon.adapters.token_endpoint.key_file import key_file
from daemon.domain.provider import Provider
from daemon.domain.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A private key, and what its file says about the client."""

    signing: SigningKey
    id: str | None = None
    client_id: str | None = None


def read_key(content: Secret) -> Key:
    """Raises KeyUnusable."""
    file = key_file(content)
    return Key(signing=signing_key(file.pem), id=file.key_id, client_id=file.client_id)


def with_key(provider: Provider, key: Key, *, key_id: str | None) -> Provider:
    """Return `provider` with this key. `key_id`: as the operator states it. A client id of the configuration counts before
    the key's. Raises KeyUnusable if the provider takes none of the key's algorithms.
    """
    signing = key.signing.restricted(provider.definition.assertion_algorithms)
    client_id, key_id = provider.client_id or key.client_id or "", key_id or key.id
    return replace(
        provider,
        client_id=client_id,
        client_assertion=ClientAssertion(key=signing, client_id=client_id, key_id=key_id),
        sign_claims=JwtSigner(key=signing, key_id=key_id),
        client_fingerprint=key.signing.fingerprint,
    )
