"""Bad input: one clear line on stderr, the documented exit status, nothing on stdout, nothing half-written."""

import json
import os
import struct
import subprocess

import checkpoint_files as files
import pytest
from conftest import BINARY, MODELS, editable_copy, edit_config, run

USAGE, NO_MODEL, MISSING_FILE, BAD_CONFIG, ARCHITECTURE, QUANTIZATION, SAFETENSORS = 2, 3, 4, 5, 6, 7, 8
TENSOR, NAN_SCALE, VOCABULARY, PROMPT_TOO_LONG, TOKEN_RANGE, OUTPUT, DEVICE, TOKENIZER = 9, 10, 11, 12, 13, 14, 15, 16
DATA = 18

COMMANDS = ["run", "chat", "tokenize", "detokenize", "logits", "inspect", "quantize", "eval", "profile", "bench",
            "serve", "completion", "manual"]


def expect(status, *args, names=(), **options):
    """Runs mxmla, which must fail with one line that holds every string of `names`."""
    result = run(*args, check=False, **options)
    error = result.stderr.decode(errors="replace")
    statuses = status if isinstance(status, tuple) else (status,)
    assert result.returncode in statuses, f"exit {result.returncode}: {error!r}"
    lines = [line for line in error.splitlines() if line.strip() and not line.startswith("note:")]
    assert len(lines) == 1, error
    assert error.endswith("\n") and len(lines[0]) > 20
    assert result.stdout == b""
    for name in names:
        assert name in lines[0], lines[0]
    return lines[0]


def expect_nan_found(folder, scale):
    """`inspect --check` names the tensor; a product with it ends in NaN logits, never in text or a file."""
    expect(NAN_SCALE, "inspect", folder, "--check", names=[scale])
    output = folder.parent / "out" / "logits.npy"
    output.parent.mkdir(exist_ok=True)
    for device in ("cpu", "ref"):
        names = ["logits after", "NaN", "mxmla inspect --check"]
        tokens = ["--tokens", ",".join(map(str, range(1, 48))), "--device", device]
        expect(TENSOR, "logits", folder, *tokens, "--output", output, names=names)
        assert os.listdir(output.parent) == []
        # An expert may be chosen only after some tokens, which are sound.
        result = run("run", folder, *tokens, "--print-ids", "--max-tokens", 200, check=False)
        assert result.returncode == TENSOR and all(name in result.stderr.decode() for name in names)


def expect_load_error(status, folder, names=()):
    """Every command that loads the weights stops at them in the same way, and `logits` leaves no file."""
    output = folder.parent / "out" / "logits.npy"
    output.parent.mkdir(exist_ok=True)
    expect(status, "logits", folder, "--tokens", "1,2,3", "--output", output, names=names)
    assert os.listdir(output.parent) == []
    expect(status, "run", folder, "--tokens", "1,2,3", "--print-ids", "--max-tokens", 2, names=names)


@pytest.fixture
def model(tmp_path):
    """A small BF16 folder in one file, to be broken."""
    return editable_copy("kimi-yarn", tmp_path / "model")


@pytest.fixture
def mxfp4(tmp_path):
    return editable_copy("v3-mxfp4", tmp_path / "mxfp4")


@pytest.fixture
def fp8(tmp_path):
    return editable_copy("v3-fp8", tmp_path / "fp8")


def change_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = files.read(path)
    change(tensors)
    files.write(path, tensors)


def test_the_unbroken_copy_runs(model, mxfp4, fp8):
    """What the tests below break is sound before, also when written by their own writer."""
    for folder in (model, mxfp4, fp8):
        change_tensors(folder, lambda tensors: None)
        run("logits", folder, "--tokens", "1,2,3", "--output", folder.parent / "fine.npy")


# The folder and its config.


def test_no_such_folder(tmp_path):
    missing = tmp_path / "nowhere"
    for command in (["inspect", missing], ["run", missing, "--tokens", "1", "--print-ids"], ["profile", missing],
                    ["quantize", missing, tmp_path / "dst", "--format", "mxfp4"],
                    ["logits", missing, "--tokens", "1", "--output", tmp_path / "x.npy"]):
        expect(NO_MODEL, *command, names=["nowhere"])
    assert os.listdir(tmp_path) == []


def test_model_is_a_file(model):
    expect((NO_MODEL, MISSING_FILE), "inspect", model / "config.json")


def test_no_config(model):
    (model / "config.json").unlink()
    expect_load_error(MISSING_FILE, model, ["config.json"])


