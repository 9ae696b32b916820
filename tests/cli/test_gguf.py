"""GGUF models: weights, config, tokenizer and template against the folders they were made of."""

import json
import shutil
import struct

import checkpoint_files
import gguf_files
import numpy as np
import pytest
import quantized_checkpoints as derived
from conftest import MODELS, REPOSITORY, golden_info, relative, run, run_logits

GOLDENS = np.load(REPOSITORY / "tests" / "fixtures" / "quantized.npz")
TEXT = REPOSITORY / "tests" / "text" / "fixtures"
MISSING_FILE, BAD_CONFIG, ARCHITECTURE, SAFETENSORS, TENSOR, TOKENIZER = 4, 5, 6, 8, 9, 16


def all_bf16(_name, _x):
    return "BF16"


@pytest.mark.parametrize("path", ["prefill", "decode"])
@pytest.mark.parametrize("device,limit", [("ref", 1e-4), ("cpu", 2e-2)])
def test_every_type_of_tensor(device, limit, path, tmp_path):
    """F32, F16, BF16, Q8_0, Q4_K, Q6_K and MXFP4 in one file, as the gguf package dequantises them."""
    file = tmp_path / "model.gguf"
    gguf_files.convert(MODELS / derived.GGUF_BASE, file, gguf_files.mixed)
    tokens = ",".join(map(str, GOLDENS["gguf-mixed-tokens"]))
    run("logits", file, "--tokens", tokens, "--every", 4, "--output", tmp_path / "x.npy", "--device", device,
        "--path", path)
    found = np.load(tmp_path / "x.npy")
    assert relative(found, GOLDENS["gguf-mixed"]) <= limit, f"{relative(found, GOLDENS['gguf-mixed']):.2e}"
    run("inspect", file, "--check", "--strict", "--json", tmp_path / "x.json")
    report = json.loads((tmp_path / "x.json").read_text())
    formats = {f for g in report["groups"] for f in g["formats"]}
    assert formats == {"f32", "f16", "bf16", "q8_0", "q4_k", "q6_k", "ggml-mxfp4"} and report["quantization"] == "gguf"


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("name", ["v2-bf16", "v2-groups", "v3-bf16", "kimi-yarn", "glm-lite"])
def test_config_and_names(name, split, tmp_path):
    """The same weights in BF16 under GGUF's names and keys give the folder's logits; with kv_b_proj split or, as in older
    files, whole."""
    file = tmp_path / "model.gguf"
    gguf_files.convert(MODELS / name, file, all_bf16, split)
    golden = np.load(MODELS / name / "logits.npy")
    found = run_logits(file, tmp_path / "x.npy", "--every", golden_info(name)["every"], "--device", "ref",
                       tokens=MODELS / name / "tokens.json")
    assert relative(found, golden) <= 1e-4, f"{relative(found, golden):.2e}"


def test_a_folder_and_a_split_set(tmp_path):
    """A folder with one model, whole or in parts, is that model."""
    (tmp_path / "whole").mkdir()
    gguf_files.convert(MODELS / "kimi-yarn", tmp_path / "whole" / "kimi.gguf", all_bf16)
    tokens = MODELS / "kimi-yarn" / "tokens.json"
    whole = run_logits(tmp_path / "whole", tmp_path / "a.npy", "--every", 33, tokens=tokens)

    config = json.loads((MODELS / "kimi-yarn" / "config.json").read_text())
    values = gguf_files.gguf_values(gguf_files.float_tensors(MODELS / "kimi-yarn"), config)
    tensors = {n: ("F32" if x.ndim == 1 or "gate_inp" in n else "BF16", x.shape) for n, x in values.items()}
    names = list(tensors)
    parts = tmp_path / "parts"
    parts.mkdir()
    for i in range(3):
        own = {n: (*tensors[n], gguf_files.ENCODE[tensors[n][0]](values[n])) for n in names[i::3]}
        metadata = gguf_files.metadata_of(config) if i == 0 else {}
        metadata.update({"split.no": (gguf_files.U32, i), "split.count": (gguf_files.U32, 3)})
        if i == 0:  # what the config looks for among the tensors
            for n in ("token_embd.weight", "output.weight", "blk.1.exp_probs_b.bias"):
                own[n] = (*tensors[n], gguf_files.ENCODE[tensors[n][0]](values[n]))
        else:
            for n in ("token_embd.weight", "output.weight", "blk.1.exp_probs_b.bias"):
                own.pop(n, None)
        gguf_files.write(parts / f"kimi-{i + 1:05d}-of-00003.gguf", metadata, own)
    for model in (parts, parts / "kimi-00001-of-00003.gguf"):
        assert np.array_equal(run_logits(model, tmp_path / "b.npy", "--every", 33, tokens=tokens), whole)
    result = run("inspect", parts / "kimi-00002-of-00003.gguf", check=False)
    assert result.returncode == MISSING_FILE and b"00001-of-00003" in result.stderr
    (parts / "kimi-00003-of-00003.gguf").unlink()
    result = run("inspect", parts, check=False)
    assert result.returncode == MISSING_FILE and b"part 3 of 3" in result.stderr
    shutil.copy(tmp_path / "whole" / "kimi.gguf", tmp_path / "whole" / "other.gguf")
    assert run("inspect", tmp_path / "whole", check=False).returncode == MISSING_FILE


