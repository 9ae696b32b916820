"""Answers that match a schema, an expression, a grammar or one of several texts."""

import json
import re
import threading

import pytest
from conftest import TINY_GSM, needs_tiny_gsm, run
from test_serve import QUESTION, Served, chat_model, chatty, server, text_of  # noqa: F401  fixtures
from test_serve_protocols import events as named_events


def has_grammars():
    result = run("run", TINY_GSM, "--prompt", "x", "--max-tokens", 4, "--choice", "a", check=False)
    return b"xgrammar" not in result.stderr


pytestmark = [needs_tiny_gsm, pytest.mark.skipif(not has_grammars(), reason="this build has no xgrammar")]

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
        "sizes": {"type": "array", "items": {"type": "number"}, "maxItems": 3},
        "kind": {"enum": ["person", "apple"]},
    },
    "required": ["name", "age", "sizes", "kind"],
}


# Each definition refers to the next.
REFERENCES = {
    "$defs": {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(2500)} | {"d2500": {"type": "integer"}},
    "$ref": "#/$defs/d0",
}


def check_person(text):
    person = json.loads(text)
    assert list(person) == ["name", "age", "sizes", "kind"], text
    assert isinstance(person["name"], str) and len(person["name"]) <= 12
    assert type(person["age"]) is int and 0 <= person["age"] <= 99
    assert len(person["sizes"]) <= 3 and all(type(s) in (int, float) for s in person["sizes"])
    assert person["kind"] in ("person", "apple")


def choice_of(server, **body):  # noqa: F811
    return server.complete(prompt=QUESTION, **body)["choices"][0]


def test_a_schema_is_kept_at_any_temperature(server, chatty):  # noqa: F811
    forms = [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "p", "strict": True, "schema": PERSON}}},
        {"structured_outputs": {"json": PERSON}},
        {"guided_json": json.dumps(PERSON)},
    ]
    for form in forms:
        answer = server.complete(prompt=QUESTION, n=4, temperature=1.5, seed=3, max_tokens=900, **form)
        for choice in answer["choices"]:
            assert choice["finish_reason"] == "stop", choice
            check_person(choice["text"])
    body = {"messages": [{"role": "user", "content": "2 + 2?"}], "seed": 1, "max_tokens": 900} | forms[0]
    status, answer = chatty.ask("POST", "/v1/chat/completions", body)
    assert status == 200, answer
    check_person(answer["choices"][0]["message"]["content"])
    events = chatty.events("/v1/chat/completions", body)
    text = "".join(e["choices"][0]["delta"].get("content", "") for e in events[:-1] if e["choices"])
    assert text == answer["choices"][0]["message"]["content"]


def test_json_object_is_an_object(server):  # noqa: F811
    for seed in range(3):
        choice = choice_of(server, response_format={"type": "json_object"}, temperature=1, seed=seed, max_tokens=900)
        if choice["finish_reason"] == "stop":
            assert isinstance(json.loads(choice["text"]), dict)
        else:
            assert choice["text"].startswith("{")


@pytest.mark.parametrize("field", ["guided_regex", "regex", "structured_outputs"])
def test_an_expression_is_matched(server, field):  # noqa: F811
    pattern = r"Tom has [0-9]{1,3}( apples| pens)?\.\n#### (1[0-9]|[2-9]0)"
    value = {"regex": pattern} if field == "structured_outputs" else pattern
    for seed in range(4):
        choice = choice_of(server, temperature=2, seed=seed, **{field: value})
        assert re.fullmatch(pattern, choice["text"]) and choice["finish_reason"] == "stop"


def test_choices_and_grammars(server):  # noqa: F811
    texts = ["seven \"7\"", "twelve\n", "größer"]
    for seed in range(4):
        assert choice_of(server, guided_choice=texts, temperature=3, seed=seed)["text"] in texts
    grammar = 'root ::= "a" root "b" | "c"'
    text = choice_of(server, guided_grammar=grammar, temperature=2, seed=1, max_tokens=400)["text"]
    count = text.count("a")
    assert text == "a" * count + "c" + "b" * count


def test_a_grammar_never_ends_within(server):  # noqa: F811
    # Greedy decoding ends this answer long before; bias and stop texts go on to work.
    body = {"guided_regex": "[a-z0-9 ]{200}"}
    choice = choice_of(server, max_tokens=300, **body)
    assert choice["finish_reason"] == "stop" and re.fullmatch(body["guided_regex"], choice["text"])
    assert choice_of(server, max_tokens=5, **body)["finish_reason"] == "length"
    letters = server.ask("POST", "/tokenize", {"prompt": "z", "add_special_tokens": False})[1]["tokens"]
    choice = choice_of(server, max_tokens=9, logit_bias={str(letters[0]): 1000}, **body)
    assert choice["text"] == "z" * 9
    assert choice_of(server, max_tokens=9, logit_bias={str(letters[0]): 1000}, stop=["zzz"], **body)["text"] == ""


