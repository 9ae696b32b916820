"""inspect, quantize, eval, profile and bench."""

import json
import math
import os
import re

import checkpoint_files as files
import numpy as np
import pytest
from conftest import (MODELS, REPOSITORY, TINY_GSM, editable_copy, edit_config, golden_info, needs_tiny_gsm, relative, run,
                      run_logits)

# inspect


def inspect(folder, tmp_path):
    output = tmp_path / "inspect.json"
    text = run("inspect", folder, "--json", output).stdout.decode()
    return text, json.loads(output.read_text())


def elements(name, stored):
    """Parameters of a fixture, counted from the files: scales are none, two codes lie in a byte."""
    total = 0
    for key, t in stored.items():
        if key.endswith(("weight_scale", "weight_scale_inv")):
            continue
        total += math.prod(t.shape) * (2 if key + "_scale" in stored else 1)
    return total


@pytest.mark.parametrize("name", ["v2-bf16", "v3-fp8", "v3-mxfp4", "kimi-mxfp4", "v3-real-dims"])
def test_inspect_counts_what_the_file_holds(name, tmp_path):
    text, report = inspect(MODELS / name, tmp_path)
    config = json.loads((MODELS / name / "config.json").read_text())
    assert config["architectures"][0] in text
    assert config["architectures"][0] in report["architecture"]
    stored = files.read_folder(MODELS / name)
    assert report["parameters"] == elements(name, stored)
    assert report["parameters"] == sum(group["parameters"] for group in report["groups"])
    assert report["bytes"] == sum(group["bytes"] for group in report["groups"])
    held = sum(len(t.data) for t in stored.values())
    assert held <= report["bytes"] <= held * 1.05  # vectors may count as the float32 they are widened to
    row = config["num_hidden_layers"] * (config["kv_lora_rank"] + config["qk_rope_head_dim"])
    assert report["kv_bytes_per_token"] == 2 * row
    assert 0 < report["bytes_read_per_token"] < report["bytes"]


def test_inspect_shows_precision_by_group(tmp_path):
    def formats(name):
        _, report = inspect(MODELS / name, tmp_path)
        return {group["name"]: " ".join(group["formats"]).lower() for group in report["groups"]}

    quantised_attention, experts_only, fp8 = formats("v3-mxfp4"), formats("kimi-mxfp4"), formats("v3-fp8")
    assert "mxfp4" in quantised_attention["experts"] and "mxfp4" in experts_only["experts"]
    assert "fp8" in fp8["experts"]
    attention = next(key for key in experts_only if "attention" in key)
    assert "mxfp4" in quantised_attention[attention] and "mxfp4" not in experts_only[attention]
    assert all(set(f) == set(quantised_attention) for f in (experts_only, fp8))


def test_inspect_shows_what_is_converted(tmp_path):
    """F16 matrices are used as they are; routers alone are widened exactly, which --strict refuses."""
    folder = editable_copy("kimi-yarn", tmp_path / "model")
    assert " bf16 / bf16" in run("inspect", folder, "--strict", "--check").stdout.decode()
    whole = run_logits(folder, tmp_path / "bf16.npy")
    path = folder / "model.safetensors"
    tensors = files.read(path)

    def store_half(name):
        values = (tensors[name].array().astype(np.uint32) << 16).view(np.float32)
        tensors[name] = files.Tensor("F16", tensors[name].shape, values.astype(np.float16).tobytes())
        files.write(path, tensors)

    store_half("model.layers.0.self_attn.o_proj.weight")
    text, report = inspect(folder, tmp_path)
    assert "f16" in next(line for line in text.splitlines() if line.startswith("attention ") and "/" in line)
    group = next(group for group in report["groups"] if group["name"] == "attention")
    assert set(group["formats"]) == {"bf16", "f16"} == set(group["used"])
    run("inspect", folder, "--strict")
    # The halves lose what lies below 2^-24, no more.
    assert relative(run_logits(folder, tmp_path / "f16.npy"), whole) < 1e-3
    store_half("model.layers.1.mlp.gate.weight")
    result = run("inspect", folder, "--strict", check=False)
    assert result.returncode == 9
    assert "router: expected matrices used as they are stored" in result.stderr.decode()


