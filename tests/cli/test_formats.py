"""Checkpoints in every format of weights, against transformers' logits on the values that the formats' own packages read
in them (tests/fixtures/quantized.npz)."""

import json

import checkpoint_files as files
import numpy as np
import pytest
import quantized_checkpoints as derived
from conftest import MODELS, REPOSITORY, edit_config, relative, run

GOLDENS = np.load(REPOSITORY / "tests" / "fixtures" / "quantized.npz")
CASES = list(derived.CASES)
EVERY = 4
QUANTIZATION, TENSOR = 7, 9


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """A format's name and its checkpoint, derived once."""
    return request.param, derived.derive(request.param, tmp_path_factory.mktemp("formats") / request.param)


def tokens_of(name):
    return ",".join(map(str, GOLDENS[f"{name}-tokens"]))


def logits(folder, name, output, *args):
    run("logits", folder, "--tokens", tokens_of(name), "--every", EVERY, "--output", output, *args)
    return np.load(output)


@pytest.mark.parametrize("path", ["prefill", "decode"])
def test_ref_is_transformers(case, path, tmp_path):
    name, folder = case
    found = logits(folder, name, tmp_path / "x.npy", "--device", "ref", "--path", path)
    assert relative(found, GOLDENS[name]) <= 1e-4, f"{relative(found, GOLDENS[name]):.2e}"


@pytest.mark.parametrize("path", ["prefill", "decode"])
def test_cpu_is_near_transformers(case, path, tmp_path):
    name, folder = case
    found = logits(folder, name, tmp_path / "x.npy", "--device", "cpu", "--path", path)
    assert relative(found, GOLDENS[name]) <= 2e-2, f"{relative(found, GOLDENS[name]):.2e}"


def test_the_formats_differ(tmp_path):
    """Each golden can tell its format from another: the same tokens would give other logits."""
    shared = [name for name in CASES if np.array_equal(GOLDENS[f"{name}-tokens"], GOLDENS["f16-tokens"])]
    for name in shared:
        for other in shared:
            if name < other and derived.CASES[name][3] != derived.CASES[other][3]:
                assert relative(GOLDENS[name], GOLDENS[other]) > 1e-3, (name, other)


def test_inspect_shows_the_format(case, tmp_path):
    name, folder = case
    result = run("inspect", folder, "--check", "--strict", "--json", tmp_path / "x.json")
    report = json.loads((tmp_path / "x.json").read_text())
    groups = {g["name"]: g for g in report["groups"]}
    form = derived.CASES[name][3]
    assert form in groups["experts"]["formats"]
    assert all(g["formats"] == g["used"] for n, g in groups.items() if n not in ("norms", "router"))
    if name == "ct-int4":
        assert groups["attention"]["formats"] == ["bf16"] and groups["shared experts"]["formats"] == ["bf16"]
    if name == "quark-ptpc":
        assert groups["attention"]["formats"] == ["fp8-channel"] == groups["kv_b_proj"]["formats"]
    assert not any("although" in note or "exclude list" in note for note in report["notes"]), report["notes"]
    assert form.encode() in result.stdout


@pytest.mark.parametrize("device", ["ref", "cpu"])
@pytest.mark.parametrize("name", ["ct-int4-all", "ct-nvfp4", "ct-fp8-channel", "mxfp8"])
def test_v_layouts_are_bit_identical(name, device, tmp_path):
    folder = derived.derive(name, tmp_path / "model")
    results = [logits(folder, name, tmp_path / f"{layout}.npy", "--device", device, "--v-layout", layout)
               for layout in ("copy", "strided", "fused")]
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


@pytest.mark.parametrize("activations", ["fp8", "mxfp4"])
@pytest.mark.parametrize("name", ["ct-int4-all", "ct-fp8-channel", "modelopt-nvfp4"])
def test_quantised_activations(name, activations, tmp_path):
    folder = derived.derive(name, tmp_path / "model")
    found = logits(folder, name, tmp_path / "x.npy", "--activations", activations)
    assert 1e-3 < relative(found, GOLDENS[name]) < (0.15 if activations == "fp8" else 0.6)