@pytest.mark.parametrize("text", ["", "{", "not json", '{"hidden_size": 1,}', "[1, 2]", "3", "null", "\x00\x01",
                                  "[" * 100000, '{"a":' * 50000],
                         ids=["empty", "brace", "words", "comma", "list", "number", "null", "control", "deep-list",
                              "deep-object"])
def test_config_is_not_json(model, text):
    (model / "config.json").write_text(text)
    expect_load_error(BAD_CONFIG, model, ["config.json"])


@pytest.mark.parametrize("key,value", [
    ("hidden_size", None), ("hidden_size", "big"), ("hidden_size", -64), ("hidden_size", 0), ("hidden_size", 10**30),
    ("hidden_size", 32.5), ("num_attention_heads", 0), ("num_hidden_layers", -1), ("kv_lora_rank", 0),
    ("qk_rope_head_dim", 7), ("vocab_size", True), ("num_experts_per_tok", 1000), ("rms_norm_eps", "small"),
    ("rope_theta", -1), ("n_group", 4), ("max_position_embeddings", 0), ("q_lora_rank", [32]),
])
def test_senseless_config_values(model, key, value):
    edit_config(model, lambda config: config.update({key: value}))
    expect_load_error(BAD_CONFIG, model, [key])


@pytest.mark.parametrize("rope", [{"type": "warp", "factor": 2}, {"type": "yarn"}, {"type": "yarn", "factor": "x"},
                                  {"type": "yarn", "factor": -2, "original_max_position_embeddings": 64}, 5])
def test_senseless_rope(model, rope):
    def change(config):
        config["rope_scaling"] = rope
        if rope == {"type": "yarn"}:
            rope["factor"] = 0
    edit_config(model, change)
    expect_load_error(BAD_CONFIG, model)


def test_unknown_router(model):
    edit_config(model, lambda config: config.update(topk_method="alphabetical"))
    expect_load_error(BAD_CONFIG, model, ["topk_method"])


@pytest.mark.parametrize("architectures,model_type", [(["LlamaForCausalLM"], "llama"), (["Nonsense"], "nonsense")])
def test_unknown_architecture(model, architectures, model_type):
    edit_config(model, lambda config: config.update(architectures=architectures, model_type=model_type))
    expect_load_error(ARCHITECTURE, model, [architectures[0]])


@pytest.mark.parametrize("quantization", [
    {"quant_method": "gptq", "bits": 4},
    {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [64, 64]},
    {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "int4", "group_size": 32}}},
    {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4", "group_size": 16,
                                                                 "scale_format": "e4m3"}}},
    {"bits": 4},
])
def test_unknown_quantisation(model, quantization):
    edit_config(model, lambda config: config.update(quantization_config=quantization))
    expect_load_error(QUANTIZATION, model)


# Malformed safetensors.


def test_no_weights(model):
    (model / "model.safetensors").unlink()
    expect_load_error(MISSING_FILE, model)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1, -5000])
def test_truncated(model, keep):
    path = model / "model.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw[:keep])
    expect_load_error(SAFETENSORS, model, ["model.safetensors"])


def test_trailing_bytes(model):
    with open(model / "model.safetensors", "ab") as file:
        file.write(b"\0" * 16)
    expect_load_error(SAFETENSORS, model)


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**63 - 8, 10**9, 0])
def test_senseless_header_length(model, length):
    path = model / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    expect_load_error(SAFETENSORS, model)


@pytest.mark.parametrize("header", [b"", b"{", b"[]", b"7", b'"x"', b"\xff\xfe{}", b"[" * 70000, b'{"a": 1}',
                                    b'{"a": {"dtype": "BF16", "shape": [1]}}',
                                    b'{"a": {"dtype": "BF16", "shape": "x", "data_offsets": [0, 2]}}'])
def test_senseless_header(model, header):
    files.write_raw(model / "model.safetensors", header, b"\0\0")
    expect_load_error(SAFETENSORS, model)


NORM = "model.norm.weight"  # 32 elements of BF16


def change_header(change):
    def breaker(folder):
        path = folder / "model.safetensors"
        tensors = files.read(path)
        header = files.header_of(tensors)
        change(header)
        files.write_raw(path, header, files.data_of(tensors))
    return breaker


def offsets(begin, end):
    return change_header(lambda header: header[NORM].update(data_offsets=[begin, end]))


def shape(*dims):
    return change_header(lambda header: header[NORM].update(shape=list(dims)))