def test_inspect_notes_what_it_skips(tmp_path):
    result = run("inspect", MODELS / "v3-bf16")
    assert b"MTP" in result.stdout + result.stderr or b"multi-token" in result.stdout + result.stderr
    result = run("inspect", MODELS / "kimi-k25")
    assert b"vision" in result.stdout + result.stderr


# quantize

SOURCE = "kimi-yarn"


def float_weights(folder):
    """name -> float32, of BF16 and FP8 matrices."""
    stored, weights = files.read_folder(folder), {}
    for name, t in stored.items():
        if t.dtype == "BF16":
            weights[name] = files.bf16_to_float(t.array())
        elif t.dtype == "F8_E4M3":
            weights[name] = files.dequantize_fp8_block(t.array(), stored[name + "_scale_inv"].array())
    return weights


def quantised_names(stored):
    return {name for name in stored if name + "_scale" in stored}


def is_linear(name):
    return "_proj" in name and "layernorm" not in name and name.endswith(".weight")


def check_codes(folder, source, mode="even"):
    """Every quantised tensor has the bytes of the numpy quantiser on the source's values."""
    stored, weights = files.read_folder(folder), float_weights(source)
    names = quantised_names(stored)
    for name in names:
        codes, scales = files.quantize_mxfp4(weights[name], mode)
        assert stored[name].dtype == "U8" and stored[name + "_scale"].dtype == "U8"
        assert np.array_equal(stored[name + "_scale"].array(), scales), name
        assert np.array_equal(stored[name].array(), codes), name
    return stored, names


def quantize(source, destination, *args):
    run("quantize", source, destination, "--format", "mxfp4", *args)
    return json.loads((destination / "config.json").read_text())["quantization_config"]


def test_quantize_bf16(tmp_path):
    source = MODELS / SOURCE
    quantization = quantize(source, tmp_path / "dst")
    weight = quantization["global_quant_config"]["weight"]
    assert quantization["quant_method"] == "quark"
    assert (weight["dtype"], weight["group_size"], weight["scale_format"]) == ("fp4", 32, "e8m0")
    assert any("lm_head" in pattern for pattern in quantization["exclude"])

    stored, names = check_codes(tmp_path / "dst", source)
    original = files.read_folder(source)
    assert names == {name for name in original if is_linear(name)}
    kept = set(original) - names
    assert set(stored) == set(original) | {name + "_scale" for name in names}
    for name in kept:
        assert (stored[name].dtype, stored[name].shape, stored[name].data) == (
            original[name].dtype, original[name].shape, original[name].data), name

    before = json.loads((source / "config.json").read_text())
    after = json.loads((tmp_path / "dst" / "config.json").read_text())
    assert {k: v for k, v in after.items() if k != "quantization_config"} == before


def test_quantised_folder_means_its_rounded_weights(tmp_path):
    """Its logits are those of a BF16 folder that holds the dequantised values: E2M1 x 2^e is exact in bf16."""
    quantize(MODELS / SOURCE, tmp_path / "dst")
    stored = files.read_folder(tmp_path / "dst")
    rounded = {}
    for name, t in stored.items():
        if name.endswith("_scale"):
            continue
        rounded[name] = t
        if name + "_scale" in stored:
            values = files.dequantize_mxfp4(t.array(), stored[name + "_scale"].array())
            rounded[name] = files.from_array("BF16", files.float_to_bf16(values))
    folder = editable_copy(SOURCE, tmp_path / "rounded")
    files.write(folder / "model.safetensors", rounded)
    tokens, every = MODELS / SOURCE / "tokens.json", golden_info(SOURCE)["every"]
    options = ("--every", every, "--device", "ref")
    quantised = run_logits(tmp_path / "dst", tmp_path / "a.npy", *options, tokens=tokens)
    expanded = run_logits(folder, tmp_path / "b.npy", *options, tokens=tokens)
    assert relative(quantised, expanded) <= 1e-5
    assert relative(quantised, np.load(MODELS / SOURCE / "logits.npy")) > 1e-2  # something was rounded


