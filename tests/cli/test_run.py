"""`mxmla run`: what lands on stdout, and that it is the same every time."""

import json
import re
import shutil
import signal
import subprocess

import pytest
from conftest import BINARY, MODELS, TINY_GSM, edit_config, editable_copy, golden_info, needs_tiny_gsm, run, run_logits

QUESTION = "Tom has 3 apples. He buys 4 more apples. How many apples does Tom have now?"
FIXTURE = MODELS / "v3-mxfp4"


def first_tokens(n, name="v3-mxfp4"):
    return json.loads((MODELS / name / "tokens.json").read_text())[:n]


def new_ids(*args, **options):
    out = run("run", *args, "--print-ids", **options).stdout.decode()
    assert re.fullmatch(r"(\d+(,\d+)*)?\n", out), f"stdout is more than comma-separated ids: {out!r}"
    return [int(i) for i in out.strip().split(",")] if out.strip() else []


def tokens_argument(n=8, name="v3-mxfp4"):
    return ",".join(map(str, first_tokens(n, name)))


@pytest.mark.parametrize("device", ["ref", "cpu"])
@pytest.mark.parametrize("name", ["v2-bf16", "v3-fp8", "v3-mxfp4", "kimi-k25"])
def test_greedy_ids_are_the_argmax_of_the_logits(name, device, tmp_path):
    """Generating token by token equals one long prefill: run's ids against logits over prompt + ids."""
    prompt = first_tokens(8, name)
    ids = new_ids(MODELS / name, "--tokens", ",".join(map(str, prompt)), "--max-tokens", 10, "--device", device)
    assert 1 <= len(ids) <= 10
    file = tmp_path / "all.txt"
    file.write_text(",".join(map(str, prompt + ids)))
    logits = run_logits(MODELS / name, tmp_path / "all.npy", "--device", device, tokens=file)
    for i, token in enumerate(ids):
        row = logits[len(prompt) - 1 + i]
        assert row[token] >= row.max() - 0.02 * row.std(), f"id {i}: {token} against {row.argmax()}"


def test_tokens_need_no_tokenizer_and_max_tokens_bounds():
    assert not (FIXTURE / "tokenizer.json").exists()
    few = new_ids(FIXTURE, "--tokens", tokens_argument(), "--max-tokens", 3)
    more = new_ids(FIXTURE, "--tokens", tokens_argument(), "--max-tokens", 12)
    assert len(few) <= 3 and len(more) <= 12 and more[: len(few)] == few


@pytest.mark.parametrize("name", ["v2-bf16", "v3-mxfp4"])
def test_weights_that_are_read_give_the_ids_of_mapped_ones(name):
    arguments = (MODELS / name, "--tokens", tokens_argument(8, name), "--max-tokens", 6)
    assert new_ids(*arguments, "--no-mmap") == new_ids(*arguments)


def test_tokens_from_a_file():
    listed = new_ids(FIXTURE, "--tokens", ",".join(map(str, first_tokens(48))), "--max-tokens", 5)
    assert new_ids(FIXTURE, "--tokens", f"@{FIXTURE / 'tokens.json'}", "--max-tokens", 5) == listed


def test_greedy_is_deterministic_and_blind_to_threads_and_seed():
    arguments = (FIXTURE, "--tokens", tokens_argument(), "--max-tokens", 16)
    first = new_ids(*arguments, "--threads", 1)
    assert new_ids(*arguments, "--threads", 1) == first
    assert new_ids(*arguments, "--threads", 2) == first
    assert new_ids(*arguments, "--seed", 7) == first
    assert new_ids(*arguments, "--temperature", 0) == first


def test_v_layouts_generate_the_same():
    results = [new_ids(FIXTURE, "--tokens", tokens_argument(), "--max-tokens", 12, "--v-layout", layout)
               for layout in ("copy", "strided", "fused")]
    assert results[0] == results[1] == results[2]


def test_sampling_follows_the_seed():
    arguments = (FIXTURE, "--tokens", tokens_argument(), "--max-tokens", 24, "--temperature", 1.5)
    one = new_ids(*arguments, "--seed", 1)
    assert new_ids(*arguments, "--seed", 1) == one
    others = [new_ids(*arguments, "--seed", seed) for seed in (2, 3, 4)]
    assert any(other != one for other in others)