def expect(status, path, words):
    result = run("inspect", path, check=False)
    message = result.stderr.decode()
    assert result.returncode == status and message.count("\n") == 1, message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("change,status,words", [
    (lambda m: m.update({"general.architecture": (gguf_files.STRING, "llama")}), ARCHITECTURE, ["llama", "deepseek2"]),
    (lambda m: m.pop("general.architecture"), ARCHITECTURE, ["general.architecture"]),
    (lambda m: m.pop("deepseek2.attention.kv_lora_rank"), BAD_CONFIG, ["attention.kv_lora_rank"]),
    (lambda m: m.update({"deepseek2.embedding_length": (gguf_files.STRING, "32")}), BAD_CONFIG, ["embedding_length"]),
    (lambda m: m.update({"deepseek2.rope.scaling.type": (gguf_files.STRING, "linear")}), BAD_CONFIG, ["scaling.type"]),
    (lambda m: m.update({"deepseek2.expert_gating_func": (gguf_files.U32, 3)}), BAD_CONFIG, ["expert_gating_func"]),
    (lambda m: m.update({"deepseek2.block_count": (gguf_files.U32, 5)}), TENSOR, ["model.layers.2"]),
])
def test_metadata_that_is_refused(change, status, words, tmp_path):
    config = json.loads((MODELS / "kimi-yarn" / "config.json").read_text())
    metadata = gguf_files.metadata_of(config)
    change(metadata)
    values = gguf_files.gguf_values(gguf_files.float_tensors(MODELS / "kimi-yarn"), config)
    tensors = {n: ("F32", x.shape, gguf_files.f32(x)) for n, x in values.items()}
    gguf_files.write(tmp_path / "x.gguf", metadata, tensors)
    expect(status, tmp_path / "x.gguf", words)


def test_other_types_are_refused_by_name(tmp_path):
    config = json.loads((MODELS / "kimi-yarn" / "config.json").read_text())
    tensors = {"token_embd.weight": ("Q5_0", (80, 32), b"\0" * (80 * 22))}
    gguf_files.write(tmp_path / "x.gguf", gguf_files.metadata_of(config), tensors)
    expect(TENSOR, tmp_path / "x.gguf", ["token_embd.weight", "Q5_0", "Q4_K"])


def test_damaged_files(tmp_path):
    """Cut anywhere in its header, or with a count that is out of reach, a file is refused in a line."""
    whole = tmp_path / "whole.gguf"
    gguf_files.convert(MODELS / "kimi-yarn", whole, all_bf16)
    raw = whole.read_bytes()
    file = tmp_path / "x.gguf"
    for length in (4, 7, 20, 30, 100, 700, 2000, len(raw) - 100):
        file.write_bytes(raw[:length])
        expect(SAFETENSORS, file, ["x.gguf"])
    for at, value in ((4, struct.pack("<I", 1)), (8, struct.pack("<Q", 1 << 60)), (16, struct.pack("<Q", 1 << 60)),
                      (24, struct.pack("<Q", 1 << 62)), (0, b"GGML")):
        file.write_bytes(raw[:at] + value + raw[at + len(value):])
        expect(SAFETENSORS, file, ["x.gguf"])


# As a source of `mxmla quantize`.


@pytest.mark.parametrize("target", ["mxfp4", "fp8", "bf16"])
@pytest.mark.parametrize("name,split", [("v2-groups", True), ("kimi-yarn", True), ("kimi-yarn", False), ("glm-lite", True)])
def test_quantize_is_that_of_the_folder(name, split, target, tmp_path):
    """The same weights as a GGUF file become the same tensors, kv_b_proj's two parts and stacked experts as well."""
    gguf_files.convert(MODELS / name, tmp_path / "x.gguf", all_bf16, split)
    errors = [run("quantize", source, tmp_path / to, "--format", target).stdout.splitlines()[:-1]
              for source, to in ((MODELS / name, "a"), (tmp_path / "x.gguf", "b"))]
    assert errors[0] == errors[1]
    expected, found = (checkpoint_files.read_folder(tmp_path / folder) for folder in "ab")
    plain = ("norm.weight", "mlp.gate.weight", "e_score_correction_bias")  # float32 in GGUF files
    assert set(found) == set(expected)
    for key, tensor in expected.items():
        if key.endswith(plain):
            assert found[key].dtype == "F32", key
        else:
            assert found[key].dtype == tensor.dtype and found[key].data == tensor.data, key
    tokens = MODELS / name / "tokens.json"
    a, b = (run_logits(tmp_path / folder, tmp_path / "x.npy", "--every", 9, "--device", "ref", tokens=tokens)
            for folder in "ab")
    assert np.array_equal(a, b)


