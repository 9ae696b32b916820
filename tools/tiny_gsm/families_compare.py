"""Problem families that compare people: more, fewer, times as many, ages, averages, scores; and bare sums."""

from __future__ import annotations

import lexicon as lex
from arithmetic import Eq, add, div, mul, num, part, percent, sub, usd
from phrasing import Scene


def whole(x) -> int:
    return int(num(x).v)


def _relation(s: Scene, x: int, a, b, o) -> tuple[str, Eq]:
    """A sentence giving what b has from what a has (x), and its equation."""
    have = s.pick(["%have", "%have", "%have", "%collect", "%get", "%own"])
    u = s.n(0, 4)
    if u == 0:
        k = s.pick([2, 2, 3, 3, 4, 5, 6])
        return s.text(s.pick(["{B} " + have + " {t} as many[ {o}|] as {A}.", "{B} " + have + " {t} as many {o} as {A}.", "{B} " + have + " {t} the number of {o} that {A} has."]), A=a, B=b, o=o, t=s.times(k)), mul(x, k)
    if u == 1:
        y = s.wide(50)
        return s.text("{B} " + have + " {y} more[ {o}|] than {A}.", A=a, B=b, o=o, y=y), add(x, y)
    if u == 2 and x > 4:
        y = s.n(2, min(x - 2, 60))
        return s.text("{B} " + have + " {y} [fewer|less|fewer][ {o}|] than {A}.", A=a, B=b, o=o, y=y), sub(x, y)
    if u == 3:
        k = s.divisor(x, 2, 5)
        if k:
            return s.text("{B} " + have + " {f} as many[ {o}|] as {A}.", A=a, B=b, o=o, f=s.fraction(1, k)), div(x, k)
    y = s.wide(50)
    return s.text("{B} " + have + " {y} more[ {o}|] than {A}.", A=a, B=b, o=o, y=y), add(x, y)


def chain(s: Scene) -> None:
    """A, then B in terms of A, perhaps C in terms of B or A."""
    o, x = s.thing(), s.wide(120)
    people = [s.person(role=0.04) for _ in range(s.pick([2, 2, 3, 3]))]
    base = s.text("{A} %have {x} {o}.", A=people[0], x=x, o=o)
    values, said = [x], []
    for i in range(1, len(people)):
        j = s.pick([i - 1, i - 1, i - 1, 0])
        text, eq = _relation(s, values[j], people[j], people[i], o)
        said.append(text)
        values.append(whole(s.step("{B} has {eq} {o}.", eq, B=people[i], o=o)))
    shuffled = [base, *said] if s.p(0.6) else [*reversed(said), base]
    if len(people) == 3 and s.p(0.25):
        shuffled = [said[0], said[1], base]
    s.facts.extend(shuffled)
    u = s.n(0, 5)
    last = people[-1]
    if u <= 1:
        s.ask("How many {o} does {B} have?", o=o, B=last)
    elif u <= 4:
        s.ask(s.pick(["How many {o} do they have [together|in total|altogether|in all|combined]?", "How many {o} do [all {n}|they all|the {n} of them] have?" if len(people) == 3 else "How many {o} do the two have together?",
                      "What is the total number of {o}[| they have]?", "How many {o} do {names} have [together|in total|altogether|combined]?"]), o=o, n="three",
              names=" and ".join([", ".join(map(str, people[:-1])), str(people[-1])]))
        s.step("Together they have {eq} {o}.", add(*values), o=o)
    else:
        i, j = (0, len(people) - 1)
        if values[i] == values[j]:
            raise ValueError("no difference")
        hi, lo = (i, j) if values[i] > values[j] else (j, i)
        s.ask("How many [more {o} does {P} have than {Q}|fewer {o} does {Q} have than {P}]?", o=o, P=people[hi], Q=people[lo])
        s.step("The difference is {eq} {o}.", sub(values[hi], values[lo]), o=o)


