"""Problem families about groups: rows and boxes, classes, animals, buses, sharing, shapes."""

from __future__ import annotations

import lexicon as lex
from arithmetic import add, div, mul, num, part, percent, sub, usd
from phrasing import Scene


def whole(x) -> int:
    return int(num(x).v)


def rows(s: Scene) -> None:
    """Equal groups, and what is then taken away, added or priced."""
    k, m = s.n(2, s.pick([12, 30])), s.n(2, s.pick([12, 40]))
    outer, o = s.pick([("row", "chairs"), ("shelf", "books"), ("table", "students"), ("row", "seats"), ("box", "pencils"), ("floor", "rooms"), ("row", "desks"), ("tree", "birds"),
                       ("garden", "flowers"), ("page", "stickers"), ("bus", "students"), ("team", "players"), ("classroom", "students"), ("aquarium", "fish"), ("bag", "marbles"), ("vase", "roses"),
                       ("shelf", "jars"), ("row", "trees"), ("album", "photos"), ("case", "bottles"), ("van", "people"), ("building", "apartments"), ("tray", "cupcakes"), ("field", "cows"),
                       ("train car", "passengers"), ("row", "plants"), ("drawer", "shirts"), ("page", "pictures"), ("pizza", "slices"), ("spider", "legs"), ("hour", "customers"), ("basket", "eggs")])
    c = lex.noun(outer)
    place = s.pick(["", "In a room, ", "At a school, ", "In a hall, ", "In a store, ", ""]) if outer in ("row", "shelf", "table", "box", "case", "tray") else ""
    s.say(place + s.pick(["there are {k} {c}[| and each {c.one} has {m} {o}| with {m} {o} each| with {m} {o} in each {c.one}]. [Each|Every] {c.one} has {m} {o}.", "there are {k} {c} with {m} {o} [each|in each {c.one}].",
                          "each {c.one} has {m} {o}. There are {k} {c}.", "there are {m} {o} [in|on] each of {k} {c}."]).replace(
        "[| and each {c.one} has {m} {o}| with {m} {o} each| with {m} {o} in each {c.one}]", ""), k=k, m=m, c=c, o=o)
    total = whole(s.step("There are {eq} {o}.", mul(k, m), o=o))
    kind = s.n(0, 5)
    if kind <= 1:
        s.ask("[How many {o} are there [in total|altogether|in all|]|What is the total number of {o}|How many total {o} are there]?", o=o)
        s.question = s.question.replace(" ?", "?")
    elif kind == 2:
        y = s.n(1, max(1, min(total - 1, s.pick([20, total]))))
        why = {"students": "are absent", "chairs": "are broken", "seats": "are empty", "books": "are checked out", "flowers": "are picked", "birds": "fly away", "players": "are injured", "people": "get off",
               "passengers": "get off", "cows": "are sold", "eggs": "are broken", "rooms": "are empty", "slices": "are eaten", "plants": "die", "trees": "are cut down"}.get(o, "are sold" if s.p(0.5) else "are taken away")
        s.say(s.pick(["{y} of [them|the {o}] {why}.", "{y} {o} {why}."]), y=y, o=o, why=why)
        s.ask("[How many {o} are left|How many {o} remain|How many are left|How many {o} are not {w}]?".replace("|How many {o} are not {w}", "|How many {o} are not " + why[4:] if why.startswith("are ") else ""), o=o)
        s.step("There are {eq} {o} left.", sub(total, y), o=o)
    elif kind == 3:
        y = s.wide(60)
        s.say("[There are also {y} more {o}[| elsewhere]|{y} more {o} are added|Then {y} more {o} [come|are brought]].", y=y, o=o)
        s.ask("How many {o} are there [in total|altogether|in all|now]?", o=o)
        s.step("In total there are {eq} {o}.", add(total, y), o=o)
    elif kind == 4:
        k2, m2 = s.n(2, 12), s.n(2, 12)
        c2 = s.pick(lex.CONTAINERS)
        s.say("There are also {k} {c} with {m} {o} each.", k=k2, m=m2, c=c2, o=o)
        s.ask("How many {o} are there [in total|altogether|in all]?", o=o)
        t = s.step("The {c} have {eq} {o}.", mul(k2, m2), c=c2, o=o)
        s.step("In total there are {eq} {o}.", add(total, t), o=o)
    else:
        p = s.price(1, 9, 0.2)
        if o not in ("pencils", "books", "flowers", "marbles", "roses", "jars", "bottles", "cupcakes", "plants", "eggs", "shirts", "seats", "chairs", "desks", "trees", "slices", "stickers"):
            raise ValueError("not for sale")
        s.say("[Each|One] {one} [costs|sells for|is worth] {p}.", one=o[:-1] if not o.endswith("ches") else o[:-2], p=p)
        s.ask("How much [are all the {o} worth|do all the {o} cost|is it in total]?", o=o)
        s.step("The {o} cost {eq}.", mul(total, p), o=o)


