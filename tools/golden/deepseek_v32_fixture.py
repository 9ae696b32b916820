#!/usr/bin/env python3
"""Writes tests/text/fixtures/deepseek-v32.json: conversations as DeepSeek-V3.2's published encoding writes them.

    python tools/golden/deepseek_v32_fixture.py encoding_dsv32.py

The argument is that code, which the published folders hold and the PyPI package sglang carries as
sglang/srt/entrypoints/openai/encoding_dsv32.py. sglang's copy (0.5.10) lost the blank lines of the text that offers
tools; they are put back as the published folders' own test outputs have them.
"""

import importlib.util
import json
import pathlib
import sys

import chat_conversations
from chat_conversations import CALL, CALL_TEXT, SUM, TOOLS, WEATHER, assistant, call, system, user

# What follows a blank line in the published text.
AFTER_BLANK = ("You have access to", "String and scalar", "If the thinking_mode", "<{dsml_token}function_calls>\n...",
               "<function_results>\n...", "{thinking_start_token}...", "Here are the functions")


def load(path):
    spec = importlib.util.spec_from_file_location("encoding_dsv32", path)
    encoding = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(encoding)
    text = encoding.TOOLS_SYSTEM_TEMPLATE
    if "\n\n" not in text:
        for start in AFTER_BLANK:
            if text.count("\n" + start) != 1:
                raise SystemExit(f"the encoding's text on tools has no single line that begins {start!r}")
            text = text.replace("\n" + start, "\n\n" + start)
    encoding.TOOLS_SYSTEM_TEMPLATE = text
    return encoding


def tool(content):
    return {"role": "tool", "content": content}


def developer(content, **more):
    return {"role": "developer", "content": content} | more


SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object", "ü": [1.5, None]}}}
OWN = [
    ("thinking across calls", [system("s"), user("a"), assistant("", reasoning_content="first", tool_calls=[CALL]),
                               tool("1"), assistant("", reasoning_content="second", tool_calls=[CALL_TEXT]), tool("2"),
                               assistant("so", reasoning_content="third")], None),
    ("thinking behind old calls", [user("a"), assistant("x", reasoning_content="old", tool_calls=[CALL]), tool("1"),
                                   assistant("y", reasoning_content="older"), user("b")], None),
    ("calls without reasoning", [user("a"), assistant("", tool_calls=[CALL_TEXT]), tool("1")], None),
    ("reasoning with a last word", [user("a"), assistant("b"), user("c"), assistant("d", reasoning_content="r")], None),
    ("no reasoning behind the question", [user("a"), assistant("b")], None),
    ("fewer results than calls", [user("a"), assistant("", tool_calls=[CALL, CALL_TEXT]), tool("1")], None),
    ("more results than calls", [user("a"), assistant("", tool_calls=[CALL]), tool("1"), tool("2")], None),
    ("a result of nothing", [user("a"), tool("1")], None),
    ("no arguments", [user("a"), assistant("", tool_calls=[call("now", {}, "1"), call("now", "{}", "2")]), tool("1"),
                      tool("2")], None),
    ("arguments of every kind", [user("a"), assistant("", tool_calls=[call("f", json.dumps(
        {"text": "a\"b\n<c>", "true": True, "none": None, "number": -1.5e-7, "list": ["x", 1, {"ü": "é"}], "": {}}),
        "1")]), tool("{}")], None),
    ("arguments that are a list", [user("a"), assistant("", tool_calls=[call("f", "[1]", "1")])], None),
    ("a format asked for", [dict(system("s"), response_format=SCHEMA), user("a")], None),
    ("a system message's own tools", [dict(system("s"), tools=[SUM], response_format=SCHEMA), user("a")], None),
    ("a developer's tools", [developer("do", tools=[WEATHER], response_format=SCHEMA)], None),
    ("a developer before the question", [developer("do"), assistant("y"), user("x")], None),
    ("an empty developer message", [developer("")], None),
    ("a late system message with tools", [user("a"), dict(system("b"), tools=[SUM]), user("c")], None),
]


def render(encoding, messages, tools, thinking):
    """As sglang calls it: the request's tools go into the first system message, and arguments are JSON texts."""
    messages = json.loads(json.dumps(messages))
    for message in messages:
        for made in message.get("tool_calls") or []:
            arguments = made["function"]["arguments"]
            made["function"]["arguments"] = arguments if isinstance(arguments, str) else json.dumps(arguments)
    if messages[0]["role"] != "system":
        messages.insert(0, system(""))
    if tools:
        messages[0]["tools"] = tools
    try:
        return encoding.encode_messages(messages, "thinking" if thinking else "chat")
    except (encoding.DS32EncodingError, NotImplementedError, AttributeError):
        return None


def main():
    encoding = load(sys.argv[1])
    cases = []
    # Content that is no text is printed there as Python shows it, and None as "None".
    dull = ("turns", "two questions", "empty calls", "null calls", "answer first", "only system", "no tools offered")
    usual = [c for c in chat_conversations.CONVERSATIONS if c[0] not in dull]
    for name, messages, tools in usual + OWN:
        if any(message["role"] != "assistant" and not isinstance(message["content"], str) for message in messages):
            continue
        texts = [render(encoding, messages, tools, thinking) for thinking in (False, True)]
        cases.append([name, messages, tools, *texts])
    # The text on tools stands once in the file.
    offer = encoding.render_tools([]).split("<functions>")[0]
    for case in cases:
        case[3:] = [text and text.replace(offer, "@OFFER@") for text in case[3:]]
    path = pathlib.Path(__file__).resolve().parents[2] / "tests" / "text" / "fixtures" / "deepseek-v32.json"
    path.write_text(json.dumps({"offer": offer, "cases": cases}, ensure_ascii=False, separators=(",", ":")) + "\n",
                    encoding="utf-8")
    print(len(cases), "conversations,", path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
