"""Short problems in the wording people type by hand: one or two relations, many situations."""

from __future__ import annotations

import lexicon as lex
from arithmetic import add, div, mul, num, part, percent, sub, usd
from phrasing import Scene


def whole(x) -> int:
    return int(num(x).v)


def _v(a, base: str) -> str:
    """The present tense of a verb for person a."""
    if a.first:
        return base
    return lex.VERBS[base][0] if base in lex.VERBS else base + ("es" if base.endswith(("sh", "ch", "s", "x")) else "s")


GROUPS = [("trees", "in the park", "plant", "are cut down"), ("trees", "in a garden", "plant", "are cut down"), ("flowers", "in the garden", "plant", "die"), ("books", "on the shelf", "put", "are borrowed"),
          ("cars", "in the parking lot", "park", "leave"), ("birds", "on a fence", "", "fly away"), ("birds", "in a tree", "", "fly away"), ("fish", "in the tank", "add", "are sold"), ("people", "in line", "", "leave"),
          ("students", "in a class", "", "leave"), ("children", "on the bus", "", "get off"), ("kids", "at the playground", "", "go home"), ("eggs", "in the fridge", "put", "are used"), ("apples", "in a basket", "put", "are eaten"),
          ("ducks", "in a pond", "", "swim away"), ("computers", "in the server room", "install", "are removed"), ("chairs", "in the room", "bring", "are taken away"), ("guests", "at a party", "", "go home"), ("pencils", "in a drawer", "put", "are taken out"),
          ("toys", "in the box", "put", "are taken out"), ("cookies", "in a jar", "put", "are eaten"), ("players", "on a field", "", "leave"), ("frogs", "on a log", "", "jump off"), ("boats", "in the harbor", "", "leave"), ("balls", "in a bag", "put", "are lost"),
          ("oranges", "in a bowl", "put", "are eaten"), ("dogs", "at the shelter", "bring", "are adopted"), ("cats", "at the shelter", "bring", "are adopted"), ("passengers", "on a plane", "", "get off"), ("houses", "on a street", "build", "are torn down")]


def place_story(s: Scene) -> None:
    """Things in a place: more come, some go."""
    o, where, verb, gone = s.pick(GROUPS)
    x = cur = s.wide(100) + 3
    was = s.pick(["There are", "There were", "There are"])
    s.say(s.pick(["{be} {x} {o} {w}.", "{be} {x} {o} {w}[| this morning| at first| today].", "{W} there are {x} {o}."]), be=was, x=x, o=o, w=where, W=where.capitalize())
    workers = s.pick(["workers", "people", "students", "volunteers", "they", "some kids", "my parents", str(s.person(role=0)) + " and " + str(s.person(role=0))])
    when = s.r.sample(["today", "tomorrow", "on Monday", "on Friday", "later", "the next day", "in the afternoon", "in the evening"], 2)
    for i in range(s.pick([1, 1, 2, 2])):
        if s.p(0.55) or cur < 6:
            y = s.wide(50)
            if verb and s.p(0.6):
                if s.p(0.3):
                    z = s.wide(30)
                    s.say("{W} {v} {y} more {d} and {z} more {e}." if s.p(0.5) else "{W} will {v} {y} more {d} and {z} [more |]{e}.", W=workers, v=verb, y=y, z=z, d=when[0], e=when[1])
                    cur = whole(s.step("There are {eq} {o}.", add(cur, y), o=o))
                    cur = whole(s.step("There are {eq} {o}.", add(cur, z), o=o))
                    break
                s.say("{W} &{v} {y} [more|more {o}] [{d}|there|].".replace("&{v}", "&" + verb), W=workers, y=y, o=o, d=when[i])
                s.facts[-1] = s.facts[-1].replace(" .", ".")
            else:
                s.say("[{y} more {o} come[| {d}]|{y} more {o} arrive|then {y} more come|{y} more {o} are added|{y} join them].", y=y, o=o, d=when[i])
            cur = whole(s.step("There are {eq} {o}.", add(cur, y), o=o))
        else:
            y = s.n(2, cur - 2)
            s.say("[{y} {o} {g}|{y} of them {g}|then {y} {g}|then {y} of the {o} {g}][| {d}].", y=y, o=o, g=gone, d=when[i])
            cur = whole(s.step("There are {eq} {o} left.", sub(cur, y), o=o))
    s.ask(s.pick(["How many {o} are [there now|left|{w} now|now {w}|there]?", "How many {o} will there be[| {w}| in total| then]?", "How many {o} are there in the end?", "How many {o} [remain|are there] {w}?", "How many {o} are there [now|altogether]?"]), o=o, w=where)