def classroom(s: Scene) -> None:
    kind = s.n(0, 6)
    group = s.pick(["class", "school", "club", "choir", "camp", "grade", "group"])
    b, g = s.wide(40), s.wide(40)
    if s.p(0.2):
        b, g = s.n(50, 400), s.n(50, 400)
    n1, n2 = s.pick([("boys", "girls"), ("girls", "boys"), ("men", "women"), ("adults", "children"), ("teachers", "students")])
    if kind == 0:
        s.say("[There are {b} {x} and {g} {y} in a {c}|A {c} has {b} {x} and {g} {y}].", b=b, g=g, x=n1, y=n2, c=group)
        t = whole(s.step("There are {eq} people.", add(b, g)))
        if s.p(0.4):
            s.ask("How many [people|members] are [there|in the {c}][ in total| altogether|]?", c=group)
        else:
            d = s.divisor(t, 2, 10)
            if not d:
                raise ValueError("no equal groups")
            if s.p(0.5):
                s.say("[They are|The teacher] [divided|split] into [teams|groups] of {d}." .replace("[They are|The teacher]", "They are"), d=d)
                s.ask("How many [teams|groups] are there?")
                s.step("There are {eq} groups.", div(t, d))
            else:
                s.say("They [form|make] {d} equal [teams|groups].", d=d)
                s.ask("How many people are in each [team|group]?")
                s.step("Each group has {eq} people.", div(t, d))
    elif kind == 1:
        s.say("[There are {t} [students|people] in a {c}|A {c} has {t} [students|members]]. {b} [of them |]are {x}[| and the rest are {y}].", t=b + g, b=b, x=n1, y=n2, c=group)
        s.ask("How many are {y}?" if s.p(0.5) else "How many {y} are there?", y=n2)
        s.step("There are {eq} {y}.", sub(b + g, b), y=n2)
    elif kind == 2:
        bottom = s.pick([2, 3, 4, 5])
        top = s.n(1, bottom - 1) if bottom in (3, 5) else s.pick([1, bottom - 1])
        t = bottom * s.wide(60)
        s.say("[There are {t} [students|people|children] in a {c}|A {c} has {t} [students|members]]. {f} of [them|the {c}] are {x}.", t=t, c=group, f=s.fraction(top, bottom), x=n1)
        y = s.step("There are {eq} {x}.", part(t, top, bottom), x=n1)
        if s.p(0.65):
            s.ask("How many {y} are there?" if s.p(0.5) else "How many are not {x}?", y=n2, x=n1)
            s.facts[-1] = s.facts[-1][:-1] + f" and the rest are {n2}." if "How many " + n2 in s.question else s.facts[-1]
            s.step("The rest are {eq}.", sub(t, y))
        else:
            s.ask("How many {x} are there?", x=n1)
    elif kind == 3:
        pc, t = s.pick([10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 5, 15, 35, 45]), s.pick([20, 40, 60, 80, 100, 120, 200, 300, 400, 500, 20 * s.n(1, 30)])
        what = s.pick(["are " + n1, "walk to school", "like pizza", "play " + s.pick(lex.SPORTS), "wear glasses", "have a pet", "ride the bus", "passed the test", "are absent", "play an instrument", "eat lunch at school"])
        s.say("[There are {t} students in a {c}|A {c} has {t} students]. {p}% of [them|the students] {w}.", t=t, c=group, p=str(pc), w=what)
        y = s.step("The number is {eq} students.", percent(t, pc))
        if s.p(0.45):
            s.ask("How many students {w}?" if s.p(0.7) else "How many is that?", w=what)
        else:
            neg = what.replace("are ", "are not ") if what.startswith("are") else "did not pass the test" if what.startswith("passed") else "do not " + what
            s.ask("How many [students |]{w}?", w=neg)
            s.step("The others are {eq} students.", sub(t, y))
    elif kind == 4:
        k, m = s.n(2, 12), s.n(15, 35)
        s.say("A school has {k} classes with {m} students each.", k=k, m=m)
        t = whole(s.step("There are {eq} students.", mul(k, m)))
        y = s.n(2, t - 2)
        s.say(s.pick(["{y} [of the students|students|of them] are {x}.", "{y} students [are absent|go on a trip|play sports]."]), y=y, x="girls" if s.p(0.5) else "boys")
        word = s.facts[-1].rstrip(".").split(" are ")[-1] if " are " in s.facts[-1] else ""
        s.ask("How many are not {w}?" if word else "How many students do not?", w=word)
        if not word:
            raise ValueError("awkward question")
        s.step("The others are {eq} students.", sub(t, y))
    elif kind == 5:
        k = s.pick([2, 3, 4])
        s.say("[There are {t} as many {x} as {y} in a {c}|A {c} has {t} as many {x} as {y}]. There are {g} {y}.", t=s.times(k), x=n1, y=n2, c=group, g=g)
        y = s.step("There are {eq} {x}.", mul(g, k), x=n1)
        s.ask("How many [people|members|students] are there [in total|altogether|in the {c}|in all]?" if s.p(0.7) else "What is the total number of people in the {c}?", c=group)
        s.step("The total is {eq} people.", add(g, y))
    else:
        more = s.wide(20)
        s.say("[There are {g} {y} in a {c}|A {c} has {g} {y}]. There are {m} more {x} than {y}.", g=g, y=n2, x=n1, c=group, m=more)
        y = s.step("There are {eq} {x}.", add(g, more), x=n1)
        if s.p(0.3):
            s.ask("How many {x} are there?", x=n1)
        else:
            s.ask("How many [people|students|members] are there [in total|altogether|in all]?")
            s.step("The total is {eq} people.", add(g, y))


