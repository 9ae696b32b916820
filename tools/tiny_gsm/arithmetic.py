"""Exact numbers and the equations written in solutions.

Every equation of a solution is built here from exact fractions, so that the text can
never disagree with the value.  Products and sums that are too long for one step are
written with their intermediate steps, which a small model can learn digit by digit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Num:
    """An exact number, optionally an amount of dollars."""

    v: Fraction
    money: bool = False

    def __str__(self) -> str:
        return ("$" if self.money else "") + plain(self)


def num(x: "int | Fraction | Num") -> Num:
    return x if isinstance(x, Num) else Num(Fraction(x))


def usd(x: "int | Fraction | str") -> Num:
    return Num(Fraction(x), True)


def plain(x: "int | Fraction | Num") -> str:
    """The digits alone: dollars with two decimals unless whole, others as short as exact."""
    x = num(x)
    if x.v.denominator == 1:
        return str(x.v.numerator)
    for digits in (1, 2, 3):
        if (x.v * 10**digits).denominator == 1:
            break
    else:
        raise ValueError(f"{x.v} has no short decimal form")
    digits = max(digits, 2) if x.money else digits
    scaled = int(abs(x.v) * 10**digits)
    sign = "-" if x.v < 0 else ""
    return f"{sign}{scaled // 10**digits}.{scaled % 10**digits:0{digits}d}"


@dataclass(frozen=True)
class Eq:
    """A chain of equal expressions (`s`) and its value (`n`)."""

    n: Num
    s: str

    def __str__(self) -> str:
        return self.s


def _chain(parts: list[str], value: Num) -> Eq:
    return Eq(value, " = ".join([*parts, str(value)]))


def add(*terms: "int | Num") -> Eq:
    xs = [num(t) for t in terms]
    money = any(x.money for x in xs)
    parts = []
    while len(xs) > 1:
        parts.append(" + ".join(map(str, xs)))
        xs = [Num(xs[0].v + xs[1].v, money), *xs[2:]]
    return _chain(parts, xs[0])


def sub(*terms: "int | Num") -> Eq:
    xs = [num(t) for t in terms]
    parts = []
    while len(xs) > 1:
        parts.append(" - ".join(map(str, xs)))
        xs = [Num(xs[0].v - xs[1].v, xs[0].money), *xs[2:]]
    return _chain(parts, xs[0])


def _significant(x: Num) -> int:
    """How many digits are left when trailing zeros are dropped."""
    text = plain(x).replace(".", "").lstrip("0").rstrip("0")
    return len(text)


def mul(a: "int | Num", b: "int | Num") -> Eq:
    """a * b, split at a tens or hundreds place when one step would be too long."""
    a, b = num(a), num(b)
    money = a.money or b.money
    value = Num(a.v * b.v, money)
    head = f"{a} * {b}"
    whole = a.v.denominator == 1 and b.v.denominator == 1
    if _power_of_ten(a) or _power_of_ten(b):
        return _chain([head], value)
    if a.v.denominator == 1 and a.v > 4 and b.money and not whole and b.v > 1:
        big, small = Num(Fraction(int(b.v)), True), Num(b.v - int(b.v), True)
    elif whole and _significant(a) >= 2 and _significant(b) >= 2:
        big, small = _split(b)
    elif whole and _significant(b) == 1 and _significant(a) >= 3:
        big, small = _split(a)
        first, second = Num(big.v * b.v, money), Num(small.v * b.v, money)
        return _chain([head, f"{big} * {b} + {small} * {b}", f"{first} + {second}"], value)
    elif whole and _significant(a) == 1 and _significant(b) >= 3:
        big, small = _split(b)
    else:
        return _chain([head], value)
    first, second = Num(a.v * big.v, money), Num(a.v * small.v, money)
    return _chain([head, f"{a} * {big} + {a} * {small}", f"{first} + {second}"], value)


def _power_of_ten(x: Num) -> bool:
    return x.v.denominator == 1 and str(x.v.numerator).strip("0") == "1" and not x.money


def _split(x: Num) -> tuple[Num, Num]:
    """The leading digit's place value and the rest."""
    text = str(x.v.numerator)
    big = int(text[0]) * 10 ** (len(text) - 1)
    return Num(Fraction(big), x.money), Num(x.v - big, x.money)


def div(a: "int | Num", b: "int | Num") -> Eq:
    a, b = num(a), num(b)
    return _chain([f"{a} / {b}"], Num(a.v / b.v, a.money and not b.money))


def part(a: "int | Num", top: int, bottom: int) -> Eq:
    """top/bottom of a."""
    if top == 1:
        return div(a, bottom)
    a = num(a)
    one = Num(a.v / bottom, a.money)
    return _chain([f"{a} / {bottom} * {top}", f"{one} * {top}"], Num(one.v * top, a.money))


def percent(a: "int | Num", p: int) -> Eq:
    a = num(a)
    value = Num(a.v * p / 100, a.money)
    return _chain([f"{a} * {p} / 100", f"{Num(a.v * p, a.money)} / 100"], value)


_TOKEN = re.compile(r"\s*(\d+(?:\.\d+)?|[-+*/()])")


def evaluate(text: str) -> Fraction:
    """The exact value of an expression of numbers and + - * / (left to right, * / first)."""
    tokens, pos = [], 0
    text = text.replace("$", "").strip()
    while pos < len(text):
        match = _TOKEN.match(text, pos)
        if not match:
            raise ValueError(f"not an expression: {text!r}")
        tokens.append(match.group(1))
        pos = match.end()
    value, rest = _sum(tokens)
    if rest:
        raise ValueError(f"trailing text in {text!r}")
    return value


def _atom(tokens: list[str]) -> tuple[Fraction, list[str]]:
    if tokens[0] == "-":
        value, rest = _atom(tokens[1:])
        return -value, rest
    return Fraction(tokens[0]), tokens[1:]


def _product(tokens: list[str]) -> tuple[Fraction, list[str]]:
    value, tokens = _atom(tokens)
    while tokens and tokens[0] in "*/":
        other, rest = _atom(tokens[1:])
        value = value * other if tokens[0] == "*" else value / other
        tokens = rest
    return value, tokens


def _sum(tokens: list[str]) -> tuple[Fraction, list[str]]:
    value, tokens = _product(tokens)
    while tokens and tokens[0] in "+-":
        other, rest = _product(tokens[1:])
        value = value + other if tokens[0] == "+" else value - other
        tokens = rest
    return value, tokens


_NUMBER = r"-?\$?\d+(?:\.\d+)?"
_EXPR = rf"{_NUMBER}(?: [-+*/] {_NUMBER})*"
_EQUATION = re.compile(rf"{_EXPR}(?: = {_EXPR})+")


def check_solution(solution: str) -> None:
    """Raises ValueError unless every equation holds and the last one gives the answer."""
    *lines, last = solution.split("\n")
    if not last.startswith("#### "):
        raise ValueError("no final answer")
    answer = Fraction(last[5:])
    value = None
    for line in lines:
        found = _EQUATION.findall(line)
        if line.count("=") != sum(e.count("=") for e in found):
            raise ValueError(f"unparsed equation in {line!r}")
        for equation in found:
            sides = [evaluate(side) for side in equation.split("=")]
            if len(set(sides)) != 1:
                raise ValueError(f"wrong equation {equation!r}")
            value = sides[0]
    if value != answer:
        raise ValueError(f"the last equation gives {value}, the answer says {answer}")