@pytest.mark.parametrize("mode", ["floor", "ceil"])
def test_quantize_scale_modes(mode, tmp_path):
    quantization = quantize(MODELS / SOURCE, tmp_path / "dst", "--scale-mode", mode)
    check_codes(tmp_path / "dst", MODELS / SOURCE, mode)
    assert quantization["global_quant_config"]["weight"]["scale_calculation_mode"] == mode


@pytest.mark.parametrize("pattern,kept", [
    ("*self_attn*", lambda name: "self_attn" in name),
    ("re:.*\\.experts\\.\\d+\\.(gate|up)_proj", lambda name: ".experts." in name and "down_proj" not in name),
    ("model.layers.1.self_attn.kv_b_proj", lambda name: name == "model.layers.1.self_attn.kv_b_proj.weight"),
])
def test_quantize_exclude(pattern, kept, tmp_path):
    quantization = quantize(MODELS / SOURCE, tmp_path / "dst", "--exclude", pattern)
    # Other engines read names and re: patterns only, so a glob is written as the latter.
    written = pattern if not pattern.startswith("*") else "re:.*self_attn.*$"
    assert written in quantization["exclude"]
    _, names = check_codes(tmp_path / "dst", MODELS / SOURCE)
    linears = {name for name in files.read_folder(MODELS / SOURCE) if is_linear(name)}
    assert names == {name for name in linears if not kept(name)} and names != linears
    run_logits(tmp_path / "dst", tmp_path / "x.npy", tokens=MODELS / SOURCE / "tokens.json")


def test_quantize_exclude_some_experts(tmp_path):
    """The folder is written as asked; such a mixture may be refused when it is run, then by the tensor's name."""
    quantize(MODELS / SOURCE, tmp_path / "dst", "--exclude", "re:.*\\.experts\\.[0-3]\\..*")
    _, names = check_codes(tmp_path / "dst", MODELS / SOURCE)
    experts = {name.split(".experts.")[1][0] for name in names if ".experts." in name}
    assert experts == {"4", "5"}
    result = run("run", tmp_path / "dst", "--tokens", "1,2", "--max-tokens", 2, "--print-ids", check=False)
    assert result.returncode == 0 or (result.returncode == 9 and b"experts.4" in result.stderr)


def test_quantize_exclude_twice(tmp_path):
    quantize(MODELS / SOURCE, tmp_path / "dst", "--exclude", "*self_attn*", "--exclude", "*shared_experts*")
    names = quantised_names(files.read_folder(tmp_path / "dst"))
    assert names and not any("self_attn" in name or "shared_experts" in name for name in names)


def fp8_folder(folder):
    """kimi-yarn with FP8 block weights: its dimensions are multiples of 32, as MXFP4 needs them."""
    editable_copy(SOURCE, folder)
    tensors = files.read_folder(folder)
    for name in [name for name in tensors if is_linear(name)]:
        codes, scale = files.quantize_fp8_block(files.bf16_to_float(tensors[name].array()))
        tensors[name] = files.from_array("F8_E4M3", codes)
        tensors[name + "_scale_inv"] = files.from_array("F32", scale)
    files.write(folder / "model.safetensors", tensors)
    fp8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    edit_config(folder, lambda config: config.update(quantization_config=fp8))
    return folder


def test_quantize_fp8(tmp_path):
    source = fp8_folder(tmp_path / "fp8")
    assert quantize(source, tmp_path / "dst")["quant_method"] == "quark"
    stored, names = check_codes(tmp_path / "dst", source)
    assert names == {name for name in files.read_folder(source) if is_linear(name)}
    assert not any(name.endswith("scale_inv") for name in stored)
    tokens = MODELS / SOURCE / "tokens.json"
    assert np.isfinite(run_logits(tmp_path / "dst", tmp_path / "x.npy", tokens=tokens)).all()


