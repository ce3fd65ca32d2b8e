"""Who asks, if no access key says so: a workload that presents the JWT of a trusted issuer."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from daemon.domain.access_key import AccessKey
from daemon.domain.issuer import Issuer
from daemon.domain.jwt import KEYS_UNAVAILABLE, Fault, Jwt, KeysAway, NotAccepted, check_times, parse_jwt
from daemon.domain.provider import Rate
from daemon.domain.use import Workload
from daemon.serving.doorkeeper import Caller, RateLimit, WrongGuesses, put
from daemon.serving.ports import Clock, IssuerKeys
from daemon.serving.problems import Problem

UNKNOWN = "unknown"  # for the name of a rule, if none is about the JWT's issuer

Refused = Callable[[str, str, str], None]


class Workloads:
    """`keys`: by issuer. `rate`: of a workload whose rule has none. `refused` receives the name of a rule about the
    JWT's issuer, the reason and the caller's address.
    """

    def __init__(
        self,
        rules: Sequence[Issuer],
        keys: Mapping[str, IssuerKeys],
        clock: Clock,
        *,
        rate: Rate,
        refused: Refused,
        failed: Callable[[str], None] = lambda _address: None,
    ) -> None:
        """`failed` receives the address of each caller whose JWT proves nothing."""
        self._rules = rules
        self._keys = keys
        self._clock = clock
        self._rate = rate
        self._refused = refused
        self._failed = failed
        self._wrong = WrongGuesses(clock)
        self._rates: OrderedDict[tuple[str, str], RateLimit] = OrderedDict()

    async def admit(self, text: str, address: str, peer: int | None = None) -> Sequence[Caller]:
        """Return the caller as each rule admits it that the JWT in `text` fulfils, at least one. Raises Problem.

        Every JWT that proves nothing gets the same answer, and slows down only other such JWTs from the same address.
        """
        name = UNKNOWN
        try:
            jwt = parse_jwt(text)
            rules = [one for one in self._rules if one.issuer == jwt.issuer]
            name = rules[0].name if rules else UNKNOWN
            keys = await self._proven(jwt, rules, address)
        except NotAccepted as why:
            self._refused(name, why.fault, address)
            self._failed(address)
            raise self._not_accepted(address) from None
        except KeysAway as why:
            self._refused(name, KEYS_UNAVAILABLE, address)
            raise Problem(
                "unavailable", "The issuer's keys are not available.", retry_after=why.retry_after
            ) from None
        if (wait := self._wait(keys[0])) > timedelta(0):
            raise Problem("rate-limited", "This workload asks too often.", retry_after=wait)
        workload = Workload(issuer=jwt.issuer, subject=jwt.subject, jwt=jwt.id)
        return [Caller(key=key, address=address, peer=peer, workload=workload) for key in keys]

    async def _proven(self, jwt: Jwt, rules: Sequence[Issuer], address: str) -> Sequence[AccessKey]:
        """Return what each rule allows. Raises NotAccepted if the JWT or the caller fulfils none, KeysAway."""
        if not rules:
            raise NotAccepted(Fault.ISSUER)
        rules = [one for one in rules if one.audience in jwt.audiences]
        if not rules:
            raise NotAccepted(Fault.AUDIENCE)
        rules = [one for one in rules if jwt.algorithm in one.algorithms]
        if not rules:
            raise NotAccepted(Fault.ALGORITHM)
        check_times(jwt, self._clock.now())
        if (fault := await self._keys[jwt.issuer].fault(jwt)) is not None:
            raise NotAccepted(fault)
        found = [key for key in (one.key_for(jwt) for one in rules) if key is not None]
        if not found:
            raise NotAccepted(Fault.CLAIMS)
        admitted = [key for key in found if key.admits(address)]
        if not admitted:
            raise NotAccepted(Fault.NETWORK)
        return admitted

    def _not_accepted(self, address: str) -> Problem:
        if (wait := self._wrong.note(address)) > timedelta(0):
            return Problem(
                "rate-limited", "Too many JWTs from this address were not accepted.", retry_after=wait
            )
        return Problem("invalid-request", "The subject token is not accepted.")

    def _wait(self, key: AccessKey) -> timedelta:
        rate, place = key.rate or self._rate, (key.id, key.name)
        limit = self._rates.pop(place, None) or RateLimit(rate)
        put(self._rates, place, limit)
        return limit.take(self._clock.boot())