def test_kimi_k25_as_published(tmp_path):
    """The same tensors under language_model., the config and its quantisation under text_config."""
    plain = derived.derive("ct-int4", tmp_path / "plain")
    wrapped = derived.as_kimi_k25(derived.derive("ct-int4", tmp_path / "wrapped"))
    config = json.loads((wrapped / "config.json").read_text())
    assert "quantization_config" in config["text_config"] and "quantization_config" not in config
    a = logits(plain, "ct-int4", tmp_path / "a.npy", "--device", "cpu")
    b = logits(wrapped, "ct-int4", tmp_path / "b.npy", "--device", "cpu")
    assert np.array_equal(a, b)
    assert b"although" not in run("inspect", wrapped).stderr


def test_modelopts_own_file(tmp_path):
    """hf_quant_config.json says the same as the flat quantization_config."""
    folder = derived.derive("modelopt-nvfp4", tmp_path / "model")
    edit_config(folder, lambda config: config.pop("quantization_config"))
    (folder / "hf_quant_config.json").write_text(json.dumps({
        "producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8",
                                                           "group_size": 16, "exclude_modules": ["lm_head"]}}))
    run("inspect", folder, "--json", tmp_path / "x.json")
    report = json.loads((tmp_path / "x.json").read_text())
    assert report["quantization"] == "modelopt nvfp4"
    assert not any("although" in note for note in report["notes"])


def test_mixed_precision(tmp_path):
    """ModelOpt's list of layers, each with its algorithm."""
    folder = derived.derive("modelopt-fp8", tmp_path / "model")
    names = [name[: -len(".weight")] for name in files.read_folder(folder) if derived.is_projection(name)]
    edit_config(folder, lambda config: config.update(quantization_config={
        "quant_method": "modelopt", "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {name: {"quant_algo": "FP8"} for name in names}}))
    result = run("inspect", folder)
    assert b"modelopt mixed" in result.stdout and b"although" not in result.stderr


def test_undeclared_formats_are_noted(tmp_path):
    folder = derived.derive("ct-int4", tmp_path / "model")
    edit_config(folder, lambda config: config.pop("quantization_config"))
    assert b"matrices are of int4-g32 although config.json does not say so" in run("inspect", folder).stderr


# Dummy weights of a config's formats.


@pytest.mark.parametrize("name", ["ct-int4", "ct-mxfp4", "ct-nvfp4", "ct-fp8-tensor", "ct-fp8-channel", "modelopt-fp8",
                                  "mxfp8", "quark-ptpc"])
def test_dummy_weights(name, tmp_path):
    folder = derived.derive(name, tmp_path / "model")
    run("bench", "decode", "--dummy", folder / "config.json", "--context", 8, "--steps", 2, "--repeat", 1, "--json",
        tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())


# Refusals: a line that names the thing and says what to do.


def refused(status, folder, words):
    result = run("inspect", folder, check=False)
    message = result.stderr.decode()
    assert result.returncode == status, message
    assert message.count("\n") == 1 and all(word in message for word in words), message


@pytest.mark.parametrize("quantization,words", [
    ({"quant_method": "gptq", "bits": 4, "group_size": 128}, ["GPTQ", "mxmla quantize"]),
    ({"quant_method": "awq", "bits": 4, "group_size": 128}, ["AWQ", "mxmla quantize"]),
    ({"group_size": 64, "bits": 4}, ["MLX", "mxmla quantize"]),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, ["bitsandbytes"]),
    ({"quant_method": "hqq"}, ["quant_method", "hqq"]),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ"}, ["NVFP4_AWQ", "AWQ scales the activations"]),
    ({"quant_method": "modelopt", "quant_algo": "INT4_AWQ"}, ["quant_algo", "INT4_AWQ"]),
    ({"quant_method": "fp8", "weight_block_size": [64, 64]}, ["weight_block_size", "[64,64]"]),
    ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "int4", "group_size": 32}}}, ["dtype", "int4"]),
])
def test_configs_that_are_refused(quantization, words, tmp_path):
    folder = derived.derive("f16", tmp_path / "model")
    edit_config(folder, lambda config: config.update(quantization_config=quantization))
    refused(QUANTIZATION, folder, ["config.json", *words])


def test_mlx_config_is_refused(tmp_path):
    folder = derived.derive("f16", tmp_path / "model")
    edit_config(folder, lambda config: config.update(quantization={"group_size": 64, "bits": 4}))
    refused(QUANTIZATION, folder, ["quantization", "MLX"])