def test_quantize_carries_the_other_files(tmp_path):
    source = editable_copy(SOURCE, tmp_path / "src")
    (source / "tokenizer_config.json").write_text('{"model_max_length": 5}')
    (source / "generation_config.json").write_text('{"eos_token_id": 1}')
    quantize(source, tmp_path / "dst")
    for name in ("tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "dst" / name).read_bytes() == (source / name).read_bytes()


def test_quantize_sharded_with_mtp(tmp_path):
    """Dimensions that are no multiple of 32 stay as they are; the result loads and runs."""
    run("quantize", MODELS / "v3-bf16", tmp_path / "dst", "--format", "mxfp4")
    _, names = check_codes(tmp_path / "dst", MODELS / "v3-bf16")
    assert any("kv_b_proj" in name for name in names)
    tokens = MODELS / "v3-bf16" / "tokens.json"
    found = run_logits(tmp_path / "dst", tmp_path / "x.npy", tokens=tokens)
    assert np.isfinite(found).all() and found.shape[0] == golden_info("v3-bf16")["tokens"]


# eval


@needs_tiny_gsm
def test_eval(tmp_path):
    output = tmp_path / "eval.json"
    run("eval", "tiny-gsm", TINY_GSM / "heldout.jsonl", "--limit", 20, "--json", output, timeout=300)
    report = json.loads(output.read_text())
    assert report["total"] == 20 and 0 <= report["correct"] <= 20
    assert report["accuracy"] == pytest.approx(report["correct"] / 20)
    p = report["accuracy"]
    assert report["standard_error"] == pytest.approx(math.sqrt(p * (1 - p) / 20), abs=0.02)
    assert report["tokens_per_second"] > 0
    assert report["correct"] >= 17  # 95% is promised


@needs_tiny_gsm
def test_eval_writes_down_each_problem(tmp_path):
    output = tmp_path / "eval.json"
    data = TINY_GSM / "heldout.jsonl"
    run("eval", "tiny-gsm", data, "--limit", 6, "--max-tokens", 60, "--json", output)
    report = json.loads(output.read_text())
    records = [json.loads(line) for line in data.read_text().splitlines()[:6]]
    assert [problem["question"] for problem in report["problems"]] == [record["question"] for record in records]
    for problem in report["problems"]:
        prompt = f"Question: {problem['question']}\nAnswer:"
        alone = run("run", "tiny-gsm", "--prompt", prompt, "--max-tokens", 60, "--print-ids").stdout.decode()
        alone = [int(i) for i in alone.split(",")]
        assert problem["ids"] == alone[: len(problem["ids"])]
        assert problem["text"] + "\n" == run("detokenize", "tiny-gsm", *problem["ids"]).stdout.decode()
        found = re.search(r"#### (-?[\d.]+)", problem["text"])
        assert problem["answer"] == (float(found[1]) if found else None)
        assert problem["correct"] == (problem["answer"] == problem["expected"])
        assert problem["new_tokens"] == len(problem["ids"])
        assert problem["end"] == ("length" if len(problem["ids"]) == 60 else "stop token")
        ids = run("tokenize", "tiny-gsm", prompt, "--ids").stdout.split(b",")
        assert problem["prompt_tokens"] == len(ids)
    assert {problem["end"] for problem in report["problems"]} == {"length", "stop token"}
    assert report["correct"] == sum(problem["correct"] for problem in report["problems"])
    stats = report["stats"]
    assert stats["new_tokens"] == sum(problem["new_tokens"] for problem in report["problems"])
    assert stats["prompt_tokens"] == sum(problem["prompt_tokens"] for problem in report["problems"])
    assert stats["prefill_seconds"] > 0 and stats["decode_seconds"] > 0


@needs_tiny_gsm
def test_eval_compares_numbers_as_numbers(tmp_path):
    """The model's 7 is 7.0 and 7.00; its answer to another's question is wrong."""
    question = "Tom has 3 apples. He buys 4 more apples. How many apples does Tom have now?"
    data = tmp_path / "data.jsonl"
    answers = ["so 7\n#### 7", "#### 7.0", "#### 7.00", "#### 8", "#### 70"]
    data.write_text("".join(json.dumps({"question": question, "answer": a}) + "\n" for a in answers))
    output = tmp_path / "eval.json"
    run("eval", "tiny-gsm", data, "--json", output)
    report = json.loads(output.read_text())
    assert (report["correct"], report["total"]) == (3, 5)
    assert [problem["correct"] for problem in report["problems"]] == [True, True, True, False, False]
    assert [problem["expected"] for problem in report["problems"]] == [7, 7, 7, 8, 70]


# profile and bench


@pytest.mark.parametrize("layout", ["fused", "strided", "copy"])
@pytest.mark.parametrize("name", ["v2-bf16", "v3-fp8", "v3-mxfp4", "v3-real-dims"])
def test_profile_counts_copies(name, layout, tmp_path):
    output, trace = tmp_path / "profile.json", tmp_path / "trace.json"
    text = run("profile", MODELS / name, "--json", output, "--trace", trace, "--v-layout", layout).stdout.decode()
    report = json.loads(output.read_text())
    assert report["steps"] > 0
    if layout == "copy":
        config = json.loads((MODELS / name / "config.json").read_text())
        copies = config["num_hidden_layers"] * report["steps"]
        assert report["copies"] == copies
        # At least each V projection's result, in two bytes an element or more.
        assert report["copied_bytes"] >= copies * config["num_attention_heads"] * config["v_head_dim"] * 2
    else:
        assert report["copies"] == 0 and report["copied_bytes"] == 0
    assert len(report["ops"]) >= 8
    for op in report["ops"]:
        assert op["name"] and op["calls"] > 0 and op["seconds"] >= 0 and op["bytes"] >= 0
        assert op["name"] in text
    names = [op["name"] for op in report["ops"]]
    assert len(names) == len(set(names))

    events = json.loads(trace.read_text())
    events = events["traceEvents"] if isinstance(events, dict) else events
    complete = [e for e in events if e["ph"] == "X"]
    assert {e["name"] for e in complete} == set(names)
    for event in complete:
        assert event["dur"] >= 0 and event["ts"] >= 0 and "pid" in event and "tid" in event


@needs_tiny_gsm
@pytest.mark.parametrize("activations", ["bf16", "fp8", "mxfp4"])
def test_profile_of_the_embedded_model_has_no_copies(activations, tmp_path):
    output = tmp_path / "profile.json"
    run("profile", "tiny-gsm", "--json", output, "--activations", activations)
    report = json.loads(output.read_text())
    assert report["steps"] > 0 and report["copies"] == 0 and report["copied_bytes"] == 0


def figures(report):
    """Every number in a report, at any depth."""
    if isinstance(report, dict):
        return [f for v in report.values() for f in figures(v)]
    if isinstance(report, list):
        return [f for v in report for f in figures(v)]
    return [report] if isinstance(report, (int, float)) and not isinstance(report, bool) else []


def bench(tmp_path, *args):
    output = tmp_path / "bench.json"
    text = run("bench", *args, "--json", output, timeout=300).stdout.decode()
    report = json.loads(output.read_text())
    assert figures(report) and all(math.isfinite(f) for f in figures(report))
    assert text.strip()
    return text, json.dumps(report)


def test_bench_scheduler(tmp_path):
    text, report = bench(tmp_path, "scheduler", "tiny-gsm", "--batch", "1,5", "--steps", "40", "--sampled")
    assert "us a step" in text
    rows = json.loads(report)["rows"]
    assert [row["batch"] for row in rows] == [1, 5]
    assert all(row["steps"] == 40 and 0 < row["median_us"] <= row["p99_us"] for row in rows)


def test_bench_vproj(tmp_path):
    text, report = bench(tmp_path, "vproj", "--heads", "2", "--batch", "1,3", "--repeat", "2")
    for layout in ("copy", "strided", "fused"):
        assert layout in text and layout in report
    for output in ("bf16", "fp8", "mxfp4"):
        assert output in text.lower() and output in report.lower()


@pytest.mark.parametrize("device", ["cpu", "ref"])
@pytest.mark.parametrize(
    "kind, options, labels",
    [
        ("vproj", ["--heads", "2,3", "--weights", "fp8,bf16"], ["2 heads", "3 heads", "copy", "strided", "fused"]),
        ("linear", ["--shapes", "64x96,32x32"], ["64x96", "32x32", "mxfp4", "fp8", "bf16"]),
        ("attention", ["--heads", "2,3", "--context", "5,70"], ["2 heads", "3 heads", "batch 1", "batch 3"]),
    ],
)
def test_benchmarks_of_kernels(kind, options, labels, device, tmp_path):
    """One row of figures for each combination, and a chart that names them."""
    chart = tmp_path / "chart.svg"
    text, _ = bench(tmp_path, kind, *options, "--batch", "1,3", "--repeat", "1", "--device", device, "--svg", chart)
    report = json.loads((tmp_path / "bench.json").read_text())
    rows = report["rows"]
    times = ["copy_us", "strided_us", "fused_us"] if kind == "vproj" else ["us"]
    assert len(rows) == {"vproj": 2 * 2 * 2 * 3, "linear": 2 * 2 * 3, "attention": 2 * 2 * 2}[kind]
    assert all(row[time] > 0 for row in rows for time in times)
    assert {row["batch"] for row in rows} == {1, 3} and report["device"] == device
    drawn = chart.read_text()
    assert drawn.startswith("<svg") and all(label in drawn for label in labels)
    if kind == "linear":
        row = next(row for row in rows if (row["shape"], row["weights"], row["batch"]) == ("64x96", "mxfp4", 3))
        element = 4 if device == "ref" else 2
        assert row["bytes"] == 64 * 96 // 2 + 64 * 96 // 32 + 3 * (64 + 96) * element


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["linear", "--shapes", "64x33"], ["--shapes", "64x33", "multiple of 32"]),
        (["linear", "--shapes", "64x"], ["--shapes", "64x"]),
        (["attention", "--context", "3", "--query-tokens", "4"], ["--query-tokens", "3", "4"]),
        (["vproj", "--heads", "2", "--v-head-dim", "48"], ["v_head_dim 48"]),
        (["linear", "--device", "cpu", "--programmatic"], ["--programmatic", "cuda"]),
    ],
)
def test_benchmarks_of_kernels_refuse(arguments, words):
    done = run("bench", *arguments, check=False)
    message = done.stderr.decode()
    assert done.returncode == 2 and len(message.splitlines()) == 1
    assert all(word in message for word in words)