def passengers(s: Scene) -> None:
    where, x = s.pick(["bus", "train", "ferry", "subway car", "plane", "boat"]), s.n(8, 90)
    s.say("[A {w} [starts with|has] {x} [people|passengers] [on board|on it]|There are {x} [people|passengers] on a {w}].", w=where, x=x)
    cur = x
    for i in range(s.pick([1, 2, 2, 3])):
        stop = s.text("[At the {n} stop, |]" if i else "[At the {n} stop, |At a stop, |]", n=["first", "next", "third"][i] if s.p(0.8) else "next")
        y, z = s.n(2, max(2, min(30, cur - 1))), s.n(2, 30)
        u = s.n(0, 2)
        if u == 0 and cur > y:
            s.say(stop + "{y} [people |]get off and {z} [more |people |]get on.", y=y, z=z)
            t = s.step("There are {eq} people.", sub(cur, y))
            cur = whole(s.step("There are {eq} people.", add(t, z)))
        elif u == 1 and cur > y:
            s.say(stop + "{y} [people|passengers] get off.", y=y)
            cur = whole(s.step("There are {eq} people.", sub(cur, y)))
        else:
            s.say(stop + "{z} [more |]people get on.", z=z)
            cur = whole(s.step("There are {eq} people.", add(cur, z)))
    s.ask("How many [people|passengers] are [on the {w} now|on the {w}|left on the {w}|there now]?", w=where)


