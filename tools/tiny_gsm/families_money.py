"""Problem families about money: purchases, change, earnings, savings, discounts."""

from __future__ import annotations

import lexicon as lex
from arithmetic import Num, add, div, mul, num, percent, sub, usd
from phrasing import Scene


def whole(x) -> int:
    return int(num(x).v)


def _items(s: Scene, count: int) -> list[tuple[lex.Noun, int, Num]]:
    goods = s.r.sample(lex.GOODS, count)
    return [(g, s.n(2, s.pick([5, 9, 12, 20])), s.price(1, s.pick([6, 15, 40]), 0.2)) for g in goods]


def purchase(s: Scene) -> None:
    """One to three kinds of goods; total, change, or what is left."""
    a = s.person(first=0.08)
    items = _items(s, s.pick([1, 1, 2, 2, 2, 3]))
    if len(items) == 1 and s.p(0.5):
        g, k, p = items[0]
        s.say(s.pick(["{A} [@buy|@buy|@want to buy|@order] {k} {g}[ at the {pl}||]. Each {g.one} costs {p}.",
                      "{A} @buy {k} {g} [for|at] {p} each.", "[One|A single] {g.one} costs {p}. {A} @buy {k} [of them|{g}].",
                      "{A} @buy {k} {g} that cost {p} each."]), A=a, k=k, g=g, p=p, pl=s.pick(lex.PLACES))
        totals = [s.step("The {g} cost {eq}.", mul(k, p), g=g)]
    elif s.p(0.35):
        costs = "[, |. ]".join(s.text(s.pick(["a {g.one} costs {p}", "each {g.one} costs {p}", "one {g.one} is {p}"]) if len(items) > 2
                 else s.pick(["{g} cost {p} each", "a {g.one} costs {p}"]), g=g, p=p) for g, _, p in items)
        s.say("At the [store|shop|market|" + s.pick(lex.PLACES) + "], " + costs.replace("[, |. ]", s.pick([", ", " and "]), 1 if len(items) == 2 else 0)
              .replace("[, |. ]", ", ") + ".")
        bought = " and ".join(s.text("{k} {g}", k=k, g=g) for g, k, _ in items)
        s.say("{A} [@buy|@buy|@get|@order] " + bought + ".", A=a)
        totals = [s.step("The {g} cost {eq}.", mul(k, p), g=g) for g, k, p in items]
    else:
        parts = [s.text("{k} {g} [for|at|that cost|costing] {p} each" if s.p(0.8) else "{k} {g} at {p} per {g.one}", k=k, g=g, p=p) for g, k, p in items]
        joined = " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]
        s.say("{A} [@buy|@buy|@buy|@order|@go to the {pl} and @buy] " + joined + ".", A=a, pl=s.pick(lex.PLACES))
        totals = [s.step("The {g} cost {eq}.", mul(k, p), g=g) for g, k, p in items]
    total = totals[0]
    if len(totals) > 1:
        total = s.step("The total is {eq}.", add(*totals))
    _pay(s, a, total, len(totals) > 1 or s.p(0.6))


