"""The APIs of mxmla serve on a model, by plain HTTP."""

import json
import shutil
import socket
import time

import pytest
from conftest import TINY_GSM, needs_tiny_gsm, run
from test_serve import JSON, Served

pytestmark = needs_tiny_gsm
TEMPLATE = (
    "{{ bos_token }}{% if tools %}{{ tools | tojson }}\n{% endif %}{% for m in messages %}{% if m.role == 'user' %}"
    "Question: {{ m.content }}\n{% else %}{{ m.content or '' }}{% for c in m.tool_calls or [] %}<tool_call>"
    "{{ c.function.name }}{% for k, v in c.function.arguments.items() %}<arg_key>{{ k }}</arg_key><arg_value>{{ v }}"
    "</arg_value>{% endfor %}</tool_call>{% endfor %}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Answer:{% endif %}"
)
ASK = "Tom has 5 apples. He buys 7 more. How many apples does Tom have now?"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    template = tmp_path_factory.mktemp("protocols") / "template.jinja"
    template.write_text(TEMPLATE)
    server = Served(TINY_GSM, "--chat-template", template, "--max-sequences", 4)
    yield server
    server.end()


def post(served, path, body, status=200):
    found, answer = served.ask("POST", path, body)
    assert found == status, answer
    return answer


def events(served, path, body):
    """[(name, data)] of a stream whose events have names."""
    connection = served.connect()
    connection.request("POST", path, json.dumps(body | {"stream": True}), JSON)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    parsed = []
    for event in answer.read().decode().split("\n\n"):
        if event:
            name, data = event.split("\n")
            parsed.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    connection.close()
    assert all(name == data["type"] for name, data in parsed)
    return parsed