def legs(s: Scene) -> None:
    pool = [("cow", 4), ("chicken", 2), ("sheep", 4), ("horse", 4), ("duck", 2), ("spider", 8), ("dog", 4), ("goat", 4), ("pig", 4), ("ant", 6), ("cat", 4), ("turkey", 2), ("bee", 6), ("goose", 2), ("rabbit", 4)]
    wheels = [("car", 4), ("bike", 2), ("bicycle", 2), ("tricycle", 3), ("motorcycle", 2), ("truck", 6), ("wagon", 4), ("unicycle", 1), ("scooter", 2), ("van", 4)]
    what, source, place = s.pick([("legs", pool, "on a farm"), ("legs", pool, "in a barn"), ("wheels", wheels, "in a parking lot"), ("wheels", wheels, "in a garage"), ("wheels", wheels, "in a shop")])
    kinds = s.r.sample(source, s.pick([1, 2, 2, 3]))
    held = [(lex.noun(w), v, s.n(2, 25)) for w, v in kinds]
    parts = [s.text("{k} {c}", k=k, c=c) for c, _, k in held]
    listing = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
    s.say(s.pick(["[There are|There are] " + listing + " " + place + ".", "{A} @have " + listing + ".", "{A} @see " + listing + " " + place + "."]), A=s.person())
    if s.p(0.3):
        for c, v, _ in held:
            s.say("[Each|A|Every] {c.one} has {v} {w}.", c=c, v=v, w=what if v > 1 else what[:-1])
    s.ask("How many {w} [are there|do they have|is that] [in total|altogether|in all]?", w=what)
    values = [s.step("The {c} have {eq} {w}.", mul(k, v), c=c, w=what) for c, v, k in held]
    if len(values) > 1:
        s.step("In total there are {eq} {w}.", add(*values), w=what)


def packing(s: Scene) -> None:
    """Sharing or packing with a remainder, or just enough boxes."""
    o, c = s.thing(), s.pick(lex.CONTAINERS)
    d, full = s.n(3, 12), s.n(2, 20)
    rest = s.n(1, d - 1)
    x = d * full + rest
    a = s.person(first=0.05)
    kind = s.n(0, 3)
    if kind == 0:
        s.say("{A} @have {x} {o}[. A {c.one} holds {d} {o}|. {A.he} @put {d} {o} in each {c.one}|. {A.he} @pack them into {c} of {d}].", A=a, x=x, o=o, c=c, d=d)
        u = s.n(0, 1)
        if u:
            s.ask("How many {o} are left over[| after filling as many {c} as possible]?", o=o, c=c)
            t = s.step("The full {c} hold {eq} {o}.", mul(full, d), c=c, o=o)
            s.step("There are {eq} {o} left over.", sub(x, t), o=o)
        else:
            s.ask("How many {c} [can {w} fill completely|are full]?", c=c, w=a.he)
            t = s.step("There are {eq} {o} left over.", sub(x, d * full), o=o)
            y = s.step("The full {c} hold {eq} {o}.", sub(x, t), c=c, o=o)
            s.step("There are {eq} full {c}.", div(y, d), c=c)
    elif kind == 1:
        who = s.pick(["friends", "kids", "children", "students"])
        s.say("{A} @share {x} {o} equally among {d} {who}.", A=a, x=x, o=o, d=d, who=who)
        s.ask("How many {o} are left over?", o=o)
        t = s.step("The {who} get {eq} {o}.", mul(d, full), who=who, o=o)
        s.step("There are {eq} {o} left over.", sub(x, t), o=o)
    elif kind == 2:
        s.say("{A} [@have|@need to pack] {x} {o}. [Each|One|A] {c.one} holds {d} {o}.", A=a, x=d * full, o=o, c=c, d=d)
        s.ask("How many {c} {v} {w} need?", c=c, w=a.he, v=a.does)
        s.step("{A} {v} {eq} {c}.", div(d * full, d), A=a, c=c, v="need" if a.first else "needs")
    else:
        who, v, h = s.pick([("students", "van", "holds"), ("people", "boat", "holds"), ("students", "bus", "holds"), ("guests", "table", "seats"), ("campers", "tent", "sleeps"), ("children", "bench", "seats")])
        c = lex.noun(v)
        staff = s.p(0.4)
        total = d * full
        if staff:
            y = s.n(1, total - 1)
            s.say("[There are|A trip has] {x} {who} and {y} [teachers|adults]. [Each|A|One] {c.one} {h} {d} people.", x=total - y, who=who, y=y, c=c, h=h, d=d)
            s.step("There are {eq} people.", add(total - y, y))
        else:
            s.say("[There are|A group has] {x} {who}. [Each|A|One] {c.one} {h} {d} [people|{who}].", x=total, who=who, c=c, h=h, d=d)
        s.ask("How many {c} [are needed|do they need|are needed for everyone]?", c=c)
        s.step("They need {eq} {c}.", div(total, d), c=c)


