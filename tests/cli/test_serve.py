"""mxmla serve, asked as clients ask it."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import BINARY, REPOSITORY, TINY_GSM, needs_tiny_gsm, run

pytestmark = needs_tiny_gsm
JSON = {"Content-Type": "application/json"}
QUESTION = "Question: Tom has 5 apples. He buys 7 more. How many apples does Tom have now?\nAnswer:"


class Served:
    """A running server on a port of its own."""

    def __init__(self, model, *args, wait=True, tls=None, port=0):
        command = [str(BINARY), "serve", str(model), "--port", str(port), *map(str, args)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.tls = tls
        line = self.process.stdout.readline().decode()
        assert line, self.process.stderr.read().decode()
        self.port = int(re.search(r":(\d+)$", line.strip()).group(1))
        if wait:
            deadline = time.time() + 60
            while self.ask("GET", "/health")[0] != 200:
                assert time.time() < deadline
                time.sleep(0.05)

    def connect(self, timeout=60):
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method, path, body=None, headers=None):
        """(status, parsed JSON or text)"""
        connection = self.connect()
        data = body if isinstance(body, (bytes, type(None))) else json.dumps(body)
        connection.request(method, path, data, (JSON if body is not None else {}) | (headers or {}))
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        is_json = answer.getheader("content-type", "").startswith("application/json")
        return answer.status, json.loads(text) if is_json and text else text.decode()

    def complete(self, **body):
        status, answer = self.ask("POST", "/v1/completions", {"temperature": 0, "max_tokens": 64} | body)
        assert status == 200, answer
        return answer

    def events(self, path, body):
        """The events of a stream; the last is "[DONE]"."""
        connection = self.connect()
        connection.request("POST", path, json.dumps(body | {"stream": True}), JSON)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        assert answer.getheader("content-type") == "text/event-stream"
        events = []
        for line in answer.read().decode().split("\n\n"):
            if line:
                assert line.startswith("data: ")
                data = line[6:]
                events.append(data if data == "[DONE]" else json.loads(data))
        connection.close()
        return events

    def metric(self, name):
        text = self.ask("GET", "/metrics")[1]
        return float(re.search(rf"^{name} (\S+)$", text, re.M).group(1))

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, err.decode()

    def end(self):
        status, err = self.stop()
        assert status == 0, err


@pytest.fixture(scope="module")
def server():
    served = Served(TINY_GSM, "--max-sequences", 16)
    yield served
    served.end()


@pytest.mark.parametrize("flags", [(), ("--no-mmap",)])
def test_weights_are_mapped_or_read(flags):
    served = Served(TINY_GSM, *flags)
    try:
        mapped = "model.safetensors" in Path(f"/proc/{served.process.pid}/maps").read_text()
        assert mapped == (not flags)
        assert served.complete(prompt=QUESTION)["choices"][0]["text"].endswith("#### 12")
    finally:
        served.end()


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    """tiny-gsm with a chat template."""
    folder = tmp_path_factory.mktemp("serve") / "chatty"
    folder.mkdir()
    for file in TINY_GSM.iterdir():
        if file.name != "heldout.jsonl":
            shutil.copy(file, folder)
    (folder / "chat_template.jinja").write_text(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content + '\\n' }}{% elif m.role == 'user' %}"
        "Question: {{ m.content }}\n{% else %}Answer: {{ m.content }}\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}Answer:{% endif %}"
    )
    return folder


@pytest.fixture(scope="module")
def chatty(chat_model):
    served = Served(chat_model)
    yield served
    served.end()


def text_of(events):
    return "".join(c.get("text", c.get("delta", {}).get("content", "")) for e in events[:-1] for c in e["choices"])


def test_answers_are_those_of_run(server):
    expected = run("run", "tiny-gsm", "--prompt", QUESTION, "--max-tokens", 64).stdout.decode()
    answer = server.complete(prompt=QUESTION)
    assert answer["choices"][0]["text"] + "\n" == expected
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["object"] == "text_completion" and answer["model"] == "tiny-gsm"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_is_the_whole_answer_in_pieces(server):
    whole = server.complete(prompt=QUESTION)
    events = server.events(
        "/v1/completions",
        {"prompt": QUESTION, "temperature": 0, "max_tokens": 64, "stream_options": {"include_usage": True}},
    )
    assert events[-1] == "[DONE]" and len(events) > 8
    assert text_of(events) == whole["choices"][0]["text"]
    assert events[-3]["choices"][0]["finish_reason"] == "stop"
    assert events[-2]["choices"] == [] and events[-2]["usage"] == whole["usage"]
    assert len({e["id"] for e in events[:-1]}) == 1


def test_chat(chatty):
    messages = [{"role": "user", "content": "Tom has 5 apples. He buys 7 more. How many apples does Tom have now?"}]
    body = {"messages": messages, "temperature": 0, "max_tokens": 64}
    status, answer = chatty.ask("POST", "/v1/chat/completions", body)
    assert status == 200, answer
    message = answer["choices"][0]["message"]
    assert message["role"] == "assistant" and message["content"].endswith("#### 12")
    events = chatty.events("/v1/chat/completions", body)
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert all("role" not in e["choices"][0]["delta"] for e in events[1:-1])
    assert text_of(events) == message["content"]
    parts = [{"type": "text", "text": messages[0]["content"]}]
    status, again = chatty.ask("POST", "/v1/chat/completions", body | {"messages": [{"role": "user", "content": parts}]})
    assert status == 200 and again["choices"][0]["message"] == message


def test_log_probabilities(chatty):
    body = {"messages": [{"role": "user", "content": "2 + 2?"}], "temperature": 0, "max_tokens": 5, "logprobs": True,
            "top_logprobs": 3}  # fmt: skip
    status, answer = chatty.ask("POST", "/v1/chat/completions", body)
    assert status == 200, answer
    content = answer["choices"][0]["logprobs"]["content"]
    assert "".join(e["token"] for e in content) == answer["choices"][0]["message"]["content"]
    for entry in content:
        assert entry["logprob"] <= 0 and bytes(entry["bytes"]).decode() == entry["token"]
        assert len(entry["top_logprobs"]) == 3 and entry["top_logprobs"][0]["logprob"] == entry["logprob"]
    old = chatty.complete(prompt=QUESTION, max_tokens=3, logprobs=2)["choices"][0]["logprobs"]
    assert len(old["tokens"]) == len(old["token_logprobs"]) == len(old["top_logprobs"]) == 3


def test_choices_prompts_and_sampling(server):
    answer = server.complete(prompt=[QUESTION, QUESTION + " "], n=2, temperature=1, seed=7, max_tokens=12)
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2, 3]
    again = server.complete(prompt=QUESTION, n=2, temperature=1, seed=7, max_tokens=12)
    assert [c["text"] for c in again["choices"]] == [c["text"] for c in answer["choices"][:2]]
    assert server.complete(prompt=QUESTION, stop=["="])["choices"][0]["text"] == " Tom has 5 + 7 "
    assert server.complete(prompt=QUESTION, max_tokens=3)["choices"][0]["finish_reason"] == "length"
    echoed = server.complete(prompt=QUESTION, max_tokens=1, echo=True)["choices"][0]["text"]
    assert echoed.startswith(QUESTION)
    ids = server.ask("POST", "/tokenize", {"prompt": QUESTION})[1]["tokens"]
    assert server.complete(prompt=ids)["choices"][0]["text"] == server.complete(prompt=QUESTION)["choices"][0]["text"]


def test_tokens(server, chatty):
    status, answer = server.ask("POST", "/tokenize", {"prompt": "Tom has", "add_special_tokens": False})
    assert status == 200 and answer["count"] == len(answer["tokens"]) and answer["max_model_len"] == 1024
    assert server.ask("POST", "/detokenize", {"tokens": answer["tokens"]})[1] == {"prompt": "Tom has"}
    assert chatty.ask("POST", "/tokenize", {"messages": [{"role": "user", "content": "x"}]})[1]["count"] > 3


def test_models_and_versions(server):
    models = server.ask("GET", "/v1/models")[1]
    assert [m["id"] for m in models["data"]] == ["tiny-gsm"]
    assert server.ask("GET", "/v1/models/tiny-gsm")[1] == models["data"][0]
    assert server.ask("GET", "/v1/models/other")[0] == 404
    assert server.ask("GET", "/ready") == (200, {"status": "ready"})
    assert "version" in server.ask("GET", "/version")[1]
    assert server.metric("mxmla_ready") == 1


def test_metrics_say_what_was_done(server):
    for _ in range(2):
        server.complete(prompt=QUESTION + " word" * 400, max_tokens=8)
    # An answer is there before the step that ended it is counted.
    idle = ("requests_waiting", "requests_running", "requests_open", "kv_pages_used")
    deadline = time.time() + 60
    while True:
        text = server.ask("GET", "/metrics")[1]
        numbers = {name: float(value) for name, value in re.findall(r"^(mxmla_\S+) (\S+)$", text, re.M)}
        if all(numbers["mxmla_" + name] == 0 for name in idle):
            break
        assert time.time() < deadline
        time.sleep(0.02)
    for name in ("prompt_tokens_total", "cached_tokens_total", "generation_tokens_total", "steps", "kv_pages",
                 "kv_pages_cached", "time_to_first_token_seconds_count", "time_per_output_token_seconds_count",
                 'http_requests_total{path="/v1/completions",status="200"}', "heap_bytes"):  # fmt: skip
        assert numbers["mxmla_" + name] > 0 or (name == "heap_bytes" and os.environ.get("MXMLA_SANITIZE"))
    ops = {name: value for name, value in numbers.items() if name.startswith("mxmla_op_seconds{")}
    assert len(ops) >= 9 and all(value > 0 for value in ops.values())
    assert numbers["mxmla_timed_steps"] == numbers["mxmla_steps"]
    assert sum(ops.values()) <= numbers["mxmla_step_seconds"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        (b"{", 400, None),
        (b"[]", 400, None),
        (b'{"prompt": "x", "a": ' + b"[" * 100 + b"]" * 100 + b"}", 400, None),
        ({}, 400, "prompt"),
        ({"prompt": 7}, 400, "prompt"),
        ({"prompt": [[1, 99999]]}, 400, "prompt"),
        ({"prompt": "x", "model": "gpt"}, 404, "model"),
        ({"prompt": "x", "temperature": "hot"}, 400, "temperature"),
        ({"prompt": "x", "temperature": -1}, 400, "temperature"),
        ({"prompt": "x", "top_p": 2}, 400, "top_p"),
        ({"prompt": "x", "n": 0}, 400, "n"),
        ({"prompt": "x", "stop": [""]}, 400, "stop"),
        ({"prompt": "x", "logit_bias": {"99999": 1}}, 400, "logit_bias"),
        ({"prompt": "x", "max_tokens": 5000}, 400, "max_tokens"),
        ({"prompt": "word " * 2000}, 400, "max_tokens"),
        ({"prompt": "x", "response_format": {"type": "yaml"}}, 400, "response_format.type"),
        ({"prompt": "x", "prompt_logprobs": 1}, 400, "prompt_logprobs"),
        ({"prompt": "x", "stream": "yes"}, 400, "stream"),
    ],
)
def test_refusals_name_the_field(server, body, status, param):
    found, answer = server.ask("POST", "/v1/completions", body)
    assert found == status, answer
    error = answer["error"]
    assert error["param"] == param and error["type"] == "invalid_request_error"
    assert error["message"] and "\n" not in error["message"]


def test_chat_refusals(server, chatty):
    for messages in ([], "hi", [7], [{"content": "x"}], [{"role": "user", "content": [{"type": "image_url"}]}]):
        status, answer = chatty.ask("POST", "/v1/chat/completions", {"messages": messages})
        assert status == 400 and answer["error"]["param"].startswith("messages"), answer
    tools = [{"type": "function", "function": {"name": "f"}}]
    status, answer = chatty.ask(
        "POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "tools": tools}
    )
    assert status == 400 and answer["error"]["param"] == "tools"
    status, answer = server.ask("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]})
    assert status == 400 and "/v1/completions" in answer["error"]["message"]


def test_fields_that_change_nothing_are_ignored(server):
    server.complete(prompt="x", user="me", metadata={"a": 1}, service_tier="auto", max_tokens=1)


def test_http_itself(server):
    assert server.ask("GET", "/nowhere")[0] == 404
    assert server.ask("GET", "/v1/completions")[0] == 405
    assert server.ask("DELETE", "/health")[0] in (404, 405)
    assert server.ask("HEAD", "/health") == (200, "")
    connection = server.connect()
    for _ in range(3):  # one connection
        connection.request("POST", "/v1/completions", json.dumps({"prompt": "x", "max_tokens": 1}), JSON)
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read()
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"GET /health HTTP/1.1\r\nx: " + b"y" * 100_000 + b"\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 431")
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"POST /tokenize HTTP/1.1\r\ncontent-length: 999999999999\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 413")
    # A client that sends all of its body before it reads finds the answer, in the form of either API.
    status, answer = server.ask("POST", "/v1/messages", {"messages": "x" * (40 << 20)})
    assert status == 413 and answer["type"] == "error" and "at most 33554432 bytes" in answer["error"]["message"]
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    with socket.create_connection(("127.0.0.1", server.port)) as raw:  # two requests sent together
        raw.sendall(b"GET /health HTTP/1.1\r\n\r\nGET /version HTTP/1.1\r\nconnection: close\r\n\r\n")
        answers = b""
        while piece := raw.recv(4096):
            answers += piece
        assert answers.count(b"HTTP/1.1 200") == 2
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"POST /v1/completions HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: 51\r\n\r\n"
                    b'{"prompt": "x", "max_tokens": 2, "stream": true   }')  # fmt: skip
        answer = b""
        while piece := raw.recv(4096):
            answer += piece
        assert b"transfer-encoding" not in answer and answer.endswith(b"data: [DONE]\n\n")


def test_many_streams_at_once_are_each_as_alone(server):
    prompts = [f"Question: Tom has {i} apples. He buys {2 * i} more. How many apples does Tom have now?\nAnswer:"
               for i in range(2, 42)]  # fmt: skip
    bodies = [{"prompt": p, "temperature": 0.8, "seed": i, "max_tokens": 40} for i, p in enumerate(prompts)]
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


def test_a_client_that_goes_away_frees_its_request(server):
    for stream in (True, False):
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            body = json.dumps({"prompt": "x", "max_tokens": 1000, "ignore_eos": True, "stream": stream}).encode()
            raw.sendall(b"POST /v1/completions HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            deadline = time.time() + 30
            while server.metric("mxmla_requests_open") == 0 and time.time() < deadline:
                time.sleep(0.005)
        generated = None
        deadline = time.time() + 30
        while server.metric("mxmla_requests_open") > 0:
            assert time.time() < deadline
            time.sleep(0.005)
        generated = server.metric("mxmla_generation_tokens_total")
        assert generated is not None
    assert server.metric("mxmla_kv_pages_used") == 0


def test_a_prefix_that_is_known_is_not_computed_again(server):
    prompt = "Sam has 3 pens. " * 80
    first = server.complete(prompt=prompt, max_tokens=1)["usage"]
    second = server.complete(prompt=prompt, max_tokens=1)["usage"]
    assert first["prompt_tokens"] > 300 and first["prompt_tokens_details"]["cached_tokens"] == 0
    assert second["prompt_tokens_details"]["cached_tokens"] == 512


def test_keys_origins_and_the_log(tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("one\n\ntwo\n")
    log = tmp_path / "log"
    served = Served(TINY_GSM, "--api-key-file", keys, "--api-key", "three", "--allow-origin", "http://a.example",
                    "--access-log", log)  # fmt: skip
    try:
        assert served.ask("GET", "/v1/models")[0] == 401
        assert served.ask("GET", "/metrics", headers={"Authorization": "Bearer four"})[0] == 401
        for header in ({"Authorization": "Bearer one"}, {"authorization": "Bearer three"}, {"X-Api-Key": "two"}):
            assert served.ask("GET", "/v1/models", headers=header)[0] == 200
        keys.write_text("four\n")
        served.process.send_signal(signal.SIGHUP)
        deadline = time.time() + 10
        while served.ask("GET", "/v1/models", headers={"Authorization": "Bearer four"})[0] != 200:
            assert time.time() < deadline
            time.sleep(0.02)
        assert served.ask("GET", "/v1/models", headers={"Authorization": "Bearer one"})[0] == 401
        connection = served.connect()
        connection.request("OPTIONS", "/v1/models", headers={"Origin": "http://a.example"})
        answer = connection.getresponse()
        assert answer.status == 204 and answer.getheader("access-control-allow-origin") == "http://a.example"
        answer.read()
        connection.request("GET", "/health", headers={"Origin": "http://b.example"})
        assert connection.getresponse().getheader("access-control-allow-origin") is None
        served.ask("POST", "/tokenize", {"prompt": "secret words"}, {"Authorization": "Bearer four"})
    finally:
        served.end()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(line["path"] == "/tokenize" and line["status"] == 200 for line in lines)
    assert any(line["status"] == 401 for line in lines)
    assert "secret" not in log.read_text() and "four" not in log.read_text()


def test_bodies_are_logged_where_wanted(tmp_path):
    log = tmp_path / "log"
    served = Served(TINY_GSM, "--access-log", log, "--log-bodies")
    try:
        served.ask("POST", "/tokenize", {"prompt": "secret words"})
    finally:
        served.end()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [json.loads(line["body"]) for line in lines if line["path"] == "/tokenize"] == [{"prompt": "secret words"}]


def test_clients_take_turns():
    served = Served(TINY_GSM, "--max-sequences", 1, "--api-key", "a", "--api-key", "b")
    ended = []

    def ask(key):
        body = {"prompt": "x", "max_tokens": 200, "ignore_eos": True}
        status, answer = served.ask("POST", "/v1/completions", body, {"Authorization": f"Bearer {key}"})
        ended.append((status, key))

    def wait_for(count):
        deadline = time.time() + 60
        while f"\nmxmla_requests_open {count}\n" not in served.ask("GET", "/metrics", None, {"X-Api-Key": "a"})[1]:
            assert time.time() < deadline

    try:
        threads = [threading.Thread(target=ask, args=(key,)) for key in "aaaaaab"]
        for thread in threads[:-1]:
            thread.start()
        wait_for(6)
        threads[-1].start()
        for thread in threads:
            thread.join()
    finally:
        served.end()
    assert all(status == 200 for status, _ in ended) and len(ended) == 7
    assert [key for _, key in ended].index("b") <= 4


def make_certificate(certificate, key):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)  # fmt: skip


def test_tls(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    context = ssl.create_default_context(cafile=str(certificate))
    served = Served(TINY_GSM, "--tls-cert", certificate, "--tls-key", key, tls=context)
    try:
        assert served.complete(prompt=QUESTION)["choices"][0]["text"].endswith("#### 12")
        assert text_of(served.events("/v1/completions", {"prompt": QUESTION, "temperature": 0, "max_tokens": 64})).endswith("12")
        make_certificate(certificate, key)
        served.process.send_signal(signal.SIGHUP)
        served.tls = ssl.create_default_context(cafile=str(certificate))
        deadline = time.time() + 10
        while True:
            try:
                assert served.ask("GET", "/ready")[0] == 200
                break
            except ssl.SSLCertVerificationError:
                assert time.time() < deadline
                time.sleep(0.02)
    finally:
        served.end()
    result = run("serve", TINY_GSM, "--tls-cert", key, "--tls-key", key, "--port", 0, check=False)
    assert result.returncode == 4 and b"key.pem" in result.stderr.splitlines()[-1]


def test_a_full_queue_is_said(tmp_path):
    served = Served(TINY_GSM, "--max-sequences", 1, "--max-queue", 1)
    try:
        body = {"prompt": "x", "max_tokens": 1000, "ignore_eos": True}
        threads = [threading.Thread(target=served.ask, args=("POST", "/v1/completions", body)) for _ in range(2)]
        for thread in threads:
            thread.start()
        deadline = time.time() + 20
        while served.metric("mxmla_requests_open") < 2:
            assert time.time() < deadline
        connection = served.connect()
        connection.request("POST", "/v1/completions", json.dumps(body), JSON)
        answer = connection.getresponse()
        assert answer.status == 429 and answer.getheader("retry-after")
        assert json.loads(answer.read())["error"]["code"] == "queue_full"
        for thread in threads:
            thread.join()
    finally:
        served.end()


def test_sigterm_lets_requests_end():
    served = Served(TINY_GSM)
    found = []

    def ask():
        found.append(served.ask("POST", "/v1/completions", {"prompt": "x", "max_tokens": 600, "ignore_eos": True}))

    thread = threading.Thread(target=ask)
    thread.start()
    deadline = time.time() + 20
    while served.metric("mxmla_requests_open") == 0:
        assert time.time() < deadline
    status, err = served.stop()
    thread.join()
    assert status == 0, err
    assert found[0][0] == 200 and found[0][1]["usage"]["completion_tokens"] == 600


def test_answers_while_it_loads_and_says_what_fails(tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(TINY_GSM, broken)
    data = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(data[:-1000])
    result = run("serve", broken, "--port", 0, check=False)
    assert result.returncode == 8, result.stderr
    assert result.stderr.splitlines()[-1].startswith(b"mxmla: ")
    result = run("serve", TINY_GSM, "--port", 0, "--max-context", 5000, check=False)
    assert result.returncode == 12
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("serve", TINY_GSM, "--port", taken.getsockname()[1], check=False)
        assert result.returncode == 2 and b"--port" in result.stderr
