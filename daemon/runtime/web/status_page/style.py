"""The page's CSS: one style element, allowed by its hash. Every text has a contrast of 4.5 or more (WCAG
AA).
"""

from base64 import b64encode
from hashlib import sha256

STYLE = """
:root{color-scheme:light dark;--ink:#1b2430;--soft:#55606f;--line:#dde2e9;--ground:#f5f6f8;--card:#fff;
--fill:#2f7d6d;--fail:#b4472f;--tick:#1b2430;--good:#14623a;--good-bg:#e0f3e8;--bad:#9b1c25;--bad-bg:#fbe6e6;
--warn:#744600;--warn-bg:#fcefd3;--calm:#3d4857;--calm-bg:#e9edf2}
@media(prefers-color-scheme:dark){:root{--ink:#e5e9ef;--soft:#a3adbb;--line:#303947;--ground:#12161c;--card:#1a2029;
--fill:#5bb8a4;--fail:#e8836b;--tick:#e5e9ef;--good:#84dcaa;--good-bg:#15351f;--bad:#ffa3a3;--bad-bg:#42191d;
--warn:#f2c76f;--warn-bg:#3a2d10;--calm:#c3ccd8;--calm-bg:#2a323e}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:break-word}
code,small,th,li{overflow-wrap:anywhere}
header,main,footer{max-width:72rem;margin:0 auto;padding:0 1.25rem}
header{display:flex;flex-wrap:wrap;gap:.4rem 1rem;align-items:center;padding-top:1.75rem;padding-bottom:1.25rem}
header p{margin-left:auto}
header .mark{white-space:normal}
code,strong,small{unicode-bidi:isolate}
h1{font-size:1.5rem;margin:0;letter-spacing:-.01em}
h2{font-size:1.125rem;margin:0 0 .75rem}
h3{font-size:1rem;margin:0}
section{background:var(--card);border:1px solid var(--line);border-radius:.75rem;padding:1.1rem 1.25rem;margin:0 0 1rem}
p,ul,figure,dl,dd{margin:0}
ul{padding:0;list-style:none}
small,header p,footer,dt,figcaption p,.axis,.top,summary,.who{color:var(--soft);font-size:.875rem}
code{font:.9em/1.5 ui-monospace,SFMono-Regular,Menlo,monospace}
a{color:inherit;text-underline-offset:.15em}
:focus-visible{outline:3px solid var(--fill);outline-offset:2px;border-radius:.2rem}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
.mark{display:inline-block;padding:.1rem .65rem;border-radius:1rem;font-weight:600;font-size:.875rem;white-space:nowrap}
.good{color:var(--good);background:var(--good-bg)}
.bad{color:var(--bad);background:var(--bad-bg)}
.warn{color:var(--warn);background:var(--warn-bg)}
.calm{color:var(--calm);background:var(--calm-bg)}
.things li{display:grid;grid-template-columns:8.5rem 1fr;gap:.1rem 1rem;padding:.65rem 0;border-top:1px solid var(--line)}
.things li:first-child{border-top:0;padding-top:0}
.things .mark{justify-self:start;align-self:start}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:1rem 1.5rem}
.tiles dd{font-size:1.5rem;line-height:1.3;font-weight:600;font-variant-numeric:tabular-nums}
.tiles dd small{display:block;font-weight:400}
.who+.plots{margin-top:1rem}
.tiles+.who{margin-top:.9rem}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:1.75rem 2.25rem}
figcaption p{min-height:1.5em}
.plot{position:relative;margin-top:1.7rem}
.plot svg{display:block;width:100%;height:7rem}
.top{position:absolute;top:-1.35rem;left:0;font-variant-numeric:tabular-nums}
.axis{display:flex;justify-content:space-between;padding-top:.25rem}
.grid,.line{fill:none;stroke:var(--line);vector-effect:non-scaling-stroke}
.line{stroke:var(--soft)}
rect{fill:var(--fill)}
.failing rect,rect.below{fill:var(--fail)}
rect.tick{fill:var(--tick)}
summary{cursor:pointer;padding:.25rem 0;width:max-content}
details table{font-size:.875rem;max-width:28rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.45rem 1.25rem .45rem 0;border-top:1px solid var(--line);font-weight:400}
th:last-child,td:last-child{padding-right:0}
thead th{border-top:0;color:var(--soft);font-size:.875rem;padding-top:0;white-space:nowrap}
tbody th{font-weight:600;min-width:6.5rem}
th small,td small{display:block;font-weight:400}
details tbody th{font-weight:400}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.kind{margin-top:1.5rem}
.kind:first-of-type{margin-top:.75rem}
.kind>p{margin:.35rem 0 .5rem}
.kind table{table-layout:fixed}
footer{padding-top:.5rem;padding-bottom:2.5rem}
footer p+p{margin-top:.25rem}
@media(max-width:40rem){
th,td{padding-right:.75rem}
thead th{white-space:normal}
header,main,footer{padding-left:.75rem;padding-right:.75rem}
header p{margin-left:0;width:100%}
section{padding:1rem}
.things li{grid-template-columns:1fr}
.tiles{grid-template-columns:1fr 1fr}
section>table>thead,.kind>table>thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
section>table tr,.kind>table tr{display:block;padding:.6rem 0;border-top:1px solid var(--line)}
section>table tbody tr:first-child,.kind>table tbody tr:first-child{border-top:0}
section>table :is(th,td),.kind>table :is(th,td){display:flex;justify-content:space-between;gap:1rem;border:0;padding:.1rem 0;
text-align:left;white-space:normal}
section>table td::before,.kind>table td::before{content:attr(data-of);color:var(--soft);font-size:.875rem;flex:0 0 5.5rem}
section>table td>div,.kind>table td>div{flex:1;min-width:0}
section>table td.n{display:inline-flex;width:50%;gap:.5rem;padding-right:1.25rem;font-size:.875rem}
section>table td.n::before{flex:none}
section>table td.n>div{flex:none;font-weight:600}
section>table td[data-of=State]::before{content:none}
.kind td[data-of=When] small{display:inline}
}
@media print{section{break-inside:avoid}details{display:none}}
"""
STYLE_SOURCE = (
    f"'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"  # for the page's security policy
)