def harvest(s: Scene) -> None:
    """Trees, hens, plants, each giving some amount."""
    src, out, verb = s.pick([("hen", "eggs", "lays"), ("chicken", "eggs", "lays"), ("apple tree", "apples", "gives"), ("tree", "oranges", "produces"), ("cow", "liters of milk", "gives"), ("plant", "tomatoes", "has"), ("orange tree", "oranges", "gives"),
                             ("bush", "berries", "has"), ("rose bush", "roses", "has"), ("beehive", "jars of honey", "gives"), ("duck", "eggs", "lays"), ("vine", "pumpkins", "has"), ("field", "melons", "gives")])
    c = lex.Noun(src, "bushes" if src == "bush" else "rose bushes" if src == "rose bush" else src + "s")
    k, m, a = s.n(2, 40), s.n(2, 20), s.person(first=0.05, role=0.3)
    daily = verb in ("lays",) or out.startswith("liters")
    s.say(s.pick(["{A} @have {k} {c}. Each {c.one} {v} {m} {o}", "{A} @have {k} {c} and each [one |]{v} {m} {o}"]) + (" [a|per|each|every] day." if daily else "."), A=a, k=k, c=c, v=verb, m=m, o=out)
    t = whole(s.step("The {c} give {eq} {o}" + (" a day." if daily else "."), mul(k, m), c=c, o=out))
    kind = s.n(0, 3)
    if kind == 0 or (kind == 1 and not daily):
        s.ask(("How many {o} {d} {w} get [each|per|a] day?" if daily else "How many {o} are there [in total|altogether|in all]?"), o=out, d=a.does, w=a.he)
    elif kind == 1:
        w = s.n(2, 10)
        week = s.p(0.4)
        s.ask("How many {o} {d} {w} get in " + ("a week?" if week else "{n} days?"), o=out, d=a.does, w=a.he, n=w)
        s.step("In {n} days that is {eq} {o}.", mul(t, 7 if week else w), n=7 if week else w, o=out)
    elif kind == 2:
        y = s.n(1, max(1, t - 1))
        s.say("{A} [@use|@eat|@keep|@give away] {y} {o}[| and @sell the rest]" + (" [each|every] day." if daily else "."), A=a.he, y=y, o=out)
        left = s.step("{A} {A.has} {eq} {o} left" + (" each day." if daily else "."), sub(t, y), A=a, o=out)
        if "rest" in s.facts[-1] or "sell" in s.facts[-1] or "sold" in s.facts[-1]:
            p = s.price(1, 6, 0.3)
            s.facts[-1] = s.facts[-1].replace("the rest", s.text("the rest for {p} each", p=p))
            s.ask("How much [money |]{d} {w} [make|earn]" + (" [each|per|every] day?" if daily else "?"), d=a.does, w=a.he)
            s.step("{A} {v} {eq}.", mul(left, p), A=a, v="make" if a.first else "makes")
        else:
            s.ask("How many {o} are left" + (" each day?" if daily else "?"), o=out)
    else:
        d = s.divisor(t, 2, 12)
        if not d:
            raise ValueError("no equal boxes")
        b = s.pick(lex.CONTAINERS)
        s.say("{A} @put them in {b} of {d}.", A=a.he, b=b, d=d)
        s.ask("How many {b} {v} {w} need" + (" each day?" if daily else "?"), b=b, v=a.does, w=a.he)
        s.step("{A} {v} {eq} {b}.", div(t, d), A=a, b=b, v="need" if a.first else "needs")


