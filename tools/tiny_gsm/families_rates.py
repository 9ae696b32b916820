"""Problem families about rates and time: speed, work, reading, tanks, calendars."""

from __future__ import annotations

from fractions import Fraction

import lexicon as lex
from arithmetic import Num, add, div, mul, num, part, sub, usd
from phrasing import Scene


def whole(x) -> int:
    return int(num(x).v)


def travel(s: Scene) -> None:
    v, h = s.pick([s.n(2, 90), 5 * s.n(2, 18), 10 * s.n(2, 9)]), s.n(2, 12)
    unit, per = s.pick([("miles", "mph"), ("miles", "miles per hour"), ("kilometers", "kilometers per hour"), ("km", "km/h"), ("miles", "miles an hour")])
    human = s.p(0.4)
    who = str(s.person(first=0.1)) if human else s.pick(["A", "The"]) + " " + s.pick(lex.VEHICLES)
    go = s.pick(["@drive", "@drive", "@travel", "@ride"]) if human else s.pick(["@travel", "@travel", "@go", "@move"])
    again = "I" if who == "I" else who.replace("A ", "the ").replace("The ", "the ") if not human else who
    ask = "do" if who == "I" else "does"
    kind = s.n(0, 5)
    if kind <= 1:
        s.say(s.pick(["{W} " + go + " at {v} {p} for {h} hours.", "{W} " + go + " {v} {u} [per|an|each|every] hour for {h} hours.", "{W} " + go + " for {h} hours at [a speed of |]{v} {p}."]), W=who, v=v, p=per, h=h, u=unit)
        s.ask("[How far {d} {w} [go|travel]|How many {u} {d} {w} [go|travel|cover]|What distance {d} {w} [cover|travel]|What is the [total |]distance]?", d="did" if s.past else ask, w=again, u=unit)
        s.step("The distance is {eq} {u}.", mul(v, h), u=unit)
    elif kind == 2:
        s.say("{W} " + go + " {x} {u} in {h} hours[| at a constant speed| at a steady speed].", W=who, x=v * h, u=unit, h=h)
        rate = s.step("The speed is {eq} {u} per hour.", div(v * h, h), u=unit)
        if s.p(0.5):
            s.ask("[What is the [average |]speed[| in {u} per hour]|How many {u} per hour is that|How fast is that in {u} per hour]?", u=unit)
        else:
            k = s.n(2, 15)
            s.ask("[At that speed, how|At this rate, how|How] far [will|would|can] {w} go in {k} hours?", w=again, k=k)
            s.step("In {k} hours the distance is {eq} {u}.", mul(rate, k), k=k, u=unit)
    elif kind == 3:
        s.say("{W} [needs|has|plans] to [travel|go] {x} {u} at {v} {p}.".replace("[needs|has|plans]", "[need|have|plan]") if who == "I" else "{W} [needs|has|plans] to [travel|go] {x} {u} at {v} {p}.", W=who, x=v * h, u=unit, v=v, p=per)
        s.ask("How [long|many hours] [will|does] [it|the trip] take?")
        s.question = s.question.replace("How long", "How many hours") if s.p(0.5) else s.question
        s.step("It takes {eq} hours.", div(v * h, v))
    elif kind == 4:
        v2, h2 = 5 * s.n(2, 16), s.n(2, 8)
        s.say(s.pick(["{W} " + go + " at {v} {p} for {h} hours and then at {q} {p} for {k} hours.", "{W} " + go + " {h} hours at {v} {p}, then {k} hours at {q} {p}.",
                      "{W} " + go + " for {h} hours at {v} {p}. Then {w} " + go + " for {k} hours at {q} {p}."]), W=who, w=again, v=v, p=per, h=h, q=v2, k=h2)
        s.ask("[How far {d} {w} [go|travel] [in total|altogether|in all]|What is the total distance|How many {u} {d} {w} [go|travel|cover] in total]?", d="did" if s.past else ask, w=again, u=unit)
        x = s.step("First the distance is {eq} {u}.", mul(v, h), u=unit)
        y = s.step("Then the distance is {eq} {u}.", mul(v2, h2), u=unit)
        s.step("The total distance is {eq} {u}.", add(x, y), u=unit)
    else:
        left = s.wide(200)
        s.say("{W} " + go + " {v} {p} for {h} hours on a trip of {x} {u}.".replace("{v} {p}", "at {v} {p}"), W=who, v=v, p=per, h=h, x=v * h + left, u=unit)
        s.ask("How [many {u}|far] {d} {w} still have to go?" if s.p(0.6) else "How many {u} are left?", u=unit, d=ask, w=again)
        x = s.step("The distance so far is {eq} {u}.", mul(v, h), u=unit)
        s.step("There are {eq} {u} left.", sub(v * h + left, x), u=unit)


