"""mxmla serve, asked by the clients that OpenAI and Anthropic publish. They are from PyPI: MXMLA_CLIENTS names the
folder they are in where Python does not find them by itself."""

import glob
import json
import os
import re
import subprocess
import sys
import threading
import time

import pytest
from conftest import REPOSITORY, TINY_GSM, needs_tiny_gsm

sys.path.extend(glob.glob(os.environ.get("MXMLA_CLIENTS", "")))
openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")

from test_serve import QUESTION, Served  # noqa: E402

SCRIPTED = os.environ.get("MXMLA_SCRIPTED_SERVER", str(REPOSITORY / "build/tests/serve/mxmla_scripted_server"))
PARAMETERS = {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}}
SAY = (
    "[say]<think>Rome, they say.</think>Let me look.<tool_call>weather<arg_key>place</arg_key><arg_value>Rome"
    "</arg_value><arg_key>days</arg_key><arg_value>2</arg_value></tool_call><tool_call>time</tool_call>[/say]"
)
CHAT_TOOLS = [
    {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "time"}},
]
RESPONSE_TOOLS = [
    {"type": "function", "name": "weather", "description": "The weather.", "parameters": PARAMETERS, "strict": False},
    {"type": "function", "name": "time", "parameters": None, "strict": False},
]
MESSAGES_TOOLS = [
    {"name": "weather", "description": "The weather.", "input_schema": PARAMETERS},
    {"name": "time", "input_schema": {"type": "object"}},
]


def user(text):
    return [{"role": "user", "content": text}]


