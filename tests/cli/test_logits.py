"""`mxmla logits` against transformers' float32 logits on the stored weights, and what must agree bit for bit."""

import json
import shutil

import numpy as np
import pytest
from conftest import MODELS, editable_copy, edit_config, golden_info, relative, run, run_logits

FIXTURES = ["v2-bf16", "v2-groups", "v3-bf16", "kimi-yarn", "kimi-k25", "v3-fp8", "v3-mxfp4", "kimi-mxfp4",
            "v3-real-dims", "glm-lite", "glm-real-dims", "kimi-vl", "gigachat3", "youtu", "minicpm3", "sarvam", "axk1",
            "mistral-small4", "mistral-large3", "v32", "glm-dsa"]
ACTIVATIONS = [("v3-fp8", "fp8"), ("v3-fp8", "fp8-ue8m0"), ("v3-mxfp4", "mxfp4"), ("v3-mxfp4", "fp8"), ("kimi-mxfp4", "mxfp4"),
               ("v3-real-dims", "mxfp4")]


def logits_of(name, tmp_path, *args):
    return run_logits(MODELS / name, tmp_path / "logits.npy", "--every", golden_info(name)["every"], *args)


def quantised_logits_of(name, mode, tmp_path, *args):
    """fp8-ue8m0 is what --activations fp8 means where the checkpoint says so."""
    model = MODELS / name
    if mode == "fp8-ue8m0":
        model = editable_copy(name, tmp_path / "model")
        edit_config(model, lambda config: config["quantization_config"].update(scale_fmt="ue8m0"))
    return run_logits(model, tmp_path / "logits.npy", "--every", golden_info(name)["every"], "--activations",
                      mode.split("-")[0], *args)


def golden_of(name, mode=None):
    return np.load(MODELS / name / (f"logits-{mode}.npy" if mode else "logits.npy"))


@pytest.mark.parametrize("path", ["prefill", "decode"])
@pytest.mark.parametrize("name", FIXTURES)
def test_ref_is_transformers(name, path, tmp_path):
    golden = golden_of(name)
    found = logits_of(name, tmp_path, "--path", path, "--device", "ref")
    assert found.dtype == np.float32 and found.shape == golden.shape
    assert found.flags["C_CONTIGUOUS"]
    worst = max(relative(f, g) for f, g in zip(found, golden))
    assert relative(found, golden) <= 1e-4 and worst <= 1e-4, f"worst row {worst:.2e}"


@pytest.mark.parametrize("path", ["prefill", "decode"])
@pytest.mark.parametrize("name", FIXTURES)
def test_cpu_is_near_transformers(name, path, tmp_path):
    golden = golden_of(name)
    found = logits_of(name, tmp_path, "--path", path, "--device", "cpu")
    assert found.dtype == np.float32 and found.shape == golden.shape
    assert relative(found, golden) <= 2e-2, f"{relative(found, golden):.2e}"
    top = np.sort(golden, axis=1)
    clear = top[:, -1] - top[:, -2] > 0.1 * golden.std()  # rows whose greedy token is no near-tie
    assert clear.any()
    assert np.array_equal(found.argmax(1)[clear], golden.argmax(1)[clear])


def test_every_fixture_is_here():
    assert set(FIXTURES) == {folder.parent.name for folder in MODELS.glob("*/logits.npy")}


@pytest.mark.parametrize("path", ["prefill", "decode"])
@pytest.mark.parametrize("name,mode", ACTIVATIONS)
def test_ref_with_quantised_activations(name, mode, path, tmp_path):
    """The fixtures' tokens keep every larger activation clear of where its code would flip, so the goldens hold for any
    order of summing in float32."""
    golden, exact = golden_of(name, mode), golden_of(name)
    found = quantised_logits_of(name, mode, tmp_path, "--path", path, "--device", "ref")
    assert relative(golden, exact) > 0.02  # the golden can tell
    assert relative(found, golden) <= 1e-3, f"{relative(found, golden):.2e}"


@pytest.mark.parametrize("name,mode", ACTIVATIONS)
def test_cpu_with_quantised_activations(name, mode, tmp_path):
    """In bf16 many codes fall otherwise than in float32, so only the size of the damage can be compared."""
    golden, exact = golden_of(name, mode), golden_of(name)
    found = quantised_logits_of(name, mode, tmp_path, "--device", "cpu")
    damage = relative(golden, exact)
    assert 0.4 * damage <= relative(found, exact) <= 1.8 * damage + 0.02


def test_activations_leave_bf16_products_alone(tmp_path):
    """A checkpoint of BF16 weights has no product whose input is quantised."""
    plain = logits_of("v3-bf16", tmp_path, "--device", "ref")
    for mode in ("fp8", "mxfp4"):
        assert np.array_equal(logits_of("v3-bf16", tmp_path, "--device", "ref", "--activations", mode), plain)