def machine(s: Scene) -> None:
    o = s.thing(lex.THINGS, adjective=0.05)
    r, unit, k = s.wide(80), s.pick(["minute", "hour", "day"]), s.n(2, 20)
    who = s.pick(["A machine", "A factory", "A printer", "The machine", s.person(role=0.3).name, s.person(role=0.3).name])
    verb = s.pick(["@make", "@produce", "@make"])
    again = who.replace("A ", "the ").replace("The ", "the ")
    kind = s.n(0, 4)
    if kind == 0:
        s.say("{W} " + verb + " {r} {o} [per|every|each|a] {u}.", W=who, r=r, o=o, u=unit)
        s.ask("How many {o} [does|will|can] {w} make in {k} {u}s?", o=o, w=again, k=k, u=unit)
        s.step("{W} makes {eq} {o}.", mul(r, k), W=who, o=o)
    elif kind == 1:
        s.say("{W} " + verb + " {x} {o} in {k} {u}s.", W=who, x=r * k, o=o, k=k, u=unit)
        y = s.step("In one {u} {w} makes {eq} {o}.", div(r * k, k), w=again, o=o, u=unit)
        if s.p(0.4):
            s.ask("How many {o} does {w} make [per|each|in one] {u}?", o=o, w=again, u=unit)
        else:
            m = s.n(2, 20)
            s.ask("[At this rate, how|At the same rate, how|How] many {o} [will|can|does] {w} make in {m} {u}s?", o=o, w=again, m=m, u=unit)
            s.step("In {m} {u}s {w} makes {eq} {o}.", mul(y, m), m=m, w=again, o=o, u=unit)
    elif kind == 2:
        s.say("{W} " + verb + " {r} {o} [per|every|each] {u}.", W=who, r=r, o=o, u=unit)
        s.ask("How [many {u}s|long] [does|will] it take [to make|for {w} to make] {x} {o}?", w=again, x=r * k, o=o, u=unit)
        s.step("It takes {eq} {u}s.", div(r * k, r), u=unit)
    elif kind == 3:
        h, d = s.n(2, 12), s.n(2, 7)
        s.say("{W} " + verb + " {r} {o} [an|per|each|every] hour[ and works| and runs|, working] {h} hours [a|per|each] day.".replace("[ and works| and runs|, working]", ", working"), W=who, r=r, o=o, h=h)
        s.ask("How many {o} does {w} make in {d} days?", o=o, w=again, d=d)
        x = s.step("In one day {w} makes {eq} {o}.", mul(r, h), w=again, o=o)
        s.step("In {d} days {w} makes {eq} {o}.", mul(x, d), d=d, w=again, o=o)
    else:
        n = s.n(2, 12)
        s.say("[Each machine|One machine] [makes|produces] {r} {o} [per|an|every] {u}. [There are|A factory has] {n} machines.".replace("an|", ""), r=r, o=o, u=unit, n=n)
        s.ask("How many {o} [do|can] [they|the machines] make in {k} {u}s?", o=o, k=k, u=unit)
        x = s.step("In one {u} they make {eq} {o}.", mul(n, r), o=o, u=unit)
        s.step("In {k} {u}s they make {eq} {o}.", mul(x, k), k=k, o=o, u=unit)