def pizza(s: Scene) -> None:
    k, m, each = s.n(2, 9), s.pick([6, 8, 10, 12, 4]), s.n(2, 5)
    thing, piece = s.pick([("pizza", "slices"), ("cake", "slices"), ("pie", "pieces"), ("pizza", "pieces"), ("chocolate bar", "pieces"), ("loaf of bread", "slices")])
    c = lex.noun(thing)
    s.say("{A} @order {k} {c}. [Each|Every] [one|{c.one}] [is cut into|has] {m} {p}." if s.p(0.6) else "{A} [@have|@buy] {k} {c} with {m} {p} each.", A=s.person(), k=k, c=c, m=m, p=piece)
    t = whole(s.step("There are {eq} {p}.", mul(k, m), p=piece))
    u = s.n(0, 3)
    if u == 0:
        s.ask("How many {p} are there [in total|altogether|in all]?", p=piece)
    elif u == 1:
        n = s.n(2, 10)
        if n * each >= t:
            raise ValueError("not enough")
        s.say("{n} [friends|people|kids] each eat {e} {p}." if s.p(0.5) else "{n} [friends|people|kids] eat {e} {p} each.", n=n, e=each, p=piece)
        s.ask("How many {p} are left?", p=piece)
        y = s.step("They eat {eq} {p}.", mul(n, each), p=piece)
        s.step("There are {eq} {p} left.", sub(t, y), p=piece)
    elif u == 2:
        d = s.divisor(t, 2, 12)
        if not d:
            raise ValueError("no equal shares")
        s.say("{d} [friends|people|kids] share them equally.", d=d)
        s.ask("How many {p} does each [person|one] get?", p=piece)
        s.step("Each gets {eq} {p}.", div(t, d), p=piece)
    else:
        y = s.n(2, t - 1)
        s.say("{y} {p} [are eaten|were eaten|are gone].", y=y, p=piece)
        s.ask("How many {p} are left?", p=piece)
        s.step("There are {eq} {p} left.", sub(t, y), p=piece)


def shapes(s: Scene) -> None:
    l, w = s.n(3, 60), s.n(2, 40)
    unit, thing = s.pick(["feet", "meters", "inches", "centimeters", "yards"]), s.pick(["garden", "field", "room", "rectangle", "yard", "poster", "park", "pool", "carpet", "wall"])
    kind = s.n(0, 4)
    if kind == 0:
        s.say("A [rectangular |]{t} is {l} {u} long and {w} {u} wide." if s.p(0.6) else "The length of a {t} is {l} {u} and the width is {w} {u}.", t=thing, l=l, u=unit, w=w)
        s.ask("What is [its|the] perimeter?" if s.p(0.6) else "How many {u} of fence [are needed to go|go] around it?", u=unit)
        t = s.step("Length plus width is {eq} {u}.", add(l, w), u=unit)
        s.step("The perimeter is {eq} {u}.", mul(2, t), u=unit)
    elif kind == 1:
        s.say("A [rectangular |]{t} is {l} {u} long and {w} {u} wide." if s.p(0.6) else "The length of a {t} is {l} {u} and the width is {w} {u}.", t=thing, l=l, u=unit, w=w)
        s.ask("What is [its|the] area[| in square {u}]?", u=unit)
        t = s.step("The area is {eq} square {u}.", mul(l, w), u=unit)
        if s.p(0.35):
            p = usd(s.n(2, 9))
            s.question = s.text("[Carpet|Paint|Grass|Tile] costs {p} per square {one}. How much does it cost to cover the {t}?", p=p, one={"feet": "foot", "inches": "inch"}.get(unit, unit[:-1]), t=thing)
            if t.v > 999:
                raise ValueError("too large")
            s.step("The cost is {eq}.", mul(t, p))
    elif kind == 2:
        s.say("A square [{t} |]has [sides of|a side of] {l} {u}.", t=thing if thing != "rectangle" else "box", l=l, u=unit)
        if s.p(0.5):
            s.ask("What is [its|the] perimeter?")
            s.step("The perimeter is {eq} {u}.", mul(4, l), u=unit)
        else:
            s.ask("What is [its|the] area?")
            s.step("The area is {eq} square {u}.", mul(l, l), u=unit)
    elif kind == 3:
        k = s.pick([2, 3, 4])
        s.say("A {t} is {w} {u} wide. Its length is {k} its width.", t=thing, w=w, u=unit, k=s.times(k))
        y = s.step("The length is {eq} {u}.", mul(w, k), u=unit)
        s.ask("What is [its|the] perimeter?")
        t = s.step("Length plus width is {eq} {u}.", add(y, w), u=unit)
        s.step("The perimeter is {eq} {u}.", mul(2, t), u=unit)
    else:
        x, cut = s.n(2, 12), s.n(2, 15)
        thing = s.pick(["rope", "ribbon", "board", "string", "pipe", "wire"])
        s.say("[A|{A} @have a] {t} [is|of] {x} {u}[ long|].".replace("[A|{A} @have a] {t} [is|of] {x} {u}[ long|]", s.pick(["A {t} is {x} {u} long", "{A} @have {x} {u} of {t}"])), A=s.person(), t=thing, x=x * cut, u=unit)
        s.say("It is cut into [pieces of {c} {u}|pieces that are {c} {u} long].", c=cut, u=unit)
        s.ask("How many pieces are there?")
        s.step("There are {eq} pieces.", div(x * cut, cut))