@pytest.mark.parametrize("activations", ["bf16", "fp8", "mxfp4"])
@pytest.mark.parametrize("path", ["prefill", "decode"])
@pytest.mark.parametrize("device", ["ref", "cpu"])
@pytest.mark.parametrize("name", ["v3-bf16", "v3-mxfp4", "v3-real-dims", "glm-real-dims"])
def test_v_layouts_are_bit_identical(name, device, path, activations, tmp_path):
    files = []
    for layout in ("copy", "strided", "fused"):
        output = tmp_path / f"{layout}.npy"
        run_logits(MODELS / name, output, "--every", 4, "--device", device, "--path", path, "--v-layout", layout,
                   "--activations", activations)
        files.append(output.read_bytes())
    assert files[0] == files[1] == files[2]


@pytest.mark.parametrize("device", ["ref", "cpu"])
def test_v_layouts_on_fp8_weights(device, tmp_path):
    results = [logits_of("v3-fp8", tmp_path, "--device", device, "--v-layout", layout, "--activations", "fp8")
               for layout in ("copy", "strided", "fused")]
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


@pytest.mark.parametrize("every,tokens", [(1, 7), (3, 7), (7, 7), (8, 7), (2, 1)])
def test_every_counts_rows_from_the_first(every, tokens, tmp_path):
    all_tokens = json.loads((MODELS / "kimi-k25" / "tokens.json").read_text())[:tokens]
    listed = ",".join(map(str, all_tokens))
    whole, some = tmp_path / "whole.npy", tmp_path / "some.npy"
    run("logits", MODELS / "kimi-k25", "--tokens", listed, "--output", whole, "--device", "ref")
    run("logits", MODELS / "kimi-k25", "--tokens", listed, "--output", some, "--device", "ref", "--every", every)
    whole, some = np.load(whole), np.load(some)
    assert whole.shape[0] == tokens  # --every is 1 unless said otherwise
    assert some.shape == (-(-tokens // every), whole.shape[1])
    assert np.array_equal(some, whole[::every])


def test_token_lists_in_files(tmp_path):
    """A JSON array, commas, and one a line mean the same."""
    ids = json.loads((MODELS / "v2-groups" / "tokens.json").read_text())[:12]
    texts = {"json": json.dumps(ids), "commas": ",".join(map(str, ids)), "lines": "\n".join(map(str, ids)) + "\n"}
    results = []
    for kind, text in texts.items():
        file = tmp_path / kind
        file.write_text(text)
        results.append(run_logits(MODELS / "v2-groups", tmp_path / f"{kind}.npy", "--device", "ref", tokens=file))
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


def test_transformers_5_spelling(tmp_path):
    """The same weights under the config that transformers 5 writes give the same bits."""
    folder = editable_copy("v3-bf16", tmp_path / "tf5")
    shutil.copy(MODELS / "v3-tf5" / "config.json", folder / "config.json")
    for path in ("prefill", "decode"):
        published = logits_of("v3-bf16", tmp_path, "--device", "ref", "--path", path)
        every = golden_info("v3-bf16")["every"]
        respelled = run_logits(folder, tmp_path / "tf5.npy", "--every", every, "--device", "ref", "--path", path)
        assert np.array_equal(published, respelled)


def respell(config):
    rope = config.pop("rope_scaling") or {"type": "default"}
    rope["rope_type"] = rope.pop("type")
    config["rope_parameters"] = dict(rope, rope_theta=config.pop("rope_theta"))
    config["dtype"] = config.pop("torch_dtype")


def rope_type_for_type(config):
    rope = config["rope_scaling"]
    rope["rope_type"] = rope.pop("type")


@pytest.mark.parametrize("name,change", [("kimi-yarn", respell), ("v2-bf16", respell), ("v2-groups", respell),
                                         ("v3-mxfp4", respell), ("kimi-yarn", rope_type_for_type)])
def test_other_spellings(name, change, tmp_path):
    folder = editable_copy(name, tmp_path / "respelled")
    edit_config(folder, change)
    every = golden_info(name)["every"]
    respelled = run_logits(folder, tmp_path / "other.npy", "--every", every, "--device", "ref")
    assert np.array_equal(logits_of(name, tmp_path, "--device", "ref"), respelled)


@pytest.mark.parametrize("device", ["ref", "cpu"])
def test_threads_do_not_change_bits(device, tmp_path):
    one = logits_of("v3-mxfp4", tmp_path, "--device", device, "--threads", 1)
    two = logits_of("v3-mxfp4", tmp_path, "--device", device, "--threads", 2)
    assert np.array_equal(one, two)


def test_absorb_dtype(tmp_path):
    """Re-quantising kv_b_proj is said aloud; in BF16 it changes nothing, because MXFP4 is exact in bf16."""
    plain = logits_of("v3-mxfp4", tmp_path, "--device", "ref", "--path", "decode")
    output = tmp_path / "absorb.npy"
    tokens = MODELS / "v3-mxfp4" / "tokens.json"
    for dtype, low, high in (("checkpoint", 0, 0), ("bf16", 0, 1e-5), ("mxfp4", 1e-3, 1)):
        result = run("logits", MODELS / "v3-mxfp4", "--tokens", f"@{tokens}", "--output", output, "--device", "ref",
                     "--every", golden_info("v3-mxfp4")["every"], "--path", "decode", "--absorb-dtype", dtype)
        assert low <= relative(np.load(output), plain) <= high
        if dtype == "mxfp4":
            assert b"kv_b_proj" in result.stderr or b"absorb" in result.stderr
