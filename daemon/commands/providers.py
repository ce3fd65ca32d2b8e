"""`refreshd providers`: the facts about each provider, which of them are configured, and how to configure one."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Annotated

import typer

from daemon.commands.support.access import known_providers, read_settings, unknown_provider
from daemon.commands.support.arguments import provider_names
from daemon.commands.support.command import Command
from daemon.commands.support.failure import Exit, Failed
from daemon.commands.support.loopback import redirect_uri
from daemon.commands.support.options import Options, given
from daemon.commands.support.output import Output, span
from daemon.commands.support.provider_listing import Consent, Kind, Wanted, table, terminal_width
from daemon.domain.provider import (
    SECRET_AUTHS,
    AssertionAudience,
    ClientAuth,
    Condition,
    Definition,
    ErrorPattern,
    Grant,
    IdleFrom,
    Pkce,
    Provider,
    Reach,
    Rotation,
    VariableKind,
)
from daemon.domain.revocation import PresentedToken, Revocation, RevocationAuth, RevocationEnds
from daemon.runtime.config.providers.definitions import shipped
from daemon.runtime.config.settings import Settings, config_path

_ROTATION = {
    Rotation.NEVER: "never replaced",
    Rotation.SOMETIMES: "replaced if one comes",
    Rotation.ALWAYS: "replaced each time",
}
_GRANTS = {
    Grant.REFRESH_TOKEN: "its refresh token",
    Grant.EXCHANGE: "the access token: it is exchanged for a new one before it expires",
    Grant.CLIENT_CREDENTIALS: "the client's credentials: a new token is issued each time",
    Grant.JWT_BEARER: "an assertion that the client signs: a new token is issued each time",
    Grant.NONE: "nothing: refreshd only watches it, and its owner must consent again",
}
_CLIENT_AUTH = {
    ClientAuth.OMITTED: "omitted: nothing names the client in a refresh; a code is sent with post",
    ClientAuth.BEARER_JWT: "bearer_jwt: a JWT that the client signs, as bearer",
}
_AUDIENCES = {AssertionAudience.TOKEN_URL: "token URL", AssertionAudience.ISSUER: "issuer"}
_WARY = "no request until `refreshd resume` or another client, because even a refused call spends the refresh token"
_PREVIOUS = "ends immediately with a renewal: applications must read the new one (docs/reading-tokens.md)"
_PKCE = {
    Pkce.S256: "S256",
    Pkce.REQUIRED: "S256: the provider refuses a consent without it",
    Pkce.NONE: "not used: the provider does not take it",
}
_REACH = {
    None: "",
    Reach.TOKEN: " (for that token only: the others go on)",
    Reach.TENANT: " (for that tenant only: the others go on)",
    Reach.PROVIDER: " (for all, if several fail alike)",
}
_OF_REVOKE = ("success", "unknown")
_SIGNS = ("rejected", "misconfigured", "unavailable", "success")  # of use to the daemon only


app = typer.Typer()


@app.command(cls=Command, epilog="refreshd providers microsoft")
def providers(
    ctx: typer.Context,
    *,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", autocompletion=provider_names, help="The provider to explain."),
    ] = None,
    search: Annotated[
        str,
        typer.Option(metavar="TEXT", help="List only providers whose name, title or host has these words."),
    ] = "",
    verified: Annotated[
        bool | None,
        typer.Option("--verified/--experimental", help="List only providers with this confidence."),
    ] = None,
    only_configured: Annotated[
        bool, typer.Option("--configured", help="List only providers that you have configured.")
    ] = False,
    kind: Annotated[
        Kind | None,
        typer.Option(help="List only providers whose tokens are renewed in this way."),
    ] = None,
    consent: Annotated[
        Consent | None, typer.Option(help="List only providers whose owners can consent in this way.")
    ] = None,
) -> int:
    """List the shipped and configured providers, or explain one."""
    options = given(ctx)
    settings = _settings(options)
    configured = settings.providers if settings is not None else {}
    output = Output(as_json=options.json)
    found = known_providers(settings)
    wanted = Wanted(search=search, verified=verified, configured=only_configured, kind=kind, consent=consent)
    if name is not None:
        if not wanted.is_all:
            raise Failed("NAME explains one provider, so it can't be combined with a filter", Exit.USAGE)
        if name not in found:
            raise unknown_provider(name, settings)
        _explain(output, found[name], configured)
    else:
        _list(output, found, configured, wanted)
    return Exit.DONE


def _list(
    output: Output, known: Mapping[str, Definition], configured: Mapping[str, Provider], wanted: Wanted
) -> None:
    found = [definition for definition in known.values() if wanted.includes(definition, configured)]
    if output.as_json:
        for definition in found:
            output.record(_record(definition, configured))
        return
    if found:
        output.table(*table(found, configured, width=terminal_width()))
    ready = sum(definition.name in configured for definition in found)
    number = f"{len(found)} providers" if wanted.is_all else f"{len(found)} of {len(known)} providers"
    output.note(f"{number}, {ready} configured. `refreshd providers NAME` explains one.")


def _settings(options: Options) -> Settings | None:
    """None before there is a configuration: this command helps to write one."""
    named = options.config or options.env_file or os.environ.get("REFRESHD_CONFIG")
    found = config_path(None, os.environ)
    if not named and found is not None and not found.exists():
        return None
    return read_settings(options, uses=())


def to_configure(definition: Definition) -> str:
    """What the configuration needs for this provider, in TOML."""
    lines = [f"[providers.{definition.name}]"]
    if definition.grant is Grant.NONE:
        return lines[0]
    signed = definition.grant is Grant.JWT_BEARER or definition.client_auth is ClientAuth.BEARER_JWT
    unnamed = definition.client_auth is ClientAuth.OMITTED
    if unnamed and not signed and not definition.authorize_url:
        return lines[0]
    if definition.client_auth is not ClientAuth.SECRET_AS_USER:
        lines.append('client_id = "..."')
    if signed or definition.client_auth is ClientAuth.PRIVATE_KEY_JWT:
        lines.append('client_key = { file = "..." }')
    secret_less = (ClientAuth.PRIVATE_KEY_JWT, ClientAuth.BEARER_JWT, ClientAuth.NONE)
    renews_with_it = definition.client_auth not in secret_less and not (signed and unnamed)
    if renews_with_it or definition.exchange_auth in SECRET_AUTHS:
        variable = definition.name.upper().replace("-", "_")
        lines.append(f'client_secret = {{ env = "{variable}_CLIENT_SECRET" }}')
    if _has_base(definition) and not definition.domains:
        lines.append('allowed_hosts = ["..."]')
    if definition.assertion is not None and definition.assertion.chooses_subject:
        lines.append("subjects = ['...']")
    return "\n".join(lines)


def _record(definition: Definition, configured: Mapping[str, Provider]) -> dict[str, object]:
    """The definition's keys as they would stand in its file; durations in seconds."""
    values = {
        field.name: getattr(definition, field.name)
        for field in fields(definition)
        if field.name not in (*_SIGNS, "variables", "as_of", "retires", "reply", "rates", "revoke")
    }
    rates = [f"{rate.count}/{span(rate.per)}" for rate in definition.rates]
    return {
        **values,
        "revoke": definition.revoke and _revocation_record(definition.revoke),
        "redirect_uri": redirect_uri() if definition.authorize_url else None,
        "as_of": definition.as_of and definition.as_of.isoformat(),
        "retires": definition.retires and definition.retires.isoformat(),
        "rate": rates[0] if len(rates) == 1 else rates or None,
        "grants": sorted(definition.grants),
        "variables": {
            name: {"kind": variable.kind, "pattern": variable.pattern.pattern, "default": variable.default}
            for name, variable in definition.variables.items()
        },
        "shipped": definition.name in shipped(),
        "configured": definition.name in configured,
        "like": _like(definition.name, configured),
    }


