"""The providers: configured at all, and reachable from here."""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from urllib.parse import urlsplit

from daemon.adapters.egress.reach import Address, Unreached, reach
from daemon.commands.checks.report import Report
from daemon.domain.provider import Provider
from daemon.domain.token_url import NotSendable, is_loopback, token_url
from daemon.runtime.config.providers.provider_settings import overcommitted
from daemon.runtime.config.settings import Settings

RETIREMENT_NOTICE = timedelta(days=180)  # owners have to consent elsewhere, and applications to change
WITHIN = timedelta(seconds=10)  # for all token URLs together
_OFFLINE = frozenset(
    {"offline_access", "offline.access", "refresh_token"}
)  # scopes that bring a refresh token
_OPENID, _ID_TOKEN = "openid", "id_token."


def check_providers(settings: Settings, report: Report) -> None:
    """Whether there are any."""
    if not settings.providers and not settings.demo.enabled:
        report.warn(
            "providers", "none is configured, so nothing is refreshed", "`refreshd providers` lists them."
        )
    elif settings.providers:
        named = (
            f"{name} (like {provider.like})" if provider.like else name
            for name, provider in settings.providers.items()
        )
        report.passed("providers", f"{len(settings.providers)} configured: {', '.join(named)}")
    concurrency = settings.refresh.concurrency
    if (too_much := overcommitted(settings.providers.values(), concurrency)) is not None:
        report.warn(
            "refresh.concurrency", too_much, "Raise refresh.concurrency, or lower the providers' concurrency."
        )


def check_scopes(settings: Settings, report: Report) -> None:
    """Compare the operator's scopes with those of the definition that renewals and the account's name depend on."""
    for name, provider in settings.providers.items():
        base = settings.definitions.get(provider.like or name)
        lacking = set(base.scopes) - set(provider.definition.scopes) if base is not None else set()
        where, account_from = f"providers.{name}.scopes", provider.definition.account_from or ""
        for scope in sorted(lacking & _OFFLINE):
            what = f"they lack {scope}, without which {name} sends no refresh token to a new consent"
            report.warn(where, what, f"Add {scope}, or pass it to `refreshd connect` with --scope.")
        if _OPENID in lacking and account_from.startswith(_ID_TOKEN):
            what = f"they lack {_OPENID}, without which a new consent doesn't show whose account it is"
            report.warn(where, what, f"Add {_OPENID}.")


def check_retirements(providers: Iterable[Provider], report: Report, today: date) -> None:
    """Warn of the providers that are to be off soon, or are off already."""
    for provider in providers:
        retires = provider.definition.retires
        if retires is None or retires - today > RETIREMENT_NOTICE:
            continue
        what = f"{provider.definition.title} {'is' if retires > today else 'was'} to be off from {retires}"
        do = "Let its owners connect to what follows it, and remove the section then."
        report.warn(f"providers.{provider.name}", what, do)


def check_token_urls(settings: Settings, report: Report) -> None:
    """Look up, connect to and agree on TLS with each token URL; no token is sent. What is asked through the proxy is
    not tried, but the proxy is.
    """
    urls = dict(_urls(settings, report))
    found = reach(set(urls.values()), within=WITHIN)
    for where, address in urls.items():
        _judge(where, address, found[address], report)


def _urls(settings: Settings, report: Report) -> Iterator[tuple[str, Address]]:
    proxy = settings.refresh.proxy
    if proxy is not None:
        yield "refresh.proxy", _address(proxy.reveal())
    for name, provider in settings.providers.items():
        where = f"providers.{name}.token_url"
        if not provider.definition.token_url:
            continue  # its tokens are only watched
        if (url := _complete(provider)) is None:
            report.skipped(where, "it depends on the token's variables")
        elif proxy is not None and not is_loopback(url):
            report.skipped(where, f"{urlsplit(url).hostname} is asked through the proxy")
        else:
            yield where, _address(url)


def _complete(provider: Provider) -> str | None:
    """Return the URL of a token that sets no variable; None if it must set one."""
    try:
        return token_url(provider, {})
    except NotSendable:
        return None


def _address(url: str) -> Address:
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    return Address(host=parts.hostname or "", port=parts.port or (443 if tls else 80), tls=tls)


def _judge(where: str, address: Address, unreached: Unreached | None, report: Report) -> None:
    """TLS that fails is the operator's to fix; a server that is away may come back."""
    if unreached is None:
        report.passed(where, f"{address} can be reached{' by TLS' if address.tls else ''}")
    elif unreached.distrusted:
        do = "Correct the URL, or the certificates that this machine trusts."
        report.problem(where, f"{address}: {unreached.why}", do)
    else:
        do = "Check the host name, the network and the firewall. Tokens can't be renewed until the server answers."
        report.warn(where, f"{address}: {unreached.why}", do)
