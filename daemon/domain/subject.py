"""The subject of a token: an application's name for the person or the thing to which the token belongs."""

import re

LONGEST_SUBJECT = 512  # bytes
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def fault_of_subject(text: str) -> str | None:
    """Return why `text` can't be a subject, as a sentence without its beginning, or None if it can."""
    if not text:
        return "must not be empty"
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "is not valid Unicode"
    if size > LONGEST_SUBJECT:
        return f"has more than {LONGEST_SUBJECT} bytes"
    return "contains a control character" if _CONTROL.search(text) else None