@pytest.mark.parametrize("kind", ["decode", "prefill"])
def test_bench_model(kind, tmp_path):
    text, report = bench(tmp_path, kind, MODELS / "v3-mxfp4")
    assert "token" in text and "GB/s" in text and "token" in report


@pytest.mark.parametrize("kind", ["decode", "prefill", "ops", "vproj"])
def test_bench_samples_the_read_limit_around_the_runs(kind, tmp_path):
    arguments = ["--heads", 2, "--batch", "1,2"] if kind == "vproj" else [MODELS / "v3-mxfp4"]
    arguments += [] if kind == "ops" else ["--repeat", 3]
    text, report = bench(tmp_path, kind, *arguments)
    report = json.loads((tmp_path / "bench.json").read_text())
    line = next(line for line in text.splitlines() if line.startswith("read limit"))
    found = re.search(r"([\d.]+) GB/s, the highest of (\d+) samples around the runs \(lowest ([\d.]+)\)", line)
    assert int(found[2]) == {"decode": 4, "prefill": 5, "ops": 3, "vproj": 3}[kind]
    assert float(found[1]) == pytest.approx(report["read_bandwidth_gb_per_second"], abs=0.01)
    assert float(found[3]) == pytest.approx(report["lowest_read_bandwidth_gb_per_second"], abs=0.01)
    assert 0 < float(found[3]) <= float(found[1])


