"""The device authorization endpoint without its wire (RFC 8628, section 3.1)."""

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from daemon.sandbox.accents import DeviceTerms
from daemon.sandbox.clients import Client
from daemon.sandbox.consents import Consents, Wish
from daemon.sandbox.demands import Asked, read_form
from daemon.sandbox.dialects import Dialect
from daemon.sandbox.faults import Fault
from daemon.sandbox.misbehaviour import reply_in_place, spoil
from daemon.sandbox.wording import Answer, Refusal, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEndpoint:
    """What one sandbox answers to devices that want to begin."""

    consents: Consents
    client: Client
    dialect: Dialect
    terms: DeviceTerms

    def take_effect(self, asked: Asked, *, page: str, fault: Fault | None, now: datetime) -> Reply:
        """The reply to send; `page` is the address where the owner enters the code."""
        if fault is not None and not fault.after_processing:
            return spoil(reply_in_place(fault, self.dialect), fault, self.dialect)
        reply = self._begin(asked, page, now)
        reply = self.dialect.as_asked(reply, asked.headers.get("Accept", ""))
        return reply if fault is None else spoil(reply, fault, self.dialect)

    def _begin(self, asked: Asked, page: str, now: datetime) -> Reply:
        form = read_form(asked.content_type, asked.body)
        if isinstance(form, Refusal):
            return self.dialect.refuse(form)
        if (refusal := self._refuses(asked, form)) is not None:
            return self.dialect.refuse(refusal)
        consent = self.dialect.consent
        scopes = consent.scopes(form.get(self.terms.scope, ""))
        device_code, user_code = self.consents.begin_device(
            Wish(scopes=scopes, offline=consent.is_offline(scopes)),
            ends=now + self.terms.lifetime,
            interval=self.terms.interval,
        )
        values = {
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?{urlencode({'user_code': user_code})}",
            "expires_in": int(self.terms.lifetime.total_seconds()),
            "interval": int(self.terms.interval.total_seconds()),
        }
        return Answer(status=200, body=self.terms.body).reply(values)

    def _refuses(self, asked: Asked, form: dict[str, str]) -> Refusal | None:
        if self.terms.client == "id" and "client_secret" not in form and "Authorization" not in asked.headers:
            known = form.get("client_id") == self.client.id
            return None if known else Refusal(complaint="invalid_client", detail="client_id is unknown")
        return self.client.refuses(asked.headers.get("Authorization"), form)
