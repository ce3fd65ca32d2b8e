"""The bounds of an option's number as people write them: "1 to 100" in place of "1<=x<=100"."""

import re

_BOUNDS = re.compile(r"(?:(-?\d+)<=)?x(?:<=(\d+)|>=(\d+))?")
_BRACKETS = re.compile(r"\s*\[([^\[\]]*)\]\Z")
_LARGE = 2**31 - 1  # such a bound belongs to a store or a machine, and limits nobody


def with_bounds_in_words(text: str) -> str:
    """Return the help of an option with the bounds in the brackets at its end in words. Those that limit nobody are left
    out.
    """
    found = _BRACKETS.search(text)
    if found is None or not any(map(_BOUNDS.fullmatch, found[1].split("; "))):
        return text
    facts = [_fact(one) for one in found[1].split("; ")]
    kept = "; ".join(filter(None, facts))
    return text[: found.start()] + (f"{text[found.start() : found.start(1) - 1]}[{kept}]" if kept else "")


def _fact(fact: str) -> str:
    bounds = _BOUNDS.fullmatch(fact)
    if bounds is None:
        return fact
    least, most = bounds[1] or bounds[3], bounds[2]
    if most is None or int(most) >= _LARGE:
        return f"at least {least}" if least and int(least) > 0 else ""
    return f"{least} to {most}" if least else f"at most {most}"