def test_quantize_decodes_every_type(tmp_path):
    gguf_files.convert(MODELS / derived.GGUF_BASE, tmp_path / "x.gguf", gguf_files.mixed)
    refused = run("quantize", tmp_path / "x.gguf", tmp_path / "to", "--format", "mxfp4", check=False)
    assert refused.returncode == 7 and b"--requantize" in refused.stderr and not (tmp_path / "to").exists()
    result = run("quantize", tmp_path / "x.gguf", tmp_path / "to", "--format", "bf16")
    assert b"gets no tokenizer" in result.stderr  # the file has none
    assert {t.dtype for t in checkpoint_files.read_folder(tmp_path / "to").values()} <= {"BF16", "F32", "F16"}
    tokens = ",".join(map(str, GOLDENS["gguf-mixed-tokens"]))
    run("logits", tmp_path / "to", "--tokens", tokens, "--every", 4, "--output", tmp_path / "x.npy", "--device", "ref")
    assert relative(np.load(tmp_path / "x.npy"), GOLDENS["gguf-mixed"]) <= 2e-2


def test_quantize_keeps_the_tokenizer(tmp_path):
    extra = gguf_files.tokenizer_metadata(TEXT / "deepseek-v3", "deepseek-v3")
    gguf_files.convert(MODELS / "kimi-yarn", tmp_path / "x.gguf", all_bf16, extra=extra)
    run("quantize", tmp_path / "x.gguf", tmp_path / "to", "--format", "bf16")
    for sentence in SENTENCES:
        a, b = (run("tokenize", model, "--ids", sentence).stdout for model in (TEXT / "deepseek-v3", tmp_path / "to"))
        assert a == b and a.strip(), sentence


# Text.


@pytest.fixture(scope="module", params=[("deepseek-v2", "deepseek-llm"), ("deepseek-v3", "deepseek-v3")])
def tokenizer(request, tmp_path_factory):
    name, pre = request.param
    file = tmp_path_factory.mktemp("gguf") / f"{name}.gguf"
    metadata = {"general.architecture": (gguf_files.STRING, "deepseek2")}
    metadata.update(gguf_files.tokenizer_metadata(TEXT / name, pre))
    gguf_files.write(file, metadata, {})
    return TEXT / name, file


SENTENCES = ["Hello, world! It's 12345 o'clock.", "  two spaces\n\n\tand tabs", "Größe — 你好，世界 ひらがな",
             "def f(x):\n    return x**2  # ok", "🙂🏽 e\u0301 \u00a0 x", "<｜begin▁of▁sentence｜>a<｜end▁of▁sentence｜>"]


def test_tokenizer_is_that_of_the_folder(tokenizer):
    folder, file = tokenizer
    for sentence in SENTENCES:
        a, b = (run("tokenize", model, "--ids", sentence).stdout for model in (folder, file))
        assert a == b and a.strip(), sentence
    ids = run("tokenize", file, "--ids", SENTENCES[2]).stdout.decode().strip().split(",")
    assert run("detokenize", file, *ids).stdout == run("detokenize", folder, *ids).stdout


def test_unknown_pre_tokenizer(tmp_path):
    metadata = {"general.architecture": (gguf_files.STRING, "deepseek2")}
    metadata.update(gguf_files.tokenizer_metadata(TEXT / "deepseek-v3", "falcon3"))
    gguf_files.write(tmp_path / "x.gguf", metadata, {})
    result = run("tokenize", tmp_path / "x.gguf", "a", check=False)
    assert result.returncode == TOKENIZER and b"falcon3" in result.stderr and b"deepseek-v3" in result.stderr


def test_generates_text_with_its_own_template(tmp_path):
    """tiny-gsm as a GGUF file: the same tokens as the folder, prompt, template and all."""
    folder = REPOSITORY / "models" / "tiny-gsm-bf16"
    if not (folder / "config.json").exists():
        folder = REPOSITORY / "models" / "tiny-gsm"
    if not (folder / "config.json").exists():
        pytest.skip("models/tiny-gsm is not in this checkout")
    extra = gguf_files.tokenizer_metadata(folder, "deepseek-v3")
    gguf_files.convert(folder, tmp_path / "gsm.gguf", all_bf16, extra=extra)
    prompt = ("--prompt", "Maya has 24 stickers. She buys 3 packs with 15 stickers each. How many has she?",
              "--max-tokens", 24, "--temperature", 0, "--device", "ref")
    a = run("run", folder, *prompt, timeout=300).stdout
    b = run("run", tmp_path / "gsm.gguf", *prompt, timeout=300).stdout
    assert a == b and a.strip()