@pytest.mark.parametrize("kv", ["bf16", "fp8"])
def test_bench_decode_fills_the_cache_with_random_rows(kv, tmp_path):
    """A context that would take minutes to prefill; the bytes a token grow with its rows."""
    model = ["--dummy", REPOSITORY / "configs" / "deepseek-v2-lite.json", "--layers", 2, "--experts", 2]
    options = ["--steps", 2, "--repeat", 1, "--kv-dtype", kv]
    text, _ = bench(tmp_path, "decode", *model, *options, "--context", 64)
    short = json.loads((tmp_path / "bench.json").read_text())["runs"][0]
    assert "random" in text
    bench(tmp_path, "decode", *model, *options, "--context", 16384)
    long = json.loads((tmp_path / "bench.json").read_text())["runs"][0]
    row = {"bf16": 2 * 576, "fp8": 656}[kv]
    added = long["bytes_per_token"] - short["bytes_per_token"]
    assert added == pytest.approx((16384 - 64) * 2 * row, rel=0.05)


def test_bench_decode_measures_every_batch_context_and_layout(tmp_path):
    text, report = bench(tmp_path, "decode", MODELS / "v3-mxfp4", "--batch", "1,3", "--context", "0,8", "--layouts",
                         "copy,fused", "--steps", 2, "--repeat", 1)
    runs = json.loads(report)["runs"]
    assert [(r["context"], r["batch"], r["v_layout"]) for r in runs] == [
        (c, b, v) for c in (0, 8) for b in (1, 3) for v in ("copy", "fused")]
    assert all((r["copies"] > 0) == (r["v_layout"] == "copy") for r in runs)


