"""The pages' CSS: one style element, allowed by its hash. Every text has a contrast of 4.5 or more (WCAG AA)."""

from base64 import b64encode
from hashlib import sha256

STYLE = """
:root{color-scheme:light dark;--ink:#1b2430;--soft:#55606f;--line:#dde2e9;--ground:#f5f6f8;--card:#fff;
--button:#1f6557;--on-button:#fff;--good:#14623a;--good-bg:#e0f3e8;--bad:#9b1c25;--bad-bg:#fbe6e6;--warn:#744600;--warn-bg:#fcefd3}
@media(prefers-color-scheme:dark){:root{--ink:#e5e9ef;--soft:#a3adbb;--line:#303947;--ground:#12161c;--card:#1a2029;
--button:#5bb8a4;--on-button:#0d1613;--good:#84dcaa;--good-bg:#15351f;--bad:#ffa3a3;--bad-bg:#42191d;--warn:#f2c76f;--warn-bg:#3a2d10}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere;
min-height:100vh;display:flex;flex-direction:column;align-items:center;padding:1.25rem}
main{width:100%;max-width:30rem;margin:auto;background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:1.75rem}
h1{font-size:1.375rem;line-height:1.3;margin:0 0 .75rem;letter-spacing:-.01em}
p,dl,dd{margin:0}
p+p{margin-top:.75rem}
strong,dd,code{unicode-bidi:isolate}
code{font:.9em/1.5 ui-monospace,SFMono-Regular,Menlo,monospace}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.4rem 1rem;margin:1.25rem 0;padding:.9rem 0;
border-top:1px solid var(--line);border-bottom:1px solid var(--line)}
dt{color:var(--soft)}
dd{font-weight:600}
dd small{display:block;font-weight:400;color:var(--soft);font-size:.875rem}
a{color:inherit;text-underline-offset:.15em}
.note{border-radius:.5rem;padding:.6rem .8rem}
.mark{display:inline-block;padding:.1rem .65rem;border-radius:1rem;font-weight:600;font-size:.875rem;margin-bottom:.75rem}
.good{color:var(--good);background:var(--good-bg)}
.bad{color:var(--bad);background:var(--bad-bg)}
.warn{color:var(--warn);background:var(--warn-bg)}
form{margin:1.25rem 0 1rem}
button{width:100%;min-height:3rem;padding:.6rem 1rem;border:0;border-radius:.5rem;font:600 1rem/1.4 system-ui,sans-serif;
color:var(--on-button);background:var(--button);cursor:pointer;overflow-wrap:anywhere}
button:focus:not(:focus-visible):not(:active){pointer-events:none}
:focus-visible{outline:3px solid var(--ink);outline-offset:2px}
.quiet{color:var(--soft);font-size:.875rem}
@media(max-width:30rem){body{padding:.75rem}main{padding:1.25rem;margin-top:0}dl{grid-template-columns:1fr;gap:0 1rem}dd+dt{margin-top:.6rem}}
@media(forced-colors:active){button{border:2px solid ButtonText}}
"""
STYLE_SOURCE = f"'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