def pooled(s: Scene) -> None:
    """Two people put things together and then lose, eat, sell or share some."""
    a = s.person(role=0.03)
    rel = s.p(0.5)
    b = f"{a.his} {s.pick(['sister', 'brother', 'mom', 'dad', 'friend', 'cousin'])}" if rel else str(s.person(role=0.03))
    o, x, y = s.thing(), s.wide(100), s.wide(100)
    s.say(s.pick(["{A} has {x} {o} and {B} has {y}[| {o}].", "{A} had {x} {o} and {B} had {y}[| {o}].", "{A} has {x} {o}. {B} has {y}[| {o}]."]), A=a, B=b, x=x, y=y, o=o)
    t = whole(s.step("Together they have {eq} {o}.", add(x, y), o=o))
    u = s.n(0, 4)
    if u == 0:
        s.ask("How many {o} do they have [together|in total|altogether|in all]?", o=o)
    elif u <= 2:
        z = s.n(2, t - 2)
        verb = s.pick(["eat", "ate", "lose", "lost", "sell", "sold", "give away", "gave away", "use", "used"])
        if s.p(0.5):
            s.ask("If they {v} {z}[| of them| {o}], how many [{o}|pieces|] do they have left[| in total| altogether]?".replace("|pieces|", "|"), v=verb, z=z, o=o)
        else:
            s.say("They {v} {z}[| of them| {o}].", v=verb, z=z, o=o)
            s.ask("How many {o} [are left|do they have left|do they have now]?", o=o)
        s.question = s.question.replace("  ", " ")
        s.step("They have {eq} {o} left.", sub(t, z), o=o)
    elif u == 3:
        z = s.wide(50)
        s.say("[They|Then they] [buy|find|get|bought|found] {z} more[| {o}].", z=z, o=o)
        s.ask("How many {o} do they have [now|in total|altogether]?", o=o)
        s.step("Now they have {eq} {o}.", add(t, z), o=o)
    else:
        k = s.divisor(t, 2, 9)
        if not k:
            raise ValueError("no equal shares")
        s.say("They [share|split] them equally [among|between] {k} [friends|people|kids].", k=k)
        s.ask("How many {o} does each [one|person|of them] get?", o=o)
        s.step("Each gets {eq} {o}.", div(t, k), o=o)


def each_from(s: Scene) -> None:
    """The same number from each of several people or on each of several days."""
    a, o, x, y = s.person(first=0.08), s.thing(), s.wide(60), s.n(2, 12)
    if s.p(0.5):
        givers = s.r.sample(["mom", "dad", "aunt", "uncle", "grandma", "grandpa", "sister", "brother", "friend", "teacher"], s.pick([2, 2, 3]))
        k, listing = len(givers), " and ".join([", ".join(givers[:-1]), givers[-1]])
        source = f"from {a.his} {listing}"
    else:
        k = s.n(2, 9)
        source = s.text("from [each of |]{h} {k} [friends|cousins|uncles|neighbors|classmates]", h=a.his, k=k)
    s.say(s.pick(["{A} @have {x} {o}.", "{A} @have {x} {o}."]), A=a, x=x, o=o)
    s.say("[For {h} birthday,|For Christmas,|Then|Today|]  {w} @get {y} {o} each {src}." if s.p(0.5) else "{w} @get {y} [more |]{o} each {src}[| for {h} birthday| for Christmas].", h=a.his, w=a.he, y=y, o=o, src=source)
    s.facts[-1] = s.facts[-1].replace("each from each of", "from each of").replace("  ", " ").strip()
    t = s.step("{A} {v} {eq} {o}.", mul(k, y), A=a, v=_v(a, "get"), o=o)
    if s.p(0.15):
        s.facts = [s.text("{A} @get {y} {o} each {src}.", A=a, y=y, o=o, src=source).replace("each from each of", "from each of")]
        s.ask("How many {o} {d} {w} get[| in total]?", o=o, d="did" if s.past else a.does, w=a.he)
        return
    s.ask("How many {o} {d} {w} have [now|in total|altogether|]?", o=o, d=a.does, w=a.he)
    s.question = s.question.replace(" ?", "?")
    s.step("{A} {A.has} {eq} {o}.", add(x, t), A=a, o=o)


