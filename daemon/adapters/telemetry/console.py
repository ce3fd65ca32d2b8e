"""Format a log line for a terminal: one short line. Only a traceback follows it, indented.

Invisible characters of every name and value are made visible, whatever the source. Fields that are zero or
unknown, parts that the id repeats, and the date of instants on the day of the line are omitted.
"""

from collections.abc import Mapping

from daemon.domain.visible import visible

_COLORS = {"debug": "2", "info": "32", "warning": "33", "error": "1;31"}  # SGR parameters
_DATE = slice(0, 11)  # of an instant in RFC 3339, with its "T"
_TIME = slice(11, 19)
_SECONDS = slice(0, 19)
_INSTANT = len("2026-01-31T12:00:00.000Z")
_HEAD = ("event", "timestamp", "level", "exception")


def rendered(line: Mapping[str, object], *, colors: bool) -> str:
    """Format `line`, which has an event, a timestamp and a level; all other items are fields."""
    at, level, event = (visible(str(line[name])) for name in ("timestamp", "level", "event"))
    when = at[_TIME] if colors else f"{at[_SECONDS]}Z"
    shown = " ".join(
        f"{visible(name)}={_value(name, value, at[_DATE])}"
        for name, value in line.items()
        if name not in _HEAD and value not in (None, 0) and not (name == "provider" and _in_id(line, value))
    )
    mark = f"\x1b[{_COLORS.get(level, '0')}m{level:7}\x1b[0m" if colors else f"{level:7}"
    text = f"{when} {mark} {event:17} {shown}".rstrip()
    trace = str(line.get("exception") or "")
    return "\n".join([text, *(f"    {visible(each)}" for each in trace.split("\n") if each)])


def _in_id(line: Mapping[str, object], provider: object) -> bool:
    return str(line.get("token", "")).startswith(f"{provider}:")


def _value(name: str, value: object, today: str) -> str:
    text = visible(str(value))
    if name.endswith("_at") and len(text) == _INSTANT:
        return text[_TIME] if text.startswith(today) else f"{text[_SECONDS]}Z"
    return f'"{text}"' if " " in text else text