def test_top_k_1_is_greedy():
    arguments = (FIXTURE, "--tokens", tokens_argument(), "--max-tokens", 12)
    greedy = new_ids(*arguments)
    assert new_ids(*arguments, "--temperature", 2, "--top-k", 1, "--seed", 3) == greedy
    assert new_ids(*arguments, "--temperature", 2, "--top-p", 1e-6, "--seed", 3) == greedy


def test_top_k_keeps_to_the_best(tmp_path):
    """Every sampled id is among the k best of its own row."""
    prompt = first_tokens(8)
    ids = new_ids(FIXTURE, "--tokens", tokens_argument(), "--max-tokens", 20, "--temperature", 3, "--top-k", 3,
                  "--seed", 5, "--device", "ref")
    file = tmp_path / "all.txt"
    file.write_text(",".join(map(str, prompt + ids)))
    logits = run_logits(FIXTURE, tmp_path / "all.npy", "--device", "ref", tokens=file)
    for i, token in enumerate(ids):
        row = logits[len(prompt) - 1 + i]
        assert row[token] >= sorted(row)[-3] - 1e-3 * row.std()


def test_stats_go_to_stderr():
    arguments = (FIXTURE, "--tokens", tokens_argument(), "--max-tokens", 6)
    result = run("run", *arguments, "--print-ids", "--stats")
    assert re.fullmatch(rb"\d+(,\d+)*\n", result.stdout)
    assert re.search(rb"tok", result.stderr)
    assert [int(i) for i in result.stdout.split(b",")] == new_ids(*arguments)


def test_eos_stops(tmp_path):
    """Whether the end's own id is printed is not fixed; nothing comes after it."""
    ids = new_ids(FIXTURE, "--tokens", tokens_argument(), "--max-tokens", 12)
    end = ids[4]
    folder = editable_copy("v3-mxfp4", tmp_path / "eos")
    edit_config(folder, lambda config: config.update(eos_token_id=[79, end]))
    at = ids.index(end)
    assert new_ids(folder, "--tokens", tokens_argument(), "--max-tokens", 12) in (ids[:at], ids[: at + 1])


def test_max_tokens_0_prints_nothing_or_says_why():
    result = run("run", FIXTURE, "--tokens", tokens_argument(), "--max-tokens", 0, "--print-ids", check=False)
    assert result.returncode in (0, 2)
    assert result.stdout.strip() == b""


def test_golden_tokens_are_long_enough():
    assert golden_info("kimi-yarn")["tokens"] > 64  # beyond the original length of its YaRN


@needs_tiny_gsm
def test_tiny_gsm_answers(tmp_path):
    """Found by its name from another working directory."""
    text = run("run", "tiny-gsm", "--prompt", QUESTION, cwd=tmp_path).stdout.decode()
    assert re.search(r"####\s*7\b", text), text


@needs_tiny_gsm
def test_tiny_gsm_by_folder_and_prompt_file(tmp_path):
    file = tmp_path / "question.txt"
    file.write_text(QUESTION)
    by_name = run("run", "tiny-gsm", "--prompt", QUESTION).stdout
    assert run("run", TINY_GSM, "--prompt-file", file).stdout == by_name


@needs_tiny_gsm
def test_tiny_gsm_text_is_utf8_and_streams_whole_characters():
    out = run("run", "tiny-gsm", "--prompt", QUESTION, "--temperature", 2.5, "--seed", 3, "--max-tokens", 60).stdout
    out.decode("utf-8")  # never half a character, whatever the model says


@needs_tiny_gsm
@pytest.mark.parametrize("option", [("--threads", 1), ("--v-layout", "copy"), ("--v-layout", "strided"), ("--seed", 9)])
def test_tiny_gsm_same_ids(option):
    ids = new_ids("tiny-gsm", "--prompt", QUESTION)
    assert len(ids) > 3
    assert new_ids("tiny-gsm", "--prompt", QUESTION, *option) == ids


@needs_tiny_gsm
def test_stop_cuts_the_text_wherever_it_begins():
    whole = run("run", "tiny-gsm", "--prompt", QUESTION).stdout.decode()
    for begin in range(0, len(whole) - 4, 3):
        stop = whole[begin : begin + 4]
        out = run("run", "tiny-gsm", "--prompt", QUESTION, "--stop", "never said", "--stop", stop).stdout.decode()
        assert out == whole[: whole.index(stop)] + "\n"