def consumption(s: Scene) -> None:
    """So much a day, over days or weeks; how long a supply lasts."""
    who = s.pick([("my dog", "it"), ("my cat", "it"), ("a dog", "it"), ("a family", "they"), ("a horse", "it"), ("an office", "it"), ("a cow", "it"), ("the school", "it"), ("a restaurant", "it"), ("our class", "it"), ("a baby", "it"), ("p", "")])
    a = s.person(role=0.1)
    name, pron = (str(a), a.he) if who[0] == "p" else (who[0], s.pick([who[1], "he", "she"]) if "dog" in who[0] or "cat" in who[0] else who[1])
    verb, unit = s.pick([("eat", "cups of food"), ("drink", "cups of coffee"), ("drink", "glasses of water"), ("use", "sheets of paper"), ("eat", "apples"), ("use", "pounds of flour"), ("drink", "bottles of water"), ("eat", "eggs"), ("use", "gallons of water"), ("eat", "pounds of hay"), ("use", "eggs"),
                         ("eat", "cookies"), ("drink", "cups of milk"), ("use", "napkins"), ("eat", "bananas"), ("take", "pills"), ("use", "bags of rice")])
    vs = {"take": "takes"}.get(verb, verb + "s")
    m, per = s.wide(20), s.pick(["a day", "per day", "every day", "each day"])
    kind = s.n(0, 5)
    does = "do" if pron == "they" else "does"
    s.say(s.pick(["{N} {v} {m} {u} {p}.", "{N} {v} {m} {u} {p}.", "{P}, {N} {v} {m} {u}."]), N=name, v=vs, m=m, u=unit, p=per, P="Every day" if per != "each day" else "Each day")
    if kind == 0:
        k = s.n(2, 30)
        s.ask("How many {u} {d} {w} {v} in {k} days?", u=unit, d=does, w=pron, v=verb, k=k)
        s.step("In {k} days that is {eq} {u}.", mul(k, m), k=k, u=unit)
    elif kind == 1:
        s.ask("How many {u} {d} {w} {v} [in a week|in one week|each week|per week|a week]?", u=unit, d=does, w=pron, v=verb)
        s.step("In 7 days that is {eq} {u}.", mul(7, m), u=unit)
    elif kind <= 3:
        k = s.n(2, 8)
        s.ask("How many {u} {d} {w} {v} in {k} weeks?", u=unit, d=does, w=pron, v=verb, k=k)
        t = s.step("{k} weeks are {eq} days.", mul(k, 7), k=k)
        s.step("In that time it is {eq} {u}.", mul(t, m), u=unit)
    elif kind == 4:
        k = s.n(2, 25)
        s.ask("How [many days|long] [will|do] {x} {u} last?".replace("[many days|long]", "many days"), x=m * k, u=unit)
        s.step("They last {eq} days.", div(m * k, m))
    else:
        price, k = s.price(1, 8, 0.2), s.n(2, 10)
        one = s.pick(["Each one costs", "One costs", "They cost"])
        s.say("{o} {p}[| each].", o=one, p=price)
        s.facts[-1] = s.facts[-1].replace("They cost", "They cost").replace(" each.", "." if not one.startswith("They") else " each.")
        if one.startswith("They") and not s.facts[-1].endswith("each."):
            s.facts[-1] = s.facts[-1][:-1] + " each."
        s.ask("How much does that cost in {k} days?", k=k)
        t = s.step("In {k} days that is {eq} {u}.", mul(k, m), k=k, u=unit)
        s.step("The cost is {eq}.", mul(t, price))