def _revocation_record(revoke: Revocation) -> dict[str, object]:
    return {
        field.name: getattr(revoke, field.name) for field in fields(revoke) if field.name not in _OF_REVOKE
    }


def _like(name: str, configured: Mapping[str, Provider]) -> str | None:
    """The provider whose definition it has, by the configuration."""
    return configured[name].like if name in configured else None


def _explain(output: Output, definition: Definition, configured: Mapping[str, Provider]) -> None:
    if output.as_json:
        output.record(_record(definition, configured))
        return
    rows = [
        ("Provider", f"{definition.title} ({definition.name})"),
        ("Configured", "yes" if definition.name in configured else "no"),
        ("Confidence", _sureness(definition)),
        ("Based on", _like(definition.name, configured) or ""),
        ("Source", definition.docs + (f" ({definition.as_of})" if definition.as_of else "")),
        *_request_rows(definition),
        *_life_rows(definition),
        *_meaning_rows(definition),
        *_consent_rows(definition),
        *_revocation_rows(definition),
        *(("Note", note) for note in definition.notes),
    ]
    output.pairs((title, value) for title, value in rows if value)
    if definition.name not in configured:
        output.note("", "To configure it:", "", *to_configure(definition).splitlines())


def _sureness(definition: Definition) -> str:
    if definition.verified:
        return "verified: its token URL, client authentication and rejected grants are documented or taken from code"
    return "experimental: some of the facts are second-hand or unknown; for unknown ones refreshd assumes the safe case"


