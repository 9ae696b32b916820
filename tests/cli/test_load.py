"""A server with many clients, with clients that misbehave, and without what it needs of the machine."""

import json
import os
import resource
import socket
import threading
import time
from pathlib import Path

import pytest
from conftest import TINY_GSM, needs_tiny_gsm, run
from serve_load import Mixed, heap_megabytes, many_clients, open_files, resident_megabytes, wait_until_idle, with_template
from test_serve import QUESTION, Served

pytestmark = needs_tiny_gsm


# A sanitizer's program is slow, and keeps what is freed for a while.
SANITIZED = bool(os.environ.get("MXMLA_SANITIZE"))


def test_many_streaming_clients_each_get_their_own_answer():
    count = 30 if SANITIZED else 200
    served = Served(TINY_GSM, "--max-sequences", 32, "--max-queue", 1000)
    try:
        first = many_clients(served, count, count, distinct=12)
        assert f"{count} of {count} answers" in first
        assert not wait_until_idle(served)
        files = open_files(served.process)
        megabytes = resident_megabytes(served.process)
        many_clients(served, count, count, distinct=12)
        assert not wait_until_idle(served)
        assert SANITIZED or resident_megabytes(served.process) < megabytes + 32
        assert open_files(served.process) <= files + 2
    finally:
        served.end()


def test_clients_that_misbehave_harm_nobody():
    served = with_template("--max-sequences", 8, "--stored-responses", 4)
    try:
        mixed = Mixed(served, seed=1)
        mixed.run(3)
        assert not wait_until_idle(served)
        megabytes = resident_megabytes(served.process)
        heap = heap_megabytes(served)
        mixed.stopping = False
        counts = mixed.run(4)
        assert not wait_until_idle(served)
        assert mixed.failures == []
        assert counts["behave"] > 0 and counts["malform"] > 0 and counts["go_away"] > 0
        assert SANITIZED or resident_megabytes(served.process) < megabytes + 48
        assert SANITIZED or heap_megabytes(served) < heap + 4
        assert served.complete(prompt=QUESTION)["choices"][0]["finish_reason"] == "stop"
    finally:
        served.end()


# UndefinedBehaviorSanitizer opens a pipe to look at an object's virtual table: without descriptors it finds every
# object that it meets first broken.
@pytest.mark.skipif(SANITIZED, reason="UndefinedBehaviorSanitizer needs file descriptors")
def test_without_file_descriptors_running_answers_go_on():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        served = Served(TINY_GSM)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    idle = []
    try:
        body = {"prompt": QUESTION, "max_tokens": 900, "ignore_eos": True, "seed": 3, "temperature": 1}
        expected = served.complete(**body)["choices"][0]["text"]
        assert not wait_until_idle(served)  # or what is seen below is the end of that one
        found = []
        thread = threading.Thread(target=lambda: found.append(served.events("/v1/completions", body)))
        thread.start()
        deadline = time.time() + 60
        while served.metric("mxmla_requests_open") == 0:
            assert time.time() < deadline
        idle += [socket.create_connection(("127.0.0.1", served.port), timeout=60) for _ in range(100)]
        thread.join()
        assert "".join(c["text"] for e in found[0][:-1] for c in e["choices"]) == expected
        for connection in idle:
            connection.close()
        assert served.complete(**body)["choices"][0]["text"] == expected
    finally:
        served.end()


def test_a_reader_who_is_too_slow_is_cut_off(tmp_path):
    log = tmp_path / "log"
    served = Served(TINY_GSM, "--max-unsent", 16, "--access-log", log)
    try:
        body = {"prompt": QUESTION, "max_tokens": 200, "ignore_eos": True, "seed": 3, "temperature": 1}
        expected = served.complete(**body)["choices"][0]["text"]
        before = served.metric("mxmla_step_new_tokens")
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", served.port))
        # Far more than the system keeps for a reader.
        much = {"prompt": "x", "max_tokens": 1000, "ignore_eos": True, "stream": True, "n": 16, "logprobs": 20}
        data = json.dumps(much).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        slow.sendall(head + b"content-length: %d\r\n\r\n" % len(data) + data)
        deadline = time.time() + 60
        while served.metric("mxmla_requests_running") == 0:
            assert time.time() < deadline
        events = served.events("/v1/completions", body)
        assert "".join(c["text"] for e in events[:-1] for c in e["choices"]) == expected
        assert not wait_until_idle(served)
        assert served.metric("mxmla_step_new_tokens") - before < 16 * 1000
        slow.close()
    finally:
        served.end()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["client_gone"] for line in lines if line["path"] == "/v1/completions"].count(True) == 1


def test_a_full_disk_for_the_log_stops_nobody():
    served = Served(TINY_GSM, "--access-log", "/dev/full")
    try:
        for _ in range(20):
            served.complete(prompt=QUESTION, max_tokens=2)
    finally:
        served.end()


def test_killed_and_started_again():
    served = Served(TINY_GSM)
    port = served.port
    pid = served.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    connection = socket.create_connection(("127.0.0.1", port))
    served.process.kill()
    served.process.communicate(timeout=60)
    connection.close()
    deadline = time.time() + 60
    for child in children:  # what compiles grammars ends, too
        while Path(f"/proc/{child}").exists():
            assert time.time() < deadline
            time.sleep(0.02)
    again = Served(TINY_GSM, port=port)
    assert again.port == port
    assert again.complete(prompt=QUESTION)["choices"][0]["text"].endswith("#### 12")
    again.end()


@pytest.mark.parametrize(("flags", "word"), [
    (("--url", "https://x"), b"http://HOST:PORT"),
    (("--input-tokens", "5-2"), b"--input-tokens"),
    (("--output-tokens", "x"), b"--output-tokens"),
    (("--concurrency", 1, "--rate", 1), b"--rate"),
])  # fmt: skip
def test_bench_serve_refuses(flags, word):
    result = run("bench", "serve", *flags, check=False)
    assert result.returncode == 2 and word in result.stderr


def test_bench_serve_measures(tmp_path):
    served = Served(TINY_GSM, "--max-sequences", 8)
    url = f"http://127.0.0.1:{served.port}"
    try:
        for load in (("--concurrency", "1,4"), ("--rate", "50,100")):
            out = run("bench", "serve", "--url", url, *load, "--requests", 12, "--input-tokens", "20~0.5",
                      "--output-tokens", "4-9", "--shared-prefix", 8, "--check", "--json", tmp_path / "json",
                      "--svg", tmp_path / "svg").stdout  # fmt: skip
            assert b"24 of 24 answers" in out
            assert (tmp_path / "svg").read_text().startswith("<svg ")
            figures = json.loads((tmp_path / "json").read_text())
            for figures_of_run in figures["runs"]:
                assert figures_of_run["failed"] == 0 and figures_of_run["requests"] == 12
                first, whole = figures_of_run["time_to_first_token"], figures_of_run["time_of_request"]
                assert 0 < first["p50"] <= first["p99"] <= whole["max"]
                assert 4 * 12 <= figures_of_run["output_tokens_per_second"] * figures_of_run["seconds"] <= 9 * 12 + 1
    finally:
        served.end()
    result = run("bench", "serve", "--url", url, "--requests", 2, check=False)  # nobody is there any more
    assert result.returncode == 1 and b"refused" in result.stdout