def _pay(s: Scene, a, total: Num, may_stop: bool) -> None:
    kind = s.pick(["stop", "stop", "change", "left"]) if may_stop else s.pick(["change", "left"])
    if kind == "stop":
        s.ask(s.pick(["How much [money |]did {w} spend[| in total| altogether| in all]?", "How much [does|will] {w} [pay|spend][| in total]?",
                      "What is the total cost?", "How much [did|does] everything cost?", "How much [money |]did {w} pay[| in total]?",
                      "What is the total [bill|price|amount {w} spent]?", "How much does it cost [in total|altogether]?"])
              if not a.first else "How much [do I pay|did I spend|do I have to pay|did I pay] [in total|altogether|]?", w=a.he)
        s.question = s.question.replace(" ?", "?")
        return
    bills = [b for b in (5, 10, 20, 50, 100, 200, 500, 1000) if b > total.v]
    if not bills:
        raise ValueError("too expensive")
    bill = usd(bills[0])
    if kind == "change":
        s.say("{A} [@pay|@pay] with a {b} bill." if s.p(0.7) else "{A} @give the cashier {b}.", A=a.he, b=str(bill))
        s.ask(s.pick(["How much change [does|did|should|will] {w} [get|receive][| back]?", "How much [money|change] does {w} get back?"])
              if not a.first else "How much change do I get[| back]?", w=a.he)
        s.question = s.question.replace("did " + a.he + " gets", "did " + a.he + " get")
        s.step("The change is {eq}.", sub(bill, total))
    else:
        have = usd(total.v.__ceil__() + s.wide(100)) if s.p(0.7) else bill
        if s.p(0.6):
            s.facts.insert(0, s.text("{A} @have {h}.", A=a, h=have))
        else:
            s.say("{A} @have {h} [at first|to start with|before shopping].", A=a.he, h=have)
        s.ask(s.pick(["How much [money |]{d} {w} have [left|left|now]?", "How much money is left?"]), w=a if s.p(0.4) else a.he, d="did" if s.past and s.p(0.4) else a.does)
        s.step("The money left is {eq}.", sub(have, total))


def simple_spend(s: Scene) -> None:
    """Starts with money, spends several amounts and perhaps earns some."""
    a = s.person(first=0.08)
    x = usd(s.wide(1000) + 20)
    s.say("{A} [@have|@have|@start with] {x}[|| in {A.his} wallet].", A=a, x=x)
    bal = x
    vps = []
    for _ in range(s.pick([1, 2, 2, 3])):
        if s.p(0.75):
            top = int(bal.v) - 2
            if top < 3:
                break
            y = s.price(1, min(top, s.pick([20, 60, 300])), 0.2)
            g = s.pick(lex.GOODS)
            vps.append(s.text(s.pick(["@spend {y} on a {g.one}", "@buy a {g.one} for {y}", "@spend {y} on {g}", "@pay {y} for a {g.one}", "@spend {y} at the {pl}",
                                      "@give {y} to " + s.person().name, "@spend {y} on [lunch|dinner|food|snacks|clothes|gas|groceries]"]), y=y, g=g, pl=s.pick(lex.PLACES)))
            vps[-1] = vps[-1].replace(" a o", " an o").replace(" a u", " an u").replace(" a i", " an i").replace(" a apple", " an apple")
            bal = s.step("{A} {A.has} {eq} left.", sub(bal, y), A=a)
        else:
            y = s.price(2, s.pick([20, 50, 200]), 0.1)
            vps.append(s.text(s.pick(["@earn {y} [mowing lawns|babysitting|washing cars|at work|doing chores]", "@find {y} [on the street|in {h} pocket|]", "@get {y} from {h} [mom|dad|grandma|uncle]",
                                      "@receive another {y}"]), y=y, h=a.his).rstrip())
            bal = s.step("{A} {A.has} {eq}.", add(bal, y), A=a)
    if not vps:
        raise ValueError("nothing happened")
    if len(vps) == 1 or s.p(0.5):
        for i, v in enumerate(vps):
            s.facts.append(s.text("[|Then ||]" if i == 0 else "[Then |Later, |After that, |Next, ||]") + f"{a.he if s.p(0.7) else a} {v}.")
    else:
        s.facts.append(f"{a.he if s.p(0.7) else a} " + ", ".join(vps[:-1]) + " and " + vps[-1] + ".")
    s.ask("How much money {d} {w} have [left|now|left]?" if s.p(0.7) else "How much [money |]is left?" if "left" in s.steps[-1] else "How much {d} {w} have now?",
          d=a.does, w=a if s.p(0.4) else a.he)


