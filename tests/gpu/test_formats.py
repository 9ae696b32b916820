"""Checkpoints in every format of weights on the GPU that MXMLA_TEST_DEVICE names, against transformers' logits."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cli"))
import gguf_files  # noqa: E402
import quantized_checkpoints as derived  # noqa: E402
from conftest import MODELS, REPOSITORY, relative, run  # noqa: E402

DEVICE = os.environ["MXMLA_TEST_DEVICE"]
GOLDENS = np.load(REPOSITORY / "tests" / "fixtures" / "quantized.npz")
NO_DEVICE = 15


@pytest.fixture(scope="module", autouse=True)
def device():
    result = run("run", "tiny-gsm", "--tokens", "1", "--max-tokens", "1", "--print-ids", "--device", DEVICE, check=False,
                 timeout=500)
    if DEVICE == "cuda" and result.returncode == NO_DEVICE:
        pytest.skip(result.stderr.decode())
    assert result.returncode == 0, result.stderr.decode()


@pytest.fixture(scope="module", params=[*derived.CASES, "gguf-mixed"])
def case(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("formats") / f"{request.param}.gguf"
    if request.param == "gguf-mixed":
        gguf_files.convert(MODELS / derived.GGUF_BASE, path, gguf_files.mixed)
    else:
        derived.derive(request.param, path)
    return request.param, path


@pytest.mark.parametrize("path", ["prefill", "decode"])
def test_logits_are_near_transformers(case, path, tmp_path):
    name, model = case
    tokens = ",".join(map(str, GOLDENS[f"{name}-tokens"]))
    run("logits", model, "--tokens", tokens, "--every", 4, "--output", tmp_path / "x.npy", "--device", DEVICE, "--path",
        path, timeout=500)
    found = np.load(tmp_path / "x.npy")
    assert relative(found, GOLDENS[name]) <= 2e-2, f"{relative(found, GOLDENS[name]):.2e}"


@pytest.mark.parametrize("activations,limit", [("fp8", 0.15), ("mxfp4", 0.6)])
def test_quantised_activations(activations, limit, tmp_path):
    """They meet weights of no activation's format, too."""
    model = derived.derive("ct-nvfp4", tmp_path / "model")
    tokens = ",".join(map(str, GOLDENS["ct-nvfp4-tokens"]))
    run("logits", model, "--tokens", tokens, "--every", 4, "--output", tmp_path / "x.npy", "--device", DEVICE,
        "--activations", activations, timeout=500)
    assert 1e-3 < relative(np.load(tmp_path / "x.npy"), GOLDENS["ct-nvfp4"]) < limit
