#!/usr/bin/env python3
"""Writes the exported folders: tiny-gsm-bf16 (published names) and tiny-gsm (Quark MXFP4).

    python3 export.py BF16_FOLDER OUTPUT     # makes OUTPUT (the MXFP4 folder) from the BF16 one
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import load_file, save_file

import generate
from model import TinyGsm, is_quantised
from mxfp4 import dequantize, quantize

HERE = pathlib.Path(__file__).resolve().parent
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def handwritten() -> list[tuple[str, str]]:
    """(question, answer) pairs typed by hand, never used for training."""
    lines = (HERE / "handwritten.jsonl").read_text(encoding="utf-8").splitlines()
    return [(d["question"], d["answer"]) for d in map(json.loads, lines)]


def _spec(dynamic: bool) -> dict:
    return {
        "block_size": None, "ch_axis": -1, "dtype": "fp4", "group_size": 32, "is_dynamic": dynamic, "is_scale_quant": False, "mx_element_dtype": None,
        "observer_cls": "PerBlockMXObserver", "qscheme": "per_group", "round_method": "half_even", "scale_calculation_mode": "even", "scale_format": "e8m0",
        "scale_type": "float", "symmetric": None,
    }


def quantization_config(layers: int, dense: int) -> dict:
    return {
        "algo_config": None,
        "exclude": ["lm_head", *(f"model.layers.{i}.mlp.gate" for i in range(dense, layers))],
        "export": {"kv_cache_group": [], "min_kv_scale": 0.0, "pack_method": "reorder", "weight_format": "real_quantized", "weight_merge_groups": None},
        "global_quant_config": {"bias": None, "input_tensors": _spec(True), "output_tensors": None, "target_device": None, "weight": _spec(False)},
        "kv_cache_quant_config": {},
        "layer_quant_config": {},
        "layer_type_quant_config": {},
        "quant_method": "quark",
        "quant_mode": "eager_mode",
        "softmax_quant_spec": None,
    }


def _write_json(path: pathlib.Path, data: dict) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_bf16(model: TinyGsm, tokenizer: pathlib.Path, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = {}
    for name, tensor in model.published_state().items():
        dtype = torch.float32 if name.endswith("e_score_correction_bias") else torch.bfloat16
        state[name] = tensor.detach().to("cpu", dtype).contiguous().clone()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    _write_json(folder / "config.json", model.c.published())
    _write_json(folder / "generation_config.json", {"_from_model_config": True, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "do_sample": False})
    for name in TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, folder / name)


def write_mxfp4(source: pathlib.Path, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if is_quantised(name):
            packed, scales = quantize(tensor)
            assert torch.isfinite(dequantize(packed, scales)).all()
            state[name], state[name + "_scale"] = packed, scales
        else:
            state[name] = tensor
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = quantization_config(config["num_hidden_layers"], config["first_k_dense_replace"])
    _write_json(folder / "config.json", config)
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        shutil.copyfile(source / name, folder / name)


def write_heldout(folder: pathlib.Path) -> None:
    with open(folder / "heldout.jsonl", "w", encoding="utf-8") as out:
        for p in generate.heldout():
            out.write(json.dumps({"question": p.question, "answer": p.solution}, ensure_ascii=False) + "\n")


def write_all(model: TinyGsm, tokenizer: pathlib.Path, out: pathlib.Path) -> None:
    write_bf16(model, tokenizer, out / "tiny-gsm-bf16")
    write_mxfp4(out / "tiny-gsm-bf16", out / "tiny-gsm")
    write_heldout(out / "tiny-gsm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    args = parser.parse_args()
    write_mxfp4(args.source, args.folder)
    write_heldout(args.folder)


if __name__ == "__main__":
    main()