def two_periods(s: Scene) -> None:
    """Something done on one day, and then half, twice, more or fewer on the next."""
    a, o = s.person(first=0.06), s.thing()
    verb = s.pick(["@sell", "@sell", "@make", "@find", "@collect", "@pick", "@buy", "@read", "@paint", "@pack", "@count"])
    if verb == "@read":
        o = s.pick([lex.noun("page"), lex.noun("book"), lex.noun("chapter"), lex.noun("comic book")])
    base = s.text(verb[1:])
    d = s.pick([("in " + m, "in " + n) for m, n in zip(lex.MONTHS, lex.MONTHS[1:])] + [("on " + m, "on " + n) for m, n in zip(lex.DAYS, lex.DAYS[1:])] * 2
               + [("in the morning", "in the afternoon"), ("yesterday", "today"), ("last week", "this week"), ("on the first day", "on the second day"), ("last year", "this year"), ("in the first week", "in the second week")])
    s.past = s.past or d[0] in ("yesterday", "last week", "last year")
    x = s.wide(200)
    s.say("{A} {v} {x} {o} {d}." if s.p(0.6) else "{D}, {A} {v} {x} {o}.", A=a, v=s.text(verb), x=x, o=o, d=d[0], D=d[0].capitalize())
    u = s.n(0, 4)
    then, w = d[1], a.he
    link = s.pick(["", "Then ", ""])
    if u == 0:
        k = s.pick([2, 2, 3, 3, 4])
        s.say(link + "{w} " + verb + " {t} as many[ {o}|] {d}.", w=w, t=s.times(k), o=o, d=then)
        eq = mul(x, k)
    elif u == 1:
        y = s.wide(60)
        s.say(link + "{w} " + verb + " {y} more[ {o}|] {d} than {e}." if s.p(0.7) else "{D} {w} " + verb + " {y} more than {e}.", w=w, y=y, o=o, d=then, D=then.capitalize() + ",", e=d[0])
        eq = add(x, y)
    elif u == 2 and x > 5:
        y = s.n(2, min(60, x - 2))
        s.say(link + "{w} " + verb + " {y} [fewer|less][ {o}|] {d} than {e}.", w=w, y=y, o=o, d=then, e=d[0])
        eq = sub(x, y)
    else:
        k = s.divisor(x, 2, 4)
        if not k:
            raise ValueError("not divisible")
        s.say("[and then {w}|{w}|Then {w}] ".replace("and then {w}|", "") + verb + " {f} as many[ {o}|] {d}.", w=w, f=s.fraction(1, k), o=o, d=then)
        eq = div(x, k)
    s.past, was = False, s.past
    present = base if a.first else s.text("%" + base)
    s.past = was
    y = s.step("{A} {v} {eq} {o} {d}.", eq, A=a, v=present, o=o, d=then)
    did = "did" if s.past else a.does
    if s.p(0.25):
        s.ask("How many {o} {did} {w} {b} {d}?", o=o, did=did, w=a if s.p(0.5) else w, b=base, d=then)
        return
    t = add(x, y)
    if s.p(0.2) and verb in ("@sell", "@make", "@pack"):
        p = s.price(1, 9, 0.15)
        s.say("[Each {o.one} costs {p}|{w} @get {p} for each {o.one}|{w} @sell each {o.one} for {p}].", o=o, p=p, w=w)
        s.ask("How much money {did} {w} [make|earn] in total?", did=did, w=w)
        n = s.step("In total {A} {v} {eq} {o}.", t, A=a, v=present, o=o)
        s.step("{A} {v} {eq}.", mul(n, p), A=a, v="make" if a.first else "makes")
        return
    s.ask("How many {o} {did} {w} {b} [in total|altogether|in all|in these two {p}|in both {p}]?".replace("|in these two {p}|in both {p}", ""), o=o, did=did, w=a if s.p(0.5) else w, b=base)
    s.step("In total {A} {v} {eq} {o}.", t, A=a, v=present, o=o)


