"""What the machine does around the program: streams that cannot be read or written, limits, files that change."""

import os
import resource
import shutil
import signal
import subprocess
import time

import pytest
from conftest import BINARY, MODELS, TINY_GSM, needs_tiny_gsm

TOKENS = ["--tokens", "1,2,3", "--print-ids", "--max-tokens", "4"]


@pytest.mark.parametrize("redirect", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize("model, status", [("v3-bf16", 0), ("nosuch", 3)])
def test_stderr_does_not_decide_the_exit_status(redirect, model, status):
    command = f'exec "{BINARY}" run "{MODELS}/{model}" {" ".join(TOKENS)} {redirect}'
    assert subprocess.run(["bash", "-c", command], capture_output=True).returncode == status


@pytest.mark.parametrize("redirect", ["<&-", "</"])
def test_a_prompt_that_cannot_be_read_is_no_empty_prompt(redirect):
    command = f'exec "{BINARY}" run tiny-gsm --prompt-file - --max-tokens 2 {redirect}'
    result = subprocess.run(["bash", "-c", command], capture_output=True)
    assert result.returncode != 0 and result.stdout == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="the limit counts a user's processes: needs one that runs nothing else")
def test_threads_that_cannot_start_are_done_without():
    def limit():
        os.setgid(65534)
        os.setuid(65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (30, 30))

    try:
        result = subprocess.run([BINARY, "run", "tiny-gsm", "--prompt", "hi", "--max-tokens", "2", "--threads", "64"],
                                capture_output=True, timeout=60, preexec_fn=limit)
    except (PermissionError, subprocess.SubprocessError):
        pytest.skip("the checkout is not readable by other users")
    assert result.returncode == 0
    assert b"of 64 threads could be started" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_ended_quantize_leaves_nothing(tmp_path, number):
    process = subprocess.Popen([BINARY, "quantize", f"{MODELS}/../../../models/tiny-gsm-bf16", tmp_path / "out",
                                "--format", "mxfp4", "--threads", "1"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(2000):
        if list(tmp_path.iterdir()) or process.poll() is not None:
            break
        time.sleep(0.001)
    process.send_signal(number)
    process.wait(timeout=60)
    left = [path.name for path in tmp_path.iterdir()]
    assert left == ([] if process.returncode != 0 else ["out"])


@needs_tiny_gsm
def test_a_shard_that_shrinks_under_the_program_is_an_error_that_names_it(tmp_path):
    folder = shutil.copytree(TINY_GSM, tmp_path / "model")
    process = subprocess.Popen([BINARY, "run", folder, "--prompt", "hello", "--temperature", "5", "--max-tokens", "900"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(1)  # it computes
    os.truncate(folder / "model.safetensors", 100000)
    _, stderr = process.communicate(timeout=60)
    assert 0 < process.returncode < 128
    assert b"model.safetensors" in stderr and stderr.count(b"\n") == 1