def together_rate(s: Scene) -> None:
    a, b = s.person(role=0.04), s.person(role=0.04)
    act, o = s.pick([("paint", "fences"), ("bake", "cakes"), ("make", "bracelets"), ("fold", "shirts"), ("wash", "cars"), ("type", "pages"), ("pick", "apples"), ("pack", "boxes"),
                     ("write", "letters"), ("solve", "problems"), ("plant", "trees"), ("sew", "dresses"), ("wrap", "gifts")])
    x, y, h, unit = s.wide(40), s.wide(40), s.n(2, 12), s.pick(["hour", "hour", "minute", "day"])
    if x == y:
        y += 1
    s.say(s.pick(["{A} can {v} {x} {o} [an|per|each|every] {u} and {B} can {v} {y}[| {o}] [per|each|every] {u}.", "{A} {w} {x} {o} per {u}. {B} {w} {y} {o} per {u}.",
                  "Every {u}, {A} {w} {x} {o} and {B} {w} {y}."]).replace("[an|per", "[per|per"), A=a, B=b, v=act, w=_s(act), x=x, y=y, o=o, u=unit)
    if s.p(0.6):
        s.ask("[Working together, how|How] many {o} can they {v}[| together] in {h} {u}s?", o=o, v=act, h=h, u=unit)
        t = s.step("In one {u} they {v} {eq} {o}.", add(x, y), u=unit, v=act, o=o)
        s.step("In {h} {u}s they {v} {eq} {o}.", mul(t, h), h=h, u=unit, v=act, o=o)
    else:
        hi, lo, p = (x, y, a) if x > y else (y, x, b)
        s.ask("How many more {o} does {P} {v} [than {Q} |]in {h} {u}s?", o=o, P=p, Q=b if p is a else a, v=act, h=h, u=unit)
        t = s.step("{P} {w} {eq} more {o} each {u}.", sub(hi, lo), P=p, w=_s(act), o=o, u=unit)
        s.step("In {h} {u}s that is {eq} {o}.", mul(t, h), h=h, u=unit, o=o)


def _s(verb: str) -> str:
    return verb + ("es" if verb.endswith("sh") else "s")


def reading(s: Scene) -> None:
    a, r, k = s.person(first=0.08), s.pick([s.n(2, 60), 5 * s.n(2, 12)]), s.n(2, 20)
    kind = s.n(0, 4)
    day = s.pick(["day", "day", "night", "hour", "evening"])
    if kind == 0:
        s.say("{A} [@read|@read] {r} pages [a|per|each|every] {u}.".replace("[@read|@read]", "@read"), A=a, r=r, u=day)
        s.ask("How many pages [{d} {w} read|will {w} read] in {k} {u}s?", d=a.does, w=a.he, k=k, u=day)
        s.step("{A} {v} {eq} pages.", mul(r, k), A=a, v="read" if a.first else "reads")
    elif kind == 1:
        s.say(s.pick(["A book has {x} pages. {A} @read {r} pages [a|per|each|every] {u}.", "{A} @be reading a book with {x} pages. {A.he} @read {r} pages [each|every|per] {u}.", "{A} @have a {x} page book. {A.he} @read {r} pages [each|every|a] {u}."]), A=a, x=r * k, r=r, u=day)
        s.ask("How many {u}s [will|does] it take [{m} |]to [finish|read] [the book|it]?", u=day, m=a.him)
        s.step("It takes {eq} {u}s.", div(r * k, r), u=day)
    elif kind == 2:
        left = s.wide(200)
        s.say("{A} @be reading a [book|novel] [with|that has|of] {x} pages. {A.he} @read {r} pages [a|each|every] {u} for {k} {u}s.", A=a, x=r * k + left, r=r, k=k, u=day)
        s.ask("How many pages [are left|does {w} have left|are left to read]?".replace("does", a.does), w=a.he)
        t = s.step("{A} {v} {eq} pages.", mul(r, k), A=a, v="read" if a.first else "reads")
        s.step("There are {eq} pages left.", sub(r * k + left, t))
    elif kind == 3:
        x, y = s.wide(100), s.wide(100)
        left = s.wide(20) * k
        s.say("{A} @have a book with {x} pages. {A.he} @read {y} pages on {d1} and {z} pages on {d2}.", A=a, x=x + y + left, y=x, z=y, d1="Monday", d2="Tuesday")
        if s.p(0.5):
            s.ask("How many pages are left?")
            t = s.step("{A} {v} {eq} pages.", add(x, y), A=a, v="read" if a.first else "reads")
            s.step("There are {eq} pages left.", sub(x + y + left, t))
        else:
            s.ask("How many pages must {w} read each day to finish [it |the book |]in {k} [more |]days?", w=a.he, k=k)
            t = s.step("{A} {v} {eq} pages.", add(x, y), A=a, v="read" if a.first else "reads")
            q = s.step("There are {eq} pages left.", sub(x + y + left, t))
            s.step("Each day {A} must read {eq} pages.", div(q, k), A=a)
    else:
        n = s.n(2, 12)
        pages = r * s.pick([1, 2, 3])
        s.say("{A} @read {n} books. Each book has {r} pages." if s.p(0.5) else "{A} @read {n} books with {r} pages each.", A=a, n=n, r=pages)
        s.ask("How many pages {d} {w} read [in total|altogether|in all|]?", d="did" if s.past else a.does, w=a.he)
        s.question = s.question.replace(" ?", "?")
        s.step("{A} {v} {eq} pages.", mul(n, pages), A=a, v="read" if a.first else "reads")