def stock(s: Scene) -> None:
    """Sold, borrowed, delivered: a place's inventory over days."""
    place, o, out, back = s.pick([("library", "books", "lends out", "get returned"), ("store", s.thing().many, "sells", "are delivered"), ("bakery", s.thing(lex.FOOD, adjective=0).many, "sells", "are baked"), ("shop", s.thing().many, "sells", "are delivered"),
                                  ("pet store", s.thing(lex.ANIMALS, adjective=0).many, "sells", "arrive"), ("toy store", "toys", "sells", "are delivered"), ("farm", s.thing(lex.ANIMALS, adjective=0).many, "sells", "are born"), ("warehouse", "boxes", "ships", "arrive"), ("parking lot", "cars", "", "")])
    x = s.wide(2000) + 10
    if place == "parking lot":
        y, z = s.n(2, x - 2), s.wide(100)
        s.say("There are {x} cars in a parking lot. {y} [cars |]leave and {z} [more |]cars arrive." if s.p(0.6) else "A parking lot has {x} cars. Then {z} more come in and {y} go out.", x=x, y=y, z=z)
        s.ask("How many cars are [there now|in the parking lot|in the lot now]?")
        t = s.step("There are {eq} cars.", sub(x, y))
        s.step("There are {eq} cars.", add(t, z))
        return
    s.say("[A|The] {p} [has|starts with|had] {x} {o}[|| at the start of the day].", p=place, x=x, o=o)
    cur = x
    for d in s.r.sample(["in the morning", "in the afternoon", "on Monday", "on Tuesday", "on Friday", "today", "the next day"], s.pick([1, 2, 2])):
        if s.p(0.7) and cur > 4:
            y = s.n(2, cur - 2)
            s.say("[It {out} {y} {o} {d}|It {out} {y} {d}|{D}, it {out} {y} {o}].", out=out, y=y, o=o, d=d, D=d.capitalize())
            cur = whole(s.step("There are {eq} {o} left.", sub(cur, y), o=o))
        else:
            y = s.wide(300)
            s.say("[{y} more {o} {back} {d}|{D}, {y} more {o} {back}|Then {y} more {o} {back}].", back=back, y=y, o=o, d=d, D=d.capitalize())
            cur = whole(s.step("There are {eq} {o}.", add(cur, y), o=o))
    if s.p(0.2) and cur >= 6:
        bottom = s.divisor(cur, 2, 5)
        if bottom:
            s.say("Then {f} of [them|the rest|the remaining {o}] [are|get] damaged.", f=s.fraction(1, bottom), o=o)
            t = s.step("The damaged {o} are {eq}.", part(cur, 1, bottom), o=o)
            s.step("There are {eq} {o} left.", sub(cur, t), o=o)
            s.ask("How many [good |undamaged |]{o} are left?", o=o)
            return
    s.ask("How many {o} [are left|are there now|does the {p} have now|does the {p} have left|are in the {p} now]?", o=o, p=place)


