"""The revocation endpoint without its wire: RFC 7009, and the other ways in which providers take a token back."""

from dataclasses import dataclass, replace
from datetime import datetime

from daemon.sandbox.accents import RevocationTerms
from daemon.sandbox.clients import Client
from daemon.sandbox.demands import Asked, read_form, read_json
from daemon.sandbox.dialects import Dialect
from daemon.sandbox.faults import Fault
from daemon.sandbox.grants import Grants
from daemon.sandbox.misbehaviour import reply_in_place, spoil
from daemon.sandbox.wording import FORM, JSON, Refusal, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationEndpoint:
    """What one sandbox answers to requests for revocation."""

    grants: Grants
    client: Client
    dialect: Dialect
    terms: RevocationTerms

    def take_effect(self, asked: Asked, *, in_path: str | None, fault: Fault | None, now: datetime) -> Reply:
        """The reply to send. `in_path` is the token, if the path holds one."""
        if fault is None or fault.after_processing:
            reply = self._process(asked, in_path, None if fault is None else fault.kind, now)
        else:
            reply = reply_in_place(fault, self.dialect)
            if isinstance(read := self._read(asked, in_path), tuple):
                outcome = f"fault:{fault.kind}"
                self.grants.note_revocation(read[0], outcome=outcome, now=now, fault=fault.kind)
        return reply if fault is None else spoil(reply, fault, self.dialect)

    def _process(self, asked: Asked, in_path: str | None, fault: str | None, now: datetime) -> Reply:
        read = self._read(asked, in_path)
        if isinstance(read, Refusal):
            return self.dialect.refuse(read)
        token, parameters = read
        demands = self.dialect.demands
        refusal = demands.refuses(asked.headers) or self._refuses(asked, demands.standard(parameters))
        if refusal is not None:
            self.grants.note_revocation(token, outcome=refusal.complaint, now=now, fault=fault)
            return self.dialect.refuse(refusal)
        outcome = self.grants.revoke(
            token, takes=self.terms.takes, ends=self.terms.ends, now=now, fault=fault
        )
        answer = self.terms.done if outcome == "revoked" else self.terms.unknown
        return answer.reply({"token": token, "detail": "the token is not alive here"})

    def _read(self, asked: Asked, in_path: str | None) -> tuple[str, dict[str, str]] | Refusal:
        """The token and the parameters beside it, from the first of the places that this request uses."""
        missing = Refusal(complaint="invalid_request", detail=f"{self.terms.parameter} is missing")
        for place in self.terms.place:
            match place:
                case "path" if in_path:
                    return in_path, {}
                case "bearer" if bearer := _bearer(asked):
                    return bearer, {}
                case "query" if not asked.body and asked.query:
                    parameters = read_form(FORM, asked.query.encode())
                case "json" if asked.content_type == JSON:
                    parameters = read_json(asked.body)
                case "form" if asked.body and (asked.content_type == FORM or "json" not in self.terms.place):
                    parameters = read_form(asked.content_type, asked.body)
                case _:
                    continue
            if isinstance(parameters, Refusal):
                return parameters
            token = parameters.get(self.terms.parameter)
            return missing if token is None else (token, parameters)
        return missing

    def _refuses(self, asked: Asked, parameters: dict[str, str]) -> Refusal | None:
        ways = self.terms.client
        if "none" in ways:
            return None
        authorization = asked.headers.get("Authorization")
        if "id" in ways and authorization is None and parameters.get("client_id") == self.client.id:
            return None
        provable = tuple(way for way in ways if way != "none")
        return replace(self.client, ways=provable).refuses(authorization, parameters)


def _bearer(asked: Asked) -> str | None:
    scheme, _, token = asked.headers.get("Authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
