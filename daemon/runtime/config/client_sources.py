"""Client secrets that can be read again while refreshd runs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from daemon.adapters.token_endpoint.client_assertion import ClientAssertion, KeyUnusable, signing_key
from daemon.domain.provider import Provider
from daemon.domain.secret import Secret
from daemon.runtime.config.problems import InvalidValue
from daemon.runtime.config.secret_chains import Chain, chain_of
from daemon.runtime.config.secret_reading import FromMachine


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSource:
    """The sources of the secret of one provider's client. `key`: client_secret or client_key."""

    provider: str
    key: str
    key_id: str | None
    chain: Chain
    local: FromMachine

    def applied(self, provider: Provider, text: Secret) -> Provider:
        """Return `provider` with `text` as its client's secret. Raises InvalidValue."""
        if self.key == "client_secret":
            return replace(provider, client_secret=text, lacking=None)
        try:
            key = signing_key(text).restricted(provider.definition.assertion_algorithms)
        except KeyUnusable as unusable:
            raise InvalidValue(str(unusable), "Store a private key there.") from None
        assertion = ClientAssertion(key=key, client_id=provider.client_id, key_id=self.key_id)
        return replace(provider, client_assertion=assertion, client_fingerprint=key.fingerprint, lacking=None)


def client_sources(table: Mapping[str, Any], local: FromMachine) -> Iterator[ClientSource]:
    """Yield the sources of the clients in [providers] that can give another secret than before."""
    for name, own in table.items():
        for key in ("client_secret", "client_key"):
            value = own.get(key, "") if isinstance(own, Mapping) else ""
            try:
                chain = chain_of(value)
            except InvalidValue:
                continue
            if chain is not None and chain.can_change:
                yield ClientSource(
                    provider=name, key=key, key_id=own.get("client_key_id"), chain=chain, local=local
                )