def savings(s: Scene) -> None:
    a, w = s.person(first=0.06), s.price(2, s.pick([20, 60]), 0.1)
    unit = s.pick(["week", "week", "day", "month"])
    if s.p(0.5):
        k = s.n(2, 30)
        s.say("{A} @save {w} [every|each|a|per] {u}[| from {A.his} [allowance|pay|job]].", A=a, w=w, u=unit)
        total = mul(k, w)
        if s.p(0.5):
            have = usd(s.wide(200))
            s.say("{A} already @have {h}[| saved| in the bank].", A=a.he, h=have)
            s.ask("How much [money |]will {w} have [after|in] {k} {u}s?", w=a.he, k=k, u=unit)
            t = s.step("{A} {v} {eq}.", total, A=a, v="save" if a.first else "saves")
            s.step("{A} will have {eq}.", add(have, t), A=a)
        else:
            s.ask("How much [money |]{d} {w} save in {k} {u}s?" if s.p(0.6) else "How much [money |]will {w} have [after|in] {k} {u}s?", w=a.he, k=k, u=unit, d=a.does)
            s.step("{A} {v} {eq}.", total, A=a, v="save" if a.first else "saves")
    else:
        w, k = usd(s.n(2, s.pick([10, 20, 50]))), s.n(2, 20)
        cost, have = usd(w.v * k), usd(s.wide(80))
        g = s.pick(["bike", "phone", "new bike", "guitar", "laptop", "game console", "tablet", "camera", "skateboard", "watch", "present", "video game"])
        start = s.p(0.5)
        price = usd(cost.v + have.v) if start else cost
        s.say("{A} [@want to buy|@be saving for|@want] a {g} that costs {p}.", A=a, g=g, p=price)
        if start:
            s.say("{A} [already @have|@have] {h}[| saved| so far].", A=a.he, h=have)
        if s.p(0.75):
            s.say("{A} [@save|@earn|@get|@save] {w} [a|per|each|every] {u}.", A=a.he, w=w, u=unit)
            s.ask("[How many {u}s will it take {m} to [buy|get|afford] the {g}|How many {u}s {d} {A} need to save|How many {u}s until {A} can buy the {g}|"
                  "[In|After] how many {u}s [will|can] {A} buy the {g}]?", u=unit, m=a.him, g=g, d=a.does, A=a.he)
            rest = s.step("{A} {v} {eq} more.", sub(price, have), A=a, v="need" if a.first else "needs") if start else price
            s.step("It takes {eq} {u}s.", div(rest, w), u=unit)
        else:
            s.ask("If {A} {wants} to buy it in {k} {u}s, how much must {A} save [each|per|every] {u}?", A=a.he, k=k, u=unit, wants="want" if a.first else "wants")
            rest = s.step("{A} {v} {eq} more.", sub(price, have), A=a, v="need" if a.first else "needs") if start else price
            s.step("{A} must save {eq} each {u}.", div(rest, k), A=a, u=unit)