def _request_rows(definition: Definition) -> list[tuple[str, str]]:
    variables = ", ".join(
        f"{name} (default {variable.default})" if variable.default else name
        for name, variable in definition.variables.items()
    )
    return [
        ("Renewed with", _GRANTS[definition.grant]),
        ("Request", _request(definition)),
        ("Repetition", "harmless, by the provider's word" if definition.repeatable else ""),
        ("Sent back from the last reply", ", ".join(definition.echo)),
        ("Left out", ", ".join(definition.omit)),
        ("Variables", variables),
        ("Signed claims", _claims(definition)),
        (
            "Allowed domains",
            ", ".join(definition.domains) or ("the allowed_hosts" if _has_base(definition) else ""),
        ),
        ("Client authentication", _CLIENT_AUTH.get(definition.client_auth, definition.client_auth.value)),
        ("Issuer", definition.issuer or ""),
        ("Signed", _signed(definition)),
        ("Rate limit", _limits(definition)),
    ]


def _request(definition: Definition) -> str:
    url = definition.token_url
    return f"{definition.method} {url}, parameters as {definition.body}" if url else ""


def _claims(definition: Definition) -> str:
    """Return the claims that the client signs, with their lifetime."""
    if (terms := definition.assertion) is None:
        return ""
    stated = ", ".join(f"{name}={value}" for name, value in terms.claims.items() if value)
    return f"{stated or 'iss and aud'}; valid for {span(terms.lifetime)}"


def _signed(definition: Definition) -> str:
    if definition.client_auth is not ClientAuth.PRIVATE_KEY_JWT:
        return ""
    algorithms = " or ".join(definition.assertion_algorithms) or "as the key's type has it"
    return f"{algorithms}, for the {_AUDIENCES[definition.assertion_audience]}"


def _life_rows(definition: Definition) -> list[tuple[str, str]]:
    if definition.grant is Grant.NONE:
        return [("To be replaced at an age of", _span(definition.max_age) or "")]
    every = f"at an age of {span(definition.renew_every)}" if definition.renew_every else ""
    early = (
        definition.earliest
        and f"at most {span(definition.earliest)} before the expiry: an earlier request returns the same token"
    )
    return [
        ("Access token lifetime", _span(definition.access_lifetime) or "as the reply says, else 1 h"),
        ("Renewal", early or every),
        ("Previous access token", _PREVIOUS if definition.ends_previous else ""),
        ("Refresh token", _ROTATION[definition.rotation] if definition.grant is Grant.REFRESH_TOKEN else ""),
        ("Grace period", _grace(definition)),
        ("Refresh token idle limit", _idle(definition)),
        ("Consent lifetime", _span(definition.refresh_lifetime)),
        ("Live tokens", _live(definition)),
        ("Retires", f"on {definition.retires}: 410 from then on is the end" if definition.retires else ""),
        ("Stored reply fields", ", ".join(definition.keep + definition.echo)),
    ]


def _meaning_rows(definition: Definition) -> list[tuple[str, str]]:
    """Return the daemon's reaction to each kind of failure. The standard's error codes apply beside the definition's."""
    if definition.grant is Grant.NONE:
        return []
    confirmed = f", confirmed {span(definition.confirm_after)} later" if definition.confirm_after else ""
    return [
        ("A grant has", _condition(definition.success) if definition.success else ""),
        (
            "Rejected grant",
            f"{_signs(definition.rejected, 'invalid_grant')}{confirmed}: the token waits for a new consent",
        ),
        (
            "Refused client",
            f"{_signs(definition.misconfigured, 'invalid_client')}: no token is given up, and the provider is paused",
        ),
        ("After a refused client", _WARY if definition.spends_on_refusal else ""),
        (
            "Temporary failure",
            f"{_signs(definition.unavailable, '429, 5xx, no answer, any unknown error')}: refreshd retries with backoff",
        ),
    ]