def sum_and(s: Scene) -> None:
    """Two unknowns from their sum and their difference or ratio."""
    a, b, o = s.person(role=0.03), s.person(role=0.03), s.thing()
    x = s.wide(100)
    if s.p(0.5):
        d = s.wide(40)
        s.say(s.pick(["{A} and {B} have {t} {o} [together|in total|altogether]. {A} has {d} more[ {o}|] than {B}.", "Together {A} and {B} have {t} {o}. {A} has {d} more than {B}."]), A=a, B=b, t=2 * x + d, o=o, d=d)
        rest = s.step("Without the extra {o} they have {eq} {o}.", sub(2 * x + d, d), o=o)
        y = s.step("{B} has {eq} {o}.", div(rest, 2), B=b, o=o)
        if s.p(0.5):
            s.ask("How many {o} does {B} have?", o=o, B=b)
        else:
            s.ask("How many {o} does {A} have?", o=o, A=a)
            s.step("{A} has {eq} {o}.", add(y, d), A=a, o=o)
    else:
        k = s.pick([2, 2, 3, 4, 5])
        s.say(s.pick(["{A} and {B} have {t} {o} [together|in total|altogether]. {A} has {k} as many[ {o}|] as {B}.", "Together {A} and {B} have {t} {o}. {A} has {k} as many as {B}."]), A=a, B=b, t=(k + 1) * x, o=o, k=s.times(k))
        n = s.step("There are {eq} equal parts.", add(k, 1))
        y = s.step("{B} has {eq} {o}.", div((k + 1) * x, n), B=b, o=o)
        if s.p(0.5):
            s.ask("How many {o} does {B} have?", o=o, B=b)
        else:
            s.ask("How many {o} does {A} have?", o=o, A=a)
            s.step("{A} has {eq} {o}.", mul(y, k), A=a, o=o)