def wages(s: Scene) -> None:
    a, p, h = s.person(first=0.06), s.price(5, s.pick([15, 40]), 0.12), s.n(2, 10)
    kind = s.n(0, 5)
    job = s.pick(lex.JOBS)
    s.say(s.pick(["{A} [@earn|@make|@get paid|@get] {p} [an|per|each|every] hour[| {j}|].", "{A} @work {j} and [@earn|@make] {p} [an|per] hour.",
                  "{A} @work {j} for {p} [an|per] hour."]), A=a, p=p, j=job)
    if kind <= 1:
        d = s.n(2, 7)
        s.say("{A} @work {h} hours [a|per|each|every] day[ for| for] {d} days." if s.p(0.6) else "{A} @work {d} days a week, {h} hours [each|a|per] day.", A=a.he, h=h, d=d)
        s.ask("How much [money |]{v} {w} [earn|make] [in total|altogether|]?" if "week" not in s.facts[-1] else "How much [money |]{v} {w} [earn|make] [in a|each|per] week?", v="did" if s.past and s.p(0.6) else a.does, w=a.he)
        s.question = s.question.replace(" ?", "?")
        t = s.step("{A} {v} {eq} hours.", mul(d, h), A=a, v="work" if a.first else "works")
        s.step("{A} {v} {eq}.", mul(t, p), A=a, v="earn" if a.first else "earns")
    elif kind == 2:
        h2 = s.n(2, 12)
        d1, d2 = sorted(s.two(lex.DAYS), key=lex.DAYS.index)
        s.say("{A} @work {h} hours on {d1} and {h2} hours on {d2}.", A=a.he, h=h, h2=h2, d1=d1, d2=d2)
        s.ask("How much [money |]{v} {w} [earn|make] [in total|altogether|in all]?", v="did" if s.past and s.p(0.6) else a.does, w=a.he)
        t = s.step("{A} {v} {eq} hours.", add(h, h2), A=a, v="work" if a.first else "works")
        s.step("{A} {v} {eq}.", mul(t, p), A=a, v="earn" if a.first else "earns")
    elif kind == 3:
        h = s.n(5, 45)
        s.say("[This week|Last week|This month|Today|] {A} @work {h} hours." if s.p(0.5) else "{A} @work {h} hours[| this week| last week].", A=a.he, h=h)
        s.facts[-1] = s.facts[-1].strip()
        t = mul(h, p)
        spent = usd(s.n(2, max(3, min(int(t.n.v) - 1, 150))))
        if s.p(0.4):
            s.ask("How much [money |]{v} {w} [earn|make]?", v="did" if s.past else a.does, w=a.he)
            s.step("{A} {v} {eq}.", t, A=a, v="earn" if a.first else "earns")
        else:
            s.say("{A} @spend {y} on [food|clothes|rent|a {g.one}|{g}|gas].", A=a.he, y=spent, g=s.pick(lex.GOODS))
            s.ask("How much [money |]{v} {w} have left?", v=a.does, w=a.he)
            e = s.step("{A} {v} {eq}.", t, A=a, v="earn" if a.first else "earns")
            s.step("{A} {A.has} {eq} left.", sub(e, spent), A=a)
    elif kind == 4:
        extra, base = s.n(1, 6), s.n(4, 10) * s.pick([1, 5, 10])
        p2 = usd(s.n(int(p.v) + 1, int(p.v) * 2 + 2))
        s.say("For overtime {A} @get {q} [an|per] hour. {A} @work {b} [regular|normal] hours and {e} [overtime hours|hours of overtime].", A=a.he, q=p2, b=base, e=extra)
        s.ask("How much [money |]{v} {w} [earn|make] [in total|altogether|in all]?", v="did" if s.past and s.p(0.6) else a.does, w=a.he)
        x = s.step("The regular pay is {eq}.", mul(base, p))
        y = s.step("The overtime pay is {eq}.", mul(extra, p2))
        s.step("{A} {v} {eq} in total.", add(x, y), A=a, v="earn" if a.first else "earns")
    else:
        h = s.n(2, 20)
        p = usd(s.n(3, 40))
        s.facts.clear()
        s.say("{A} @earn {t} for {h} hours of work." if s.p(0.5) else "{A} @work {h} hours and @get {t}.", A=a, t=usd(p.v * h), h=h)
        rate = s.step("{A} {v} {eq} an hour.", div(usd(p.v * h), h), A=a, v="earn" if a.first else "earns")
        if s.p(0.5):
            s.ask("How much {d} {w} earn [per|an|each] hour?", d=a.does, w=a.he)
        else:
            k = s.n(2, 12)
            s.ask("How much [would|will] {w} earn for {k} hours?", w=a.he, k=k)
            s.step("For {k} hours {A} {v} {eq}.", mul(k, rate), k=k, A=a, v="earn" if a.first else "earns")


