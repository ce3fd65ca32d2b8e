"""The status page: what `/status` and `/readyz` say, for eyes. One HTML text: no script, nothing loaded, all escaped.

`page` puts it together, `attention` says what needs somebody, `failures` what went wrong, `plots` draws, `parts` are its
smallest pieces, `words` what it says about each state and failure, `style` how it looks.
"""

from daemon.runtime.web.status_page.page import Readiness, render
from daemon.runtime.web.status_page.style import STYLE, STYLE_SOURCE

__all__ = ["STYLE", "STYLE_SOURCE", "Readiness", "render"]