@needs_tiny_gsm
@pytest.mark.parametrize("args,end", [
    ([], 'stop token 1 "<｜end▁of▁sentence｜>"'), (["--stop", "x", "--stop", "="], 'stop text "="'),
    (["--max-tokens", 3], "length, 3 tokens"), (["--max-tokens", 0], "length, 0 tokens"),
])
def test_stats_say_why_it_ended(args, end):
    error = run("run", "tiny-gsm", "--prompt", QUESTION, "--stats", *args).stderr.decode()
    assert error.splitlines()[-1] == "end      " + end


def test_stats_without_a_tokenizer_and_of_a_failure(tmp_path):
    folder = editable_copy("v3-mxfp4", tmp_path / "model")
    ids = new_ids(FIXTURE, "--tokens", tokens_argument(), "--max-tokens", 1)
    edit_config(folder, lambda config: config.update(eos_token_id=ids[0]))
    result = run("run", folder, "--tokens", tokens_argument(), "--print-ids", "--stats")
    assert result.stderr.decode().splitlines()[-1] == f"end      stop token {ids[0]}"
    with open("/dev/full", "wb") as full:
        result = subprocess.run([BINARY, "run", FIXTURE, "--tokens", tokens_argument(), "--print-ids", "--stats"],
                                stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert result.returncode == 14 and b"\nend      error\n" in result.stderr


def test_a_random_seed_is_printed_and_can_be_given_again():
    arguments = (FIXTURE, "--tokens", tokens_argument(), "--max-tokens", 24, "--temperature", 2, "--print-ids")
    results = [run("run", *arguments, "--seed", -1) for _ in range(3)]
    seeds = [re.search(r"--seed (\d+)", result.stderr.decode())[1] for result in results]
    assert len(set(seeds)) > 1 and len({result.stdout for result in results}) > 1
    for seed, result in zip(seeds, results):
        again = run("run", *arguments, "--seed", seed)
        assert again.stdout == result.stdout and again.stderr == b""


def test_min_p_1_is_greedy():
    arguments = (FIXTURE, "--tokens", tokens_argument(), "--max-tokens", 12)
    assert new_ids(*arguments, "--temperature", 2, "--min-p", 1, "--seed", 3) == new_ids(*arguments)


@needs_tiny_gsm
def test_ctrl_c_ends_the_text_and_prints_the_statistics(tmp_path):
    folder = tmp_path / "endless"
    shutil.copytree(TINY_GSM, folder)
    edit_config(folder, lambda config: config.update(eos_token_id=3))
    (folder / "generation_config.json").unlink()
    command = [BINARY, "run", folder, "--prompt", QUESTION, "--max-tokens", "900", "--stats", "--device", "ref"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    begin = process.stdout.read(8)
    process.send_signal(signal.SIGINT)
    rest, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.decode().splitlines()[-1] == "end      cancelled"
    assert re.search(rb"^decode   \d+ tokens", error, flags=re.M)
    whole = run("run", folder, "--prompt", QUESTION, "--max-tokens", 150, "--device", "ref").stdout
    said = begin + rest
    assert said.endswith(b"\n") and (whole.startswith(said[:-1]) or said.startswith(whole[:-1]))


@needs_tiny_gsm
def test_biases_and_penalties_reach_the_sampler():
    def ids(count, *flags):
        return new_ids("tiny-gsm", "--prompt", "Tom has", "--max-tokens", count, *flags)

    one, two = ("--logit-bias", "54=1000"), ("--logit-bias", "464=900")
    assert ids(3, *one, *two) == [54, 54, 54]
    assert ids(2, *one, *two, "--presence-penalty", "200") == [54, 464]
    assert ids(3, *one, *two, "--frequency-penalty", "60") == [54, 54, 464]
    assert 54 in json.loads("[%s]" % run("tokenize", "tiny-gsm", "Tom has", "--ids").stdout.decode())
    assert ids(1, *one, "--logit-bias", "30=600", "--repetition-penalty", "2") == [30]  # 54 is in the prompt