def discount(s: Scene) -> None:
    a, g = s.person(first=0.06), s.pick(lex.GOODS + lex.nouns("bike, phone, laptop, jacket, sofa, desk, camera, guitar, coat, television"))
    pc = s.pick([10, 20, 25, 30, 40, 50, 50, 5, 15, 60, 75])
    base = usd(s.pick([s.n(1, 20) * 10, s.n(1, 60) * 20, s.n(1, 12) * 100, s.n(2, 30) * 4]))
    off = percent(base, pc)
    if off.n.v.denominator not in (1, 2, 5, 10):
        raise ValueError("awkward percentage")
    if s.p(0.6):
        s.say(s.pick(["A {g.one} [costs|is priced at|normally costs|sells for] {b}. It is [on sale for|discounted by|on sale at] {p}%" + " off.", "The [regular |original |usual |]price of a {g.one} is {b}. There is a {p}% discount.",
                      "A store sells a {g.one} for {b}, but today there is a {p}% discount.", "{A} @want to buy a {g.one} that costs {b}. {A.he} @have a {p}% [off |discount |]coupon.",
                      "A {g.one} costs {b}. [The store|The shop] gives {p}% off."]), g=g, b=base, p=str(pc), A=a)
        s.facts[-1] = s.facts[-1].replace("discounted by " + str(pc) + "% off", "discounted by " + str(pc) + "%")
        s.ask("[What is the [sale|new|final|discounted] price|How much does it cost [now|after the discount]|How much [does|will] {A} pay|What is the price after the discount]?".replace("{A}", "one") if a.first
              else "[What is the [sale|new|final|discounted] price|How much does it cost [now|after the discount]|How much [does|will] {A} pay|What is the price after the discount]?", A=a if "@" in s.facts[0] or str(a) in s.facts[0] else "a buyer")
        y = s.step("The discount is {eq}.", off)
        s.step("The new price is {eq}.", sub(base, y))
    else:
        what, label = s.pick([("tip", "tip"), ("tax", "tax"), ("sales tax", "tax"), ("service charge", "charge")])
        pc = s.pick([5, 10, 15, 20, 25])
        s.say(s.pick(["{A} @pay {b} for [dinner|lunch|a meal|a {g.one}] plus a {p}% {w}.", "The [bill|cost|price] [at the restaurant |]is {b}. {A} @add a {p}% {w}.", "[Dinner|Lunch|A meal|A {g.one}] costs {b}, and there is a {p}% {w}."]),
              A=a, b=base, p=str(pc), g=g, w=what)
        if s.p(0.3):
            s.ask("How much is the {w}?", w=what)
            s.step("The {w} is {eq}.", percent(base, pc), w=label)
        else:
            s.ask("What is the total [cost|price|bill|amount]?" if s.p(0.7) else "How much is it in total?")
            y = s.step("The {w} is {eq}.", percent(base, pc), w=label)
            s.step("The total is {eq}.", add(base, y))


def unit_price(s: Scene) -> None:
    g, k, p = s.pick(lex.GOODS), s.n(2, 12), s.price(1, 20, 0.15)
    t = Num(p.v * k, True)
    s.say(s.pick(["{k} {g} cost {t}.", "[A pack|A box|A set|A bag] of {k} {g} costs {t}.", "{A} @pay {t} for {k} {g}.", "The price of {k} {g} is {t}."]), k=k, g=g, t=t, A=s.person())
    one = s.step("One {g.one} costs {eq}.", div(t, k), g=g)
    if s.p(0.35):
        s.ask("[How much does [one|each|a single] {g.one} cost|What is the [price|cost] of [one|a single|each] {g.one}]?", g=g)
    else:
        m = s.n(2, 20)
        s.ask("[How much [do|would|will] {m} {g} cost|What is the [price|cost] of {m} {g}|How much would you pay for {m} {g}]?", m=m, g=g)
        s.step("{m} {g} cost {eq}.", mul(m, one), m=m, g=g)


