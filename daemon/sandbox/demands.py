"""What a provider demands of a token request. Whatever is not as it wants it is refused, as a real one would.

Strict on purpose: a definition that sends the secret to the wrong place, or JSON where a form belongs, must fail here
and not in production.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl

from daemon.sandbox.clients import ClientWay
from daemon.sandbox.wording import FORM, JSON, Complaint, Refusal

BodyWay = Literal["form", "json", "query"]
# A token is presented, nothing but the client, or what it signs
Kind = Literal["present", "reissue", "assert"]
Method = Literal["POST", "GET"]
_MOST_PARAMETERS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderDemand:
    """A header that must be there and match, and the answer to a request without it."""

    name: str
    pattern: re.Pattern[str]
    otherwise: Complaint


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A token request as it came in. `headers` finds names in any case."""

    content_type: str
    body: bytes
    query: str
    headers: Mapping[str, str]
    path: str = ""
    place: Mapping[str, str] = field(default_factory=dict)  # the variables of the path


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """How one provider wants to be asked.

    client    ways to authenticate, any of them; `body` likewise: where the parameters may stand
    code_client  those with a code, if they differ
    grants    the words for grant_type; `needs`: what else one of them must bring
    presents  the parameter that holds the presented token
    names     what this provider calls a standard parameter; the standard's own name means nothing to it then
    """

    method: Method
    client: tuple[ClientWay, ...]
    code_client: tuple[ClientWay, ...]
    body: tuple[BodyWay, ...]
    grants: Mapping[str, Kind]
    needs: Mapping[str, tuple[str, ...]]
    presents: str
    names: Mapping[str, str]
    headers: tuple[HeaderDemand, ...]

    def read(self, asked: Asked) -> dict[str, str] | Refusal:
        """The request's parameters, under the standard's names."""
        form = self._read(asked)
        return form if isinstance(form, Refusal) else self.standard(form)

    def standard(self, form: dict[str, str]) -> dict[str, str]:
        """The parameters under the standard's names."""
        known = {own: standard for standard, own in self.names.items()}
        return {known.get(name, name): value for name, value in form.items() if name not in self.names}

    def _read(self, asked: Asked) -> dict[str, str] | Refusal:
        if "query" in self.body and not asked.body:
            return read_form(FORM, asked.query.encode())
        if "json" in self.body and not asked.body:
            return {}
        if "json" in self.body and asked.content_type == JSON:
            return read_json(asked.body)
        if "form" in self.body:
            return read_form(asked.content_type, asked.body)
        return Refusal(complaint="invalid_request", detail=f"send the parameters as {self.body[0]}")

    def refuses(self, headers: Mapping[str, str]) -> Refusal | None:
        for demand in self.headers:
            if not demand.pattern.fullmatch(headers.get(demand.name, "")):
                return Refusal(
                    complaint=demand.otherwise, detail=f"the header {demand.name} is not as it must be"
                )
        return None


def read_form(content_type: str, body: bytes) -> dict[str, str] | Refusal:
    """The parameters of a token request. An empty one counts as left out (RFC 6749, section 3.2)."""
    if content_type != FORM:
        return Refusal(complaint="invalid_request", detail=f"send the parameters as {FORM}")
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS
        )
    except ValueError:
        return Refusal(
            complaint="invalid_request", detail="the body is not a form in UTF-8 of a sensible size"
        )
    form = dict(pairs)
    if len(form) != len(pairs):
        return Refusal(complaint="invalid_request", detail="a parameter was sent more than once")
    return {name: value for name, value in form.items() if value}


def read_json(body: bytes) -> dict[str, str] | Refusal:
    """The same from a JSON object. A value of another type than text is shown as JSON writes it."""
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict) or any(isinstance(value, dict) for value in members.values()):
        return Refusal(complaint="invalid_request", detail="the body is not a JSON object of plain values")
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in members.items()}
    return {name: value for name, value in texts.items() if value}
