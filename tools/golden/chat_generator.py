"""Random templates, most of them valid, for comparisons with jinja2."""

import copy
import random

VALUES = [
    "0", "1", "-1", "2", "3", "7", "10", "1.5", "-2.5", "0.1", "1e3", "1e20", "1_000", "true", "false", "none", "''",
    "'a'", "'abc'", "'a b  c'", "'Hello World'", "' x\\n'", "'ÀßŒé'", "'<b>&\"'", "'1,2,3'", "'12'", "'3.7'", "'0x1f'",
    "'it\\'s'", "'%s-%d'", "'{}:{}'", "'a\\tb'", "'日本語'", "[]", "[1, 2, 3]", "['b', 'a', 'C']", "[3, 1.5, true]",
    "[[1, 2], [3]]", "()", "(1,)", "('x', 'y')", "{}", "{'a': 1, 'b': 'x'}", "{1: 'one', 'k': [1, none]}", "missing",
    "text", "number", "people", "mapping", "messages", "messages[0]", "people[0]", "range(4)", "range(5, 0, -2)", "loop",
    "ns.x", "ns", "v", "w", "tools", "bos_token", "people|map(attribute='name')", "mapping.items()", "mapping.keys()",
]  # fmt: skip
BINARY = ["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or"]
FILTERS = [
    "abs", "attr('a')", "batch(2)|list", "batch(3, 0)|list", "capitalize", "center(9)", "count", "default('d')",
    "default('d', true)", "dictsort", "dictsort(false, 'value')", "dictsort(reverse=true)", "e", "first", "float",
    "float(2)", "format(1, 2)", "format('x')", "groupby('age')", "groupby('name')|map('last')|list", "indent",
    "indent(2, true)", "indent('> ', blank=true)", "int", "int(5)", "int(0, 16)", "items|list", "join", "join(', ')",
    "join('-', attribute='name')", "last", "length", "list", "lower", "map('upper')|list", "map('int')|list",
    "map(attribute='name')|list", "map(attribute='zip', default='?')|join(',')", "map('length')|list", "max", "min",
    "max(attribute='age')", "min(true)", "reject('odd')|list", "rejectattr('age')|list", "replace('a', 'XY')",
    "replace('', '-')", "replace('b', '', 1)", "reverse|list", "reverse", "round", "round(1)", "round(1, 'ceil')",
    "round(-1)", "round(2, 'floor')", "safe", "select|list", "select('string')|list", "select('gt', 1)|list",
    "selectattr('age', 'gt', 30)|list", "selectattr('name', 'in', ['Ann'])|map(attribute='name')|list", "slice(2)|list",
    "slice(2, 'f')|list", "sort", "sort(reverse=true)", "sort(attribute='age,name')|map(attribute='name')|list",
    "sort(case_sensitive=true)", "string", "sum", "sum(attribute='age')", "sum(start=10)", "title", "tojson",
    "tojson(indent=2)", "tojson(ensure_ascii=true)", "tojson(separators=(',', ':'))", "tojson(sort_keys=true)",
    "trim", "trim('a')", "truncate(5)", "truncate(8, true, '…', 0)", "truncate(4, false, '')", "unique|list", "upper",
    "wordcount", "forceescape", "nosuchfilter",
]  # fmt: skip
METHODS = [
    "strip()", "strip('a')", "lstrip()", "rstrip('c')", "split()", "split(',')", "split('b', 1)", "rsplit(none, 1)",
    "split(maxsplit=1)", "rsplit('b')", "splitlines()", "splitlines(true)", "startswith('a')", "endswith(('c', 'd'))",
    "startswith('b', 1)", "replace('a', 'b')", "replace('', '.', 2)", "upper()", "lower()", "title()", "capitalize()",
    "swapcase()", "join(['x', 'y'])", "find('b')", "rfind('b')", "index('b')", "count('a')", "count('')", "isdigit()",
    "isalpha()", "isupper()", "islower()", "isspace()", "isalnum()", "istitle()", "zfill(6)", "center(8, '*')",
    "center(7)", "ljust(5)", "rjust(6, '.')", "partition('b')", "rpartition(' ')", "removeprefix('a')",
    "removesuffix('c')", "format(1, 'two')", "format(number, text)", "expandtabs(4)", "items()", "keys()", "values()",
    "get('a')", "get('zz', 9)", "get(1)", "copy()", "append(1)", "pop()", "index(2)", "count(1)", "update({})", "a", "name",
    "is_integer()", "0", "x", "isidentifier()", "isprintable()", "isascii()", "isnumeric()", "isdecimal()",
]  # fmt: skip
TESTS = [
    "defined", "undefined", "none", "string", "number", "integer", "float", "boolean", "true", "false", "mapping",
    "sequence", "iterable", "callable", "odd", "even", "divisibleby 3", "divisibleby(2)", "eq 1", "equalto('a')",
    "ne 2", "lt 3", "gt(1)", "ge 1", "le 1", "in [1, 2, 'a']", "sameas true", "lower", "upper", "escaped", "filter",
    "nosuchtest", "== 1", "test",
]  # fmt: skip
SUBSCRIPTS = ["[0]", "[-1]", "[5]", "['a']", "['name']", "[1:]", "[:-1]", "[::-1]", "[::2]", "[1:3]", "[-2:]", "[none:2]",
              "[true]", "[missing]", "[1.5]", "[0, 1]"]  # fmt: skip
