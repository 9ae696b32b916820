"""What every command-line test needs: the program, the fixtures' folders, and running one against the other."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "tests" / "fixtures" / "models"
BINARY = Path(os.environ.get("MXMLA_BINARY", REPOSITORY / "build" / "mxmla")).resolve()
TINY_GSM = REPOSITORY / "models" / "tiny-gsm"

needs_tiny_gsm = pytest.mark.skipif(
    not (TINY_GSM / "config.json").exists(), reason="models/tiny-gsm is not in this checkout"
)


def run(*args, cwd=None, timeout=120, check=True):
    """Runs mxmla; with `check`, a failure shows what it wrote."""
    command = [str(BINARY), *(arg if isinstance(arg, bytes) else str(arg) for arg in args)]
    result = subprocess.run(command, capture_output=True, cwd=cwd, timeout=timeout)
    if check and result.returncode != 0:
        raise AssertionError(f"{command}: exit {result.returncode}\n{result.stderr.decode(errors='replace')}")
    return result


def run_logits(model, output, *args, tokens=None, **options):
    """`mxmla logits` on a fixture's own tokens, or those given; returns the array."""
    name = f"@{tokens if tokens else Path(model) / 'tokens.json'}"
    run("logits", model, "--tokens", name, "--output", output, *args, **options)
    return np.load(output)


def golden_info(name):
    return json.loads((MODELS / name / "golden.json").read_text())


def relative(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def editable_copy(name, folder):
    """A fixture's files, to be broken."""
    shutil.copytree(MODELS / name, folder)
    return folder


def edit_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
