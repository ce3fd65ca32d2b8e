"""The sandbox's pages: plain forms without a script, for a browser and for `curl -d`."""

from collections.abc import Iterable
from html import escape

_STYLE = (
    ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:32rem;margin:3rem auto;"
    "padding:0 1rem;overflow-wrap:anywhere}h1{font-size:1.6rem}"
    "fieldset{border:1px solid #8888;margin:1rem 0;min-width:0}label{display:block}"
    "fieldset label{display:flex;gap:.4rem;align-items:baseline}input{font:inherit;max-width:100%}"
    "button{font:inherit;padding:.4rem 1.2rem;margin:.5rem .5rem 0 0}"
)


def consent(*, provider: str, client: str, scopes: Iterable[str], fewer: bool, account: str) -> str:
    """Approve or deny, perhaps fewer scopes, perhaps another account. It is sent to its own address."""
    boxes = "".join(
        f'<label><input type="checkbox" name="scope" value="{escape(scope)}" checked{"" if fewer else " disabled"}> '
        f"{escape(scope)}</label>"
        for scope in scopes
    )
    listed = '<input type="hidden" name="listed" value="1">' if fewer else ""
    asked = (
        f"<fieldset><legend>Scopes</legend>{boxes}</fieldset>" if boxes else "<p>It asks for no scope.</p>"
    )
    return _page(
        f"Consent at the sandbox ({escape(provider)})",
        f"<p><b>{escape(client)}</b> asks for access.</p>"
        f'<form method="post">{listed}'
        f'<label>Account <input name="account" value="{escape(account)}" maxlength="200" required></label>{asked}'
        '<button name="decision" value="approve">Approve</button>'
        '<button name="decision" value="deny">Deny</button></form>',
    )


def user_code(*, wrong: bool) -> str:
    """Where the owner enters the code that the device shows."""
    warning = "<p><b>No device waits for this code.</b></p>" if wrong else ""
    return _page(
        "Connect a device",
        f'{warning}<form method="get"><label>Code <input name="user_code" autocomplete="off" required></label>'
        "<button>Continue</button></form>",
    )


def message(title: str, sentence: str) -> str:
    return _page(escape(title), f"<p>{escape(sentence)}</p>")


def policy(*destinations: str) -> dict[str, str]:
    """Headers of a page. `destinations` are origins that its form may lead to.

    Chromium applies `form-action` to the redirect that answers the form, too.
    """
    allowed = " ".join(("'self'", *destinations))
    return {
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
        f"frame-ancestors 'none'; form-action {allowed}",
        "Cache-Control": "no-store",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
        f"<h1>{title}</h1>{body}</html>"
    )
