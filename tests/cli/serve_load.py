"""A server under load: many streaming clients at once, and clients that misbehave. test_load.py runs it briefly; run by
hand it takes as long as it is told:
    python3 tests/cli/serve_load.py --clients 1000 --requests 3000 --seconds 1800
"""

import argparse
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from conftest import BINARY, TINY_GSM
from test_serve import JSON, Served

MALFORMED = [
    b"nonsense\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
    b"POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n{}{}",
    b"POST /v1/completions HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n[[[",
    b"POST /v1/completions HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 17\r\n\r\n{\"prompt\": \"\xff\xfe\"}  ",
    b"GET /health HTTP/1.1\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{\"messages\":1",
    b"POST /v1/completions HTTP/1.1\r\ncontent-length: 500\r\n\r\n{\"prompt\": ",  # and no more
]


def resident_megabytes(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def heap_megabytes(served):
    """What is allocated, whatever the allocator keeps of what was freed."""
    return served.metric("mxmla_heap_bytes") / 2**20


def open_files(process):
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


def wait_until_idle(served, seconds=120):
    """Until nothing is open, and no page of the cache in use; the numbers that are not 0 by then."""
    names = ("mxmla_requests_open", "mxmla_kv_pages_used")
    deadline = time.time() + seconds
    while True:
        numbers = {name: served.metric(name) for name in names}
        if not any(numbers.values()) or time.time() > deadline:
            return {name: value for name, value in numbers.items() if value}
        time.sleep(0.1)


def many_clients(served, clients, requests, distinct=100):
    """Streams of so many clients at once, each compared with the same request alone. What bench serve printed."""
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder, "prompts")
        questions = [json.loads(line)["question"] for line in (TINY_GSM / "heldout.jsonl").read_text().splitlines()]
        prompts.write_text("".join(f"Question: {' '.join(q.split())} Answer:\n" for q in questions))
        command = [BINARY, "bench", "serve", "--url", f"http://127.0.0.1:{served.port}", "--concurrency", clients,
                   "--requests", requests, "--distinct", min(distinct, requests), "--prompt-file", prompts, "--temperature", "0.8",
                   "--output-tokens", "16-96", "--stops", "--check", "--json", Path(folder, "json")]  # fmt: skip
        result = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        figures = json.loads(Path(folder, "json").read_text())
        assert figures["different"] == 0 and figures["runs"][0]["failed"] == 0
        return result.stdout


# The model's own prompt form, as a template for the APIs of chats.
TEMPLATE = "{% for m in messages %}Question: {{ m.content }}\n{% endfor %}Answer:"


def with_template(*args):
    """A server of tiny-gsm that takes chats, too."""
    with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
        template.write(TEMPLATE)
        template.flush()
        return Served(TINY_GSM, "--chat-template", template.name, *args)


def text_of_events(events):
    """What the events of a stream of any API come to."""
    text = ""
    for event in events:
        for choice in event.get("choices", []):
            text += choice.get("text") or choice.get("delta", {}).get("content") or ""
        if event.get("type") == "response.output_text.delta":
            text += event["delta"]
        if event.get("type") == "content_block_delta":
            text += event["delta"].get("text", "")
    return text


def text_of_answer(answer):
    if "choices" in answer:
        return answer["choices"][0].get("text") or answer["choices"][0]["message"]["content"]
    return "".join(part["text"] for item in answer.get("output", []) for part in item["content"]) or "".join(
        block["text"] for block in answer.get("content", [])
    )


def requests_of(i):
    """(path, body) of the same question by each API."""
    question = f"Tom has {i} apples and buys {i + 3}. How many apples does Tom have now?"
    shared = {"temperature": 0.7, "seed": i}
    messages = [{"role": "user", "content": question}]
    return [
        ("/v1/completions", {"prompt": question, "max_tokens": 24} | shared),
        ("/v1/chat/completions", {"messages": messages, "max_tokens": 24} | shared),
        ("/v1/responses", {"input": question, "max_output_tokens": 24} | shared),
        ("/v1/messages", {"messages": messages, "max_tokens": 24} | shared),
        ("/v1/completions", {"prompt": question, "max_tokens": 24, "guided_regex": "[0-9]{1,3} apples"} | shared),
    ]