def profit(s: Scene) -> None:
    a, g, k, c = s.person(first=0.05, role=0.25), s.pick(lex.GOODS), s.n(2, s.pick([12, 40])), s.price(1, 12, 0.1)
    if s.p(0.5):
        sell = usd(int(c.v) + s.n(1, 10) + 1)
        s.say(s.pick(["{A} @buy {k} {g} for {c} each and @sell them for {q} each.", "{A} @buy {k} {g} at {c} each. {A.he} @sell each [one|{g.one}] for {q}.",
                      "It costs {A} {c} to make [a|one|each] {g.one}. {A.he} @sell each for {q}. {A.he} @sell {k} {g}."]) if not a.first else "I buy {k} {g} for {c} each and sell them for {q} each.", A=a, k=k, g=g, c=c, q=sell)
        s.ask("[How much profit {d} {w} make|What is {h} [total |]profit|How much money {d} {w} gain]?", d="did" if s.past else a.does, w=a.he, h=a.his)
        one = s.step("The profit on each is {eq}.", sub(sell, c))
        s.step("The total profit is {eq}.", mul(k, one))
    else:
        p = s.price(1, 20, 0.1)
        t = Num(p.v * k, True)
        cost = usd(s.n(1, max(2, int(t.v) - 1)))
        s.say(s.pick(["{A} @sell {k} {g} for {p} each. The [materials|supplies|ingredients] cost {c}.", "{A} @spend {c} on [materials|supplies] and @sell {k} {g} for {p} each.",
                      "{A} @make {k} {g} and @sell them for {p} each. {A.his} costs %be {c}.".replace("%be", "were")]), A=a, k=k, g=g, p=p, c=cost)
        s.ask("[How much profit {d} {w} make|What is {h} [total |]profit]?", d="did" if s.past else a.does, w=a.he, h=a.his)
        x = s.step("{A} {v} {eq}.", mul(k, p), A=a, v="make" if a.first else "makes")
        s.step("The profit is {eq}.", sub(x, cost))


def split_bill(s: Scene) -> None:
    k, each = s.n(2, 10), s.price(2, 40, 0.15)
    t = Num(each.v * k, True)
    what = s.pick(["a pizza", "a gift", "dinner", "lunch", "a game", "a cake", "a taxi", "a present", "the bill", "a boat trip"])
    if s.p(0.5) or int(t.v) < 6:
        s.say(s.pick(["{k} friends [share|split] the cost of {w} [equally|evenly]. It costs {t}.", "{k} [friends|people|students] buy {w} for {t} and split the cost [equally|evenly].",
                      "{k} [friends|people|students] pay {t} for {w}. They [share|split] the cost [equally|evenly]."]), k=k, w=what, t=t)
        s.ask("How much does each [person|one|of them] pay?")
        s.step("Each pays {eq}.", div(t, k))
    else:
        x = usd(s.n(2, int(t.v) - 2))
        y = Num(t.v - x.v, True)
        s.say("{k} friends [go out to eat|eat at a restaurant|have dinner]. The food costs {x} and the drinks cost {y}. They split the bill [equally|evenly].", k=k, x=x, y=y)
        s.ask("How much does each [person|friend|of them] pay?")
        s.step("The bill is {eq}.", add(x, y))
        s.step("Each pays {eq}.", div(t, k))


def afford(s: Scene) -> None:
    a, g, p, k = s.person(first=0.06), s.pick(lex.GOODS), s.n(2, 25), s.n(2, 20)
    have, spent = p * k, 0
    if s.p(0.5):
        spent = s.wide(60)
        s.say("{A} @have {h}. {A.he} @spend {y} on [lunch|a {o.one}|a ticket|food|a gift].", A=a, h=usd(have + spent), y=usd(spent), o=s.pick(lex.GOODS))
        s.step("{A} {A.has} {eq} left.", sub(usd(have + spent), usd(spent)), A=a)
    else:
        s.say("{A} @have {h}.", A=a, h=usd(have))
    s.say("[Each|A|One] {g.one} costs {p}." if s.p(0.7) else "{g} cost {p} each.", g=g, p=usd(p))
    s.ask("How many {g} can {w} buy[| with [the rest|that]]?", g=g, w=a.he)
    if not spent:
        s.question = s.question.replace(" with the rest", "")
    s.step("{A} can buy {eq} {g}.", div(usd(have), usd(p)), A=a, g=g)


