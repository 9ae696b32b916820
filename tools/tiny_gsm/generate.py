#!/usr/bin/env python3
"""Seeded generator of grade-school word problems with step-by-step solutions.

    python3 generate.py --count 5 --seed 1            # print problems
    python3 generate.py --check 20000                 # validate every equation of many problems
    python3 generate.py --heldout heldout.jsonl       # write the 500 held-out problems
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import random
import re
from dataclasses import dataclass

import families_compare
import families_everyday
import families_groups
import families_money
import families_rates
import stories
from arithmetic import check_solution, plain
from phrasing import Scene, capitalize

FAMILIES = [f for m in (stories, families_money, families_rates, families_groups, families_compare, families_everyday) for f in m.FAMILIES]
HELDOUT_SEED = 977_000_001
HELDOUT_COUNT = 500
MAX_STEPS = 6
MAX_VALUE = 99_999

_WEIGHTS = [w for _, w in FAMILIES]
_NUMBER = re.compile(r"\d+")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeioAEIO]|umbrella|ukulele|hour)(?!one\b|one-)")
_LOWERED = set("The A An There Each Every One She He They It In On At My Two Three Four Five Six Seven Eight Nine Ten Today Yesterday Then Tickets".split())
_OPENER = re.compile(r"(Later|After|Afterwards|Next|Today|Then|The next|In the)\b", re.IGNORECASE)
_NON_WORD = re.compile(r"[^a-z0-9]+")

DISTRACTORS = ["It is a sunny day.", "{A} loves {o}.", "The weather is nice.", "{A} is {n} years old.", "It is {d}.", "{A} lives in a small town.", "{A} also has {n} {o}.",
               "{A} has a {c} hat.", "The store opens at {n} o'clock.", "{A} is very happy.", "{A} likes {s}.", "Every year {A} visits the {p}."]


@dataclass(frozen=True)
class Problem:
    question: str
    solution: str
    family: str

    @property
    def answer(self) -> str:
        return self.solution.rsplit("#### ", 1)[1]


def normalise(question: str) -> str:
    """A question up to case, spacing and punctuation; numbers are kept."""
    return _NON_WORD.sub(" ", question.lower()).strip()


def fingerprint(question: str) -> int:
    return int.from_bytes(hashlib.blake2b(normalise(question).encode(), digest_size=8).digest(), "little")


def _distract(s: Scene) -> None:
    """An irrelevant sentence somewhere before the question, about somebody else or nobody."""
    import lexicon as lex
    other = s.person(role=0.0)
    text = s.r.choice(DISTRACTORS).format(A=other, o=s.thing(), n=s.n(2, 12), d=s.r.choice(lex.DAYS), c=s.r.choice(lex.COLORS), s=s.r.choice(lex.SPORTS), p=s.r.choice(lex.PLACES))
    s.facts.insert(s.r.choice([0, 0, len(s.facts)]), text)


def _sloppy(rng: random.Random, question: str, solution: str) -> tuple[str, str]:
    """Typing habits: lower case, missing marks, extra spaces."""
    u = rng.random()
    if u < 0.06:
        question, solution = question.lower(), solution.lower()
    if rng.random() < 0.04:
        question = question.rstrip("?.")
    if rng.random() < 0.03:
        question = question.replace(". ", ".  ", 1)
    if rng.random() < 0.02:
        question = question.replace(". ", ", ", 1)
    if rng.random() < 0.02:
        question = question.replace("'", "")
    if rng.random() < 0.01:
        question = question.replace(",", "") if not re.search(r"\d,\d", question) else question
    return question, solution


def problem(rng: random.Random) -> Problem:
    """One random problem; its solution's equations are checked."""
    while True:
        family = rng.choices(FAMILIES, _WEIGHTS)[0][0]
        s = Scene(rng)
        try:
            family(s)
        except ValueError:
            continue
        if not s.question or not s.steps or len(s.steps) > MAX_STEPS:
            continue
        if s.answer.v < 0 or s.answer.v > MAX_VALUE:
            continue
        if s.facts and s.first is False and rng.random() < 0.04:
            _distract(s)
        facts = [f for f in s.facts if f]
        question = s.question
        if facts and rng.random() < 0.05 and not question.lower().startswith("if "):
            question = s.r.choice(["Now, ", "So ", "Tell me: "]) + question[0].lower() + question[1:]
        text = _reorder(rng, facts, question) or " ".join([*facts, question])
        text = capitalize(text)
        for word in s.roles:
            text = _introduce(text, word)
        text = _ARTICLE.sub(r"\1n ", text)
        if text[-1] not in "?.!":
            text += rng.choice(["", "?"]) if len(facts) else ""
        solution = "\n".join([*(_ARTICLE.sub(r"\1n ", x) for x in s.steps), "#### " + plain(s.answer.v if not s.answer.money else s.answer)])
        check_solution(solution)
        if any(int(n) > MAX_VALUE for n in _NUMBER.findall(solution)):
            continue
        text, solution = _sloppy(rng, text, solution)
        return Problem(text, solution, family.__name__)


def _lower_first(text: str) -> str:
    word = text.split(" ", 1)[0]
    return text[0].lower() + text[1:] if word in _LOWERED else text


def _reorder(rng: random.Random, facts: list[str], question: str) -> str | None:
    """The whole problem as one sentence: "If ..., how many ...?" or "How many ... if ...?"."""
    if not 1 <= len(facts) <= 3 or rng.random() > 0.12 or any(". " in f or _OPENER.match(f) for f in facts):
        return None
    if not question.startswith(("How", "What", "Which")) or ". " in question:
        return None
    clauses = [_lower_first(f.rstrip(".")) for f in facts]
    joined = " and ".join([", ".join(clauses[:-1]), clauses[-1]] if len(clauses) > 1 else clauses)
    if rng.random() < 0.6:
        return f"If {joined}, {question[0].lower() + question[1:]}"
    return f"{question.rstrip('?')} if {joined}?"


def _introduce(text: str, word: str) -> str:
    """The first mention of "the baker" becomes "a baker"."""
    match = re.search(rf"\b([Tt])he {word}\b(?!')", text)
    if not match or re.search(rf"\b[Tt]he {word}'", text[: match.start()]):
        return text
    article = "A" if match.group(1) == "T" else "a"
    return text[: match.start()] + article + text[match.start() + 3:]


def heldout() -> list[Problem]:
    rng = random.Random(HELDOUT_SEED)
    found: dict[str, Problem] = {}
    while len(found) < HELDOUT_COUNT:
        p = problem(rng)
        found.setdefault(normalise(p.question), p)
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", type=int, default=0)
    parser.add_argument("--heldout")
    parser.add_argument("--family", help="print problems of this family only")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    shown = 0
    while shown < args.count:
        p = problem(rng)
        if args.family in (None, p.family):
            print(f"[{p.family}] {p.question}\n{p.solution}\n")
            shown += 1
    if args.check:
        problems = [problem(rng) for _ in range(args.check)]
        counts = collections.Counter(p.family for p in problems)
        steps = collections.Counter(p.solution.count("\n") for p in problems)
        distinct = len({normalise(p.question) for p in problems})
        print(f"{args.check} problems checked, {distinct} distinct, steps {sorted(steps.items())}")
        print(", ".join(f"{k} {v}" for k, v in counts.most_common()))
    if args.heldout:
        with open(args.heldout, "w", encoding="utf-8") as out:
            for p in heldout():
                out.write(json.dumps({"question": p.question, "answer": p.solution}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
