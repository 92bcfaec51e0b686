"""Metric math: the part of it that alarms need. Pure.

Numbers, ids of metrics, `+ - * / ^`, brackets, and the functions MAX, MIN, SUM, AVG (of several
values, or of a list: `METRICS()`, `[m1, m2]`) and FILL, of a list too. A missing operand makes the
result missing, and so does a division by zero; the functions leave missing values out.
"""

import ast
import math
from collections.abc import Mapping, Sequence
from functools import cache

_FUNCTIONS = ("MAX", "MIN", "SUM", "AVG", "FILL", "METRICS")


class Expression:
    """A checked expression.

    Raises:
        ValueError: it is no such expression. The message says what is wrong.

    Attributes:
        names: the ids in it.
        uses_all: whether it asks for all metrics.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._tree = _parsed(text)
        nodes = list(ast.walk(self._tree))
        called = {id(it.func) for it in nodes if isinstance(it, ast.Call)}
        found = [it.id for it in nodes if isinstance(it, ast.Name) and id(it) not in called]
        self.names = tuple(dict.fromkeys(found))
        self.uses_all = any(isinstance(it, ast.Call) and _name(it) == "METRICS" for it in nodes)

    def value(self, values: Mapping[str, float | None]) -> float | None:
        """Return its value; None: missing.

        Args:
            values: of the metrics, by id.
        """
        try:
            found = _value(self._tree, values)
        except (ZeroDivisionError, OverflowError):
            return None
        assert not isinstance(found, list)  # noqa: S101 - `_checked` allows none at the top
        return found if found is not None and math.isfinite(found) else None

    def __str__(self) -> str:
        return self._text


@cache
def expression(text: str) -> Expression:
    """Return the checked expression of a text, the same for the same text."""
    return Expression(text)


def _parsed(text: str) -> ast.expr:
    try:
        # On one line: to Python, a line may be the end.
        tree = ast.parse(" ".join(text.replace("^", "**").split()), mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        raise ValueError(f"{text!r} is no metric math: try 100*m1/(m1+m2)") from None
    _check(tree, text)
    if _is_list(tree):
        raise ValueError(f"{text!r} is a list: put MAX(...) or another function around it")
    return tree


def _check(tree: ast.expr, text: str) -> None:
    match tree:
        case ast.Constant(value=int() | float()) | ast.Name():
            return
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            _check_number(operand, text)
        case ast.BinOp(
            left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.Pow(), right=right
        ):
            for side in (left, right):
                _check_number(side, text)
        case ast.List(elts=items):
            for it in items:
                _check_number(it, text)
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if (
            name.upper() in _FUNCTIONS
        ):
            for it in arguments:
                _check(it, text)
            wanted = {"METRICS": (0, 0), "FILL": (2, 2)}.get(name.upper(), (1, 100))
            if not wanted[0] <= len(arguments) <= wanted[1]:
                raise ValueError(f"{text!r}: {name} takes another number of values")
            if name.upper() == "FILL":
                _check_number(arguments[1], text)
        case _:
            known = ", ".join(_FUNCTIONS)
            raise ValueError(
                f"{text!r}: {ast.unparse(tree)!r} is not understood here. There are numbers, ids, "
                f"+ - * / ^, and {known}"
            )


def _check_number(tree: ast.expr, text: str) -> None:
    _check(tree, text)
    if _is_list(tree):
        raise ValueError(f"{text!r}: lists are for functions such as MAX(...)")


def _name(call: ast.Call) -> str:
    return call.func.id.upper() if isinstance(call.func, ast.Name) else ""


def _is_list(tree: ast.expr) -> bool:
    if isinstance(tree, ast.Call) and _name(tree) == "FILL":
        return _is_list(tree.args[0])
    return isinstance(tree, ast.List) or (isinstance(tree, ast.Call) and _name(tree) == "METRICS")


_Found = float | None | list[float | None]


def _value(tree: ast.expr, values: Mapping[str, float | None]) -> _Found:
    match tree:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return values.get(name)
        case ast.UnaryOp(operand=operand):
            found = _number(operand, values)
            return None if found is None else -found
        case ast.BinOp(left=left, op=operator, right=right):
            return _combined(operator, _number(left, values), _number(right, values))
        case ast.List(elts=items):
            return [_number(it, values) for it in items]
        case ast.Call() as call:
            return _called(call, values)
    raise AssertionError(tree)


def _number(tree: ast.expr, values: Mapping[str, float | None]) -> float | None:
    found = _value(tree, values)
    assert not isinstance(found, list)  # noqa: S101 - `_check_number` allows none here
    return found


def _combined(operator: ast.operator, one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return None
    match operator:
        case ast.Add():
            return one + other
        case ast.Sub():
            return one - other
        case ast.Mult():
            return one * other
        case ast.Div():
            return one / other
    power = one**other
    return power if isinstance(power, float) else None


def _called(call: ast.Call, values: Mapping[str, float | None]) -> _Found:
    name = _name(call)
    if name == "METRICS":
        return list(values.values())
    if name == "FILL":
        filled, filler = _value(call.args[0], values), _number(call.args[1], values)
        if isinstance(filled, list):
            return [filler if it is None else it for it in filled]
        return filler if filled is None else filled
    some: list[float | None] = []
    for argument in call.args:
        found = _value(argument, values)
        some += found if isinstance(found, list) else [found]
    return _of_all(name, [it for it in some if it is not None])


def _of_all(name: str, numbers: Sequence[float]) -> float | None:
    if not numbers:
        return None
    match name:
        case "MAX":
            return max(numbers)
        case "MIN":
            return min(numbers)
        case "SUM":
            return sum(numbers)
    return sum(numbers) / len(numbers)