def dtype(name):
    return change_header(lambda header: header[NORM].update(dtype=name))


def shift_one(header):
    header[NORM]["data_offsets"] = [o + 2 for o in header[NORM]["data_offsets"]]


@pytest.mark.parametrize("breaker", [
    offsets(0, 64), offsets(10**12, 10**12 + 64), offsets(64, 0), offsets(-64, 0), offsets(0, 2**63),
    offsets(2**64 - 64, 2**64), offsets(0, 10**40), offsets("a", "b"), offsets(0.5, 64.5),
    change_header(lambda header: header[NORM].update(data_offsets=[0])), change_header(shift_one),
    shape(33), shape(2**62, 8), shape(2**32, 2**32), shape(-32), shape(-1, -32), shape(0), shape("x"), shape(),
    shape(*[1] * 5000, 33), dtype("F4096"), dtype(7), dtype("F32"),
    change_header(lambda header: header.pop(NORM)),
])
def test_senseless_tensor_entries(model, breaker):
    breaker(model)
    expect_load_error(SAFETENSORS, model)


def test_duplicate_names(model):
    path = model / "model.safetensors"
    tensors = files.read(path)
    text = json.dumps(files.header_of(tensors))
    entry = json.dumps(files.header_of(tensors)[NORM])
    text = text[:-1] + f', "{NORM}": {entry}}}'
    files.write_raw(path, (text + " " * (-len(text) % 8)).encode(), files.data_of(tensors))
    expect_load_error(SAFETENSORS, model)


# Shards and their index.


@pytest.fixture
def sharded(tmp_path):
    return editable_copy("v3-bf16", tmp_path / "sharded")


def edit_index(folder, change):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def test_missing_shard(sharded):
    (sharded / "model-00002-of-00003.safetensors").unlink()
    expect_load_error(MISSING_FILE, sharded, ["model-00002-of-00003.safetensors"])


def test_index_is_not_json(sharded):
    (sharded / "model.safetensors.index.json").write_text("{")
    expect_load_error(SAFETENSORS, sharded, ["index"])


@pytest.mark.parametrize("change", [
    lambda index: index.pop("weight_map"),
    lambda index: index.update(weight_map=[]),
    lambda index: index["weight_map"].update({NORM: 3}),
    lambda index: index["weight_map"].update({NORM: "../outside.safetensors"}),
    lambda index: index["weight_map"].update({NORM: "/etc/passwd"}),
    lambda index: index["weight_map"].update({NORM: "model-00001-of-00003.safetensors"}),
    lambda index: index["weight_map"].update({"ghost": "model-00001-of-00003.safetensors"}),
])
def test_senseless_index(sharded, change):
    edit_index(sharded, change)
    expect_load_error(SAFETENSORS, sharded)


# Tensors that are not what the config says.

LAYER = "model.layers.1."


@pytest.mark.parametrize("name", [NORM, "lm_head.weight", "model.embed_tokens.weight",
                                  LAYER + "self_attn.kv_b_proj.weight", LAYER + "mlp.experts.3.up_proj.weight",
                                  LAYER + "mlp.gate.e_score_correction_bias", LAYER + "self_attn.q_a_layernorm.weight"])
def test_missing_tensor(model, name):
    change_tensors(model, lambda tensors: tensors.pop(name))
    expect_load_error(TENSOR, model, [name])


@pytest.mark.parametrize("name", ["model.layers.0.surprise.weight", "model.layers.1.mlp.experts.6.up_proj.weight",
                                  "model.layers.0.mlp.up_proj.bias", "extra"])
def test_unexpected_tensor(model, name):
    change_tensors(model, lambda tensors: tensors.update({name: files.Tensor("BF16", [2, 2], b"\0" * 8)}))
    expect_load_error(TENSOR, model, [name])


@pytest.mark.parametrize("name", [NORM, LAYER + "self_attn.kv_b_proj.weight", LAYER + "mlp.gate.weight",
                                  LAYER + "mlp.gate.e_score_correction_bias"])