def calendar(s: Scene) -> None:
    a = s.person(first=0.1)
    act = s.pick(["@practice piano", "@exercise", "@study", "@run", "@practice the guitar", "@work", "@walk the dog", "@watch TV", "@train", "@play video games", "@sleep", "@swim", "@draw", "@cook", "@commute"])
    base = s.text(act[1:])
    m, kind = s.pick([s.n(2, 12) * 5, s.n(10, 90), 30, 45, 20, 15]), s.n(0, 6)
    d = a.does
    if kind == 0:
        k = s.pick([7, 5, s.n(2, 30)])
        s.say("{A} " + act + " [for |]{m} minutes [a|every|each|per] day.", A=a, m=m)
        s.ask("How many minutes {d} {w} {b} in " + ("[a|one] week" if k == 7 else "{k} days") + "?", d=d, w=a.he, b=base, k=k)
        s.step("The time is {eq} minutes.", mul(m, k))
    elif kind == 1:
        h, w = s.n(2, 9), s.n(2, 12)
        s.say("{A} " + act + " [for |]{h} hours [a|every|each|per] day.", A=a, h=h)
        s.ask("How many hours {d} {w} {b} in {k} weeks?", d=d, w=a.he, b=base, k=w)
        t = s.step("{k} weeks are {eq} days.", mul(w, 7), k=w)
        s.step("The time is {eq} hours.", mul(t, h))
    elif kind == 2:
        h, x = s.n(1, 9), s.n(5, 55)
        s.say("{A} " + act + " for {h} [hours|hours] and {x} minutes." if h > 1 else "{A} " + act + " for an hour and {x} minutes.", A=a, h=h, x=x)
        s.ask("[How many minutes is that|How many minutes {d} {w} {b}|How long is that in minutes]?", d="did" if s.past else d, w=a.he, b=base)
        t = s.step("The hours are {eq} minutes.", mul(h, 60))
        s.step("The total is {eq} minutes.", add(t, x))
    elif kind == 3:
        mm, dd = s.pick([10, 15, 20, 30, 40, 45, 60, 12, 90]), s.n(2, 30)
        if mm * dd % 60:
            raise ValueError("not whole hours")
        s.say("{A} " + act + " [for |]{m} minutes [a|every|each|per] day for {k} days.", A=a, m=mm, k=dd)
        s.ask("How many hours [is that|is that in total|{d} {w} {b} in total]?", d=d, w=a.he, b=base)
        t = s.step("The time is {eq} minutes.", mul(mm, dd))
        s.step("That is {eq} hours.", div(t, 60))
    elif kind == 4:
        x, y, z = s.n(5, 90), s.n(5, 90), s.n(5, 90)
        d1, d2, d3 = lex.DAYS[s.n(0, 2)], lex.DAYS[3], lex.DAYS[s.n(4, 6)]
        three = s.p(0.5)
        s.say("{A} " + act + " [for |]{x} minutes on {d1}" + (", {y} minutes on {d2} and {z} minutes on {d3}." if three else " and {y} minutes on {d2}."), A=a, x=x, y=y, z=z, d1=d1, d2=d2, d3=d3)
        if three or s.p(0.6):
            s.ask("[How many minutes is that in total|What is the total time in minutes|How many minutes {d} {w} {b} [in total|altogether|in all]]?", d="did" if s.past else d, w=a.he, b=base)
            s.step("The total is {eq} minutes.", add(x, y, z) if three else add(x, y))
        elif x != y:
            s.ask("How many more minutes {d} {w} {b} on {q}?", d="did" if s.past else d, w=a.he, b=base, q=d1 if x > y else d2)
            s.step("The difference is {eq} minutes.", sub(max(x, y), min(x, y)))
        else:
            raise ValueError("no difference")
    elif kind == 5:
        n = s.n(2, 30)
        big, small, f = s.pick([("weeks", "days", 7), ("hours", "minutes", 60), ("days", "hours", 24), ("minutes", "seconds", 60), ("years", "months", 12), ("feet", "inches", 12),
                                ("dozens", "eggs", 12), ("meters", "centimeters", 100), ("kilometers", "meters", 1000), ("yards", "feet", 3)])
        forward = s.p(0.6)
        if f == 12 and big == "dozens":
            s.ask("How many {q} are [there |]in {n} dozen?", q=s.pick(["eggs", "cookies", "donuts", "rolls", "roses"]), n=n)
            s.step("There are {eq}.", mul(n, 12))
        elif forward:
            s.ask("How many {q} are [there |]in {n} {b}?" if s.p(0.7) else "Convert {n} {b} to {q}.", q=small, n=n, b=big)
            s.step("That is {eq} {q}.", mul(n, f), q=small)
        else:
            s.ask("How many {b} are [there |]in {x} {q}?" if s.p(0.6) else "{A} @have {x} {q} [left|of work]. How many {b} is that?".replace("{A} @have {x} {q} [left|of work]", "A [trip|project|task] takes {x} {q}") if f in (7, 60, 24) and small != "feet"
                  else "How many {b} is {x} {q}?", b=big, x=n * f, q=small, A=a)
            s.step("That is {eq} {b}.", div(n * f, f), b=big)
    else:
        start, length = s.n(1, 9), s.n(2, 8)
        if start + length > 12:
            raise ValueError("crosses noon")
        if s.p(0.5):
            s.say("{A} @start [to work|working|class|studying|school] at {x} [o'clock|am] and @stop {h} hours later.".replace("[to work|working|class|studying|school]", s.pick(["work", "school", "studying"])), A=a, x=start, h=length)
            s.ask("[At what time {d} {w} stop|What time {d} {w} stop|At what hour {d} {w} stop]?", d=d, w=a.he)
            s.step("The time is {eq}.", add(start, length))
        else:
            p = usd(s.n(8, 30))
            s.say("{A} @work from {x} [am|pm] to {y} [am|pm] and @earn {p} [an|per] hour.".replace("[am|pm]", s.pick(["am", "pm"])), A=a, x=start, y=start + length, p=p)
            s.ask("How much {d} {w} earn?", d="did" if s.past else d, w=a.he)
            h = s.step("The time is {eq} hours.", sub(start + length, start))
            s.step("{A} {v} {eq}.", mul(h, p), A=a, v="earn" if a.first else "earns")