def tickets(s: Scene) -> None:
    x, y, k, m = s.price(5, 30, 0.1), s.price(2, 15, 0.1), s.n(2, s.pick([6, 40])), s.n(2, s.pick([8, 60]))
    place = s.pick(["zoo", "museum", "movie theater", "concert", "fair", "circus", "play", "pool", "theme park", "aquarium", "school play"])
    s.say(s.pick(["[Tickets|Admission] to the {pl} cost{e} {x} for adults and {y} for [children|kids].", "An adult ticket [to the {pl} |]costs {x} and a child ticket costs {y}.",
                  "The {pl} charges {x} per adult and {y} per child."]), x=x, y=y, pl=place, e="")
    s.facts[0] = s.facts[0].replace("Admission to the " + place + " cost ", "Admission to the " + place + " costs ")
    if s.p(0.5):
        s.say(s.pick(["A family of {k} adults and {m} [children|kids] [goes|visits].", "{k} adults and {m} [children|kids] [go|visit].", "{A} @buy {k} adult tickets and {m} child tickets."]), k=k, m=m, A=s.person())
        s.ask("[How much do they pay|What is the total cost|How much do the tickets cost|How much is it] [in total|altogether|in all]?".replace("What is the total cost [in total", "What is the total cost ["))
    else:
        s.say("[One day|Today|On {d}] {k} adults and {m} [children|kids] [came|bought tickets].", k=k, m=m, d=s.pick(lex.DAYS))
        s.ask("How much money was [made|collected][| in total| altogether]?")
    s.question = s.question.replace("total cost in total", "total cost").replace("total cost altogether", "total cost").replace("total cost in all", "total cost")
    p = s.step("The adults pay {eq}.", mul(k, x))
    q = s.step("The children pay {eq}.", mul(m, y))
    s.step("The total is {eq}.", add(p, q))