class Mixed:
    """Clients that behave and clients that do not, for a while. The server was started with_template."""

    def __init__(self, served, seed):
        self.served = served
        self.random = random.Random(seed)
        self.requests = [request for i in range(4) for request in requests_of(i)]
        self.expected = [self.ask(*request) for request in self.requests]
        self.failures = []
        self.counts = {}
        self.stopping = False

    def connect(self):
        connection = socket.create_connection(("127.0.0.1", self.served.port), timeout=60)
        return connection

    def send_stream(self, connection, tokens=1000):
        body = json.dumps({"prompt": "x", "max_tokens": tokens, "ignore_eos": True, "stream": True}).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        connection.sendall(head + b"content-length: %d\r\n\r\n" % len(body) + body)

    def ask(self, path, body):
        status, answer = self.served.ask("POST", path, body)
        assert status == 200, answer
        return text_of_answer(answer)

    def stream(self, path, body):
        connection = self.served.connect()
        connection.request("POST", path, json.dumps(body | {"stream": True}), JSON)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        lines = answer.read().decode().splitlines()
        connection.close()
        data = [line[6:] for line in lines if line.startswith("data: ")]
        return text_of_events([json.loads(event) for event in data if event != "[DONE]"])

    def behave(self, random):
        i = random.randrange(len(self.requests))
        text = (self.stream if random.random() < 0.5 else self.ask)(*self.requests[i])
        assert text == self.expected[i], (self.requests[i], text, self.expected[i])

    def go_on(self, random):
        """A conversation that the server keeps, and forgets."""
        path, body = "/v1/responses", {"input": "Tom has 2 apples.", "max_output_tokens": 8}
        status, first = self.served.ask("POST", path, body)
        assert status == 200, first
        status, second = self.served.ask("POST", path, body | {"previous_response_id": first["id"]})
        assert status in (200, 400), second  # others may have pushed the first out
        if random.random() < 0.5:
            assert self.served.ask("DELETE", f"{path}/{first['id']}")[0] in (200, 404)

    def send_slowly(self, random):
        with self.connect() as connection:
            data = b"POST /v1/completions HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 40\r\n\r\n{"
            for byte in data[: random.randrange(len(data) + 1)]:
                connection.sendall(bytes([byte]))
                time.sleep(0.002)

    def go_away(self, random):
        with self.connect() as connection:
            self.send_stream(connection)
            if random.random() < 0.7:
                connection.recv(random.randrange(1, 2000))

    def read_slowly(self, random):
        with self.connect() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            self.send_stream(connection, 200)
            for _ in range(20):
                if not connection.recv(16):
                    return
                time.sleep(0.01)

    def malform(self, random):
        with self.connect() as connection:
            data = random.choice(MALFORMED)
            if random.random() < 0.3:  # cut, or with a byte changed
                data = data[: random.randrange(len(data))]
            elif random.random() < 0.3:
                at = random.randrange(len(data))
                data = data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
            connection.sendall(data)
            connection.settimeout(0.2)
            try:
                connection.recv(1000)
            except (TimeoutError, ConnectionError):
                pass

    def flood(self, random):
        connections = [self.connect() for _ in range(64)]
        for connection in connections[::2]:
            connection.sendall(b"GET /health HT")
        for connection in connections:
            connection.close()

    def ask_hopelessly(self, random):
        body = random.choice([{"prompt": 7}, {"prompt": "x", "n": 1000}, {"prompt": "w " * 3000}, [], {"prompt": "x", "guided_regex": "(" * 500}])  # fmt: skip
        status, answer = self.served.ask("POST", "/v1/completions", body)
        assert status == 400, answer

    def work(self, seed):
        generator = random.Random(seed)
        kinds = [self.behave, self.behave, self.go_on, self.go_away, self.read_slowly, self.send_slowly, self.malform,
                 self.malform, self.flood, self.ask_hopelessly]  # fmt: skip
        while not self.stopping:
            kind = generator.choice(kinds)
            try:
                kind(generator)
                self.counts[kind.__name__] = self.counts.get(kind.__name__, 0) + 1
            except (BrokenPipeError, ConnectionResetError):
                if kind in (self.behave, self.go_on, self.ask_hopelessly):
                    self.failures.append((kind.__name__, "connection lost"))
            except Exception as error:  # noqa: BLE001  reported by the caller
                self.failures.append((kind.__name__, repr(error)))

    def run(self, seconds, threads=12):
        workers = [threading.Thread(target=self.work, args=(self.random.random(),)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        time.sleep(seconds)
        self.stopping = True
        for worker in workers:
            worker.join()
        return self.counts


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", type=int, default=4, help="of the mixed load, with figures behind each")
    parser.add_argument("--seconds", type=int, default=60, help="of mixed load")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    served = with_template("--max-sequences", 64, "--max-queue", 2 * args.clients + 100, "--stored-responses", 200)

    def memory():
        return (f"{resident_megabytes(served.process):.1f} MB, {heap_megabytes(served):.1f} MB of heap, "
                f"{open_files(served.process)} files")  # fmt: skip

    print(f"idle: {memory()}")
    for _ in range(args.rounds):
        print(many_clients(served, args.clients, args.requests), end="")
        left = wait_until_idle(served)
        print(f"after: {memory()}, in use: {left}")
    mixed = Mixed(served, args.seed)
    heaps = []
    for part in range(args.parts):
        mixed.stopping = False
        counts = mixed.run(args.seconds / args.parts)
        left = wait_until_idle(served)
        print(f"mixed {part}: {counts}, {memory()}, in use: {left}")
        # What is kept for later requests (answers, grammars) is there by then.
        heaps.append(heap_megabytes(served))
        if left or heaps[-1] > heaps[0] + 4:
            mixed.failures.append(("memory", left, heaps))
    status, err = served.stop()
    print(f"end: status {status}, failures: {mixed.failures[:5]}")
    sys.exit(status != 0 or bool(mixed.failures))


if __name__ == "__main__":
    main()
