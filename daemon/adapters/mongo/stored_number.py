"""Numbers in documents. Other programs write them too, some every number as floating point."""


def whole(value: object) -> int | None:
    """Return a whole number, or None for anything else: a part of a number, infinity, true and false."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return int(value) if isinstance(value, int) else None
