"""The status page: `/status` and `/readyz` for people. One HTML text without scripts or external resources.

All values are escaped. `page` assembles it, `attention` lists items that need action, `hours` and `failures`
are sections, `plots` draws, `parts` are the smallest pieces, `snapshot` reads the status, `texts` explains
each state and failure, and `style` is the CSS.
"""

from daemon.runtime.web.status_page.page import Readiness, render
from daemon.runtime.web.status_page.style import STYLE, STYLE_SOURCE

__all__ = ["STYLE", "STYLE_SOURCE", "Readiness", "render"]