@pytest.mark.parametrize(
    ("body", "param", "word"),
    [
        ({"guided_regex": "("}, "guided_regex", "parenthesis"),
        ({"guided_grammar": "start ::= \"a\""}, "guided_grammar", "root"),
        ({"guided_grammar": 'root ::= "a" "b"{3} []', "max_tokens": 9}, "guided_grammar", "allowed"),
        ({"guided_json": "{"}, "guided_json", "JSON"),
        ({"guided_json": 7}, "guided_json", "schema"),
        ({"guided_choice": []}, "guided_choice", "texts"),
        ({"guided_choice": ["a", ""]}, "guided_choice", "empty"),
        ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice", "one field"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos", "false"),
        ({"structured_outputs": {"jsn": {}}}, "structured_outputs.jsn", "regex"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema", "schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "integer", "minimum": 5, "maximum": 3}}}},
         "response_format", "minimum"),
        ({"guided_regex": "a" * 200_000}, "guided_regex", "bytes"),
        ({"guided_json": REFERENCES}, "guided_json", "at most 1000 references"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(server, body, param, word):  # noqa: F811
    status, answer = server.ask("POST", "/v1/completions", {"prompt": "x"} | body)
    assert status == 400, answer
    assert answer["error"]["param"] == param
    assert word in answer["error"]["message"] and "\n" not in answer["error"]["message"]


# Nothing may follow "abbb"; the whole answer is status 400, as above.
DEAD_END = {"guided_grammar": 'root ::= "a" "b"{3} []'}


def test_a_dead_end_ends_a_stream_with_an_error(server):  # noqa: F811
    *pieces, error, end = server.events("/v1/completions", DEAD_END | {"prompt": "x", "max_tokens": 9})
    assert end == "[DONE]" and text_of([*pieces, end]) == "abbb"
    assert error["error"]["type"] == "invalid_request_error" and error["error"]["param"] == "guided_grammar"
    assert "allowed" in error["error"]["message"]


def test_a_dead_end_in_events_with_names(chatty):  # noqa: F811
    found = named_events(chatty, "/v1/responses", DEAD_END | {"input": "x"})
    assert [data["delta"] for name, data in found if name == "response.output_text.delta"]
    name, last = found[-1]
    assert name == "response.failed" and "allowed" in last["response"]["error"]["message"]
    found = named_events(chatty, "/v1/messages", DEAD_END | {"messages": [{"role": "user", "content": "x"}], "max_tokens": 9})
    name, last = found[-1]
    assert name == "error" and last["error"]["type"] == "invalid_request_error" and "allowed" in last["error"]["message"]


def test_a_hostile_grammar_stalls_nobody():
    server = Served(TINY_GSM, "--grammar-timeout", 1)  # noqa: F811
    hostile = "|".join("[a-z]{1,%d}[0-9]{2,%d}.*x" % (i % 97 + 2, i % 89 + 3) for i in range(3000))
    found = []
    thread = threading.Thread(
        target=lambda: found.append(server.ask("POST", "/v1/completions", {"prompt": "x", "guided_regex": hostile}))
    )
    thread.start()
    while thread.is_alive():
        assert choice_of(server, guided_regex="[ab]{3}", max_tokens=4)["finish_reason"] == "stop"
    assert found[0][0] == 400 and "compiled within 1 s" in found[0][1]["error"]["message"]
    server.end()


def test_streams_with_and_without_grammars_run_together(server):  # noqa: F811
    bodies = [{"prompt": QUESTION, "temperature": 1, "seed": i, "max_tokens": 60} for i in range(12)]
    for i, body in enumerate(bodies):
        if i % 3 == 0:
            body["guided_regex"] = "[A-Z][a-z ]{20,30}\\."
        elif i % 3 == 1:
            body["guided_choice"] = ["yes", "no"]
    alone = [server.complete(**b)["choices"][0]["text"] for b in bodies]
    found = [None] * len(bodies)

    def ask(i):
        found[i] = text_of(server.events("/v1/completions", bodies[i]))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone


def test_the_command_line(tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(PERSON))
    text = run("run", TINY_GSM, "--prompt", QUESTION, "--json-schema", schema, "--temperature", 1, "--max-tokens", 900).stdout
    check_person(text.decode())
    out = run("run", TINY_GSM, "--prompt", QUESTION, "--regex", "#### [0-9]+").stdout.decode()
    assert re.fullmatch("#### [0-9]+\n", out)
    assert run("run", TINY_GSM, "--prompt", QUESTION, "--choice", "7", "--choice", "seven").stdout in (b"7\n", b"seven\n")
    rules = tmp_path / "rules"
    rules.write_text('root ::= "x" [0-9]')
    assert re.fullmatch("x[0-9]\n", run("run", TINY_GSM, "--prompt", "x", "--grammar", rules).stdout.decode())
    result = run("run", TINY_GSM, "--prompt", "x", "--regex", "(", check=False)
    assert result.returncode == 2 and b"parenthesis" in result.stderr
    result = run("run", TINY_GSM, "--prompt", "x", "--regex", "a", "--choice", "b", check=False)
    assert result.returncode == 2
    result = run("run", TINY_GSM, "--prompt", "x", "--json-schema", tmp_path / "none", check=False)
    assert result.returncode == 18