PEOPLE = [
    {"name": "Ann", "age": 31, "tags": ["x", "Y"]}, {"name": "bob", "age": 25, "tags": []},
    {"name": "Cid", "age": 31, "zip": "01"},
]  # fmt: skip
VARIABLES = {
    "text": "The quick, brown\tfox\n jumps\u00a0über", "number": 42, "people": PEOPLE,
    "mapping": {"b": 2, "a": {"c": [1, 2.5, None, True]}, "B": "bé\"'"},
}  # fmt: skip


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.loops = 0

    def pick(self, choices):
        return self.random.choice(choices)

    def expression(self, depth=3):
        kind = self.random.random()
        if depth == 0 or kind < 0.2:
            return self.pick(VALUES)
        inner = lambda: self.expression(depth - 1)
        if kind < 0.4:
            return f"({inner()})|{self.pick(FILTERS)}" if kind < 0.3 else f"{inner()}|{self.pick(FILTERS)}"
        if kind < 0.55:
            return f"({inner()}).{self.pick(METHODS)}"
        if kind < 0.62:
            # Not of constants: jinja2 folds their slices otherwise than it carries slices out.
            return f"([missing, {inner()}][1]){self.pick(SUBSCRIPTS)}"
        if kind < 0.70:
            return f"{inner()} is {self.pick(['', 'not '])}{self.pick(TESTS)}"
        if kind < 0.86:
            form = self.pick(["({} {} {})", "{} {} {}"])
            return form.format(inner(), self.pick(BINARY), inner())
        if kind < 0.89:
            return f"{self.pick(['not ', '-', '+'])}{inner()}"
        if kind < 0.92:
            return f"({inner()} if {inner()} else {inner()})"
        if kind < 0.93:
            return f"({inner()} if {inner()})"
        if kind < 0.96:
            return f"[{inner()}, {inner()}]"
        if kind < 0.98:
            key = self.pick(["1", "'z'", "none", "true"])
            return "{'k': " + inner() + ", " + key + ": " + inner() + "}"
        return f"{inner()} < {inner()} <= {inner()}"

    def tag(self, text):
        left, right = self.pick(["", "", "-", "+"]), self.pick(["", "", "-", "+"])
        return f"{{%{left} {text} {right}%}}"

    def output(self):
        return f"{{{{{self.pick(['', '-'])} {self.expression()} {self.pick(['', '-'])}}}}}"

    def body(self, depth):
        return "".join(self.statement(depth) for _ in range(self.random.randint(1, 3)))

    def statement(self, depth):
        space = self.pick(["", " ", "\n", "\n  ", " \n", "text ", "\r\n"])
        kind = self.random.random()
        if depth == 0 or kind < 0.35:
            return space + self.output()
        if kind < 0.5:
            target = self.pick(["v", "w", "ns.x", "text", "v, w", "number"])
            return space + self.tag(f"set {target} = {self.expression()}")
        if kind < 0.62:
            text = self.tag(f"if {self.expression(2)}") + self.body(depth - 1)
            if self.random.random() < 0.4:
                text += self.tag(f"elif {self.expression(1)}") + self.body(depth - 1)
            if self.random.random() < 0.5:
                text += self.tag("else") + self.body(depth - 1)
            return space + text + self.tag("endif")
        if kind < 0.8:
            return space + self.loop(depth)
        if kind < 0.86:
            name = self.pick(["m", "n"])
            macro = self.tag(f"macro {name}(v, w={self.expression(1)})") + self.body(depth - 1) + self.tag("endmacro")
            use = self.pick(["m(1)", "m('a', w=2)", "n()", "m(1, 2, 3)", "n(zz=1)", "n(text, number)", "m"])
            if self.random.random() < 0.3:
                macro = macro.replace("endmacro", "endmacro", 1)
                return space + macro + self.tag(f"call {name}(1)") + self.body(0) + self.tag("endcall")
            return space + macro + f"{{{{ {use} }}}}"
        if kind < 0.89:
            return space + self.tag("set v") + self.body(depth - 1) + self.tag("endset") + "{{ v }}"
        if kind < 0.92:
            name = self.pick(["upper", "trim", "indent(2)|title", "replace('a', 'b')"])
            return space + self.tag(f"filter {name}") + self.body(depth - 1) + self.tag("endfilter")
        if kind < 0.94:
            return space + self.tag("generation") + self.body(depth - 1) + self.tag("endgeneration")
        if kind < 0.96:
            return space + self.tag(f"with v = {self.expression(1)}") + self.body(depth - 1) + self.tag("endwith")
        if kind < 0.98:
            return space + f"{{#{self.pick(['', '-', '+'])} {{{{ x }}}} {self.pick(['', '-', '+'])}#}}\n"
        return space + self.tag("raw") + " {{ raw }} {% x %}\n" + self.tag("endraw")

    def loop(self, depth):
        target = self.pick(["v", "v", "w", "v, w", "(v, w)"])
        values = self.pick(["messages", "people", "mapping", "mapping.items()", "mapping|dictsort", "range(3)", "[1, 2, 3]",
                            "'abc'", "[]", "people|map(attribute='name')", "missing", self.expression(2)])  # fmt: skip
        head = f"for {target} in {values}"
        if self.random.random() < 0.25:
            head += f" if {self.expression(1)}"
        attribute = self.pick(["index", "index0", "first", "last", "length", "revindex", "revindex0", "previtem", "nextitem",
                               "depth", "cycle('a', 'b')", "changed(v)", "nosuch"])  # fmt: skip
        self.loops += 1
        text = self.tag(head) + self.body(depth - 1) + (f"{{{{ loop.{attribute} }}}}" if self.random.random() < 0.5 else "")
        if self.random.random() < 0.2:
            text += self.tag(f"if {self.expression(1)}") + self.tag(self.pick(["break", "continue"])) + self.tag("endif") + "z"
        self.loops -= 1
        if self.random.random() < 0.2:
            text += self.tag("else") + self.body(depth - 1)
        return text + self.tag("endfor")

    def template(self):
        if self.random.random() < 0.6:
            return f"{{{{ {self.expression()} }}}}"
        return "{% set ns = namespace(x=1) %}" + "".join(self.statement(3) for _ in range(self.random.randint(1, 4)))


def requests(count, seed):
    # Copies, because the filter indent of jinja2 changes a list that it is given.
    for number in range(seed, seed + count):
        yield f"seed {number}", {
            "template": Generator(number).template(),
            "messages": [{"role": "user", "content": "Hi <b>\n"}, {"role": "assistant", "content": "Hö"}],
            "tools": None, "add_generation_prompt": True, "variables": copy.deepcopy(VARIABLES), "tokens": {"bos_token": "<s>"},
        }  # fmt: skip
