"""The status page: what `/status` and `/readyz` say, for eyes. One HTML text: no script, nothing loaded, all escaped."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import cast

Readiness = Mapping[str, tuple[bool, str]]

STATES = ("active", "needs_reauth", "paused")

_ADVICE = {
    "rejected": "Its owner must consent again; then store the new tokens with <code>refreshd add</code>.",
    "misconfigured": "Check this provider's client id, client secret, scope and URL in the configuration.",
    "unavailable": "Nothing to do: it is tried again by itself. If it lasts, look at the provider's own status page.",
    "unread": "Look at the kept reply with <code>refreshd journal list</code>; the provider's definition may need"
    " a correction.",
    "in_doubt": "Nothing to do: no reply came, so the same refresh token is presented once more.",
    "unreadable": "Check that the key it was sealed with is on the key ring, and who else writes to the collection.",
    "unconfigured": "Configure this provider, or remove the token.",
}
_PAUSES = {
    "wrong_client": "The provider refuses our client. Check its client id and client secret.",
    "misconfigured": "Several tokens failed alike. Check this provider's configuration.",
    "outage": "The provider does not answer. It is probed now and then.",
    "operator": "Paused by an operator; <code>refreshd resume</code> ends it.",
}

STYLE = """
:root{color-scheme:light dark;--ink:#1c2330;--soft:#5b6472;--line:#d9dee6;--ground:#f6f7f9;--card:#fff;
--good:#17693c;--good-bg:#e2f4e9;--bad:#a11d26;--bad-bg:#fce8e8;--warn:#7a4b00;--warn-bg:#fdf0d5}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#a0a9b8;--line:#323a47;--ground:#14181f;--card:#1c222c;
--good:#7ddba3;--good-bg:#16361f;--bad:#ff9c9c;--bad-bg:#43191c;--warn:#f3c46b;--warn-bg:#3c2e10}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main,header,footer{max-width:64rem;margin:0 auto;padding:1rem}
header{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:center;padding-top:2rem}
h1{font-size:1.4rem;margin:0}
h2{font-size:1.05rem;margin:0 0 .75rem}
section{background:var(--card);border:1px solid var(--line);border-radius:.6rem;padding:1rem;margin:0 0 1rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.4rem .8rem .4rem 0;border-top:1px solid var(--line)}
thead th{border-top:0;color:var(--soft);font-weight:600;font-size:.85rem;white-space:nowrap}
tbody th{font-weight:600}
.n{text-align:right;font-variant-numeric:tabular-nums}
.mark{display:inline-block;padding:.1rem .6rem;border-radius:1rem;font-weight:600;font-size:.9rem;white-space:nowrap}
.good{color:var(--good);background:var(--good-bg)}
.bad{color:var(--bad);background:var(--bad-bg)}
.warn{color:var(--warn);background:var(--warn-bg)}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(10rem,1fr));gap:1rem;margin:0}
dt,small,footer{color:var(--soft);font-size:.85rem}
dd{margin:0;font-size:1.15rem;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
ul,p{margin:0}
ul{padding:0;list-style:none}
li{padding:.25rem 0}
code{font-family:ui-monospace,monospace;font-size:.92em;overflow-wrap:anywhere}
a{color:inherit}
"""
STYLE_SOURCE = (
    f"'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"  # for the page's security policy
)


def render(status: Mapping[str, object], readiness: Readiness) -> str:
    """The page for a status as `/status` tells it, and the checks as `/readyz` tells them."""
    ready = all(ok for ok, _ in readiness.values())
    word = "Ready" if ready else "Not ready"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>refreshd: {word.lower()}</title><style>{STYLE}</style></head><body>"
        f"<header><h1>refreshd</h1>{_mark(word, 'good' if ready else 'bad')}</header><main>"
        f"{_checks(readiness)}{_numbers(status)}{_providers(status)}{_failures(status)}</main>"
        f"<footer>Version {_text(status.get('version'))} · instance <code>{_text(status.get('instance'))}</code>"
        f" · started {_text(status.get('started_at'))}"
        ' · <a href="/status">status</a> · <a href="/readyz">checks</a> · <a href="/metrics">metrics</a></footer>'
        "</body></html>\n"
    )


def _checks(readiness: Readiness) -> str:
    items = "".join(
        f"<li>{_mark('ok' if ok else 'failing', 'good' if ok else 'bad')} <strong>{_text(name)}</strong>"
        f" <small>{_text(detail)}</small></li>"
        for name, (ok, detail) in sorted(readiness.items(), key=lambda item: item[1][0])
    )
    return _section("Checks", f"<ul>{items}</ul>")


def _numbers(status: Mapping[str, object]) -> str:
    age = status.get("oldest_due_age_seconds")
    rows = [
        *((f"Tokens: {_spaced(state)}", count) for state, count in _by_state(status).items()),
        ("Next token due", status.get("next_due_at")),
        ("Oldest due token waits", None if age is None else f"{age} s"),
        ("Replies awaiting MongoDB", status.get("journal_entries")),
    ]
    items = "".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in rows)
    return _section("Tokens", f"<dl>{items}</dl>")


def _providers(status: Mapping[str, object]) -> str:
    providers = _mappings(status.get("providers"))
    if not providers:
        return _section("Providers", "<p>None is configured.</p>")
    states = tuple(_by_state(status))
    heads = [
        ("Provider", ""),
        ("State", ""),
        *((_spaced(state), "n") for state in states),
        ("In flight", "n"),
    ]
    rows = [
        f'<tr><th scope="row">{_text(name)}</th><td>{_provider_state(about)}</td>'
        + "".join(f'<td class="n">{_text(_counts(about).get(state, 0))}</td>' for state in states)
        + f'<td class="n">{_text(about.get("in_flight", 0))}</td></tr>'
        for name, about in sorted(providers.items())
    ]
    return _section("Providers", _table(heads, rows))


def _provider_state(about: Mapping[str, object]) -> str:
    paused = about.get("paused")
    if paused:
        advice = _PAUSES.get(str(paused), "")
        return f"{_mark(f'paused: {_spaced(str(paused))}', 'bad')}<br><small>{advice}</small>"
    if not about.get("configured", True):
        return f"{_mark('not configured', 'warn')}<br><small>Its tokens are not refreshed.</small>"
    return _mark("working", "good")


def _failures(status: Mapping[str, object]) -> str:
    failures = cast(Sequence[Mapping[str, object]], status.get("last_failures") or ())
    if not failures:
        return _section("Last failures", "<p>None.</p>")
    heads = [("When", ""), ("Token", ""), ("What happened", ""), ("What to do", "")]
    rows = [
        f"<tr><td>{_text(failure.get('at'))}</td><td><code>{_text(failure.get('token'))}</code></td>"
        f"<td>{_mark(_spaced(str(failure.get('kind'))), 'warn')} <code>{_text(failure.get('code'))}</code>"
        f"<br><small>{_text(failure.get('message'))}</small></td>"
        f"<td>{_ADVICE.get(str(failure.get('kind')), '')}</td></tr>"
        for failure in failures
    ]
    return _section("Last failures", _table(heads, rows))


def _by_state(status: Mapping[str, object]) -> dict[str, int]:
    """Tokens by state over all providers; the known states come first, and always."""
    total = dict.fromkeys(STATES, 0)
    for about in _mappings(status.get("providers")).values():
        for state, count in _counts(about).items():
            total[state] = total.get(state, 0) + count
    return total


def _counts(about: Mapping[str, object]) -> Mapping[str, int]:
    return cast(Mapping[str, int], about.get("states") or {})


def _mappings(value: object) -> Mapping[str, Mapping[str, object]]:
    return cast(Mapping[str, Mapping[str, object]], value or {})


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _table(heads: Iterable[tuple[str, str]], rows: Iterable[str]) -> str:
    head = "".join(f'<th scope="col" class="{kind}">{_text(name)}</th>' for name, kind in heads)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _mark(word: str, kind: str) -> str:
    return f'<span class="mark {kind}">{_text(word)}</span>'


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _text(value: object) -> str:
    return "–" if value is None else escape(str(value))  # noqa: RUF001  a dash is meant