@pytest.mark.parametrize("change,words", [
    (lambda w: w.update(num_bits=8), ["num_bits", "8"]),
    (lambda w: w.update(symmetric=False), ["symmetric"]),
    (lambda w: w.update(group_size=128), ["group_size", "128"]),
    (lambda w: w.update(strategy="channel"), ["strategy"]),
    (lambda w: w.update(actorder="group"), ["actorder"]),
    (lambda w: w.update(type="float", strategy="group", group_size=8), ["group_size 8"]),
])
def test_compressed_tensors_that_are_refused(change, words, tmp_path):
    folder = derived.derive("ct-int4", tmp_path / "model")
    edit_config(folder, lambda config: change(
        config["quantization_config"]["config_groups"]["group_0"]["weights"]))
    refused(QUANTIZATION, folder, words)


PROJECTION = "model.layers.1.mlp.experts.0.gate_proj."


@pytest.mark.parametrize("name,change,words", [
    ("ct-int4", lambda t: t.pop(PROJECTION + "weight_scale"), ["weight_scale", "no such tensor"]),
    ("ct-int4", lambda t: t.update({PROJECTION + "weight_shape": files.from_array("I32", np.array([32, 64], np.int32))}),
     ["weight_shape", "(32, 32)", "(32, 64)"]),
    ("ct-int4", lambda t: t.update({PROJECTION + "weight_zero_point": files.from_array("I32", np.zeros((4, 1), np.int32))}),
     ["weight_zero_point", "asymmetric"]),
    ("ct-int4", lambda t: t.update({PROJECTION + "weight_g_idx": files.from_array("I32", np.zeros(32, np.int32))}),
     ["weight_g_idx", "another order"]),
    ("ct-int4", lambda t: t.update({PROJECTION + "weight_scale": files.from_array("F16", np.zeros((32, 1), np.uint16))}),
     ["weight_scale", "BF16 (32, 1)", "F16"]),
    ("ct-nvfp4", lambda t: t.pop(PROJECTION + "weight_global_scale"), ["weight_scale", "U8 (32, 1)", "F8_E4M3"]),
    ("ct-nvfp4", lambda t: t.update({PROJECTION + "weight_scale_2": files.from_array("F32", np.ones(1, np.float32))}),
     ["weight_global_scale"]),
    ("modelopt-nvfp4", lambda t: t.update({PROJECTION + "weight_scale_2": files.from_array("F32", np.ones(2, np.float32))}),
     ["weight_scale_2", "F32 (1)"]),
    ("ct-fp8-channel", lambda t: t.update({PROJECTION + "weight_scale": files.from_array("BF16", np.zeros((31, 1), np.uint16))}),
     ["weight_scale", "BF16 (31, 1)"]),
    ("f16", lambda t: t.update({"model.layers.1.mlp.experts.0.gate_proj.qweight": files.from_array("I32", np.zeros((4, 32), np.int32))})
     or t.pop(PROJECTION + "weight"), ["qweight", "AWQ"]),
])
def test_tensors_that_are_refused(name, change, words, tmp_path):
    folder = derived.derive(name, tmp_path / "model")
    tensors = files.read_folder(folder)
    change(tensors)
    files.write(folder / "model.safetensors", tensors)
    refused(TENSOR, folder, words)


@pytest.mark.parametrize("name,tensor,item", [
    ("ct-int4", "weight_scale", 0x7FC0), ("ct-nvfp4", "weight_scale", 0x7F), ("mxfp8", "weight_scale_inv", 0xFF),
    ("ct-fp8-tensor", "weight_scale", 0x7F80), ("ct-nvfp4", "weight_global_scale", np.float32(np.nan))])
def test_check_finds_bad_scales(name, tensor, item, tmp_path):
    folder = derived.derive(name, tmp_path / "model")
    tensors = files.read_folder(folder)
    key = PROJECTION + tensor
    array = tensors[key].array().copy()
    array.reshape(-1)[0] = item
    tensors[key] = files.from_array(tensors[key].dtype, array)
    files.write(folder / "model.safetensors", tensors)
    result = run("inspect", folder, "--check", check=False)
    assert result.returncode == 10 and key.encode() in result.stderr


# Quantising from every format.