def tank(s: Scene) -> None:
    r, k, unit = s.wide(40), s.n(2, 20), s.pick(["gallons", "liters"])
    box, per = s.pick(["tank", "pool", "bathtub", "barrel", "pond", "bucket"]), s.pick(["minute", "hour"])
    kind = s.n(0, 3)
    if kind == 0:
        s.say("A {b} holds {x} {u}[| of water]. A [hose|pump|pipe] fills it at {r} {u} per {p}.", b=box, x=r * k, u=unit, r=r, p=per)
        s.ask("How many {p}s does it take to fill the {b}?", p=per, b=box)
        s.step("It takes {eq} {p}s.", div(r * k, r), p=per)
    elif kind == 1:
        leak = s.n(1, max(1, r - 1))
        if leak >= r:
            raise ValueError("leaks too fast")
        s.say("A {b} is [being |]filled at {r} {u} per {p}, but it [leaks|loses] {l} {u} per {p}.", b=box, r=r, u=unit, p=per, l=leak)
        s.ask("How many {u} are in the {b} after {k} {p}s?", u=unit, b=box, k=k, p=per)
        t = s.step("Each {p} the {b} gains {eq} {u}.", sub(r, leak), p=per, b=box, u=unit)
        s.step("After {k} {p}s there are {eq} {u}.", mul(t, k), k=k, p=per, u=unit)
    elif kind == 2:
        left = s.wide(200)
        s.say("A {b} [has|contains|holds] {x} {u} of water. It [leaks|loses] {r} {u} [an|every|per|each] {p}.".replace("[an|", "["), b=box, x=r * k + left, u=unit, r=r, p=per)
        s.ask("How [much water|many {u}] [is|are] left after {k} {p}s?".replace("[much water|many {u}] [is|are]", "many {u} are"), u=unit, k=k, p=per)
        t = s.step("It loses {eq} {u}.", mul(r, k), u=unit)
        s.step("There are {eq} {u} left.", sub(r * k + left, t), u=unit)
    else:
        have = s.wide(100)
        s.say("A {b} [already |]has {h} {u} of water[| in it]. A [hose|pump|tap] adds {r} {u} [every|per|each] {p}.", b=box, h=have, u=unit, r=r, p=per)
        if s.p(0.6):
            s.ask("How many {u} are in the {b} after {k} {p}s?", u=unit, b=box, k=k, p=per)
            t = s.step("The added water is {eq} {u}.", mul(r, k), u=unit)
            s.step("There are {eq} {u}.", add(have, t), u=unit)
        else:
            s.say("The {b} holds {x} {u}.", b=box, x=have + r * k, u=unit)
            s.ask("How many {p}s [does|will] it take to fill [it|the {b}]?", p=per, b=box)
            t = s.step("It needs {eq} more {u}.", sub(have + r * k, have), u=unit)
            s.step("It takes {eq} {p}s.", div(t, r), p=per)