def basket(s: Scene) -> None:
    """Prices first, then the quantities inside the question."""
    g, h = s.r.sample(lex.GOODS, 2)
    p, q = s.price(1, 20, 0.15), s.price(1, 20, 0.15)
    k, m = s.n(2, 9), s.n(2, 9)
    s.say(s.pick(["A {g.one} costs {p} and a {h.one} costs {q}.", "A {g.one} costs {p}. A {h.one} costs {q}.", "{g} cost {p} each and {h} cost {q} each.", "A {g.one} is {p} and a {h.one} is {q}.",
                  "The price of a {g.one} is {p} and the price of a {h.one} is {q}.", "A [shop|store|cafe] sells {g} for {p} each and {h} for {q} each."]), g=g, h=h, p=p, q=q)
    a = s.person(first=0.1, role=0.05)
    one = s.p(0.3)
    if one:
        m = 1
    second = "{m} {h}" if not one else "[a|one|1] {h.one}"
    s.ask(s.pick(["How much do {k} {g} and " + second + " cost[| together| in total| altogether]?", "What is the [total |]cost of {k} {g} and " + second + "?", "How much {d} {A} pay for {k} {g} and " + second + "?",
                  "If {A} {v} {k} {g} and " + second + ", how much {d} {w} [pay|spend]?", "How much money {d} {A} need to buy {k} {g} and " + second + "?"]), k=k, m=m, g=g, h=h, A=a, d=a.does, v=_v(a, "buy"), w=a.he)
    x = s.step("The {g} cost {eq}.", mul(k, p), g=g)
    y = q if one else s.step("The {h} cost {eq}.", mul(m, q), h=h)
    s.step("The total is {eq}.", add(x, y))


def pack_and_sell(s: Scene) -> None:
    """Makes things, packs them, sells the packs."""
    a, o = s.person(first=0.06, role=0.35), s.thing()
    d, k, p = s.n(2, 12), s.n(2, 15), s.price(2, 15, 0.1)
    c = s.pick(lex.CONTAINERS)
    verb = s.pick(["@make", "@bake", "@have", "@buy", "@pick", "@collect"])
    extra = s.p(0.25)
    x = d * k
    if extra:
        y = s.wide(20)
        s.say("{A} {v} {x} {o} and [@eat|@lose|@give away|@drop|@keep] {y} [of them|]." .replace("{v}", verb), A=a, x=x + y, o=o, y=y)
        s.facts[-1] = s.facts[-1].replace(" .", ".")
        s.step("{A} {A.has} {eq} {o} left.", sub(x + y, y), A=a, o=o)
        s.say("{w} [@put|@pack] the rest [in|into] {c} of {d}.", w=a.he, c=c, d=d)
    else:
        s.say("{A} {v} {x} {o}[ and [@put|@pack] them in|. {w} [@put|@pack] them [in|into]] {c} of {d}.".replace("{v}", verb), A=a, x=x, o=o, w=a.he, c=c, d=d)
    s.say("[Each {c.one} sells for {p}|{w} @sell each {c.one} for {p}|{w} @sell the {c} for {p} each|A {c.one} costs {p}].", c=c, p=p, w=a.he)
    s.ask("How much [money |]{d} {w} [make|earn|get][| in total| if {w} {v} all of them]?", d="did" if s.past else a.does, w=a.he, v=_v(a, "sell"))
    t = s.step("There are {eq} {c}.", div(x, d), c=c)
    s.step("{A} {v} {eq}.", mul(t, p), A=a, v=_v(a, "make"))


def direct_share(s: Scene) -> None:
    """Dividing, said in many short ways."""
    o, k, m = s.thing(), s.n(2, 12), s.wide(40)
    x = k * m
    who = s.pick(["friends", "kids", "children", "students", "people", "brothers", "sisters", "boys", "girls", "teams", "classes", "cousins", "workers", "families"])
    one = {"children": "child", "people": "person", "classes": "class", "families": "family"}.get(who, who[:-1])
    a = s.person(first=0.06)
    kind = s.n(0, 5)
    if kind == 0:
        s.say("{k} {who} [share|split|divide] {x} {o} [equally|evenly][| among themselves].", k=k, who=who, x=x, o=o)
        s.ask("How many {o} does each {one} get?" if s.p(0.7) else "How many {o} does each [get|one get|of them get]?", o=o, one=one)
    elif kind == 1:
        s.say("{A} @want to [share|divide|split] {x} {o} [equally |evenly |]among {h} {k} {who}.", A=a, h=a.his, x=x, o=o, k=k, who=who)
        s.ask("How many {o} [will|does] each {one} get?", o=o, one=one)
    elif kind == 2:
        s.ask("If {x} {o} are [shared|divided|split] [equally|evenly] [among|between] {k} {who}, how many [{o}|] does each {one} get?", x=x, o=o, k=k, who=who, one=one)
        s.question = s.question.replace("  ", " ")
    elif kind == 3:
        s.say("{A} @have {x} {o} and {k} {who}. {w} @give each {one} the same number[| of {o}].", A=a, x=x, o=o, k=k, who=who, one=one, w=a.he)
        s.ask("How many {o} does each {one} get?", o=o, one=one)
    else:
        c = s.pick(lex.CONTAINERS)
        s.say("{A} @have {x} {o}. {w} @want to put {m} in each {c.one}." if s.p(0.6) else "There are {x} {o}. Each {c.one} holds {m}.", A=a, x=x, o=o, m=m, c=c, w=a.he)
        s.ask("How many {c} {d} {w} need?" if "There" not in s.facts[0] else "How many {c} are needed?", c=c, d=a.does, w=a.he)
        s.step("The number of {c} is {eq}.", div(x, m), c=c)
        return
    s.step("Each {one} gets {eq} {o}.", div(x, k), one=one, o=o)