def values_of(folder):
    """name -> float32, as the target's own layout says."""
    stored, values = files.read_folder(folder), {}
    for name, t in stored.items():
        if t.dtype == "BF16":
            values[name] = files.bf16_to_float(t.array())
        elif t.dtype == "U8" and name.endswith(".weight"):
            values[name] = files.dequantize_mxfp4(t.array(), stored[name + "_scale"].array())
        elif t.dtype == "F8_E4M3":
            values[name] = files.dequantize_fp8_block(t.array(), stored[name + "_scale_inv"].array())
    return values


@pytest.mark.parametrize("target", ["fp8", "bf16"])
def test_quantize_from_every_format(case, target, tmp_path):
    """The source's logits survive as far as the target's rounding lets them; the table of errors says how far."""
    name, folder = case
    result = run("quantize", folder, tmp_path / "out", "--format", target)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config.get("quantization_config", {}).get("quant_method") == ("fp8" if target == "fp8" else None)
    assert not any("scale" in n and not n.endswith("weight_scale_inv") for n in files.read_folder(tmp_path / "out"))
    assert result.stdout.splitlines()[0].split() == [b"group", b"matrices", b"relative", b"error"]
    errors = {line[:16].strip(): float(line.split()[-1]) for line in result.stdout.splitlines()[1:-1]}
    assert set(errors) == {b"attention", b"kv_b_proj", b"dense mlp", b"experts", b"shared experts"}
    limit = 0.04 if target == "fp8" else 0.0021
    assert all(0 <= e <= limit for e in errors.values()), errors
    found = logits(tmp_path / "out", name, tmp_path / "x.npy", "--device", "ref")
    assert relative(found, GOLDENS[name]) <= (0.4 if target == "fp8" else 0.02)
    assert not any(b"although" in line for line in run("inspect", tmp_path / "out").stderr.splitlines())


def test_quantize_fp8_codes(tmp_path):
    """Squares of 128 x 128: largest magnitude / 448, nearest code, ties to even."""
    source = MODELS / "kimi-yarn"
    run("quantize", source, tmp_path / "out", "--format", "fp8", "--exclude", "*o_proj")
    stored, weights = files.read_folder(tmp_path / "out"), values_of(source)
    quantised = [n for n, t in stored.items() if t.dtype == "F8_E4M3"]
    assert quantised and not any("o_proj" in n for n in quantised)
    for name in quantised:
        x = weights[name]
        scale = np.array([[np.abs(x[i : i + 128, j : j + 128]).max() / np.float32(448)
                           for j in range(0, x.shape[1], 128)] for i in range(0, x.shape[0], 128)], np.float32)
        full = np.repeat(np.repeat(scale, 128, 0), 128, 1)[: x.shape[0], : x.shape[1]]
        assert np.array_equal(stored[name + "_scale_inv"].array(), scale), name
        assert np.array_equal(stored[name].array(), derived.nearest_e4m3(x / full)), name
    config = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert config["weight_block_size"] == [128, 128] and "lm_head" in config["modules_to_not_convert"]
    assert any("o_proj" in n for n in config["modules_to_not_convert"])


@pytest.mark.parametrize("name", ["ct-fp8-channel", "mxfp8", "f16", "f32"])
def test_quantize_to_mxfp4(name, tmp_path):
    folder = derived.derive(name, tmp_path / "model")
    run("quantize", folder, tmp_path / "bf16", "--format", "bf16")
    result = run("quantize", folder, tmp_path / "out", "--format", "mxfp4")
    stored = files.read_folder(tmp_path / "out")
    assert sum(t.dtype == "U8" and n.endswith(".weight") for n, t in stored.items()) > 20
    assert b"MXFP4" in result.stdout


@pytest.mark.parametrize("name", ["ct-int4", "ct-nvfp4", "ct-mxfp4"])
def test_four_bits_to_four_bits(name, tmp_path):
    folder = derived.derive(name, tmp_path / "model")
    result = run("quantize", folder, tmp_path / "out", "--format", "mxfp4", check=False)
    assert result.returncode == QUANTIZATION and b"--requantize" in result.stderr
    assert not (tmp_path / "out").exists()
    run("quantize", folder, tmp_path / "out", "--format", "mxfp4", "--requantize")
    assert np.isfinite(logits(tmp_path / "out", name, tmp_path / "x.npy")).all()


def test_a_group_is_needed(tmp_path):
    folder = derived.derive("ct-int4", tmp_path / "model")
    edit_config(folder, lambda config: config["quantization_config"].pop("config_groups"))
    refused(QUANTIZATION, folder, ["config_groups"])