def test_misshapen_tensor(model, name):
    def change(tensors):
        t = tensors[name]
        t.shape = [2, len(t.array().ravel()) // 2] if len(t.shape) == 1 else [t.shape[1] // 2, t.shape[0] * 2]
    change_tensors(model, change)
    expect_load_error(TENSOR, model, [name])


@pytest.mark.parametrize("name", [NORM, LAYER + "self_attn.o_proj.weight", "model.embed_tokens.weight"])
def test_mistyped_tensor(model, name):
    def change(tensors):
        t = tensors[name]
        count = len(t.data) // 2
        tensors[name] = files.Tensor("I32", t.shape, b"\0" * 4 * count)
    change_tensors(model, change)
    expect_load_error(TENSOR, model, [name])


def test_heads_of_the_config_and_of_the_file_differ(model):
    edit_config(model, lambda config: config.update(num_attention_heads=4, num_key_value_heads=4))
    expect_load_error(TENSOR, model, ["self_attn"])


@pytest.mark.parametrize("name", ["self_attn.kv_b_proj.weight_scale", "mlp.experts.0.down_proj.weight_scale"])
def test_missing_mxfp4_scale(mxfp4, name):
    change_tensors(mxfp4, lambda tensors: tensors.pop(LAYER + name))
    expect_load_error(TENSOR, mxfp4, [LAYER + name])


def test_misshapen_mxfp4_scale(mxfp4):
    name = LAYER + "self_attn.o_proj.weight_scale"

    def change(tensors):
        tensors[name] = files.from_array("U8", tensors[name].array()[:, :-1])
    change_tensors(mxfp4, change)
    expect_load_error(TENSOR, mxfp4, [name])


@pytest.mark.parametrize("change", [
    lambda tensors, name: tensors.pop(name),
    lambda tensors, name: tensors.update({name: files.from_array("F32", tensors[name].array()[:1])}),
    lambda tensors, name: tensors.update({name: files.from_array("I32", tensors[name].array().view("int32"))}),
])
def test_fp8_scales_that_do_not_fit(fp8, change):
    name = LAYER + "self_attn.kv_b_proj.weight_scale_inv"
    change_tensors(fp8, lambda tensors: change(tensors, name))
    expect_load_error(TENSOR, fp8, [name])


@pytest.mark.parametrize("name", ["self_attn.kv_b_proj", "self_attn.o_proj", "mlp.experts.7.up_proj",
                                  "mlp.shared_experts.down_proj"])
def test_nan_scale_byte(mxfp4, name):
    scale = LAYER + name + ".weight_scale"

    def change(tensors):
        array = tensors[scale].array().copy()
        array.flat[-1] = 255
        tensors[scale] = files.from_array("U8", array)
    change_tensors(mxfp4, change)
    expect_nan_found(mxfp4, scale)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_fp8_scale(fp8, value):
    scale = LAYER + "mlp.experts.1.gate_proj.weight_scale_inv"

    def change(tensors):
        array = tensors[scale].array().copy()
        array.flat[-1] = value
        tensors[scale] = files.from_array("F32", array)
    change_tensors(fp8, change)
    expect_nan_found(fp8, scale)


@pytest.mark.parametrize("name", ["mlp.gate.e_score_correction_bias", "mlp.gate.weight", "input_layernorm.weight"])
def test_nan_in_a_small_tensor(mxfp4, name):
    """In a router it would choose experts without a trace; these are small enough to be looked at on every load."""
    def change(tensors):
        tensor = tensors[LAYER + name]
        item = 2 if tensor.dtype == "BF16" else 4
        tensors[LAYER + name] = files.Tensor(tensor.dtype, tensor.shape,
                                             tensor.data[:-item] + b"\xff" * item)
    change_tensors(mxfp4, change)
    expect_load_error(NAN_SCALE, mxfp4, [LAYER + name])
    expect(NAN_SCALE, "inspect", mxfp4, names=[LAYER + name])


# Tokens, text and the context.


def test_tokenizer_larger_than_the_model(model):
    """256 bytes are more than this model's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    split = {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}"}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                  "vocab": {c: i for i, c in enumerate(characters)}, "merges": []},
    }
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    expect(VOCABULARY, "run", model, "--prompt", "hello", names=["80"])


def test_prompt_without_tokenizer(model):
    expect((MISSING_FILE, TOKENIZER), "run", model, "--prompt", "hello")


def test_tokenizer_is_not_json(model):
    (model / "tokenizer.json").write_text("{")
    expect(TOKENIZER, "run", model, "--prompt", "hello", names=["tokenizer.json"])


def test_prompt_longer_than_the_context(model):
    edit_config(model, lambda config: config.update(max_position_embeddings=64))
    tokens = ",".join(["5"] * 65)
    output = model.parent / "x.npy"
    expect(PROMPT_TOO_LONG, "logits", model, "--tokens", tokens, "--output", output, names=["64", "65"])
    expect(PROMPT_TOO_LONG, "run", model, "--tokens", tokens, "--print-ids", names=["64", "65"])
    assert not output.exists()


@pytest.mark.parametrize("tokens", ["80", "1,2,80", "-1", "1,-7", "99999999999999999999", "4294967296"])
def test_tokens_out_of_range(model, tokens):
    output = model.parent / "x.npy"
    expect(TOKEN_RANGE, "logits", model, f"--tokens={tokens}", "--output", output)
    expect(TOKEN_RANGE, "run", model, f"--tokens={tokens}", "--print-ids")
    assert not output.exists()


@pytest.mark.parametrize("tokens", ["", ",", "abc", "1,x", "1.5", "0x10", "1;2"])
def test_tokens_that_are_no_numbers(model, tokens):
    output = model.parent / "x.npy"
    expect(USAGE, "logits", model, f"--tokens={tokens}", "--output", output)
    file = model.parent / "tokens.txt"
    file.write_text(tokens)
    expect(DATA, "run", model, "--tokens", f"@{file}", "--print-ids")
    assert not output.exists()


def test_no_token_file(model):
    expect(DATA, "logits", model, "--tokens", "@nowhere.json", "--output", model.parent / "x.npy", names=["nowhere"])


# Outputs, devices and flags.


def test_unwritable_output(model, tmp_path):
    for output in (tmp_path / "missing" / "x.npy", tmp_path, model / "config.json" / "x.npy"):
        expect(OUTPUT, "logits", model, "--tokens", "1,2", "--output", output, names=[str(output)])
        expect(OUTPUT, "inspect", model, "--json", output)
    assert sorted(os.listdir(tmp_path)) == ["model"]


def test_full_output(model):
    """A device without room is an error, not a short file."""
    expect(OUTPUT, "logits", model, "--tokens", "1,2", "--output", "/dev/full")


def test_failed_output_keeps_the_old_file(model, tmp_path):
    output = tmp_path / "out" / "old.npy"
    output.parent.mkdir()
    output.write_bytes(b"before")
    expect(TOKEN_RANGE, "logits", model, "--tokens", "1,2,80", "--output", output)
    assert output.read_bytes() == b"before" and os.listdir(output.parent) == ["old.npy"]


@pytest.mark.skipif(os.path.exists("/dev/nvidia0"), reason="this machine has an NVIDIA GPU")
def test_no_cuda(model, tmp_path):
    output = tmp_path / "x.npy"
    expect(DEVICE, "logits", model, "--tokens", "1", "--output", output, "--device", "cuda")
    expect(DEVICE, "run", model, "--tokens", "1", "--print-ids", "--device", "cuda")
    assert not output.exists()


@pytest.mark.parametrize("args", [
    ["--no-such-flag"], ["no-such-command"], ["run"], [], ["logits", "MODEL", "--tokens", "1"],
    ["run", "MODEL", "--tokens", "1", "--print-ids", "--no-such-flag"],
    ["run", "MODEL"], ["run", "MODEL", "--tokens", "1", "--prompt", "x"],
    ["run", "MODEL", "--tokens", "1", "--max-tokens", "many"], ["run", "MODEL", "--tokens", "1", "--max-tokens", "-1"],
    ["run", "MODEL", "--tokens", "1", "--temperature", "-1"], ["run", "MODEL", "--tokens", "1", "--top-p", "2"],
    ["run", "MODEL", "--tokens", "1", "--threads", "-2"], ["run", "MODEL", "--tokens", "1", "--device", "abacus"],
    ["run", "MODEL", "--tokens", "1", "--v-layout", "sideways"],
    ["run", "MODEL", "--tokens", "1", "--absorb-dtype", "int3"],
    ["run", "MODEL", "--tokens", "1", "--activations", "int3"],
    ["logits", "MODEL", "--tokens", "1", "--output", "x.npy", "--path", "sideways"],
    ["logits", "MODEL", "--tokens", "1", "--output", "x.npy", "--every", "0"],
    ["quantize", "MODEL", "DST", "--format", "int3"], ["quantize", "MODEL", "DST"],
    ["quantize", "MODEL", "DST", "--format", "mxfp4", "--scale-mode", "up"], ["bench"], ["bench", "nothing"],
])
def test_bad_flags(args, tmp_path):
    folder = MODELS / "kimi-k25"
    args = [folder if a == "MODEL" else tmp_path / "dst" if a == "DST" else a for a in args]
    expect(USAGE, *args, cwd=tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("command", [[], *([c] for c in COMMANDS), ["bench", "vproj"], ["bench", "decode"],
                                     ["bench", "prefill"], ["bench", "ops"]])
def test_help_has_an_example(command):
    result = run(*command, "--help")
    text = result.stdout.decode()
    assert result.stderr == b""
    assert "example" in text.lower()
    assert "mxmla " + " ".join(command) in text


# Data files and quantize.


@pytest.mark.parametrize("text", ["", "{", '{"question": "x"}\n', '{"question": 1, "answer": "#### 2"}\n', "[]\n"])
def test_malformed_eval_data(text, tmp_path):
    data = tmp_path / "data.jsonl"
    data.write_text(text)
    expect(DATA, "eval", MODELS / "v3-mxfp4", data, "--json", tmp_path / "x.json")
    assert os.listdir(tmp_path) == ["data.jsonl"]


def test_quantize_does_not_touch_what_exists(model, tmp_path):
    destination = tmp_path / "dst"
    destination.mkdir()
    (destination / "precious").write_text("kept")
    expect(OUTPUT, "quantize", model, destination, "--format", "mxfp4", names=["dst"])
    assert os.listdir(destination) == ["precious"]


def test_quantize_leaves_nothing_half_written(model, tmp_path):
    change_tensors(model, lambda tensors: tensors.pop(LAYER + "self_attn.o_proj.weight"))
    expect(TENSOR, "quantize", model, tmp_path / "dst", "--format", "mxfp4")
    raw = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(raw[:-10])
    expect(SAFETENSORS, "quantize", model, tmp_path / "dst", "--format", "mxfp4")
    expect(OUTPUT, "quantize", MODELS / "kimi-yarn", tmp_path / "missing" / "dst", "--format", "mxfp4")
    assert sorted(os.listdir(tmp_path)) == ["model"]


def test_quantize_refuses_what_is_already_mxfp4(tmp_path):
    expect((QUANTIZATION, TENSOR, USAGE), "quantize", MODELS / "v3-mxfp4", tmp_path / "dst", "--format", "mxfp4")
    assert os.listdir(tmp_path) == []


def test_unknown_command():
    expect(USAGE, "bogus", names=["bogus", "run", "quantize"])


def test_standard_output_that_is_full(model):
    for command in (["run", str(model), "--tokens", "1,2", "--print-ids"], ["inspect", str(model)]):
        with open("/dev/full", "wb") as full:
            result = subprocess.run([str(BINARY), *command], stdout=full, stderr=subprocess.PIPE, timeout=60)
        assert result.returncode == OUTPUT and b"standard output" in result.stderr


def test_weights_that_are_a_pipe(model):
    (model / "model.safetensors").unlink()
    os.mkfifo(model / "model.safetensors")
    expect_load_error(MISSING_FILE, model, ["model.safetensors"])


@pytest.mark.parametrize("flags", [
    ["--temperature", "nan"], ["--top-p", "nan"], ["--seed", "-2"], ["--min-p", "2"], ["--repetition-penalty", "0"],
    ["--presence-penalty", "nan"], ["--frequency-penalty", "inf"], ["--logit-bias", "5"], ["--logit-bias", "5="],
    ["--logit-bias", "=1"], ["--logit-bias", "5=nan"], ["--logit-bias", "5=1x"], ["--logit-bias", "x=1"],
    ["--system", "x"], ["--thinking", "on"], ["--chat"],
])
def test_values_that_are_none(model, flags):
    expect(USAGE, "run", model, "--tokens", "1", "--print-ids", *flags, names=[flags[0]])


@pytest.mark.parametrize("bias", ["80=1", "-1=1", "99999999999999999999=1"])
def test_bias_of_a_token_out_of_range(model, bias):
    expect(TOKEN_RANGE, "run", model, "--tokens", "1", "--print-ids", f"--logit-bias={bias}", names=["--logit-bias"])


def test_stop_strings_that_no_text_holds():
    expect(USAGE, "run", "tiny-gsm", "--prompt", "x", "--stop", "", names=["stop"])
    expect(USAGE, "run", "tiny-gsm", "--prompt", "x", "--stop", b"\xff", names=["UTF-8"])


def test_benchmarks_of_a_checkpoint_are_not_cut_down(model):
    expect(USAGE, "bench", "decode", model, "--layers", 1, names=["--dummy"])
    expect(USAGE, "bench", "decode", "--dummy", model / "config.json", "--layers", 99, names=["--layers", "99"])
    expect(MISSING_FILE, "bench", "decode", "--dummy", "nowhere.json", names=["nowhere.json"])