def ages(s: Scene) -> None:
    a, b = s.person(role=0.1, first=0.0), s.person(role=0.06)
    if s.p(0.3):
        rel = s.pick(["sister", "brother", "cousin", "friend", "mom", "dad", "aunt"])
        b = type(b)(f"{a.s} {rel}", "she" if rel in ("sister", "mom", "aunt") else "he")
    x, t = s.n(4, 40), s.n(2, 20)
    old = "years old"
    kind = s.n(0, 6)
    if kind <= 2:
        u = s.n(0, 3)
        if u == 0:
            y = s.n(2, 30)
            rel, eq = s.text("{B} is {y} years older than {A}.", A=a, B=b, y=y), add(x, y)
        elif u == 1:
            y = s.n(1, x - 2)
            rel, eq = s.text("{B} is {y} years younger than {A}.", A=a, B=b, y=y), sub(x, y)
        elif u == 2:
            k = s.pick([2, 2, 3, 4, 5])
            rel, eq = s.text("{B} is {k} as old as {A}.", A=a, B=b, k=s.times(k)), mul(x, k)
        else:
            x *= 2
            rel, eq = s.text("{B} is half as old as {A}.", A=a, B=b), div(x, 2)
        base = s.text("{A} is {x} [" + old + "|" + old + "|].", A=a, x=x).replace(" .", ".")
        s.facts += [base, rel] if s.p(0.6) else [rel, base]
        y = s.step("{B} is {eq} years old.", eq, B=b)
        v = s.n(0, 3)
        if v == 0:
            s.ask("How old is {B}?", B=b)
        elif v == 1:
            s.ask("How old will {B} be in {t} years?", B=b, t=t)
            s.step("In {t} years {B} will be {eq}.", add(y, t), B=b, t=t)
        elif v == 2:
            s.ask("What is the [sum|total] of their ages?" if s.p(0.6) else "How old are they [together|combined]?")
            s.step("The sum is {eq}.", add(x, y))
        else:
            c = s.person(role=0)
            z = s.n(2, 15)
            s.say("{C} is {z} years older than {B}.", C=c, z=z, B=b)
            s.ask("How old is {C}?", C=c)
            s.step("{C} is {eq} years old.", add(y, z), C=c)
    elif kind == 3:
        if s.p(0.5):
            s.say("{A} is {x} years old.", A=a, x=x)
            s.ask("How old will {w} be in {t} years?", w=a.he, t=t)
            s.step("In {t} years {A} will be {eq}.", add(x, t), A=a, t=t)
        else:
            t = s.n(1, x - 2)
            s.say("{A} is {x} years old.", A=a, x=x)
            s.ask("How old was {w} {t} years ago?", w=a.he, t=t)
            s.step("{t} years ago {A} was {eq}.", sub(x, t), A=a, t=t)
    elif kind == 4:
        s.say("In {t} years, {A} will be {x} years old.", A=a, x=x + t, t=t)
        s.ask("How old is {A} now?", A=a)
        s.step("Now {A} is {eq} years old.", sub(x + t, t), A=a)
    elif kind == 5:
        y = s.n(2, 50)
        s.say("The sum of the ages of {A} and {B} is {z}. {A} is {x}.", A=a, B=b, z=x + y, x=x)
        s.ask("How old is {B}?", B=b)
        s.step("{B} is {eq} years old.", sub(x + y, x), B=b)
    else:
        y = x + s.n(2, 30)
        s.say("{A} is {x} years old and {B} is {y} years old.", A=a, B=b, x=x, y=y)
        if s.p(0.5):
            s.ask("How [many years older is {B} than {A}|much older is {B}]?", A=a, B=b)
            s.step("The difference is {eq} years.", sub(y, x))
        else:
            s.ask("How old will {B} be when {A} is {z}?", A=a, B=b, z=x + t)
            d = s.step("{B} is {eq} years older.", sub(y, x), B=b)
            s.step("Then {B} will be {eq}.", add(x + t, d), B=b)


def average(s: Scene) -> None:
    a, n = s.person(first=0.05), s.pick([2, 3, 3, 4, 5])
    what = s.pick(["points", "goals", "pages", "miles", "cookies", "dollars", "points", "laps"])
    xs = [s.wide(100) for _ in range(n)]
    xs[-1] += -sum(xs) % n
    verb = {"points": "@score", "goals": "@score", "pages": "@read", "miles": "@run", "cookies": "@bake", "dollars": "@earn", "laps": "@swim"}[what]
    unit = {"points": s.pick(["games", "tests"]), "goals": "games"}.get(what, "days")
    listing = ", ".join(map(str, xs[:-1])) + s.pick([" and ", ", and "]) + str(xs[-1])
    if s.p(0.65):
        s.say("[{A} {v} {l} {w} in {n} {u}|In {n} {u}, {A} {v} {l} {w}|{A} {v} {l} {w}].".replace("{v}", verb), A=a, l=listing, w=what, n=n, u=unit)
        s.ask("[What is the average|What is {h} average|What is the average number of {w}|What {x} the mean|How many {w} is that on average]?".replace("{x}", "is"), h=a.his, w=what)
        t = s.step("The total is {eq}.", add(*xs))
        s.step("The average is {eq}.", div(t, n))
    else:
        avg = s.wide(90)
        known = [s.wide(90) for _ in range(n - 1)]
        if sum(known) >= avg * n:
            raise ValueError("negative score")
        listing = (", ".join(map(str, known[:-1])) + " and " if n > 2 else "") + str(known[-1])
        s.say("The average of {n} numbers is {m}. " + ("{k} of them are {l}." if n > 2 else "One of them is {l}.") if s.p(0.5) else "{A} [took|had] {n} tests with an average [score |]of {m}. " + ("The first {k} scores were {l}." if n > 2 else "The first score was {l}."),
              n=n, m=avg, k=n - 1, l=listing, A=a)
        s.ask("What is the [last|other] [number|one]?" if "numbers" in s.facts[0] else "What was the last score?")
        t = s.step("The total is {eq}.", mul(n, avg))
        k = s.step("The known ones make {eq}.", add(*known)) if n > 2 else num(known[0])
        s.step("The last one is {eq}.", sub(t, k))


