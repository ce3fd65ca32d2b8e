"""A JSON Web Key Set (RFC 7517 §5), read: the key for a JWT, if exactly one fits."""

from collections.abc import Sequence
from dataclasses import dataclass

from daemon.adapters.issuer_keys.failure import ReadFailed
from daemon.adapters.issuer_keys.jwk import Unfit, VerifyingKey, verifying_key
from daemon.domain.jwt import Fault, Jwt
from daemon.domain.strict_json import strict_json

LARGEST = 256 * 1024  # bytes
MOST_KEYS = 100


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of an issuer."""

    keys: Sequence[VerifyingKey] = ()

    def knows(self, jwt: Jwt) -> bool:
        """Return whether there is a key of this id, or for a JWT that names none, any that fits."""
        return any(
            one.id == jwt.key_id if jwt.key_id is not None else jwt.algorithm in one.checks
            for one in self.keys
        )

    def fault(self, jwt: Jwt) -> Fault | None:
        """Return the fault of the JWT's signature, if it has one. Two keys of one id are none, unless they are equal."""
        of_id = [one for one in self.keys if jwt.key_id in (None, one.id)]
        fitting = {one.material: one for one in of_id if jwt.algorithm in one.checks}
        if of_id and not fitting:
            return Fault.ALGORITHM
        if len(fitting) != 1:
            return Fault.KEY
        (key,) = fitting.values()
        return None if key.has_signed(jwt.algorithm, jwt.signed, jwt.signature) else Fault.SIGNATURE


def parse_key_set(content: bytes) -> KeySet:
    """Return the keys in `content`. Those that are not public keys for signatures are left out. Raises ReadFailed."""
    if len(content) > LARGEST:
        raise ReadFailed(f"it has more than {LARGEST} bytes")
    try:
        found = strict_json(content)
    except ValueError:
        raise ReadFailed("it is not JSON, or gives a name twice") from None
    keys = found.get("keys") if isinstance(found, dict) else None
    if not isinstance(keys, list) or not all(isinstance(one, dict) for one in keys):
        raise ReadFailed("it is not a JSON Web Key Set")
    if len(keys) > MOST_KEYS:
        raise ReadFailed(f"it has more than {MOST_KEYS} keys")
    usable = []
    for one in keys:
        try:
            usable.append(verifying_key(one))
        except Unfit:
            continue
    return KeySet(usable)