def _consent_rows(definition: Definition) -> list[tuple[str, str]]:
    if not definition.authorize_url and not definition.device_url:
        return []
    page = definition.authorize_url
    more = ", ".join(f"{name}={value}" for name, value in definition.authorize_params.items())
    sent = ", ".join(f"{name}={value}" for name, value in definition.exchange_params.items())
    return [
        ("Consent page", page or ""),
        ("Codes are exchanged at", definition.exchange_url or ""),
        ("Client authentication with a code", definition.exchange_auth or ""),
        ("Redirect address to register", redirect_uri() if page else ""),
        ("Requests are pushed to", definition.par_url or ""),
        ("Device flow", definition.device_url or ""),
        ("Scopes of a consent", " ".join(definition.scopes) or "none, unless you set scopes"),
        ("Scope separator", f'"{definition.scope_separator}"' if definition.scope_separator != " " else ""),
        ("Parameters of a consent", more),
        ("Parameters with the code", sent),
        ("PKCE", _PKCE[definition.pkce]),
        ("Account identified by", definition.account_from or "nothing that is known"),
        ("Variables from the callback", ", ".join(definition.callback_variables)),
        ("If no refresh token comes", definition.consent_hint),
    ]


def _revocation_rows(definition: Definition) -> list[tuple[str, str]]:
    """Return the ways in which a grant ends at the provider."""
    if definition.grant.issues_anew:
        return []
    return [
        ("Revocation", _revocation(definition)),
        ("Owners withdraw consents at", definition.manage_url or ""),
    ]


def _revocation(definition: Definition) -> str:
    revoke = definition.revoke or Revocation()
    url = revoke.url or definition.revoke_url
    if url is None:
        return "none that is known: only the owner can withdraw the consent"
    token = "the refresh token" if _presents_refresh(definition, revoke) else "the access token"
    bearer = " as bearer" if revoke.auth is RevocationAuth.BEARER else ""
    ends = {
        RevocationEnds.GRANT: "it ends the owner's whole grant to the client",
        RevocationEnds.TOKEN: "it ends this consent's tokens only",
    }[revoke.ends]
    return f"{revoke.method} {url}, with {token}{bearer}: {ends}"


def _presents_refresh(definition: Definition, revoke: Revocation) -> bool:
    return revoke.token is PresentedToken.REFRESH and definition.grant is Grant.REFRESH_TOKEN


def _signs(signs: Sequence[ErrorPattern], standard: str) -> str:
    own = [
        (_condition(sign) if sign.field else "any error")
        + (f" and {_condition(sign.also)}" if sign.also else "")
        + (f" with status {' or '.join(map(str, sorted(sign.status)))}" if sign.status else "")
        + (f" (wait {span(sign.wait)})" if sign.wait else "")
        + (" (perhaps processed: asked once more)" if sign.doubt else "")
        + _REACH[sign.reach]
        for sign in signs
    ]
    return "; ".join([*own, standard])


def _condition(condition: Condition | ErrorPattern) -> str:
    texts = " | ".join(sorted(condition.values)) or (condition.pattern and condition.pattern.pattern)
    return f"{condition.field} = {texts}"


def _grace(definition: Definition) -> str:
    if definition.grant is not Grant.REFRESH_TOKEN or definition.rotation is Rotation.NEVER:
        return ""
    if definition.grace_until_used:
        longest = f", at most {span(definition.grace)}" if definition.grace else ""
        return f"until a new token is used{longest}"
    return span(definition.grace) if definition.grace else "none that is known"


def _idle(definition: Definition) -> str:
    late = definition.refresh_idle_from is IdleFrom.REPLACEMENT
    return _span(definition.refresh_idle) + (", extended only by a replacement" if late else "")


def _live(definition: Definition) -> str:
    most = definition.live_tokens
    return f"at most {most} for one account and client: one more ends the oldest" if most else ""


def _limits(definition: Definition) -> str:
    rate = " and ".join(f"{rate.count} times in {span(rate.per)}" for rate in definition.rates)
    token = f"once in {span(definition.min_interval)} for one token" if definition.min_interval else ""
    return ", ".join(filter(None, (rate, token)))


def _has_base(definition: Definition) -> bool:
    return any(variable.kind is VariableKind.BASE for variable in definition.variables.values())


def _span(length: timedelta | None) -> str:
    return span(length) if length else ""