def scores(s: Scene) -> None:
    a, b = s.person(role=0.03), s.person(role=0.03)
    kind = s.n(0, 3)
    if kind == 0:
        k, p, m, q = s.n(2, 15), s.pick([2, 3, 5, 10]), s.n(2, 12), s.pick([1, 3, 4, 6])
        w1, w2 = s.pick([("two-pointers", "three-pointers"), ("easy questions", "hard questions"), ("small targets", "big targets"), ("goals", "bonus goals"), ("red balls", "blue balls")])
        if w1 == "two-pointers":
            p, q = 2, 3
            s.say("{A} @make {k} {x} and {m} {y}[| in a basketball game].", A=a, k=k, x=w1, m=m, y=w2)
        else:
            s.say("In a game, {x} [are worth|give] {p} points each and {y} [are worth|give] {q} [points |]each. {A} @get {k} {x} and {m} {y}.", A=a, k=k, x=w1, m=m, y=w2, p=p, q=q)
        s.ask("How many points {d} {w} [score|get|have] [in total|altogether|in all|]?", d="did" if s.past else "does", w=a.he)
        s.question = s.question.replace(" ?", "?")
        t = s.step("The {x} give {eq} points.", mul(k, p), x=w1)
        u = s.step("The {y} give {eq} points.", mul(m, q), y=w2)
        s.step("The total is {eq} points.", add(t, u))
    elif kind == 1:
        x, y = s.wide(100), s.wide(100)
        z = s.wide(100)
        s.say("{A} @score {x} points in the first [game|round], {y} in the second[,|] and {z} in the third.", A=a, x=x, y=y, z=z)
        s.ask("[How many points {d} {w} score|How many points is that] [in total|altogether|in all]?", d="did" if s.past else "does", w=a.he)
        s.step("The total is {eq} points.", add(x, y, z))
    elif kind == 2:
        x, y = s.wide(300), s.wide(300)
        if x == y:
            y += 1
        s.say("{A} @score {x} points and {B} %score {y} points." if s.p(0.6) else "{A} has {x} points. {B} has {y} points.", A=a, B=b, x=x, y=y)
        hi, lo = (a, b) if x > y else (b, a)
        s.ask("[How many more points {d} {h} have than {l}|By how many points {d} {h} win|How many points is {h} ahead]?".replace("{d} {h} have", "does {h} have").replace("{d} {h} win", "does {h} win"), h=hi, l=lo)
        s.step("The difference is {eq} points.", sub(max(x, y), min(x, y)))
    else:
        n, each, wrong = s.n(10, 60), s.n(2, 5), s.n(2, 8)
        s.say("A test has {n} questions. Each [correct|right] answer gives {e} points. {A} @get {w} questions wrong.", n=n, e=each, A=a, w=wrong)
        s.ask("How many points {d} {h} get?", d="did" if s.past else "does", h=a.he)
        t = s.step("{A} gets {eq} questions right.", sub(n, wrong), A=a)
        s.step("{A} gets {eq} points.", mul(t, each), A=a)