def coins(s: Scene) -> None:
    a = s.person(first=0.1)
    kinds = s.r.sample([("quarter", 25), ("dime", 10), ("nickel", 5), ("penny", 1)], s.pick([1, 2, 2, 3]))
    held = [(lex.noun(w), v, s.n(2, 15)) for w, v in kinds]
    parts = [s.text("{k} {c}", k=k, c=c) for c, _, k in held]
    s.say("{A} @have " + (" and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else parts[0]) + "[| in {A.his} [pocket|piggy bank|wallet]].", A=a)
    s.ask("[How many cents {d} {w} have|How much money {d} {w} have in cents|What is the total value in cents|How many cents is that]?", d=a.does, w=a.he)
    values = [s.step("The {c} are worth {eq} cents.", mul(k, v), c=c) for c, v, k in held]
    if len(values) > 1:
        s.step("The total is {eq} cents.", add(*values))


def subscription(s: Scene) -> None:
    a, p = s.person(first=0.06), s.price(3, s.pick([20, 90]), 0.15)
    what = s.pick(["gym membership", "phone plan", "streaming service", "magazine subscription", "music app", "internet plan", "club membership", "parking spot"])
    years = s.pick([1, 1, 1, 2, 3])
    fee = usd(s.wide(100))
    joined = s.p(0.45)
    s.say("{A} @pay {p} [a|per|each|every] month for [a|{A.his}] {w}[| plus a [one-time|joining|sign-up] fee of {f}|].".replace("[| plus a [one-time|joining|sign-up] fee of {f}|]", " plus a [one-time|joining|sign-up|setup] fee of {f}" if joined else ""),
          A=a, p=p, w=what, f=fee)
    s.ask("How much {d} {w} [pay|spend] [in|over] {y}?", d=a.does, w=a.he, y=s.text("[a|one] year") if years == 1 else s.text("{k} years", k=years))
    months = 12
    if years > 1:
        months = whole(s.step("{k} years are {eq} months.", mul(years, 12), k=years))
    t = s.step("The monthly payments are {eq}." if joined else "{A} {v} {eq}.", mul(months, p), A=a, v="pay" if a.first else "pays")
    if joined:
        s.step("The total is {eq}.", add(t, fee))


def price_compare(s: Scene) -> None:
    g, h = s.r.sample(lex.GOODS, 2)
    p = s.price(2, 60, 0.15)
    kind = s.n(0, 2)
    if kind == 0:
        d = s.price(1, 20, 0.15)
        s.say(s.pick(["A {g.one} costs {p}. A {h.one} costs {d} more[| than the {g.one}].", "A {h.one} costs {d} more than a {g.one}. [The|A] {g.one} costs {p}."]), g=g, h=h, p=p, d=d)
        eq = add(p, d)
    elif kind == 1:
        d = usd(s.n(1, max(1, int(p.v) - 1)))
        s.say(s.pick(["A {g.one} costs {p}. A {h.one} costs {d} less[| than the {g.one}].", "A {h.one} is {d} cheaper than a {g.one}, which costs {p}."]), g=g, h=h, p=p, d=d)
        eq = sub(p, d)
    else:
        k = s.n(2, 6)
        s.say(s.pick(["A {g.one} costs {p}. A {h.one} costs {t} as much[| as the {g.one}].", "A {h.one} costs {t} as much as a {g.one}. [The|A] {g.one} costs {p}."]), g=g, h=h, p=p, t=s.times(k))
        eq = mul(p, k)
    y = s.step("The {h.one} costs {eq}.", eq, h=h)
    u = s.n(0, 3)
    if u == 0:
        s.ask("How much does [the|a] {h.one} cost?", h=h)
    elif u <= 2:
        s.ask("[How much do they cost together|How much do [both|the two] cost [together|in total]|What is the total cost of [both|the two]|How much is it for both]?")
        s.step("Together they cost {eq}.", add(p, y))
    else:
        k, m = s.n(2, 6), s.n(2, 6)
        s.ask("How much do {k} {g} and {m} {h} cost[| together| in total]?", k=k, m=m, g=g, h=h)
        c = s.step("The {g} cost {eq}.", mul(k, p), g=g)
        d = s.step("The {h} cost {eq}.", mul(m, y), h=h)
        s.step("The total is {eq}.", add(c, d))


def fundraiser(s: Scene) -> None:
    names = [s.person(role=0.0) for _ in range(3)]
    x, kind = usd(s.wide(200)), s.n(0, 2)
    goal = s.p(0.35)
    s.say("{A} @raise {x}[| for charity| for the school| for a trip].", A=names[0], x=x)
    if kind == 0:
        k, d = s.pick([2, 3]), usd(s.wide(50))
        s.say("{B} @raise {t} as much as {A}, and {C} @raise {d} more than {B}.", A=names[0], B=names[1], C=names[2], t=s.times(k), d=d)
        y = s.step("{B} raises {eq}.", mul(x, k), B=names[1])
        z = s.step("{C} raises {eq}.", add(y, d), C=names[2])
    else:
        d, e = usd(s.wide(60)), usd(s.wide(60))
        s.say("{B} @raise {d} more than {A}. {C} @raise {e} more than {B}.", A=names[0], B=names[1], C=names[2], d=d, e=e)
        y = s.step("{B} raises {eq}.", add(x, d), B=names[1])
        z = s.step("{C} raises {eq}.", add(y, e), C=names[2])
    total = s.step("Together they raise {eq}.", add(x, y, z))
    if goal:
        g = usd(total.v + s.wide(200))
        s.say("[Their goal is|They need|They want to raise] {g}.", g=g)
        s.ask("How much more [money |]do they need?")
        s.step("They need {eq} more.", sub(g, total))
    else:
        s.ask("How much [money |]did they raise [together|in total|altogether|in all]?")


FAMILIES = [(purchase, 6.0), (simple_spend, 3.0), (savings, 2.5), (wages, 3.0), (discount, 2.0), (unit_price, 1.5), (profit, 1.5),
            (split_bill, 1.0), (afford, 1.5), (tickets, 1.2), (coins, 0.8), (subscription, 0.8), (price_compare, 1.2), (fundraiser, 0.7)]
