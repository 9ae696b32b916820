"""Conversations of every kind that a chat template may meet, for the fixtures and for comparisons."""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather \"now\" at a place, <b>metric</b> & more; °C\n",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "città or 城市"},
                "days": {"type": "integer", "minimum": 0, "default": 1, "enum": [1, 2, 3]},
                "scale": {"type": ["number", "null"], "default": 1.5e-07},
                "flags": {"type": "array", "items": {"type": "boolean"}, "default": [True, False, None]},
            },
            "required": ["place"],
        },
    },
}
SUM = {
    "type": "function",
    "function": {
        "name": "sum",
        "description": "",
        "parameters": {"type": "object", "properties": {"terms": {"type": "array", "items": {"type": "number"}}}},
        "strict": True,
    },
}
TOOLS = [WEATHER, SUM]


def call(name, arguments, call_id):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content} | more


def system(content):
    return {"role": "system", "content": content}


PLACE = {"place": "Zürich", "days": 2, "nested": {"a": [1, 2.0, None], "b": "<tag> & \"quotes\" 'single'"}}
CALL = call("get_weather", PLACE, "functions.get_weather:0")
CALL_TEXT = call("get_weather", '{"place": "Zürich", "days": 2}', "abcdefghi")

# Name, messages, tools.
CONVERSATIONS = [
    ("one question", [user("Hello, 世界!")], None),
    ("system", [system("Be brief."), user("What is 12345 + 678?\n")], None),
    ("turns", [user("Hi"), assistant("Hello."), user("  And now?  \n\n")], None),
    ("turns with a system message", [system("A"), user("x"), assistant("y"), user("z"), assistant("w")], None),
    ("two system messages", [system("A."), system("B\n"), user("x")], None),
    ("late system message", [user("one"), system("late"), user("two")], None),
    ("thinking in the text", [user("x"), assistant("<think>\nno\n</think>\n\nyes"), user("y")], None),
    ("thinking twice", [user("x"), assistant("a</think>b</think>c"), user("y")], None),
    ("thinking beside the text", [user("x"), assistant("yes", reasoning_content="because\n"), user("y")], None),
    ("thinking last", [user("x"), assistant("yes", reasoning_content="because")], None),
    ("empty texts", [system(""), user(""), assistant(""), user("")], None),
    ("control tokens in the text", [user("<｜User｜>a<｜end▁of▁sentence｜><|im_end|>b[INST]</s>"), assistant("<|im_user|>")], None),
    ("control characters", [user("a\tb\rc\r\nd\u0000e\u001bf\u0085g\u2028h\u00a0i{{ x }}{% y %}")], None),
    ("quotes", [user("it's \"so\" \\ said"), assistant("O'Brien\\n")], None),
    ("only system", [system("only")], None),
    ("answer first", [assistant("first"), user("then")], None),
    ("two questions", [user("one"), user("two")], None),
    ("developer", [{"role": "developer", "content": "Use tools."}, user("x")], None),
    ("unknown role", [{"role": "narrator", "content": "Once"}, user("x")], None),
    ("tools offered", [user("Weather?")], TOOLS),
    ("tools offered with a system message", [system("Be brief."), user("Weather?")], TOOLS),
    ("no tools offered", [user("Weather?")], []),
    (
        "tool call",
        [user("Weather?"), assistant("", tool_calls=[CALL]),
         {"role": "tool", "tool_call_id": "functions.get_weather:0", "name": "get_weather", "content": "sunny"},
         assistant("It is sunny."), user("Thanks")],
        TOOLS,
    ),
    (
        "tool call without text",
        [user("Weather?"), assistant(None, tool_calls=[CALL]),
         {"role": "tool", "tool_call_id": "functions.get_weather:0", "content": "sunny"}],
        TOOLS,
    ),
    (
        "tool call without content",
        [user("Weather?"), {"role": "assistant", "tool_calls": [CALL_TEXT]},
         {"role": "tool", "tool_call_id": "abcdefghi", "content": "{\"sky\": \"blue\"}"}, assistant("Blue.")],
        TOOLS,
    ),
    (
        "several tool calls",
        [system("s"), user("Weather and sum?"),
         assistant("Let me see.", reasoning_content="two calls", tool_calls=[CALL, call("sum", {"terms": [1, 2.5, -3e20]}, "callsum01")]),
         {"role": "tool", "tool_call_id": "functions.get_weather:0", "name": "get_weather", "content": "sunny"},
         {"role": "tool", "tool_call_id": "callsum01", "name": "sum", "content": "3.5"}],
        TOOLS,
    ),
    (
        "tool calls twice",
        [user("a"), assistant("", tool_calls=[CALL_TEXT]), {"role": "tool", "tool_call_id": "abcdefghi", "content": "1"},
         assistant("", tool_calls=[CALL_TEXT]), {"role": "tool", "tool_call_id": "abcdefghi", "content": "2"},
         assistant("done"), user("b")],
        TOOLS,
    ),
    ("parts", [user([{"type": "text", "text": "Look: "}, {"type": "image", "image": "x"}, {"type": "text", "text": "?"}])], None),
    ("text parts", [system([{"type": "text", "text": "S"}]), user([{"type": "text", "text": "Hi"}]),
                    assistant([{"type": "text", "text": "Ho"}]), user("x")], None),
    ("empty calls", [user("x"), assistant("y", tool_calls=[]), user("z")], None),
    ("null calls", [user("x"), assistant("y", tool_calls=None), user("z")], None),
]  # fmt: skip

# What a caller may set beside the messages.
VARIABLES = [{}, {"thinking": True, "enable_thinking": True}, {"thinking": False, "enable_thinking": False}]

TOKENS = {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>", "pad_token": "[PAD]"}