@pytest.mark.parametrize("name", ["v3-mxfp4", "v3-fp8", "v2-bf16"])
@pytest.mark.parametrize("kind", ["decode", "prefill"])
def test_bench_dummy(kind, name, tmp_path):
    text, _ = bench(tmp_path, kind, "--dummy", MODELS / name / "config.json", "--layers", 2, "--experts", 4)
    assert "token" in text


def test_an_output_that_is_a_link_stays_one(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    run("inspect", MODELS / SOURCE, "--json", tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert json.loads((tmp_path / "real.json").read_text())["parameters"] > 0


def test_standard_output_as_an_output_file():
    before = os.path.islink("/dev/stdout")
    result = run("inspect", MODELS / SOURCE, "--json", "/dev/stdout")
    assert b'"parameters"' in result.stdout and os.path.islink("/dev/stdout") == before


def test_an_unpadded_header_is_read_with_a_note(tmp_path):
    folder = editable_copy(SOURCE, tmp_path / "model")
    raw = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = raw[8:8 + length].rstrip()
    header += b" " * (1 - len(header) % 2)  # data at an odd address
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + length:])
    result = run("logits", folder, "--tokens", "1,2,3", "--output", tmp_path / "odd.npy")
    assert b"not aligned" in result.stderr
    run("logits", MODELS / SOURCE, "--tokens", "1,2,3", "--output", tmp_path / "even.npy")
    assert (tmp_path / "odd.npy").read_bytes() == (tmp_path / "even.npy").read_bytes()


@pytest.mark.parametrize("activations", ["bf16", "fp8", "mxfp4"])
def test_experts_of_one_layer_in_two_formats(activations, tmp_path):
    """The V layouts agree, and a mixture lies between nothing and everything quantised."""
    quantize(MODELS / SOURCE, tmp_path / "mixed", "--exclude", "re:.*\\.experts\\.[02]\\..*")
    quantize(MODELS / SOURCE, tmp_path / "all")
    flags = ["--device", "ref", "--activations", activations]
    tokens = MODELS / SOURCE / "tokens.json"
    plain = run_logits(MODELS / SOURCE, tmp_path / "plain.npy", *flags, tokens=tokens)
    mixed = run_logits(tmp_path / "mixed", tmp_path / "mixed.npy", *flags, tokens=tokens)
    everything = run_logits(tmp_path / "all", tmp_path / "all.npy", *flags, tokens=tokens)
    assert 0 < relative(mixed, plain) < 1.5 and not np.array_equal(mixed, everything)
    strided = run_logits(tmp_path / "mixed", tmp_path / "strided.npy", *flags, "--v-layout", "strided", tokens=tokens)
    assert np.array_equal(mixed, strided)