def how_long(s: Scene) -> None:
    """A rate, and how long some total takes."""
    a = s.person(first=0.08, role=0.15)
    verb, o, total = s.pick([("read", "pages", "a book of {x} pages"), ("read", "pages", "a {x} page book"), ("read", "pages", "{x} pages"), ("write", "words", "an essay of {x} words"), ("type", "words", "{x} words"), ("solve", "problems", "{x} problems"), ("run", "miles", "{x} miles"),
                             ("walk", "kilometers", "{x} kilometers"), ("bake", "cakes", "{x} cakes"), ("wash", "cars", "{x} cars"), ("paint", "rooms", "{x} rooms"), ("earn", "dollars", "{x} dollars"), ("learn", "words", "{x} words"), ("make", "toys", "{x} toys"), ("pick", "apples", "{x} apples"),
                             ("save", "dollars", "{x} dollars"), ("plant", "trees", "{x} trees"), ("answer", "emails", "{x} emails"), ("watch", "episodes", "a show with {x} episodes"), ("swim", "laps", "{x} laps"), ("knit", "scarves", "{x} scarves")])
    m, k = s.wide(60), s.n(2, 25)
    unit = s.pick(["day", "day", "hour", "week", "minute"])
    s.say("{A} [can {b}|{v}] {m} {o} [a|per|every|each|in one] {u}.".replace("{v}", "@" + verb), A=a, b=verb, m=m, o=o, u=unit)
    goal = s.text(total, x=m * k)
    s.ask(s.pick(["How many {u}s [{d} {w} need|will {w} need|will it take {m}|does it take {m}|{d} it take {m}] to {b} {g}?", "How many {u}s will {w} need to {b} {g}?", "In how many {u}s [can|will] {w} {b} {g}?", "How long [will|does] it take {m} to {b} {g}?",
                  "If {w} [wants|needs] to {b} {g}, how many {u}s [will it take|{d} {w} need]?"]).replace("{d} it take", "does it take"), u=unit, d=a.does, w=a.he, m=a.him, b=verb, g=goal)
    s.question = s.question.replace("If I wants", "If I want").replace("If I needs", "If I need")
    s.step("It takes {eq} {u}s.", div(m * k, m), u=unit)


def how_much_together(s: Scene) -> None:
    """Repeated equal amounts: k times m, asked plainly."""
    a, k, m = s.person(first=0.1), s.wide(30), s.wide(40)
    o = s.thing()
    c = s.pick(lex.CONTAINERS + lex.nouns("shelf, table, row, room, page, car, house, vase, plate, bus, tree, desk, cabinet, wagon, floor, nest, cage"))
    s.say(s.pick(["{A} @have {k} {c} [with|of] {m} {o} [each|in each].", "Each {c.one} has {m} {o}.", "There are {m} {o} in each {c.one}.", "A {c.one} holds {m} {o}.", "{A} @put {m} {o} [in|on] each of {k} {c}.",
                  "There are {k} {c}. Each one has {m} {o}.", "{k} {c} have {m} {o} each."]), A=a, k=k, m=m, c=c, o=o)
    told = str(c) in s.facts[0]
    s.ask("How many {o} are there [in total|altogether|in all|]?" if told else "How many {o} are in {k} {c}?", o=o, k=k, c=c)
    s.question = s.question.replace(" ?", "?")
    s.step("There are {eq} {o}.", mul(k, m), o=o)


