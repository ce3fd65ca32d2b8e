"""The pages as HTML. Names of applications, accounts and subjects, and providers' words, are data: all are escaped."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape

from daemon.domain.consent_request import ConsentFailure, ConsentFailureKind
from daemon.domain.return_url import origin_of
from daemon.runtime.access_web.connect_page.style import STYLE, STYLE_SOURCE
from daemon.runtime.web.status_page.parts import mark, text
from daemon.serving.owner_browser import Asking, Ended


class Weight(StrEnum):
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page. `leads_to`: the origins to which its form may lead, beside its own."""

    html: str
    status: int = 200
    leads_to: Sequence[str] = ()
    has_form: bool = False

    @property
    def policy(self) -> str:
        """The content security policy (CSP 3). Browsers hold the redirects after a form to `form-action` as well."""
        forms = " ".join(["'self'", *self.leads_to]) if self.has_form else "'none'"
        return (
            f"default-src 'none'; style-src {STYLE_SOURCE}; base-uri 'none'; form-action {forms};"
            " frame-ancestors 'none'"
        )


_LINK_GONE = (
    "This link does not work",
    "It has been used, it has expired, or it was not copied completely. A link works once, for 15 minutes.",
    "Go back to the application and connect your account again.",
)
_NOT_HERE = (
    "This consent belongs elsewhere",
    "This browser did not begin it, its answer has been used before, or it has expired. Nothing was connected.",
    "Go back to the application and connect your account again. Use one browser from the beginning to the end.",
)
_OTHER_SITE = (
    "The button was not pressed here",
    "Your browser says that another site has sent this request, or it does not say which one did. Nothing was connected.",
    "Open the link again and press its button. If that fails, try a current version of your browser.",
)
_AWAY = (
    "Not available at the moment",
    "refreshd can't reach its database. Nothing was connected.",
    "Try again in a minute. If you had consented already, begin again in the application.",
)
_START_AGAIN = "Go back to the application and start again."
_FAILURES = {
    ConsentFailureKind.DENIED: "The provider reports that you, or it, refused the consent.",
    ConsentFailureKind.UNAVAILABLE: "The provider or refreshd could not finish the consent in time.",
    ConsentFailureKind.NO_REFRESH_TOKEN: "The provider allowed no lasting access.",
    ConsentFailureKind.OTHER_ACCOUNT: "You were signed in with another account than the one connected before.",
    ConsentFailureKind.SUPERSEDED: "A newer consent for this account was stored first.",
    ConsentFailureKind.DUPLICATE: "This consent is stored already, under another name.",
    ConsentFailureKind.REVOKING: "The former access to this account is just being ended.",
}


def asking(asked: Asking) -> Page:
    """Return the question: who asks, which provider, whose account, and one button."""
    host = _host(asked.returns_to)
    subject = _fact("For", asked.subject) if asked.subject is not None else ""
    if asked.is_bound:
        note = f'<p class="quiet">Continue only if you have just come from this application{_at(host)}.</p>'
    else:
        note = (
            '<p class="note warn">This link works in any browser. Continue only if you asked for it yourself, and if the'
            f" account and the name above are yours: <strong>{text(asked.application)}</strong> gets access to whichever"
            " account you sign in with.</p>"
        )
    facts = (
        _fact("Application", asked.application, f"returns to {host}" if host else "")
        + _fact("Provider", asked.provider, f"signs you in at {_host(asked.signs_in_at)}")
        + _fact("Account", asked.account)
        + subject
    )
    content = (
        f"<p><strong>{text(asked.application)}</strong> asks for lasting access to an account at"
        f" <strong>{text(asked.provider)}</strong>.</p><dl>{facts}</dl>{note}"
        f'<form method="post"><button>Continue to {text(asked.provider)}</button></form>'
        f'<p class="quiet">{text(asked.provider)} will ask for your consent. This link works once, until'
        f" {asked.expires_at:%H:%M} UTC. To refuse, close this page.</p>"
    )
    html = _whole(f"Connect {asked.provider}", content)
    return Page(html=html, leads_to=asked.leads_to, has_form=True)


def onward(url: str) -> Page:
    """Return the page that leads to `url`: without a script, and with a link for browsers that stay on pages."""
    host = text(_host(origin_of(url)))
    content = f'<p><a href="{escape(url)}">Continue to {host}</a></p>'
    refresh = f'<meta http-equiv="refresh" content="0;url={escape(url)}">'
    return Page(html=_whole("One moment", content, head=refresh))


def link_gone() -> Page:
    return _end(*_LINK_GONE, status=404)


def not_here() -> Page:
    return _end(*_NOT_HERE, status=400)


def other_site() -> Page:
    return _end(*_OTHER_SITE, status=403, weight=Weight.BAD)


def away() -> Page:
    return _end(*_AWAY, status=503)


def ended(end: Ended) -> Page:
    """Return the page for an end without a page of the application."""
    if end.failure is None:
        return _page(
            f"{end.provider} consent received",
            Weight.GOOD,
            "Done",
            f"<p><strong>{text(end.application)}</strong> gets access to the account that you chose at"
            f' <strong>{text(end.provider)}</strong>.</p><p class="quiet">You can close this page.</p>',
        )
    sentence = _FAILURES.get(end.failure.kind, "The consent could not be used.")
    content = f"<p>{sentence}</p>{_words(end)}<p>{_START_AGAIN}</p>"
    return _page(f"{end.provider} was not connected", Weight.BAD, "Not connected", content)


def _words(end: Ended) -> str:
    """Return the provider's own words, marked as such."""
    failure = end.failure
    if failure is None or failure.kind is not ConsentFailureKind.DENIED:
        return f'<p class="quiet">Code: <code>{text(_named(failure))}</code></p>' if failure else ""
    said = f": {text(failure.message)}" if failure.message else ""
    return f'<p class="quiet">{text(end.provider)} answered <code>{text(failure.named)}</code>{said}</p>'


def _named(failure: ConsentFailure) -> str:
    return (
        failure.kind.value
        if failure.named == failure.kind.value
        else f"{failure.kind.value} ({failure.named})"
    )


def _end(title: str, *sentences: str, status: int, weight: Weight = Weight.WARN) -> Page:
    content = "".join(f"<p>{text(one)}</p>" for one in sentences)
    return _page(title, weight, "Not connected", content, status=status)


def _page(title: str, weight: Weight, word: str, content: str, *, status: int = 200) -> Page:
    return Page(html=_whole(title, content, mark(word, weight.value)), status=status)


def _whole(title: str, content: str, before: str = "", *, head: str = "") -> str:
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">'
        f"{head}<title>{text(title)}</title><style>{STYLE}</style></head><body><main>{before}"
        f"<h1>{text(title)}</h1>{content}</main></body></html>\n"
    )


def _fact(name: str, value: str, more: str = "") -> str:
    small = f"<small>{text(more)}</small>" if more else ""
    return f"<dt>{name}</dt><dd>{text(value)}{small}</dd>"


def _host(origin: str | None) -> str:
    """Return an origin without `https://`, which is the rule."""
    return (origin or "").removeprefix("https://")


def _at(host: str) -> str:
    return f" ({text(host)})" if host else ""
