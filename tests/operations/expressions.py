"""Which metrics a PromQL expression asks for."""

import promql_parser
from promql_parser import (
    AggregateExpr,
    BinaryExpr,
    Call,
    Expr,
    MatrixSelector,
    ParenExpr,
    SubqueryExpr,
    UnaryExpr,
    VectorSelector,
)


def metrics_in(expression: str, *, plain: bool = False) -> set[str]:
    """The names in `expression`, which must be PromQL. `plain`: only those that are read as they are now, not over a
    range.
    """
    return _names(promql_parser.parse(expression), plain=plain)


def _names(part: Expr, *, plain: bool) -> set[str]:
    match part:
        case VectorSelector():
            return {part.name}
        case MatrixSelector():
            return set() if plain else {part.vector_selector.name}
        case BinaryExpr():
            return _names(part.lhs, plain=plain) | _names(part.rhs, plain=plain)
        case Call():
            return {name for one in part.args for name in _names(one, plain=plain)}
        case AggregateExpr() | ParenExpr() | SubqueryExpr() | UnaryExpr():
            return _names(part.expr, plain=plain)
        case _:  # numbers and texts
            return set()