def growth(s: Scene) -> None:
    what, unit, verb, shrink = s.pick([("plant", "inches", "grows", False), ("tree", "feet", "grows", False), ("candle", "centimeters", "burns down", True), ("puppy", "pounds", "gains", False),
                                       ("sunflower", "centimeters", "grows", False), ("snowman", "inches", "shrinks", True), ("baby whale", "pounds", "gains", False), ("vine", "inches", "grows", False)])
    per, r, k = s.pick(["week", "day", "month", "hour", "year"]), s.n(2, 12), s.n(2, 15)
    start = s.wide(80)
    measure = "weighs {x} {u}" if unit == "pounds" else "is {x} {u} [tall|high]"
    if shrink:
        start += r * k
        s.say("A {w} " + measure + ". It {v} {r} {u} [every|each|per|a] {p}.", w=what, x=start, u=unit, v=verb, r=r, p=per)
        s.ask("How tall is it after {k} {p}s?", k=k, p=per)
        t = s.step("It loses {eq} {u}.", mul(r, k), u=unit)
        s.step("It is {eq} {u} tall.", sub(start, t), u=unit)
    elif s.p(0.65):
        s.say("A {w} " + measure + ". It {v} {r} {u} [every|each|per|a] {p}.", w=what, x=start, u=unit, v=verb, r=r, p=per)
        s.ask("[How {h} [is|will] it [after|in] {k} {p}s|How many {u} is it after {k} {p}s]?".replace("[is|will] it", "is it"), h="heavy" if unit == "pounds" else "tall", k=k, p=per, u=unit)
        t = s.step("It gains {eq} {u}.", mul(r, k), u=unit)
        s.step("It is {eq} {u}.", add(start, t), u=unit)
    else:
        s.say("A {w} " + measure + ". It {v} {r} {u} [every|each|per|a] {p}.", w=what, x=start, u=unit, v=verb, r=r, p=per)
        s.ask("[How many {p}s until it [is|reaches] {y} {u}|After how many {p}s is it {y} {u}]?", p=per, y=start + r * k, u=unit)
        t = s.step("It must gain {eq} {u}.", sub(start + r * k, start), u=unit)
        s.step("It takes {eq} {p}s.", div(t, r), p=per)


