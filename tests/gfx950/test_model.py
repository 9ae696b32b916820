"""Whole models through the HIP backend on the emulator: the fixtures' golden logits, greedy tokens, orders of waves."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))
from conftest import MODELS, golden_info, relative, run, run_logits  # noqa: E402

FIXTURES = ["v2-bf16", "v2-groups", "kimi-yarn", "v3-fp8", "v3-mxfp4", "kimi-mxfp4", "glm-lite", "minicpm3", "v32",
            "glm-dsa"]
PROMPT = ("Maya has 24 stickers. She buys 3 packs with 15 stickers each and gives 18 stickers to her brother. "
          "How many stickers does Maya have now?")


def logits_of(name, tmp_path, *args):
    return run_logits(MODELS / name, tmp_path / "logits.npy", "--every", golden_info(name)["every"], *args, timeout=500)


@pytest.mark.parametrize("path", ["prefill", "decode"])
@pytest.mark.parametrize("name", FIXTURES)
def test_logits_are_near_transformers(name, path, tmp_path):
    golden = np.load(MODELS / name / "logits.npy")
    found = logits_of(name, tmp_path, "--path", path, "--device", "hip")
    assert found.shape == golden.shape
    assert relative(found, golden) <= 2e-2, f"{relative(found, golden):.2e}"
    top = np.sort(golden, axis=1)
    clear = top[:, -1] - top[:, -2] > 0.1 * golden.std()  # rows whose greedy token is no near-tie
    assert clear.any()
    assert np.array_equal(found.argmax(1)[clear], golden.argmax(1)[clear])


@pytest.mark.parametrize("activations", ["bf16", "fp8", "mxfp4"])
def test_layouts_of_the_v_projection_agree_bit_for_bit(activations, tmp_path):
    results = [logits_of("v3-mxfp4", tmp_path, "--device", "hip", "--v-layout", layout, "--activations", activations)
               for layout in ("copy", "strided", "fused")]
    assert np.array_equal(results[0], results[1]) and np.array_equal(results[0], results[2])


@pytest.mark.parametrize("kv", ["bf16", "fp8"])
def test_kv_types(kv, tmp_path):
    golden = np.load(MODELS / "v3-real-dims" / "logits.npy")
    found = logits_of("v3-real-dims", tmp_path, "--device", "hip", "--path", "decode", "--kv-dtype", kv)
    assert relative(found, golden) <= (2e-2 if kv == "bf16" else 8e-2)


@pytest.mark.parametrize("name, path, options", [("kimi-mxfp4", "decode", []), ("v3-real-dims", "decode", []),
                                                 ("v3-real-dims", "prefill", ["--activations", "mxfp4"]),
                                                 ("v3-fp8", "prefill", ["--kv-dtype", "fp8"]), ("v32", "decode", [])])
def test_orders_of_waves_give_the_same_bits(name, path, options, tmp_path, monkeypatch):
    """And what registers, LDS and memory hold before they are written."""
    results = []
    for seed in ("1", "77", "12345"):
        monkeypatch.setenv("GFX950EMU_SEED", seed)
        results.append(logits_of(name, tmp_path, "--device", "hip", "--path", path, *options))
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_greedy_tokens_of_the_embedded_model(tmp_path, monkeypatch):
    counters = tmp_path / "counters.json"
    monkeypatch.setenv("GFX950EMU_COUNTERS", str(counters))
    ids = [run("run", "tiny-gsm", "--prompt", PROMPT, "--max-tokens", "5", "--print-ids", "--device", device,
               timeout=500).stdout for device in ("hip", "cpu")]
    assert ids[0] == ids[1] and ids[0].count(b",") == 4
    kernels = json.loads(counters.read_text())
    assert sum(kernel["mfma"] for kernel in kernels.values()) > 0
    assert not any("CopyKernel" in name for name in kernels)  # no copy on the way


@pytest.mark.parametrize("options", [[], ["--activations", "mxfp4"]])
def test_launches_of_a_step(options, tmp_path):
    """A dense layer and one with experts: attention's six launches, then two products and a gating between them, or the
    router's and two."""
    result = tmp_path / "profile.json"
    run("profile", str(MODELS / "v3-real-dims"), "--device", "hip", "--steps", "2", "--prompt-tokens", "70", "--json",
        str(result), *options, timeout=500)
    profile = json.loads(result.read_text())
    outside = 2 + 2 + 1  # embedding and angles; norm and logits; sampling
    assert profile["copies"] == 0
    assert profile["launches"] == outside + (6 + 3) + (6 + 1 + 2)


def test_selftest(tmp_path):
    result = run("selftest", "--device", "hip", timeout=500)
    lines = result.stdout.decode().splitlines()
    probes, ops = 6 * 2 + 4 * 4, 33 + 7
    assert len(lines) == probes + ops and all(line.startswith("holds") for line in lines)
    assert sum(line.endswith(" us)") for line in lines) == ops


def test_a_missing_library_is_one_line(monkeypatch):
    monkeypatch.setenv("MXMLA_HIP_LIB", "/no/such/libamdhip64.so")
    result = run("run", "tiny-gsm", "--tokens", "1", "--print-ids", "--device", "hip", check=False)
    error = result.stderr.decode()
    assert result.returncode == 15 and error.count("\n") == 1 and "/no/such/libamdhip64.so" in error
