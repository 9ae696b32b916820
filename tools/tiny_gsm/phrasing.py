"""Turning templates into English: choices, verb forms, people and numbers in a question."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from fractions import Fraction

import lexicon as lex
from arithmetic import Eq, Num, num, plain

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_VERB = re.compile(r"([@&%])(\w+)")
_SENTENCE_START = re.compile(r"(^|[.?!] )([a-z])")

SMALL = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
         "sixteen seventeen eighteen nineteen twenty").split()
TENS = {30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty", 90: "ninety", 100: "one hundred"}
FRACTIONS = {(1, 2): "half", (1, 3): "[a third|one third|1/3|one-third]", (2, 3): "[two thirds|2/3|two-thirds]",
             (1, 4): "[a quarter|one quarter|1/4|a fourth|one fourth|one-fourth]",
             (3, 4): "[three quarters|3/4|three fourths|three-quarters]",
             (1, 5): "[a fifth|one fifth|1/5]", (2, 5): "[two fifths|2/5]", (3, 5): "[three fifths|3/5]",
             (4, 5): "[four fifths|4/5]", (1, 6): "[a sixth|1/6]", (1, 8): "1/8", (1, 10): "[a tenth|1/10]"}
TIMES = {2: "[twice|two times|2 times|double]", 3: "[three times|3 times|triple]", 4: "[four times|4 times]",
         5: "[five times|5 times]", 6: "[six times|6 times]", 7: "7 times", 8: "8 times", 9: "9 times", 10: "[ten times|10 times]"}


@dataclass(frozen=True)
class Person:
    """Someone in a problem; str() is the name used inside sentences."""

    name: str
    he: str
    first: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def him(self) -> str:
        return {"he": "him", "she": "her", "I": "me", "they": "them"}[self.he]

    @property
    def his(self) -> str:
        return {"he": "his", "she": "her", "I": "my", "they": "their"}[self.he]

    @property
    def s(self) -> str:
        return "my" if self.first else self.name + "'s"

    @property
    def has(self) -> str:
        return "have" if self.first else "has"

    @property
    def does(self) -> str:
        return "do" if self.first else "does"


def conjugate(base: str, past: bool, third: bool) -> str:
    if base == "be" and not third:
        return "were" if past else "are"
    if base in lex.VERBS:
        s_form, past_form = lex.VERBS[base]
    else:
        s_form = base + ("es" if base.endswith(("s", "x", "ch", "sh", "o")) else "s")
        past_form = base + ("d" if base.endswith("e") else "ed")
    return past_form if past else s_form if third else base


class Scene:
    """One problem being written: its random source, tense, question text and solution steps.

    Template marks: [a|b|] picks one; @verb agrees with the scene's subject; %verb is always third
    person; &verb is plural; {x} is a field (numbers are written as a person would write them).
    """

    def __init__(self, rng: random.Random):
        self.r = rng
        self.past = rng.random() < 0.45
        self.word_rate = rng.choice([0.0, 0.0, 0.0, 0.15, 0.6])
        self.commas = rng.random() < 0.4
        self.first = False
        self.facts: list[str] = []
        self.question = ""
        self.steps: list[str] = []
        self.answer: Num | None = None
        self.roles: list[str] = []
        self.names: set[str] = set()

    # Random choices

    def n(self, low: int, high: int) -> int:
        return self.r.randint(low, high)

    def p(self, probability: float) -> bool:
        return self.r.random() < probability

    def pick(self, options):
        return self.r.choice(options)

    def wide(self, high: int) -> int:
        """A number of at least 2, small ones likelier."""
        top = self.r.choice([10, 20, 50, 100, high])
        return self.r.randint(2, max(3, min(top, high)))

    def divisor(self, x: int, low: int = 2, high: int = 12) -> int | None:
        found = [d for d in range(low, high + 1) if x % d == 0 and x // d >= 2]
        return self.r.choice(found) if found else None

    def person(self, first: float = 0.0, role: float = 0.12) -> Person:
        while True:
            u = self.r.random()
            if u < first:
                self.first = True
                return Person("I", "I", True)
            if u < first + role:
                kind = self.r.random()
                word, he = self.r.choice(lex.ROLES if kind < 0.6 else lex.RELATIVES).replace("_", " ").split(":")
                if kind < 0.6:
                    person = Person("the " + word, he)
                    self.roles.append(word)
                else:
                    person = Person("my " + word, he)
            elif u < first + role + 0.12:
                word = "".join(self.r.choice(lex.SYLLABLES) for _ in range(self.r.randint(1, 2)))
                person = Person((word + self.r.choice(lex.ENDINGS)).capitalize(), self.r.choice(["he", "she"]))
            elif self.r.random() < 0.5:
                person = Person(self.r.choice(lex.MALE), "he")
            else:
                person = Person(self.r.choice(lex.FEMALE), "she")
            if person.name not in self.names:
                self.names.add(person.name)
                return person

    def thing(self, *pools: list[lex.Noun], adjective: float = 0.15) -> lex.Noun:
        pool = self.r.choice(pools) if pools else self.r.choice([lex.FOOD, lex.THINGS, lex.MORE])
        noun = self.r.choice(pool)
        if not pools:
            u = self.r.random()
            if u < 0.05:
                word = "".join(self.r.choice(lex.SYLLABLES) for _ in range(self.r.randint(1, 2))) + self.r.choice(lex.ENDINGS)
                noun = lex.Noun(word, word + "s")
            elif u < 0.13:
                word = self.r.choice(lex.MODIFIERS)
                noun = lex.Noun(f"{word} {noun.one}", f"{word} {noun.many}")
        if self.p(adjective):
            word = self.r.choice(lex.ADJECTIVES)
            return lex.Noun(f"{word} {noun.one}", f"{word} {noun.many}")
        return noun

    def two(self, options) -> tuple:
        return tuple(self.r.sample(options, 2))

    def price(self, low: int = 1, high: int = 30, cents: float = 0.25) -> Num:
        whole = self.r.randint(low, high)
        if self.p(cents):
            part = self.r.choice([25, 50, 50, 50, 75, 10 * self.r.randint(1, 9), self.r.randint(1, 19) * 5])
            return Num(Fraction(whole * 100 + part, 100), True)
        return Num(Fraction(whole), True)

    # Text

    def show(self, x: "int | Fraction | Num") -> str:
        """A number as it appears in a question."""
        x = num(x)
        text = plain(x)
        if x.money:
            if x.v.denominator == 1 and self.p(0.12):
                return f"{text} dollars"
            if x.v < 1 and self.p(0.5):
                return f"{int(x.v * 100)} cents"
            return "$" + (f"{int(x.v):,}" if self.commas and x.v >= 1000 and x.v.denominator == 1 else text)
        if x.v.denominator == 1:
            value = int(x.v)
            if (value <= 20 or value in TENS) and value > 0 and self.p(self.word_rate):
                return SMALL[value] if value <= 20 else TENS[value]
            if value >= 1000 and self.commas:
                return f"{value:,}"
        return text

    def fill(self, template: str, fields: dict, question: bool) -> str:
        while True:
            template, count = _CHOICE.subn(lambda m: self.r.choice(m.group(1).split("|")), template)
            if not count:
                break
        if question:
            fields = {k: self.show(v) if isinstance(v, (int, Fraction, Num)) else v for k, v in fields.items()}
        else:
            fields = {k: str(num(v)) if isinstance(v, (int, Fraction)) else v for k, v in fields.items()}
        text = template.format(**fields)
        return _VERB.sub(self._verb, text)

    def _verb(self, match: re.Match) -> str:
        mark, base = match.groups()
        third = mark == "%" or (mark == "@" and not self.first)
        if mark == "@" and self.first and base == "be":
            return "was" if self.past else "am"
        return conjugate(base, self.past, third)

    def text(self, template: str, **fields) -> str:
        return self.fill(template, fields, True)

    def say(self, template: str, **fields) -> None:
        self.facts.append(self.fill(template, fields, True))

    def ask(self, template: str, **fields) -> None:
        self.question = self.fill(template, fields, True)

    def step(self, template: str, eq: Eq, **fields) -> Num:
        """Adds a solution line; {eq} is the equation.  Returns the equation's value."""
        self.steps.append(capitalize(self.fill(template, {**fields, "eq": eq}, False)))
        self.answer = eq.n
        return eq.n

    def times(self, k: int) -> str:
        return self.text(TIMES[k])

    def fraction(self, top: int, bottom: int) -> str:
        return self.text(FRACTIONS[top, bottom])


def capitalize(text: str) -> str:
    return _SENTENCE_START.sub(lambda m: m.group(1) + m.group(2).upper(), text)