def test_every_api_gives_the_same_answer(served):
    user = [{"role": "user", "content": ASK}]
    chat = post(served, "/v1/chat/completions", {"messages": user, "temperature": 0, "max_tokens": 64})
    text = chat["choices"][0]["message"]["content"]
    assert text.endswith("#### 12") and chat["choices"][0]["finish_reason"] == "stop"

    asked = {"input": ASK, "temperature": 0, "max_output_tokens": 64}
    response = post(served, "/v1/responses", asked)
    assert response["object"] == "response" and response["status"] == "completed"
    assert response["output"][0]["content"][0]["text"] == text
    assert response["usage"]["output_tokens"] == chat["usage"]["completion_tokens"]
    streamed = events(served, "/v1/responses", asked)
    assert "".join(d["delta"] for n, d in streamed if n == "response.output_text.delta") == text
    assert streamed[-1][1]["response"]["output"][0]["content"] == response["output"][0]["content"]

    asked = {"messages": user, "temperature": 0, "max_tokens": 64}
    message = post(served, "/v1/messages", asked)
    assert message["content"] == [{"type": "text", "text": text}] and message["stop_reason"] == "end_turn"
    streamed = events(served, "/v1/messages", asked)
    assert "".join(d["delta"]["text"] for n, d in streamed if n == "content_block_delta") == text
    assert [n for n, _ in streamed[:2]] == ["message_start", "content_block_start"]
    assert [n for n, _ in streamed[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
    counted = post(served, "/v1/messages/count_tokens", {"messages": user})["input_tokens"]
    assert counted == chat["usage"]["prompt_tokens"] == streamed[0][1]["message"]["usage"]["input_tokens"]


def test_streams_with_choices_and_log_probabilities(served):
    body = {"messages": [{"role": "user", "content": ASK}], "n": 2, "seed": 3, "max_tokens": 12, "logprobs": True,
            "top_logprobs": 2, "temperature": 1}  # fmt: skip
    whole = post(served, "/v1/chat/completions", body)
    streamed = served.events("/v1/chat/completions", body)
    for choice in whole["choices"]:
        mine = [e["choices"][0] for e in streamed[:-1] if e["choices"][0]["index"] == choice["index"]]
        assert "".join(c["delta"].get("content", "") for c in mine) == choice["message"]["content"]
        assert [t for c in mine for t in c["logprobs"]["content"]] == choice["logprobs"]["content"]
    prompt = {"prompt": ASK, "max_tokens": 6, "logprobs": 1, "temperature": 0}
    whole = post(served, "/v1/completions", prompt)["choices"][0]
    mine = [e["choices"][0] for e in served.events("/v1/completions", prompt)[:-1]]
    for field in ("tokens", "token_logprobs", "top_logprobs", "text_offset"):
        assert [t for c in mine for t in c["logprobs"][field]] == whole["logprobs"][field]


def test_tools_reach_the_prompt(served):
    tools = [{"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}}]
    user = {"role": "user", "content": ASK}
    plain = post(served, "/tokenize", {"messages": [user]})
    offered = post(served, "/tokenize", {"messages": [user], "tools": tools})
    assert offered["count"] > plain["count"]
    text = post(served, "/detokenize", {"tokens": offered["tokens"]})["prompt"]
    assert '"name": "lookup"' in text
    call = {"id": "1", "type": "function", "function": {"name": "lookup", "arguments": '{"key": "v"}'}}
    turns = [user, {"role": "assistant", "content": None, "tool_calls": [call]},
             {"role": "tool", "tool_call_id": "1", "content": "12"}]  # fmt: skip
    tokens = post(served, "/tokenize", {"messages": turns, "tools": tools})["tokens"]
    assert "<tool_call>lookup<arg_key>key" in post(served, "/detokenize", {"tokens": tokens})["prompt"]
    post(served, "/v1/chat/completions", {"messages": turns, "tools": tools, "max_tokens": 3})


def test_a_wanted_call_is_made(tmp_path):
    """tiny-gsm knows of no tools: the grammar alone makes it call one."""
    template = tmp_path / "template.jinja"
    template.write_text(TEMPLATE)
    server = Served(TINY_GSM, "--chat-template", template)
    try:
        parameters = {"type": "object", "properties": {"n": {"enum": [3, 12]}}, "required": ["n"],
                      "additionalProperties": False}  # fmt: skip
        tools = [{"type": "function", "function": {"name": name, "parameters": parameters, "strict": True}}
                 for name in ("add", "lookup")]  # fmt: skip
        body = {"messages": [{"role": "user", "content": ASK}], "tools": tools, "max_tokens": 200, "temperature": 1,
                "seed": 5}  # fmt: skip
        body["tool_choice"] = {"type": "function", "function": {"name": "lookup"}}
        status, answer = server.ask("POST", "/v1/chat/completions", body)
        if status == 400 and "xgrammar" in answer["error"]["message"]:
            pytest.skip(answer["error"]["message"])
        assert status == 200, answer
        choice = answer["choices"][0]
        assert choice["finish_reason"] == "tool_calls", choice
        (call,) = choice["message"]["tool_calls"]
        assert call["function"]["name"] == "lookup" and json.loads(call["function"]["arguments"])["n"] in (3, 12)
    finally:
        server.end()


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/v1/responses", {"input": "x", "previous_response_id": "resp_1"}, 400, "previous_response_id"),
        ("/v1/responses", {}, 400, "input"),
        ("/v1/responses", {"input": "x", "model": "other"}, 404, "model"),
        ("/v1/responses", {"input": "word " * 3000}, 400, "max_tokens"),
        ("/v1/messages", {"messages": [{"role": "user", "content": "x"}]}, 400, "invalid_request_error"),
        ("/v1/messages", {"messages": [], "max_tokens": 1}, 400, "invalid_request_error"),
        ("/v1/messages", {"model": "other", "max_tokens": 1}, 404, "not_found_error"),
        ("/v1/messages", b"[]", 400, "invalid_request_error"),
        ("/v1/messages/count_tokens", {"messages": 7}, 400, "invalid_request_error"),
    ],
)
def test_errors_have_each_apis_form(served, path, body, status, kind):
    error = post(served, path, body, status)
    if path.startswith("/v1/messages"):
        assert error["type"] == "error" and error["error"]["type"] == kind and error["error"]["message"]
    else:
        assert error["error"]["param"] == kind and error["error"]["message"]


def test_clients_that_go_away_free_their_requests(served):
    bodies = {
        "/v1/responses": {"input": "x", "max_output_tokens": 900, "ignore_eos": True, "stream": True},
        "/v1/messages": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 900, "stream": True},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 900, "ignore_eos": True},
    }
    for path, body in bodies.items():
        data = json.dumps(body).encode()
        with socket.create_connection(("127.0.0.1", served.port)) as raw:
            raw.sendall(b"POST %s HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(data)) + data)
            if body.get("stream"):
                assert raw.recv(100).startswith(b"HTTP/1.1 200")
        deadline = time.time() + 60
        while served.metric("mxmla_requests_open") > 0:
            assert time.time() < deadline
            time.sleep(0.01)
    assert served.metric("mxmla_kv_pages_used") == 0


def test_parsers_are_named(tmp_path):
    result = run("serve", TINY_GSM, "--tool-parser", "parrot", check=False)
    assert result.returncode == 2 and b"--tool-parser" in result.stderr
    folder = tmp_path / "model"
    shutil.copytree(TINY_GSM, folder)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
    server = Served(folder, "--tool-parser", "glm47")
    try:
        tools = [{"type": "function", "function": {"name": "lookup"}}]
        body = {"messages": [{"role": "user", "content": "x"}], "tools": tools}
        assert post(server, "/v1/chat/completions", body, 400)["error"]["param"] == "tools"
        assert "--chat-template" in post(server, "/v1/chat/completions", body, 400)["error"]["message"]
    finally:
        server.end()
