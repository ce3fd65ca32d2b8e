"""A column of a table of results."""


class Column:
    """At least so many characters wide, or else as wide as its cells, within reason."""

    def __init__(self, title: str, *, width: int = 0) -> None:
        self.title, self.width = title, width