@pytest.fixture(scope="module")
def scripted():
    """The port of a server whose model says what stands between [say] and [/say]."""
    process = subprocess.Popen([SCRIPTED], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield int(re.search(r":(\d+)$", process.stdout.readline().decode().strip()).group(1))
    process.stdin.close()
    assert process.wait(timeout=60) == 0


@pytest.fixture
def chat(scripted):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{scripted}/v1", api_key="key", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(scripted):
    with anthropic.Anthropic(base_url=f"http://127.0.0.1:{scripted}", api_key="key", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def tiny():
    if not (TINY_GSM / "config.json").exists():
        pytest.skip("models/tiny-gsm is not in this checkout")
    served = Served(TINY_GSM, "--max-sequences", 4)
    yield served
    served.end()


@pytest.fixture
def completions(tiny):
    with openai.OpenAI(base_url=f"http://127.0.0.1:{tiny.port}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_chat_and_its_stream(chat):
    answer = chat.chat.completions.create(model="scripted", messages=user("[say]Hello, 世界![/say]"))
    assert answer.choices[0].message.content == "Hello, 世界!"
    assert answer.choices[0].finish_reason == "stop" and answer.usage.completion_tokens == len("Hello, 世界!".encode())
    with chat.chat.completions.create(
        model="scripted", messages=user("[say]Hello, 世界![/say]"), stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "Hello, 世界!"
    assert chunks[-1].usage == answer.usage


def test_chat_tools_and_a_second_turn(chat):
    answer = chat.chat.completions.create(model="scripted", messages=user(SAY), tools=CHAT_TOOLS)
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls" and message.reasoning_content == "Rome, they say."
    assert [c.function.name for c in message.tool_calls] == ["weather", "time"]
    assert json.loads(message.tool_calls[0].function.arguments) == {"place": "Rome", "days": 2}
    calls = {}
    for chunk in chat.chat.completions.create(model="scripted", messages=user(SAY), tools=CHAT_TOOLS, stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            entry = calls.setdefault(call.index, {"id": call.id, "name": "", "arguments": ""})
            entry["name"] += call.function.name or ""
            entry["arguments"] += call.function.arguments or ""
    assert [(c["name"], json.loads(c["arguments"])) for c in calls.values()] == [
        ("weather", {"place": "Rome", "days": 2}),
        ("time", {}),
    ]
    with chat.chat.completions.stream(model="scripted", messages=user(SAY), tools=CHAT_TOOLS) as stream:
        final = stream.get_final_completion()
    assert [c.function.arguments for c in final.choices[0].message.tool_calls] == [
        c.function.arguments for c in message.tool_calls
    ]
    turns = user(SAY) + [message.model_dump(exclude_none=True)]
    turns += [{"role": "tool", "tool_call_id": c.id, "content": "noon"} for c in message.tool_calls]
    turns += user("[say]Thanks.[/say]")
    answer = chat.chat.completions.create(model="scripted", messages=turns, tools=CHAT_TOOLS)
    assert answer.choices[0].message.content == "Thanks."


def test_choices_and_log_probabilities(chat):
    asked = dict(model="scripted", messages=user("[say]ab[/say]"), n=3, logprobs=True, top_logprobs=2)
    answer = chat.chat.completions.create(**asked)
    assert [c.message.content for c in answer.choices] == ["ab"] * 3
    tokens = {i: [] for i in range(3)}
    for chunk in chat.chat.completions.create(**asked, stream=True):
        choice = chunk.choices[0]
        tokens[choice.index] += choice.logprobs.content
    for choice in answer.choices:
        assert tokens[choice.index] == choice.logprobs.content and len(choice.logprobs.content[0].top_logprobs) == 2


def test_responses(chat):
    asked = dict(model="scripted", input=SAY, tools=RESPONSE_TOOLS, instructions="Be brief.")
    answer = chat.responses.create(**asked)
    assert [o.type for o in answer.output] == ["reasoning", "message", "function_call", "function_call"]
    assert answer.output_text == "Let me look." and answer.status == "completed"
    with chat.responses.stream(**asked) as stream:
        events = [e.type for e in stream]
        final = stream.get_final_response()
    assert events[0] == "response.created" and events[-1] == "response.completed"
    assert [o.type for o in final.output] == [o.type for o in answer.output]
    assert final.output[2].arguments == answer.output[2].arguments and final.usage.output_tokens > 0
    items = [{"role": "user", "content": "Rome?"}] + [o.model_dump(exclude_none=True) for o in answer.output]
    items += [{"type": "function_call_output", "call_id": o.call_id, "output": "noon"} for o in answer.output[2:]]
    items += [{"role": "user", "content": "[say]Thanks.[/say]"}]
    assert chat.responses.create(model="scripted", input=items, tools=RESPONSE_TOOLS).output_text == "Thanks."
    cut = chat.responses.create(model="scripted", input="[say]one two[/say]", max_output_tokens=3)
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens"


def test_responses_that_are_kept(chat):
    first = chat.responses.create(model="scripted", input=SAY, tools=RESPONSE_TOOLS, instructions="Be brief.")
    assert first.store and chat.responses.retrieve(first.id).output == first.output
    results = [{"type": "function_call_output", "call_id": o.call_id, "output": "noon"} for o in first.output[2:]]
    results += user("[say]Thanks.[/say]")
    with chat.responses.stream(
        model="scripted", input=results, tools=RESPONSE_TOOLS, previous_response_id=first.id
    ) as stream:
        second = stream.get_final_response()
    assert second.output_text == "Thanks." and second.previous_response_id == first.id
    assert second.usage.input_tokens > first.usage.input_tokens
    items = list(chat.responses.input_items.list(second.id, order="asc", limit=2))  # asks for page after page
    assert [item.id for item in items[1 : 1 + len(first.output)]] == [item.id for item in first.output]
    assert items[0].content[0].text == SAY and items[-1].content[0].text == "[say]Thanks.[/say]"
    assert list(chat.responses.input_items.list(second.id)) == items[::-1]
    chat.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        chat.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError) as refused:
        chat.responses.create(model="scripted", input="x", previous_response_id=first.id)
    assert refused.value.code == "previous_response_not_found"
    third = chat.responses.create(model="scripted", input="[say]x[/say]", previous_response_id=second.id, store=False)
    with pytest.raises(openai.NotFoundError):
        chat.responses.retrieve(third.id)


def test_arguments_come_in_pieces(chat, claude):
    asked = dict(model="scripted", messages=user(SAY), tools=CHAT_TOOLS)
    with chat.chat.completions.stream(**asked) as stream:
        pieces = [e.arguments_delta for e in stream if e.type == "tool_calls.function.arguments.delta"]
    assert len(pieces) > 4 and "".join(pieces) == '{"place": "Rome", "days": 2}{}'
    with chat.responses.stream(model="scripted", input=SAY, tools=RESPONSE_TOOLS) as stream:
        pieces = [e.delta for e in stream if e.type == "response.function_call_arguments.delta"]
    assert len(pieces) > 4 and "".join(pieces) == '{"place": "Rome", "days": 2}{}'
    with claude.messages.stream(model="scripted", max_tokens=500, messages=user(SAY), tools=MESSAGES_TOOLS) as stream:
        pieces = [e.partial_json for e in stream if e.type == "input_json"]
    assert len(pieces) > 4 and "".join(pieces) == '{"place": "Rome", "days": 2}{}'


def test_calls_that_are_spoiled(chat, claude):
    """After their beginning has gone out: nobody takes them for whole ones."""
    begin = "<tool_call>weather<arg_key>place</arg_key><arg_value>Rome</arg_value>"
    say = f"[say]{begin}oh</tool_call>[/say]"
    whole = chat.chat.completions.create(model="scripted", messages=user(say), tools=CHAT_TOOLS).choices[0]
    assert whole.message.content == f"{begin}oh</tool_call>" and not whole.message.tool_calls
    with chat.chat.completions.stream(model="scripted", messages=user(say), tools=CHAT_TOOLS) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "stop" and choice.message.content == whole.message.content
    with pytest.raises(json.JSONDecodeError):
        json.loads(choice.message.tool_calls[0].function.arguments)
    with chat.responses.stream(model="scripted", input=say, tools=RESPONSE_TOOLS) as stream:
        response = stream.get_final_response()
    assert [(o.type, o.status) for o in response.output] == [("function_call", "incomplete"), ("message", "completed")]
    asked = dict(model="scripted", messages=user(say), tools=MESSAGES_TOOLS)
    with pytest.raises(anthropic.APIStatusError, match="call of weather"):
        with claude.messages.stream(max_tokens=500, **asked) as stream:
            stream.get_final_message()
    with claude.messages.stream(max_tokens=22, **asked) as stream:
        final = stream.get_final_message()
    assert final.stop_reason == "max_tokens" and final.content[0].type == "tool_use"


def test_messages(claude):
    asked = dict(model="scripted", max_tokens=500, messages=user(SAY), tools=MESSAGES_TOOLS, system="Be brief.")
    answer = claude.messages.create(**asked)
    assert [b.type for b in answer.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert answer.stop_reason == "tool_use" and answer.content[2].input == {"place": "Rome", "days": 2}
    with claude.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "Let me look." and final.stop_reason == "tool_use"
    assert [b.type for b in final.content] == [b.type for b in answer.content]
    assert final.content[2].input == answer.content[2].input and final.content[0].thinking == "Rome, they say."
    assert final.usage.output_tokens == answer.usage.output_tokens
    counted = claude.messages.count_tokens(model="scripted", messages=user(SAY), tools=MESSAGES_TOOLS, system="Be brief.")
    assert counted.input_tokens == answer.usage.input_tokens + answer.usage.cache_read_input_tokens
    results = [{"type": "tool_result", "tool_use_id": b.id, "content": "noon"} for b in answer.content[2:]]
    turns = user(SAY) + [{"role": "assistant", "content": [b.model_dump() for b in answer.content]}]
    turns += [{"role": "user", "content": results + [{"type": "text", "text": "[say]Thanks.[/say]"}]}]
    again = claude.messages.create(model="scripted", max_tokens=50, messages=turns, tools=MESSAGES_TOOLS)
    assert again.content[0].text == "Thanks." and again.stop_reason == "end_turn"
    stopped = claude.messages.create(
        model="scripted", max_tokens=50, messages=user("[say]one two[/say]"), stop_sequences=["two"]
    )
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "two")


def test_errors(chat, claude, scripted):
    with pytest.raises(openai.BadRequestError) as refused:
        chat.chat.completions.create(model="scripted", messages=user("x"), temperature=-1)
    assert refused.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        chat.chat.completions.create(model="gpt", messages=user("x"))
    with pytest.raises(openai.InternalServerError):
        chat.chat.completions.create(model="scripted", messages=user("[say][error][/say]"))
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"http://127.0.0.1:{scripted}/v1", api_key="wrong").models.list()
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.create(model="scripted", max_tokens=5, messages=[])
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="claude", max_tokens=5, messages=user("x"))
    with pytest.raises(anthropic.InternalServerError):
        claude.messages.create(model="scripted", max_tokens=5, messages=user("[say][error][/say]"))
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=f"http://127.0.0.1:{scripted}", api_key="wrong").messages.create(
            model="scripted", max_tokens=5, messages=user("x")
        )


def wait_until_free(served):
    deadline = time.time() + 60
    while served.metric("mxmla_requests_open") > 0:
        assert time.time() < deadline
        time.sleep(0.01)


@needs_tiny_gsm
def test_a_model_and_its_list(completions):
    assert [m.id for m in completions.models.list()] == ["tiny-gsm"]
    answer = completions.completions.create(model="tiny-gsm", prompt=QUESTION, temperature=0, max_tokens=64)
    assert answer.choices[0].text.endswith("#### 12")
    text = ""
    for event in completions.completions.create(
        model="tiny-gsm", prompt=QUESTION, temperature=0, max_tokens=64, stream=True
    ):
        text += event.choices[0].text
    assert text == answer.choices[0].text


@needs_tiny_gsm
def test_time_outs_and_cancellation_free_the_request(completions, tiny):
    long = dict(model="tiny-gsm", prompt="x", max_tokens=1000, extra_body={"ignore_eos": True})
    with pytest.raises(openai.APITimeoutError):
        completions.with_options(timeout=0.1).completions.create(**long)
    wait_until_free(tiny)
    with completions.completions.create(**long, stream=True) as stream:
        for count, _ in enumerate(stream):
            if count == 3:
                break
    wait_until_free(tiny)


@needs_tiny_gsm
def test_many_clients_at_once(completions):
    found = {}

    def ask(i):
        found[i] = completions.completions.create(
            model="tiny-gsm", prompt=QUESTION.replace("5", str(i)), temperature=0, max_tokens=40
        ).choices[0].text

    for i in range(2, 10):
        ask(i)
    alone = dict(found)
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == alone