def part_percent(s: Scene) -> None:
    """Parts of a group by percentage or fraction, and the other part by its name."""
    groups = [("class", "students", "boys", "girls"), ("class", "students", "girls", "boys"), ("school", "students", "girls", "boys"), ("farm", "animals", "cows", "pigs"), ("garden", "flowers", "roses", "tulips"), ("library", "books", "novels", "comics"), ("box", "balls", "red", "blue"),
              ("company", "workers", "men", "women"), ("choir", "singers", "women", "men"), ("parking lot", "vehicles", "cars", "trucks"), ("zoo", "birds", "parrots", "owls"), ("team", "players", "beginners", "experts"), ("bag", "marbles", "green", "yellow"), ("theater", "seats", "taken", "empty"),
              ("orchard", "trees", "apple trees", "pear trees"), ("town", "people", "adults", "children"), ("shelter", "animals", "dogs", "cats"), ("bakery", "cakes", "chocolate", "vanilla"), ("room", "people", "adults", "kids")]
    g, o, x, y = s.pick(groups)
    if s.p(0.65):
        pc = s.pick([10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90])
        t = s.pick([10, 20, 20 * s.n(1, 20), 100, 20 * s.n(1, 40)])
        if t * pc % 100:
            raise ValueError("not whole")
        share, eq = f"{pc}%", percent(t, pc)
        if s.p(0.15):
            share = f"{pc} percent"
    else:
        bottom = s.pick([2, 3, 4, 5])
        t = bottom * s.wide(60)
        top = 1 if bottom in (2, 4) else s.n(1, bottom - 1)
        share, eq = s.fraction(top, bottom), part(t, top, bottom)
    s.say(s.pick(["A {g} has {t} {o}.", "There are {t} {o} in a {g}.", "There are {t} {o} in the {g}."]), g=g, t=t, o=o)
    s.say(s.pick(["{f} of [them|the {o}] are {x}.", "{f} of [them|the {o}] are {x} and the rest are {y}.", "{f} are {x}."]), f=share, o=o, x=x, y=y)
    n = s.step("There are {eq} {x}.", eq, x=x)
    adjective = x in ("red", "green", "taken", "chocolate")
    if s.p(0.3):
        s.ask("How many {o} are {x}?" if adjective or s.p(0.3) else "How many {x} are there?", o=o, x=x)
    else:
        s.ask("How many [{o} |]are {y}?" if adjective or s.p(0.3) else "How many {y} are there?", o=o, y=y)
        s.step("There are {eq} {y}.", sub(t, n), y=y)


def family_ages(s: Scene) -> None:
    """Ages given by family words."""
    a = s.person(role=0.0, first=0.15)
    x, rel = s.n(4, 15), s.pick(["brother", "sister", "mother", "father", "cousin", "mom", "dad", "aunt", "uncle"])
    r = f"{a.his} {rel}"
    base = s.text("{A} {am} {x} [years old|years old].", A=a, x=x, am="am" if a.first else "is")
    u = s.n(0, 3)
    if u == 0:
        k = s.pick([2, 2, 3, 4, 5])
        text, eq = s.text("{r} is {t} as old[| as {w} {am}].", r=r, t=s.times(k), w=a.he, am="am" if a.first else "is"), mul(x, k)
    elif u == 1:
        y = s.n(2, 35)
        text, eq = s.text("{r} is {y} years older[| than {m}| than {w} {am}].", r=r, y=y, m=a.him, w=a.he, am="am" if a.first else "is"), add(x, y)
    else:
        y = s.n(1, x - 2)
        r = f"{a.his} {s.pick(['brother', 'sister', 'cousin', 'friend'])}"
        text, eq = s.text("{r} is {y} years younger[| than {m}| than {w} {am}].", r=r, y=y, m=a.him, w=a.he, am="am" if a.first else "is"), sub(x, y)
    s.facts += [base, text]
    mine = r if a.first else a.s + r[len(a.his):]
    y = s.step("{r} is {eq} years old.", eq, r=mine)
    v = s.n(0, 3)
    if v == 0:
        s.ask("How old is {r}?", r=r)
    elif v <= 2:
        t = s.n(2, 20)
        s.ask("How old will {r} be in {t} years?", r=r, t=t)
        s.step("In {t} years that is {eq}.", add(y, t), t=t)
    else:
        s.ask("[What is the sum of their ages|How old are they together|What is their total age]?" if not a.first else "[What is the sum of our ages|How old are we together]?")
        s.step("The sum is {eq}.", add(x, y))


