#!/usr/bin/env python3
"""Writes tests/fixtures/quantized.npz: transformers' float32 logits on the checkpoints that tests/cli/
quantized_checkpoints.py derives, as their formats' own packages read them.

    python tools/golden/quantized_fixtures.py            (needs torch, transformers 5, compressed-tensors, ml_dtypes)

Integers and NVFP4 are unpacked by compressed-tensors, FP8, E8M0 and E2M1 decoded by ml_dtypes. Each case's tokens are
drawn again while a router's decision on them is nearly a tie.
"""

import json
import sys
import tempfile
from pathlib import Path

import ml_dtypes
import numpy as np
import torch
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32
from model_emulation import Emulation
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cli"))
import quantized_checkpoints as derived  # noqa: E402

TOKENS, EVERY, MARGIN = 36, 4, 0.02
E8M0, E4M3, E2M1 = ml_dtypes.float8_e8m0fnu, ml_dtypes.float8_e4m3fn, ml_dtypes.float4_e2m1fn


def expand(scale, shape):
    """A scale for each element: `scale` covers the matrix in equal parts, or in squares of 128."""
    if scale.size == 1:
        return np.broadcast_to(scale.reshape(()), shape)
    scale = scale.reshape(scale.shape[0], -1)
    if scale.shape[0] != shape[0]:
        return np.repeat(np.repeat(scale, 128, 0)[: shape[0]], 128, 1)[:, : shape[1]]
    return np.repeat(scale, shape[1] // scale.shape[1], 1)


def value_of(parts):
    """The float32 matrix of a module's tensors, suffix -> torch tensor."""
    if "weight_zero_point" in parts:
        raise SystemExit("asymmetric")
    weight = parts.get("weight", parts.get("weight_packed"))
    scale = parts.get("weight_scale", parts.get("weight_scale_inv"))
    if scale is None:
        return weight.float().numpy()
    if weight.dtype == torch.int32:
        shape = torch.Size(parts["weight_shape"].tolist())
        q = unpack_from_int32(weight, 4, shape).float().numpy()
    elif weight.dtype == torch.uint8 and scale.dtype == torch.float8_e4m3fn:
        q = unpack_fp4_from_uint8(weight, weight.shape[0], 2 * weight.shape[1]).float().numpy()
    elif weight.dtype == torch.uint8:
        nibbles = np.stack([weight.numpy() & 15, weight.numpy() >> 4], -1).reshape(weight.shape[0], -1)
        q = nibbles.view(E2M1).astype(np.float32)
    else:
        q = weight.view(torch.uint8).numpy().view(E4M3).astype(np.float32)
    s = scale.numpy().view(E8M0).astype(np.float32) if scale.dtype == torch.uint8 else scale.float().numpy()
    if "weight_scale_2" in parts:
        s = s * parts["weight_scale_2"].numpy()
    if "weight_global_scale" in parts:
        s = s / parts["weight_global_scale"].numpy()
    return (q * expand(s, q.shape)).astype(np.float32)


def read(folder):
    """Published name -> float32 tensor."""
    modules, values = {}, {}
    with safe_open(folder / "model.safetensors", "pt") as f:
        for name in f.keys():
            module, _, suffix = name.rpartition(".")
            modules.setdefault(module, {})[suffix] = f.get_tensor(name)
    for module, parts in modules.items():
        if "e_score_correction_bias" in parts:
            values[f"{module}.e_score_correction_bias"] = parts["e_score_correction_bias"].float()
        if "weight" in parts or "weight_packed" in parts:
            values[module + ".weight"] = torch.from_numpy(value_of(parts).copy())
    return values


def read_gguf(path, config):
    """The same of a GGUF file: published name -> float32 tensor, as the `gguf` package dequantises it."""
    import gguf
    import gguf_files

    top = {v: k for k, v in gguf_files.TOP.items()}
    inner = {v: k for k, v in gguf_files.NAMES.items()}
    found, values = {}, {}
    for tensor in gguf.GGUFReader(path).tensors:
        kinds = gguf.GGMLQuantizationType
        x = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if tensor.tensor_type == kinds.BF16:
            x = (tensor.data.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        found[tensor.name] = np.asarray(x, np.float32).reshape([int(n) for n in reversed(tensor.shape)])
    heads = config["num_attention_heads"]
    for name, x in found.items():
        if name in top:
            values[top[name]] = x
            continue
        _, layer, rest = name.split(".", 2)
        prefix = f"model.layers.{layer}."
        if rest.endswith("_exps.weight"):
            projection = rest.removeprefix("ffn_").removesuffix("_exps.weight")
            for i, part in enumerate(x):
                values[f"{prefix}mlp.experts.{i}.{projection}_proj.weight"] = part
        elif rest == "attn_k_b.weight":
            both = np.concatenate([x.transpose(0, 2, 1), found[f"blk.{layer}.attn_v_b.weight"]], axis=1)
            assert len(both) == heads
            values[prefix + "self_attn.kv_b_proj.weight"] = both.reshape(-1, both.shape[-1])
        elif rest != "attn_v_b.weight":
            values[prefix + inner[rest]] = x
    return {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in values.items()}


def gguf_case(scratch):
    import gguf_files
    from conftest import MODELS

    folder = MODELS / derived.GGUF_BASE
    gguf_files.convert(folder, scratch / "model.gguf", gguf_files.mixed)
    return read_gguf(scratch / "model.gguf", json.loads((folder / "config.json").read_text()))


def choose_tokens(config, values, seed):
    forms = {name: "bf16" for name in values}
    modes = [Emulation(config, values, forms, mode) for mode in (None, "bf16")]
    rng = np.random.default_rng(seed)
    tokens = []
    while len(tokens) < TOKENS:
        for _ in range(300):
            trial = tokens + [int(rng.integers(0, config["vocab_size"]))]
            for mode in modes:
                mode.logits(trial)
                if mode.margin[-1] < MARGIN:
                    break
            else:
                tokens = trial
                break
        else:
            return None
    return tokens


def main():
    from model_fixtures import load_transformers, relative
    from model_variants import VARIANTS

    torch.set_num_threads(1)
    variants = {v.name: v for v in VARIANTS}
    arrays = {}
    only = sys.argv[1:]
    output = ROOT / "tests" / "fixtures" / "quantized.npz"
    if only and output.exists():
        arrays = dict(np.load(output))
    for case in only or [*derived.CASES, "gguf-mixed"]:
        variant = variants[derived.GGUF_BASE if case == "gguf-mixed" else derived.BASE]
        with tempfile.TemporaryDirectory() as scratch:
            if case == "gguf-mixed":
                values = gguf_case(Path(scratch))
            else:
                values = read(derived.derive(case, Path(scratch) / case))
        model = load_transformers(variant, values)
        for seed in range(20):
            tokens = choose_tokens(variant.config, values, seed)
            if not tokens:
                continue
            with torch.no_grad():
                logits = model(torch.tensor([tokens])).logits[0, ::EVERY].numpy()
            rough = Emulation(variant.config, values, {n: "bf16" for n in values}, "bf16").logits(tokens)[::EVERY]
            if relative(rough, logits) < 0.012:
                break
        else:
            raise SystemExit(f"{case}: no tokens far from every tie")
        arrays[case] = logits.astype(np.float32)
        arrays[case + "-tokens"] = np.array(tokens, np.int16)
        print(case, logits.shape, f"bf16 {relative(rough, logits):.1e}", flush=True)
    np.savez_compressed(output, **arrays)
    print(output.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