def remaining_fractions(s: Scene) -> None:
    """A fraction of the whole, then a fraction of the rest."""
    a, b1, b2 = s.person(first=0.06), s.pick([2, 3, 4, 5]), s.pick([2, 3, 4, 5])
    base = b1 * b2 * s.n(2, 25)
    money = s.p(0.5)
    x = usd(base) if money else num(base)
    o = "" if money else " " + str(s.thing())
    left1 = base - base // b1
    if left1 % b2:
        raise ValueError("not divisible")
    verb = "@spend" if money else s.pick(["@give away", "@sell", "@use", "@lose"])
    s.say("{A} @have {x}{o}. {w} " + verb + " {f} of " + ("it" if money else "them") + s.pick([" on food", " on rent", " on a book", ""] if money else [""]) + s.pick([" and then ", ". Then {w} ", ". Later {w} "]) + verb + " {g} of [what is left|the rest|the remaining " + ("money" if money else "ones") + "].",
          A=a, x=x, o=o, w=a.he, f=s.fraction(1, b1), g=s.fraction(1, b2))
    s.ask(("How much [money |]{d} {w} have left?" if money else "How many{o} {d} {w} have left?"), o=o, d=a.does, w=a.he)
    gone = s.step("The first part is {eq}{o}.", part(x, 1, b1), o=o)
    rest = s.step("Then {eq}{o} are left." if not money else "Then {eq} is left.", sub(x, gone), o=o)
    gone = s.step("The second part is {eq}{o}.", part(rest, 1, b2), o=o)
    s.step("In the end {eq}{o} are left." if not money else "In the end {eq} is left.", sub(rest, gone), o=o)


def doubling(s: Scene) -> None:
    a, x, k, n = s.person(first=0.05), s.n(2, 20), s.pick([2, 2, 2, 3]), s.pick([3, 3, 4])
    what, verb = s.pick([("push-ups", "@do"), ("pages", "@write"), ("coins", "@find"), ("cookies", "@bake"), ("shells", "@collect"), ("dollars", "@save"), ("laps", "@swim"), ("photos", "@take")])
    unit = s.pick(["day", "day", "week", "month"])
    s.say("{A} {v} {x} {o} [on|in] the first {u}. [Each|Every] {u} after that {w} {v} {t} as many as the {u} before.".replace("{v}", verb).replace("[on|in]", "on" if unit == "day" else "in"), A=a, x=x, o=what, u=unit, w=a.he, t=s.times(k))
    cur, days = x, [x]
    for i in range(2, n + 1):
        cur = whole(s.step("{U} {i} is {eq} {o}.", mul(cur, k), U=unit.capitalize(), i=str(i), o=what))
        days.append(cur)
    if s.p(0.5):
        s.ask("How many {o} is that on the {nth} {u}?" if unit == "day" else "How many {o} is that in the {nth} {u}?", o=what, nth={3: "third", 4: "fourth"}[n], u=unit)
    else:
        s.ask("How many {o} is that [in total|altogether] after {n} {u}s?", o=what, n=n, u=unit)
        s.step("The total is {eq} {o}.", add(*days), o=what)


def measure(s: Scene) -> None:
    """Heights, weights and lengths compared."""
    things = s.pick([("{A} is {x} inches tall", "{B} is {y} inches {t} than {A}", ("taller", "shorter"), "How tall is {B}", "inches"), ("{A} weighs {x} pounds", "{B} weighs {y} pounds {t} than {A}", ("more", "less"), "How much does {B} weigh", "pounds"),
                     ("{A} jumps {x} inches", "{B} jumps {y} inches {t} than {A}", ("farther", "less"), "How far does {B} jump", "inches"), ("{A} lives {x} miles from school", "{B} lives {y} miles {t} than {A}", ("farther", "closer"), "How far from school does {B} live", "miles"),
                     ("{A} is {x} centimeters tall", "{B} is {y} centimeters {t} than {A}", ("taller", "shorter"), "How tall is {B}", "centimeters")])
    people = [s.person(role=0.03) for _ in range(3)]
    x, count = s.n(30, 180), s.pick([1, 2, 2])
    facts, cur = [s.text(things[0] + ".", A=people[0], x=x)], x
    for i in range(count):
        y, up = s.n(2, 20), s.p(0.5)
        facts.append(s.text(things[1] + ".", A=people[i], B=people[i + 1], y=y, t=things[2][0 if up else 1]))
        cur = whole(s.step("{B} is at {eq} {u}.", add(cur, y) if up else sub(cur, y), B=people[i + 1], u=things[4]))
    s.facts += facts if s.p(0.65) else facts[::-1]
    s.ask(things[3] + "?", B=people[count])


