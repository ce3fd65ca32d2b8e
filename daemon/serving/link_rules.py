"""Which consents the access service begins, and which of them it still goes on with."""

from collections.abc import Mapping
from dataclasses import dataclass

from daemon.domain.access_key import META, SUBJECT, AccessKey, Stored, Verb
from daemon.domain.consent_request import ConsentRequest
from daemon.domain.provider import Provider
from daemon.domain.return_url import fault_of_return_url
from daemon.domain.stored_grant import REVOKING, StoredGrant
from daemon.serving.grant_request import Wish
from daemon.serving.problems import Invalid, Problem, not_found
from daemon.serving.write_rules import LARGEST_META


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRules:
    """`return_urls`: to which browsers may be sent. `unbound`: whether applications may leave the session binding out."""

    return_urls: tuple[str, ...]
    unbound: bool

    def allows(self, request: ConsentRequest) -> bool:
        """Return whether this service would begin the consent now. The configuration may have changed, and the document may
        have another author.
        """
        if request.code_challenge is None and not self.unbound:
            return False
        return request.return_url is None or fault_of_return_url(request.return_url, self.return_urls) is None

    def faults(self, provider: Provider, wish: Wish) -> list[tuple[str, str]]:
        """Return the fields of a wish that are refused, each with the reason."""
        faults = [
            (f"vars.{name}", f"is not a variable of {provider.name}")
            for name in sorted(wish.vars.keys() - provider.definition.variables.keys())
        ]
        if provider.definition.authorize_url is None:
            faults.append(
                ("provider", "has no authorize_url in its definition: store its token response by PUT")
            )
        elif not provider.client_id:
            faults.append(("provider", "has no client_id in the service's configuration"))
        if wish.code_challenge is None and not self.unbound:
            faults.append(
                ("code_challenge", "is required: without it, any browser could complete the consent")
            )
        if wish.return_url is None:
            if wish.code_challenge is not None:
                faults.append(("return_url", "is required with code_challenge: it gets the connect_code"))
        elif fault := fault_of_return_url(wish.return_url, self.return_urls):
            faults.append(("return_url", fault))
        return faults


def require_allowed(
    key: AccessKey, name: str, stored: StoredGrant | None, wish: Wish | ConsentRequest
) -> None:
    """Raise Problem unless the key may connect the account, as its token is stored and as it would become."""
    offered = {f"{META}{one}": text for one, text in wish.meta.items()}
    if wish.subject is not None:
        offered[SUBJECT] = wish.subject
    if sum(len(one.encode()) + len(text.encode()) for one, text in offered.items()) > LARGEST_META:
        raise Invalid(("meta", f"would have more than {LARGEST_META} bytes"))
    may_replace = Verb.REPLACE in key.can
    if wish.replace and not may_replace:
        raise not_found()
    before: Mapping[str, str] = {}
    if stored is not None and not stored.is_gone:
        before = stored.token.selected
        if not key.may(Verb.CONNECT, stored.selected):
            raise not_found()
        if stored.token.state == REVOKING:
            raise Problem("revoking", "This token is being revoked.")
        if stored.token.subject not in (None, offered.get(SUBJECT, stored.token.subject)) and not may_replace:
            raise not_found()
    if not key.may(Verb.CONNECT, Stored(id=name, fields={**before, **offered})):
        raise not_found()