def laps(s: Scene) -> None:
    a, k, m = s.person(first=0.08), s.n(2, 15), s.pick([100, 200, 400, 50, 25, 300, s.n(2, 20)])
    unit = "meters" if m >= 25 else s.pick(["miles", "kilometers"])
    kind = s.n(0, 3)
    act, base = s.pick([("@run", "run"), ("@swim", "swim"), ("@walk", "walk"), ("@bike", "bike"), ("@jog", "jog")])
    if kind == 0:
        s.say("{A} " + act + " {k} laps. Each lap is {m} {u}[| long].", A=a, k=k, m=m, u=unit)
        s.ask("How [far|many {u}] {d} {w} {b}[| in total| altogether]?", u=unit, d="did" if s.past else a.does, w=a.he, b=base)
        s.step("The distance is {eq} {u}.", mul(k, m), u=unit)
    elif kind == 1:
        d = s.n(2, 30)
        x = s.n(2, 12)
        s.say("{A} " + act + " {x} miles [a|every|each|per] day.", A=a, x=x)
        week = s.p(0.4)
        s.ask("How many miles {d} {w} {b} in " + ("[a|one] week?" if week else "{k} days?"), d=a.does, w=a.he, b=base, k=d)
        s.step("The distance is {eq} miles.", mul(x, 7 if week else d))
    elif kind == 2:
        x, y, d = s.n(2, 12), s.n(2, 12), s.n(2, 7)
        s.say("{A} " + act + " {x} miles [every|each] morning and {y} miles [every|each] evening.", A=a, x=x, y=y)
        s.ask("How many miles {d} {w} {b} in {k} days?", d=a.does, w=a.he, b=base, k=d)
        t = s.step("In one day the distance is {eq} miles.", add(x, y))
        s.step("In {k} days the distance is {eq} miles.", mul(t, d), k=d)
    else:
        x, more, n = s.n(1, 10), s.n(1, 4), s.pick([3, 3, 4])
        s.say("{A} " + act + " {x} miles on the first day. Each day after that {A.he} " + act + " {y} more miles than the day before.".replace("{A.he}", "{H}"), A=a, H=a.he, x=x, y=more)
        s.ask("How many miles {d} {w} {b} in [the first |]{n} days?", d=a.does, w=a.he, b=base, n=n)
        days, cur = [x], x
        for i in range(2, n + 1):
            cur = whole(s.step("Day {i} is {eq} miles.", add(cur, more), i=str(i)))
            days.append(cur)
        s.step("The total is {eq} miles.", add(*days))


def fuel(s: Scene) -> None:
    mpg, g = s.pick([s.n(10, 50), 5 * s.n(2, 10)]), s.n(2, 15)
    price = s.price(2, 5, 0.3)
    what = s.pick(["car", "truck", "van", "motorcycle"])
    kind = s.n(0, 2)
    own = s.pick(["A", s.person(role=0.05).s])
    s.say("{O} {w} [gets|drives|goes|can drive] {m} miles [per|on one|on a|on each] gallon[| of gas].", O=own, w=what, m=mpg)
    if kind == 0:
        s.ask("How many miles can it go on {g} gallons?" if s.p(0.5) else "How far can it [go|drive] with {g} gallons?", g=g)
        s.step("It can go {eq} miles.", mul(mpg, g))
    elif kind == 1:
        s.ask("How many gallons [are needed|does it need] [for|to go|to drive] {x} miles?", x=mpg * g)
        s.step("It needs {eq} gallons.", div(mpg * g, mpg))
    else:
        s.say("Gas costs {p} [per|a] gallon.", p=price)
        s.ask("How much does [the gas|it] cost [for|to drive] {x} miles?", x=mpg * g)
        t = s.step("It needs {eq} gallons.", div(mpg * g, mpg))
        s.step("The gas costs {eq}.", mul(t, price))