def spend_list(s: Scene) -> None:
    """Money spent on named everyday things, or prices added up."""
    a = s.person(first=0.25, role=0.05)
    things = s.r.sample(["lunch", "coffee", "a book", "a sandwich", "gas", "a movie ticket", "a toy", "groceries", "a shirt", "dinner", "a pen", "snacks", "a bus ticket", "a drink", "flowers", "a gift", "shoes", "a haircut", "bread", "milk", "a hat", "a pizza", "popcorn", "a magazine"], s.pick([2, 2, 3]))
    costs = [s.price(1, s.pick([10, 30]), 0.15) for _ in things]
    parts = [s.text("{c} on {g}" if i or s.p(0.8) else "{c} on {g}", c=c, g=g) for i, (c, g) in enumerate(zip(costs, things))]
    listing = " and ".join([", ".join(parts[:-1]), parts[-1]])
    total = add(*costs)
    if s.p(0.35):
        s.say("{A} @spend " + listing + ".", A=a)
        s.ask("How much [money |]did {w} spend [in total|altogether|in all]?", w=a.he)
        s.step("The total is {eq}.", total)
        return
    have = usd(whole(total.n.v.__ceil__()) + s.wide(60))
    if s.p(0.45):
        s.question = s.text("If {A} {h} {x} and {v} " + listing + ", how much [money |]{d} {w} have left?", A=a, h=a.has, x=have, v=_v(a, "spend"), d=a.does, w=a.he)
    else:
        s.say("{A} @have {x}." if s.p(0.6) else "{A} [@go to the store|@go shopping] with {x}.", A=a, x=have)
        s.say("{w} @spend " + listing + ".", w=a.he)
        s.ask("How much [money |]{d} {w} have left?" if s.p(0.7) else "How much [money |]is left?", d=a.does, w=a.he)
    t = s.step("{A} {v} {eq}.", total, A=a, v=_v(a, "spend"))
    s.step("The money left is {eq}.", sub(have, t))


def days_of_practice(s: Scene) -> None:
    """Different amounts on weekdays and weekend days, or for two activities."""
    a = s.person(first=0.06)
    act, o = s.pick([("run", "miles"), ("read", "pages"), ("practice", "minutes"), ("study", "hours"), ("work", "hours"), ("do", "push-ups"), ("walk", "miles"), ("earn", "dollars"), ("write", "pages"), ("sell", "cups of lemonade"), ("make", "bracelets")])
    x, y = s.n(2, 40), s.n(2, 40)
    if s.p(0.5):
        s.say("{A} @{v} {x} {o} [each|every|on each] weekday and {y} {o} [each|on each|every] [weekend day|day of the weekend|day on the weekend].".replace("@{v}", "@" + act), A=a, x=x, y=y, o=o)
        s.ask("How many {o} {d} {w} {v} [in a week|each week|in one week]?", o=o, d=a.does, w=a.he, v=act)
        p = s.step("The weekdays are {eq} {o}.", mul(5, x), o=o)
        q = s.step("The weekend is {eq} {o}.", mul(2, y), o=o)
        s.step("In a week that is {eq} {o}.", add(p, q), o=o)
    else:
        k, m = s.n(2, 9), s.n(2, 9)
        s.say("{A} @{v} {x} {o} [a|per|each] day for {k} days[ and then| and] {y} {o} [a|per|each] day for {m} [more |]days.".replace("@{v}", "@" + act), A=a, x=x, y=y, o=o, k=k, m=m)
        s.ask("How many {o} {d} {w} {v} [in total|altogether|in all]?", o=o, d="did" if s.past else a.does, w=a.he, v=act)
        p = s.step("First that is {eq} {o}.", mul(k, x), o=o)
        q = s.step("Then that is {eq} {o}.", mul(m, y), o=o)
        s.step("The total is {eq} {o}.", add(p, q), o=o)


FAMILIES = [(place_story, 3.5), (pooled, 2.2), (each_from, 1.6), (consumption, 2.2), (basket, 2.2), (pack_and_sell, 2.0), (direct_share, 2.2), (how_long, 2.2), (how_much_together, 1.6), (part_percent, 2.0), (family_ages, 1.5), (spend_list, 2.2), (days_of_practice, 1.2)]
