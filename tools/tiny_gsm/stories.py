"""Stories about one quantity: how it starts, what happens to it, and what is asked at the end.

A story is a head (how many there are at first), events that change the number, and
optionally a tail (selling, sharing, packing, comparing ...), each of them with its own
wordings, so that most combinations of relations occur.
"""

from __future__ import annotations

import lexicon as lex
from arithmetic import add, div, mul, num, part, sub, usd
from phrasing import Person, Scene

EDIBLE = {n.many for n in lex.FOOD}


def value(x) -> int:
    return int(num(x).v)


class Story:
    def __init__(self, s: Scene):
        self.s = s
        self.a: Person = s.person(first=0.07)
        self.o = s.thing()
        self.edible = self.o.many.split(" ", 1)[-1] in EDIBLE or self.o.many in EDIBLE
        self.x = 0

    def fields(self) -> dict:
        return {"A": self.a, "o": self.o, "ob": self.s.pick([str(self.o), str(self.o), "of them"])}

    def say(self, template: str, **kw) -> None:
        self.s.say(template, **self.fields(), **kw)

    def step(self, template: str, eq, **kw) -> int:
        self.x = value(self.s.step(template, eq, **self.fields(), **kw))
        return self.x

    # Heads

    def head(self) -> None:
        s = self.s
        s.pick([self.plain_head] * 6 + [self.boxes_head, self.days_head, self.more_head, self.times_head,
                                        self.two_kinds_head, self.boxes_head])()

    def plain_head(self) -> None:
        s = self.s
        self.x = s.wide(s.pick([100, 100, 1000]))
        if self.x < 4:
            self.x += 4
        verb = s.pick(["@have", "@have", "@have", "@have", "@start with", "@buy", "@get", "@find", "@collect", "@pick"]
                      if not self.edible else ["@have", "@have", "@bake", "@make", "@buy", "@get", "@start with"])
        self.say("{A} " + verb + " {x} {o}[||||| at first| in the beginning| on " + s.pick(lex.DAYS) + "].", x=self.x)

    def boxes_head(self) -> None:
        s = self.s
        k, m = s.n(2, 12), s.pick([s.n(2, 12), s.n(5, 30), s.pick([10, 12, 15, 20, 24, 25])])
        c = s.pick(lex.CONTAINERS)
        self.say(s.pick([
            "{A} [@have|@buy|@get] {k} {c} of {o}[. Each {c.one} [has|contains|holds] {m} {o}| with {m} {o} in each| with {m} {o} each].",
            "{A} [@buy|@have] {k} {c} of {o}. There are {m} {o} in [each|every] {c.one}.",
            "[There are|There were] {m} {o} in [each|a|one] {c.one}. {A} @have {k} {c}.",
            "{A} @have {k} {c}, each [with|containing|holding] {m} {o}.",
            "{A} [@buy|@have] {k} {c} of {o} with {m} {o} [per|in each|in every] {c.one}.",
        ]), k=k, m=m, c=c)
        self.step("{A} {A.has} {eq} {o}.", mul(k, m))

    def days_head(self) -> None:
        s, (d1, d2) = self.s, sorted(self.s.two(lex.DAYS), key=lex.DAYS.index)
        x, y = s.wide(100), s.wide(100)
        verb = s.pick(["@collect", "@find", "@get", "@buy", "@make", "@sort", "@count"])
        self.say(s.pick([
            "{A} " + verb + " {x} {o} on {d1} and {y} [more |]on {d2}.",
            "On {d1}, {A} " + verb + " {x} {o}. On {d2}, {A.he} " + verb + " {y} [more|more {o}|{o}].",
            "{A} " + verb + " {x} {o} in the morning and {y} [more |]in the afternoon.",
            "{A} " + verb + " {x} {o} yesterday and {y} {o} today.",
        ]), x=x, y=y, d1=d1, d2=d2)
        self.step("{A} {A.has} {eq} {o}.", add(x, y))

    def more_head(self) -> None:
        s, b = self.s, self.s.person(role=0.08)
        x, y = s.wide(200), s.wide(60)
        if s.p(0.5):
            self.say(s.pick(["{B} %have {x} {o}. {A} @have {y} more {o} than {B}.", "{A} @have {y} more {o} than {B}. {B} %have {x} {o}.",
                             "{B} %have {x} {o} and {A} @have {y} more than {B.him}.",
                             "{A} @have {y} more {o} than {B}, who %have {x}."]), B=b, x=x, y=y)
            self.step("{A} {A.has} {eq} {o}.", add(x, y))
        else:
            x += y + 1
            self.say(s.pick(["{B} %have {x} {o}. {A} @have {y} [fewer|less] {o} than {B}.",
                             "{A} @have {y} fewer {o} than {B}. {B} %have {x} {o}.",
                             "{A} @have {y} fewer {o} than {B}, who %have {x}."]), B=b, x=x, y=y)
            self.step("{A} {A.has} {eq} {o}.", sub(x, y))

    def times_head(self) -> None:
        s, b = self.s, self.s.person(role=0.08)
        if s.p(0.65):
            k, x = s.pick([2, 2, 2, 3, 3, 4, 5, s.n(2, 10)]), s.wide(60)
            self.say(s.pick(["{B} %have {x} {o}. {A} @have {t} as many[ {o}|] as {B}.",
                             "{A} @have {t} as many {o} as {B}. {B} %have {x} {o}.",
                             "{B} %have {x} {o} and {A} @have {t} as many.",
                             "{A} @have {t} as many {o} as {B}, who %have {x}[| {o}].",
                             "{A} @have {t} the number of {o} that {B} %have. {B} %have {x} {o}."]), B=b, x=x, t=s.times(k))
            self.step("{A} {A.has} {eq} {o}.", mul(x, k))
        else:
            k = s.pick([2, 2, 2, 3, 4])
            x = k * s.wide(60)
            self.say(s.pick(["{B} %have {x} {o}. {A} @have {f} as many[ {o}|] as {B}.",
                             "{A} @have {f} as many {o} as {B}. {B} %have {x} {o}.",
                             "{A} @have {f} as many {o} as {B}, who %have {x}."]), B=b, x=x, f=s.fraction(1, k))
            self.step("{A} {A.has} {eq} {o}.", div(x, k))

    def two_kinds_head(self) -> None:
        s = self.s
        c1, c2 = s.two(lex.COLORS)
        x, y = s.wide(100), s.wide(100)
        self.say("{A} @have {x} {c1} {o} and {y} {c2} [{o}|ones].", x=x, y=y, c1=c1, c2=c2)
        self.step("{A} {A.has} {eq} {o}[| in total].", add(x, y))

    # Events: each returns verb phrases with the steps they need, or a whole sentence

    def events(self, count: int) -> None:
        s, pending = self.s, []
        for i in range(count):
            kind = s.pick([self.gain, self.gain, self.lose, self.lose, self.lose, self.given, self.fraction_event,
                           self.many_packs, self.each_friend, self.double_event])
            phrase, whole = kind()
            if not phrase:
                continue
            if whole:
                self.flush(pending)
                pending = []
                s.facts.append(s.text("[||Then |Later, |After that, |Then ]") + phrase)
            else:
                pending.append(phrase)
                if s.p(0.5):
                    self.flush(pending)
                    pending = []
        self.flush(pending)

    def flush(self, phrases: list[str]) -> None:
        if not phrases:
            return
        s = self.s
        joined = phrases[0] if len(phrases) == 1 else s.pick([" and then ", " and ", " and ", ", and then "]).join(
            [", ".join(phrases[:-1]), phrases[-1]])
        if len(s.facts) == 1 and s.p(0.12) and not s.steps and not self.a.first:
            s.facts[-1] = s.facts[-1].rstrip(".") + s.pick([" and ", " and then ", ", then "]) + joined + "."
            return
        opener = s.text("[|||||Then |Later, |Then, |After that, |The next day, |Afterwards, |In the afternoon, |Next, |Today, ]")
        subject = self.a.name if s.p(0.3) or len(s.names) > 1 and s.p(0.8) else self.a.he
        s.facts.append(f"{opener}{subject} {joined}.")

    def vp(self, template: str, **kw) -> tuple[str, bool]:
        return self.s.text(template, **self.fields(), **kw), False

    def gain(self) -> tuple[str, bool]:
        y = self.s.wide(self.s.pick([30, 100, 500]))
        head = "@" + self.s.pick(["buy", "buy", "buy", "get", "find", "receive", "collect", "pick up", "win", "order"]
                                 + (["make", "bake"] if self.edible else []))
        place = self.s.text("[||||||| at the " + self.s.pick(lex.PLACES) + "| from " + self.s.person().name + "]")
        before = self.x
        out = self.vp(head + " [{y} more|{y} more {o}|another {y}|another {y} {o}|{y} more {ob}|{y} {o}]" + place, y=y)
        self.step("{A} {A.has} {eq} {o}.", add(before, y))
        return out

    def less(self) -> int | None:
        if self.x < 4:
            return None
        return self.s.n(2, min(self.x - 2, self.s.pick([10, 50, max(4, self.x // 2), self.x]))) if self.x > 4 else 2

    def lose(self) -> tuple[str, bool]:
        y = self.less()
        if y is None:
            return "", False
        friend = self.s.text("[a friend|{p}|{p}|{h} friend|{h} [brother|sister|mom|dad|neighbor|cousin|teacher]]",
                             p=self.s.person(role=0.05).name, h=self.a.his)
        options = ["@give {y} {ob} to " + friend, "@give " + friend + " {y} {ob}", "@lose {y} {ob}", "@sell {y} {ob}",
                   "@give away {y} {ob}", "@give {y} to " + friend, "@lose {y}", "@sell {y}", "@give " + friend + " {y}",
                   "@donate {y} {ob}", "@use {y} {ob}", "@drop {y} {ob}", "@throw away {y} {ob}", "@use {y}"]
        if self.edible:
            options += ["@eat {y} {ob}", "@eat {y}", "@eat {y}", "@eat {y} {ob}"] * 3
        before = self.x
        out = self.vp(self.s.pick(options), y=y)
        self.step("{A} {A.has} {eq} {o} left.", sub(before, y))
        return out

    def given(self) -> tuple[str, bool]:
        s = self.s
        who = s.text("[{p}|{p}|{h} friend|{h} [brother|sister|mom|dad|mother|father|grandmother|uncle|neighbor|cousin]]",
                     p=s.person(role=0.05).name, h=self.a.his)
        if s.p(0.75):
            y, before = s.wide(s.pick([30, 100])), self.x
            out = s.text(who + " [%give|%give|%bring|%send] {A.him} [{y} more|{y} more {o}|another {y} {o}|{y} {o}].", y=y, **self.fields())
            self.step("{A} {A.has} {eq} {o}.", add(before, y))
        else:
            y, before = self.less(), self.x
            if y is None:
                return "", True
            out = s.text(who + " [%take|%take|%borrow] {y} {ob}" + (" [|from {A.him}]" if s.p(0.3) else "") + ".", y=y, **self.fields())
            out = out.replace(" .", ".")
            self.step("{A} {A.has} {eq} {o} left.", sub(before, y))
        return out, True

    def fraction_event(self) -> tuple[str, bool]:
        s = self.s
        bottom = s.divisor(self.x, 2, 5)
        if not bottom:
            return self.lose()
        top = 1 if s.p(0.8) or bottom == 2 else s.n(1, bottom - 1)
        if (top, bottom) == (2, 4):
            top = 1
        verb = s.pick(["@give {f} of {w} to " + s.person().name, "@sell {f} of {w}", "@lose {f} of {w}", "@give away {f} of {w}"]
                      + (["@eat {f} of {w}"] * 3 if self.edible else ["@use {f} of {w}"]))
        before = self.x
        out = self.vp(verb, f=s.fraction(top, bottom), w=s.pick(["them", "them", "the " + str(self.o), self.a.his + " " + str(self.o)]))
        past = {"g": "gives", "s": "sells", "l": "loses", "e": "eats", "u": "uses"}[verb[1]]
        y = value(s.step("{A} {v} {eq} {o}.", part(before, top, bottom), **self.fields(),
                         v=past if not self.a.first else {"loses": "lose"}.get(past, past[:-1])))
        self.step("{A} {A.has} {eq} {o} left.", sub(before, y))
        return out

    def many_packs(self) -> tuple[str, bool]:
        s = self.s
        k, m = s.n(2, 9), s.pick([s.n(2, 12), s.n(5, 25)])
        c, before = s.pick(lex.CONTAINERS), self.x
        out = self.vp("@buy {k} [more |]{c} [of {m} {o}|with {m} {o} in each|of {o} with {m} in each {c.one}|of {m} {o} each]", k=k, m=m, c=c)
        y = value(s.step("The {c} have {eq} {o}.", mul(k, m), **self.fields(), c=c))
        self.step("{A} {A.has} {eq} {o}.", add(before, y))
        return out

    def each_friend(self) -> tuple[str, bool]:
        s = self.s
        k = s.n(2, 8)
        if self.x < 2 * k + 2:
            return self.lose()
        m = s.n(2, min(12, (self.x - 2) // k))
        before = self.x
        who = s.pick(["friends", "friends", "cousins", "classmates", "neighbors", "kids", "children", "students"])
        out = self.vp("[@give {m} [{o} |]to each of {h} {k} {who}|@give {h} {k} {who} {m} [{o} |]each]",
                      m=m, k=k, h=self.a.his, who=who)
        y = value(s.step("{A} {v} away {eq} {o}.", mul(k, m), **self.fields(), v="give" if self.a.first else "gives"))
        self.step("{A} {A.has} {eq} {o} left.", sub(before, y))
        return out

    def double_event(self) -> tuple[str, bool]:
        s = self.s
        if not s.p(0.4) or self.x > 400:
            return self.gain()
        k, before = s.pick([2, 2, 3]), self.x
        if k == 2 and s.p(0.5):
            out = self.vp("@double {A.his} [collection|number of {o}|{o}]")
            self.step("{A} {A.has} {eq} {o}.", mul(before, 2))
        else:
            out = self.vp("@buy {t} as many more", t=s.times(k))
            y = value(s.step("{A} {v} {eq} more {o}.", mul(before, k), **self.fields(), v="buy" if self.a.first else "buys"))
            self.step("{A} {A.has} {eq} {o}.", add(before, y))
        return out

    # Questions and tails

    def ask_now(self, changed_down: bool) -> None:
        left = "[left|left|now|remaining|in the end|]" if changed_down else "[now|now|in total|altogether|in all|in the end|]"
        if self.s.past and self.s.p(0.4):
            q = "How many {o} did {w} have " + left + "?"
        else:
            q = self.s.pick(["How many {o} {d} {w} have " + left + "?"] * 6 +
                            ["How many {o} are [left|there now]?" if changed_down else "How many {o} {d} {w} have?",
                             "What is the [number|total number] of {o} {w} {h} [now|]?",
                             "Find the number of {o} {w} {h} now.", "How many {d} {w} have " + left + "?"])
        w = self.a if self.s.p(0.35) else self.a.he
        self.s.ask(q, o=self.o, w=w, d=self.a.does, h=self.a.has)
        self.s.question = self.s.question.replace(" ?", "?").replace(" .", ".")

    def tail(self) -> bool:
        kinds = [self.sell_tail, self.sell_tail, self.pack_tail, self.share_tail, self.daily_tail, self.target_tail,
                 self.other_tail, self.other_tail, self.rest_tail, self.left_over_tail]
        return self.s.pick(kinds)()

    def sell_tail(self) -> bool:
        s = self.s
        price = s.price(1, 12, 0.3)
        self.say("[{w} @sell each {o.one} for {p}|[Then |]{w} @sell [all {A.his} {o}|the {o}|them all|all of them|them] for {p} each].",
                 w=self.a.he, p=price)
        s.ask(s.pick(["How much money {d} {w} [make|earn|get]?", "How much money {d} {w} [make|earn|get] [in total|altogether]?",
                      "How [much|many dollars] {d} {w} make [from selling|by selling] the {o}?", "How much {d} {w} earn?"]),
              d="did" if s.past else self.a.does, w=self.a.he, o=self.o)
        s.step("{A} {v} {eq}.", mul(self.x, price), **self.fields(), v="make" if self.a.first else "makes")
        return True

    def pack_tail(self) -> bool:
        s, d = self.s, self.s.divisor(self.x, 2, 25)
        if not d:
            return False
        c = s.pick(lex.CONTAINERS)
        if s.p(0.6):
            self.say("{w} [@put|@pack|@place] [them|the {o}|all the {o}] [in|into] {c} [of {d}|of {d} each|with {d} in each {c.one}|that hold {d} {o} each].",
                     w=self.a.he, c=c, d=d)
            s.ask("How many {c} {do} {w} [need|use|have|fill|get]?", c=c, do="did" if s.past else self.a.does, w=self.a.he)
            s.step("{A} {v} {eq} {c}.", div(self.x, d), A=self.a, c=c, v="use" if self.a.first else "uses")
        else:
            self.say("{w} @put [them|the {o}] [equally |evenly |]into {d} {c}[| with the same number in each].", w=self.a.he, c=c, d=d)
            s.ask("How many {o} [are|go] in each {c.one}?", c=c, o=self.o)
            s.step("Each {c.one} has {eq} {o}.", div(self.x, d), c=c, o=self.o)
        return True

    def share_tail(self) -> bool:
        s, d = self.s, self.s.divisor(self.x, 2, 12)
        if not d:
            return False
        who = s.pick(["friends", "friends", "friends", "kids", "children", "cousins", "students", "classmates", "neighbors"])
        self.say(s.pick(["{w} [@share|@split|@divide] [them|the {o}|all the {o}] [equally|evenly] [among|between] {d} {who}.",
                         "{w} @give them [all |]to {d} {who}[, and each gets the same number| equally]."]), w=self.a.he, d=d, who=who)
        one = {"kids": "kid", "children": "child", "classmates": "classmate"}.get(who, who[:-1])
        s.ask("How many {o} [does|will] each {one} [get|receive]?", o=self.o, one=one)
        s.question = s.question.replace("will each", "does each") if s.past else s.question
        s.step("Each {one} gets {eq} {o}.", div(self.x, d), one=one, o=self.o)
        return True

    def daily_tail(self) -> bool:
        s, d = self.s, self.s.divisor(self.x, 2, 12)
        if not d:
            return False
        verb = "eat" if self.edible else s.pick(["use", "sell", "give away"])
        habit = verb if self.a.first else verb.replace(verb.split()[0], verb.split()[0] + "s", 1)
        if s.p(0.6):
            s.say("[If {w} {v} {d} [{o} |]{per}|{w} {v2} {d} [{o} |]{per}].", w=self.a.he, d=d, o=self.o, per=s.pick(["a day", "each day", "every day", "per day"]),
                  v=habit,
                  v2=habit)
            last = s.facts.pop()
            if last.lower().startswith("if "):
                s.question = s.text(last[:-1] + ", how many days will [they|the {o}] last?", o=self.o)
            else:
                s.facts.append(last)
                s.ask("[How many days will [they|the {o}] last|For how many days will the {o} last]?", o=self.o)
            s.step("The {o} last {eq} days.", div(self.x, d), o=self.o)
        else:
            s.ask("If {w} {v} [all of them|all the {o}] in {d} days, how many {o} {do} {w} {b} [each|per|a] day?", w=self.a.he, d=d, o=self.o, b=verb, do=self.a.does,
                  v=habit)
            s.step("{A} {v} {eq} {o} a day.", div(self.x, d), A=self.a, o=self.o,
                   v=habit)
        return True

    def target_tail(self) -> bool:
        s = self.s
        goal = self.x + s.wide(200)
        s.say("{w} @want [to have|a total of|to collect] {g}[ {o}| {o} in total|].", w=self.a.he, g=goal, o=self.o)
        s.ask("How many more {o} {d} {w} need?", o=self.o, d="did" if s.past and s.p(0.5) else self.a.does, w=self.a.he)
        s.step("{A} {v} {eq} more {o}.", sub(goal, self.x), A=self.a, o=self.o, v="need" if self.a.first else "needs")
        return True

    def other_tail(self) -> bool:
        s, b = self.s, self.s.person(role=0.06)
        kind = s.n(0, 3)
        if kind == 0:
            k = s.pick([2, 2, 3, 4, 5])
            self.say("{B} [has|has] {t} as many {o} as {A}.", B=b, t=s.times(k))
            eq = mul(self.x, k)
        elif kind == 1:
            y = s.wide(60)
            self.say("{B} has {y} more {o} than {A}.", B=b, y=y)
            eq = add(self.x, y)
        elif kind == 2:
            if self.x < 6:
                return False
            y = s.n(2, min(60, self.x - 2))
            self.say("{B} has {y} [fewer|less|fewer] {o} than {A}.", B=b, y=y)
            eq = sub(self.x, y)
        else:
            k = s.divisor(self.x, 2, 4)
            if not k:
                return False
            self.say("{B} has {f} as many {o} as {A}.", B=b, f=s.fraction(1, k))
            eq = div(self.x, k)
        y = value(s.step("{B} has {eq} {o}.", eq, B=b, o=self.o))
        if s.p(0.5):
            s.ask("How many {o} [does|does] {B} have?", o=self.o, B=b)
        elif s.p(0.75):
            s.ask(s.pick(["How many {o} do they have [together|in total|altogether|in all|combined]?",
                          "How many {o} do {A} and {B} have [together|in total|altogether|in all|combined]?",
                          "What is the total number of {o} they have?"]), o=self.o, A=self.a, B=b)
            s.step("Together they have {eq} {o}.", add(self.x, y), o=self.o)
        elif y != self.x:
            more, less = (b, self.a) if y > self.x else (self.a, b)
            if self.a.first or min(self.x, y) < 1:
                return False
            s.ask("How many more {o} does {M} have than {L}?", o=self.o, M=more, L=less)
            s.step("{M} has {eq} more {o}.", sub(max(self.x, y), min(self.x, y)), M=more, o=self.o)
        return bool(s.question)

    def rest_tail(self) -> bool:
        s, bottom = self.s, self.s.divisor(self.x, 2, 5)
        if not bottom:
            return False
        c1 = s.pick(lex.COLORS + ["broken", "old", "small", "big", "new"])
        if self.o.many.split()[0] in lex.ADJECTIVES:
            return False
        top = 1 if bottom in (2, 4) else s.n(1, bottom - 1)
        self.say("{f} of [the {o}|them|{A.his} {o}] [are|are] {c1}.", f=s.fraction(top, bottom), c1=c1)
        y = value(s.step("The number of {c1} {o} is {eq}.", part(self.x, top, bottom), o=self.o, c1=c1))
        if s.p(0.4):
            s.ask("How many {o} are {c1}?", o=self.o, c1=c1)
        else:
            s.ask("How many [{o}|of them|of the {o}] are not {c1}?", o=self.o, c1=c1)
            s.step("The number that are not {c1} is {eq}.", sub(self.x, y), c1=c1)
        return True

    def left_over_tail(self) -> bool:
        s = self.s
        if self.x < 8:
            return False
        d = s.n(3, min(12, self.x // 2))
        full, rest = divmod(self.x, d)
        if not rest or full < 1:
            return False
        c = s.pick(lex.CONTAINERS)
        self.say("{w} @put [them|the {o}] into {c} of {d}.", w=self.a.he, c=c, d=d)
        s.ask("How many {o} are [left over|left|not in a full {c.one}]?", o=self.o, c=c)
        y = s.step("The full {c} hold {eq} {o}.", mul(full, d), c=c, o=self.o)
        s.step("There are {eq} {o} left over.", sub(self.x, y), o=self.o)
        return True


def story(s: Scene) -> None:
    """A head, up to three events, and a question or a tail."""
    t = Story(s)
    t.head()
    heads = len(s.steps)
    count = s.pick([0, 1, 1, 1, 2, 2, 2, 3])
    if count == 0 and heads == 0:
        count = 1
    t.events(count)
    before_tail = len(s.steps)
    if before_tail == 0 or before_tail <= 3 and s.p(0.45):
        facts = list(s.facts)
        for _ in range(4):
            if t.tail():
                return
            s.facts, s.question = list(facts), ""
            del s.steps[before_tail:]
    if before_tail == 0:
        raise ValueError("nothing happened")
    t.ask_now(s.steps[-1].endswith("left."))
    s.answer = num(t.x)


def backward(s: Scene) -> None:
    """What was there before, given what is there after."""
    t = Story(s)
    a, o = t.a, t.o
    end = s.wide(200)
    y = s.wide(100)
    if s.p(0.55):
        verb = s.pick(["giving away", "selling", "losing", "using"] + (["eating"] * 3 if t.edible else []))
        s.say(s.pick(["After {v} {y} {o}, {A} @have {e} [left|{o} left].",
                      "{A} [had|had] some {o}. After {v} {y} of them, {A.he} has {e} left."]), v=verb, y=y, o=o, A=a, e=end)
        eq, start = add(end, y), "[start with|have at first|have in the beginning|have before]"
    else:
        end += y
        s.say(s.pick(["After [buying|getting|finding|receiving] {y} more {o}, {A} has {e}[| {o}].",
                      "{A} had some {o}. [Then |]{A.he} [bought|got|found] {y} more and now {A.he} has {e}."]), y=y, o=o, A=a, e=end)
        eq, start = sub(end, y), "[start with|have at first|have in the beginning|have before]"
    s.ask("How many {o} did {w} " + start + "?", o=o, w=a if s.p(0.5) else a.he)
    if a.first:
        raise ValueError("awkward in the first person")
    s.step("At first {A} had {eq} {o}.", eq, A=a, o=o)


def difference(s: Scene) -> None:
    """How many were lost or gained between two counts."""
    t = Story(s)
    a, o = t.a, t.o
    if a.first:
        raise ValueError("awkward in the first person")
    x, y = s.wide(500), s.wide(200)
    if s.p(0.5):
        s.say(s.pick(["{A} had {x} {o}. After giving some to {B}, {A.he} has {y} left.", "{A} had {x} {o}. {A.he} [lost|sold|used|gave away] some [of them |]and [now |]has {y} left.",
                      "{A} had {x} {o} [yesterday|this morning|last week]. Now {A.he} has {y}."]), A=a, x=x + y, y=y, o=o, B=s.person())
        s.ask("[How many {o} are gone?|How many fewer {o} does {A.he} have now?|How many {o} is {A.he} missing now?]", A=a, o=o)
        s.step("The difference is {eq} {o}.", sub(x + y, y), o=o)
    else:
        s.say(s.pick(["{A} had {x} {o}. [Then |]{A.his} [mom|friend|dad|aunt] gave {A.him} some more[ {o}|]. Now {A.he} has {y} {o}.",
                      "{A} has {x} {o}. {A.he} wants to have {y} {o}."]), A=a, x=x, y=x + y, o=o)
        if "wants" in s.facts[-1]:
            s.ask("How many more {o} does {A.he} need?", A=a, o=o)
            s.step("{A} needs {eq} more {o}.", sub(x + y, x), A=a, o=o)
        else:
            s.ask("How many {o} [did {A.he} get|was {A.he} given]?", A=a, o=o)
            s.step("{A} got {eq} {o}.", sub(x + y, x), A=a, o=o)


FAMILIES = [(story, 26.0), (backward, 1.5), (difference, 1.0)]