def recipe(s: Scene) -> None:
    a, k, m = s.person(first=0.06, role=0.15), s.n(2, 6), s.n(2, 10)
    ing = s.pick(["cups of flour", "eggs", "cups of sugar", "spoons of honey", "cups of milk", "apples", "teaspoons of salt", "cups of rice", "bananas", "tablespoons of butter", "ounces of cheese"])
    out = s.pick(["cake", "pie", "pizza", "batch of cookies", "loaf of bread", "batch of muffins", "bowl of soup", "pan of brownies"])
    outs = lex.noun(out).many if " " not in out else {"batch of cookies": "batches of cookies", "loaf of bread": "loaves of bread", "batch of muffins": "batches of muffins",
                                                      "bowl of soup": "bowls of soup", "pan of brownies": "pans of brownies"}[out]
    kind = s.n(0, 3)
    if kind == 0:
        s.say("[{A} @need {k} {i} [to make|for] [one|a] {o}|A recipe for [one|a] {o} needs {k} {i}|One {o} [needs|takes|requires] {k} {i}].", A=a, k=k, i=ing, o=out)
        s.ask("How many {i} [are needed|{d} {w} need] for {m} {os}?", i=ing, d=a.does, w=a.he if str(a) in s.facts[0] else "a cook", m=m, os=outs)
        s.question = s.question.replace("do a cook", "does a cook")
        s.step("{m} {os} need {eq} {i}.", mul(k, m), m=m, os=outs, i=ing)
    elif kind == 1:
        s.say("[One|A|Each] {o} [needs|takes|requires] {k} {i}. {A} @have {x} {i}.", o=out, k=k, i=ing, A=a, x=k * m)
        s.ask("How many {os} can {w} make?", os=outs, w=a.he)
        s.step("{A} can make {eq} {os}.", div(k * m, k), A=a, os=outs)
    elif kind == 2:
        people, serve = s.n(2, 12), s.n(2, 8)
        s.say("A recipe for {p} people [uses|needs|calls for] {x} {i}.", p=people, x=people * k, i=ing)
        s.ask("How many {i} are needed for {q} people?", i=ing, q=serve * 2)
        t = s.step("One person needs {eq} {i}.", div(people * k, people), i=ing)
        s.step("{q} people need {eq} {i}.", mul(serve * 2, t), q=serve * 2, i=ing)
    else:
        have = s.n(1, max(1, k * m - 1))
        s.say("{A} @want to make {m} {os}. Each [one |]needs {k} {i}. {A.he} @have {h} {i}.", A=a, m=m, os=outs, k=k, i=ing, h=have)
        s.ask("How many more {i} {d} {w} need?", i=ing, d=a.does, w=a.he)
        t = s.step("{m} {os} need {eq} {i}.", mul(m, k), m=m, os=outs, i=ing)
        s.step("{A} {v} {eq} more {i}.", sub(t, have), A=a, v="need" if a.first else "needs", i=ing)


def drift(s: Scene) -> None:
    """Temperatures, floors and heights that go up and down."""
    x = s.n(20, 95)
    up, down = s.n(2, 25), s.n(2, min(20, x - 2))
    kind = s.n(0, 2)
    if kind == 0:
        s.say("The temperature [is|was] {x} degrees [in the morning|at noon|at 8 am|at first].", x=x)
        s.say("It [rises|rose|goes up|went up] {u} degrees [and then [drops|dropped|falls|fell] {d} degrees|by noon and then [falls|fell] by {d} degrees in the evening].", u=up, d=down)
        s.ask("What is the temperature [now|in the end|then|at the end]?")
        t = s.step("First it is {eq} degrees.", add(x, up))
        s.step("Then it is {eq} degrees.", sub(t, down))
    elif kind == 1:
        s.say("The temperature was {x} degrees [in the morning|yesterday|at noon] and {y} degrees [in the evening|today|at night].", x=x, y=x - down)
        s.ask("By how many degrees did it [drop|fall|go down]?")
        s.step("It dropped {eq} degrees.", sub(x, x - down))
    else:
        f, k, h = s.n(1, 6), s.n(2, 20), s.n(2, 9)
        s.say("{A} @be on floor {f} of a building. {A.he} [@take the elevator|@go] up {k} floors and then down {d} floors.", A=s.person(), f=f, k=k + h, d=h)
        s.facts[-1] = s.facts[-1].replace("  ", " ")
        s.ask("[What|Which] floor is [that|it]?" if s.p(0.5) else "On which floor is that?")
        t = s.step("First it is floor {eq}.", add(f, k + h))
        s.step("Then it is floor {eq}.", sub(t, h))


FAMILIES = [(travel, 4.0), (machine, 2.0), (together_rate, 1.2), (reading, 2.0), (calendar, 3.5), (tank, 1.2), (growth, 1.0), (laps, 1.3), (fuel, 0.8), (recipe, 1.3), (drift, 0.7)]