def votes(s: Scene) -> None:
    n1, n2 = s.person(role=0), s.person(role=0)
    t = s.pick([20, 50, 100, 200, 20 * s.n(2, 60)])
    pc = s.pick([10, 20, 25, 30, 40, 55, 60, 65, 70, 75, 80])
    s.say("[In an election|In a vote|In a school election], {t} people voted. {A} got {p}% of the votes and {B} got the rest.", t=t, A=n1, B=n2, p=str(pc))
    x = s.step("{A} got {eq} votes.", percent(t, pc), A=n1)
    if s.p(0.3):
        s.ask("How many votes did {A} get?", A=n1)
    else:
        s.ask("How many votes did {B} get?", B=n2)
        s.step("{B} got {eq} votes.", sub(t, x), B=n2)


def bare(s: Scene) -> None:
    """Plain arithmetic in digits or words."""
    ask = s.pick(["What is {e}?", "Calculate {e}.", "{e} = ?", "Compute {e}.", "How much is {e}?", "What's {e}?", "{e}", "Find {e}.", "{e}?", "Solve {e}."])
    u = s.n(0, 8)
    sloppy = s.p(0.2)
    if u <= 1:
        a, b = s.wide(9999), s.wide(9999)
        eq, text = add(a, b), s.pick(["{a} + {b}", "{a} + {b}", "{a} plus {b}", "the sum of {a} and {b}"])
    elif u <= 3:
        a, b = s.wide(9999), s.wide(9999)
        a, b = max(a, b) + 1, min(a, b)
        eq, text = sub(a, b), s.pick(["{a} - {b}", "{a} - {b}", "{a} minus {b}", "the difference between {a} and {b}"])
    elif u <= 5:
        a, b = s.pick([(s.n(2, 99), s.n(2, 99)), (s.n(2, 12), s.n(2, 12)), (s.n(100, 999), s.n(2, 9)), (s.n(2, 99), s.n(2, 9))])
        eq, text = mul(a, b), s.pick(["{a} * {b}", "{a} x {b}", "{a} times {b}", "{a} multiplied by {b}", "the product of {a} and {b}"])
    elif u == 6:
        b, q = s.n(2, 12), s.pick([s.n(2, 12), s.n(2, 150)])
        a = b * q
        eq, text = div(a, b), s.pick(["{a} / {b}", "{a} divided by {b}", "{a} / {b}"])
    elif u == 7:
        a, b = s.pick([10, 20, 25, 50, 5, 15, 30, 75]), 20 * s.n(1, 40)
        eq, text = percent(b, a), "{a}% of {b}"
    else:
        b = s.pick([2, 3, 4, 5])
        t = s.n(1, b - 1)
        if (t, b) == (2, 4):
            t = 1
        a = b * s.wide(60)
        s.question = ask.replace("{e}", s.fraction(t, b) + f" of {a}")
        s.step("The answer is {eq}.", part(a, t, b))
        return
    text = text.replace("{a}", str(a)).replace("{b}", str(b))
    s.question = ask.replace("{e}", text.replace(" ", "") if sloppy and "%" not in text and not any(c.isalpha() for c in text) else text)
    s.step("The answer is {eq}.", eq)


FAMILIES = [(chain, 5.0), (two_periods, 3.0), (sum_and, 1.2), (ages, 2.5), (average, 1.5), (scores, 1.8), (remaining_fractions, 1.2), (doubling, 0.8), (measure, 1.0), (votes, 0.5), (bare, 3.5)]