def kinds(s: Scene) -> None:
    """Parts of a whole: colours, types, what the rest must be."""
    o = s.thing(adjective=0.0)
    c = s.r.sample(lex.COLORS, 3)
    x, y, z = s.wide(60), s.wide(60), s.wide(60)
    who = s.pick(["{A} @have", "There are", "A [box|bag|jar|basket|drawer|shop] has"])
    who = s.text(who, A=s.person(first=0.05))
    kind = s.n(0, 4)
    if kind == 0:
        s.say("{who} {t} {o}. {x} [of them |]are {a}, {y} are {b}[, and| and] the rest are {c}.", who=who, t=x + y + z, o=o, x=x, y=y, a=c[0], b=c[1], c=c[2])
        s.ask("How many [{o}|of them|] are {c}?" if s.p(0.6) else "How many {c} {o} are there?", o=o, c=c[2])
        s.question = s.question.replace("  ", " ")
        t = s.step("The {a} and {b} {o} are {eq}.", add(x, y), a=c[0], b=c[1], o=o)
        s.step("The {c} {o} are {eq}.", sub(x + y + z, t), c=c[2], o=o)
    elif kind == 1:
        s.say("{who} {x} {a} {o}, {y} {b} {o}[, and| and] {z} {c} [{o}|ones].", who=who, o=o, x=x, y=y, z=z, a=c[0], b=c[1], c=c[2])
        s.ask("How many {o} [are there|is that] [in total|altogether|in all]?", o=o)
        s.step("The total is {eq} {o}.", add(x, y, z), o=o)
    elif kind == 2:
        m = s.wide(20)
        s.say("{who} {x} {a} {o}. There are {m} more {b} {o} than {a} [{o}|ones].", who=who, o=o, x=x, m=m, a=c[0], b=c[1])
        t = s.step("There are {eq} {b} {o}.", add(x, m), b=c[1], o=o)
        s.ask("How many {o} are there [in total|altogether|in all]?", o=o)
        s.step("The total is {eq} {o}.", add(x, t), o=o)
    elif kind == 3:
        k = s.pick([2, 3, 4, 5])
        s.say("{who} {x} {a} {o} and {t} as many {b} [{o}|ones].", who=who, o=o, x=x, t=s.times(k), a=c[0], b=c[1])
        t = s.step("There are {eq} {b} {o}.", mul(x, k), b=c[1], o=o)
        s.ask("How many {o} are there [in total|altogether|in all]?", o=o)
        s.step("The total is {eq} {o}.", add(x, t), o=o)
    else:
        bottom = s.pick([2, 3, 4, 5])
        t = bottom * s.wide(40)
        half = t // bottom
        rest = t - half
        y = s.n(1, max(1, rest - 1))
        s.say("{who} {t} {o}. {f} of [them|the {o}] are {a}, {y} are {b}[, and| and] the rest are {c}.", who=who, t=t, o=o, f=s.fraction(1, bottom), y=y, a=c[0], b=c[1], c=c[2])
        s.ask("How many {o} are {c}?" if s.p(0.6) else "How many {c} {o} are there?", o=o, c=c[2])
        u = s.step("There are {eq} {a} {o}.", part(t, 1, bottom), a=c[0], o=o)
        v = s.step("The {a} and {b} {o} are {eq}.", add(u, y), a=c[0], b=c[1], o=o)
        s.step("The {c} {o} are {eq}.", sub(t, v), c=c[2], o=o)


FAMILIES = [(rows, 4.0), (classroom, 3.0), (passengers, 1.0), (legs, 1.2), (packing, 2.0), (harvest, 1.8), (pizza, 1.2), (shapes, 1.5), (stock, 1.8), (kinds, 1.8)]
