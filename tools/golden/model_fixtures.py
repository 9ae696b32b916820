#!/usr/bin/env python3
"""Writes tests/fixtures/models: small random checkpoints and transformers' float32 logits on their stored weights.

    python tools/golden/model_fixtures.py [--only NAME]...

needs torch, transformers 5, safetensors and ml_dtypes. Each folder holds config.json, the safetensors, tokens.json and
    logits.npy          float32 (ceil(T / every), vocab): rows 0, every, 2 * every, ... of the class in transformers
    logits-MODE.npy     the same rows with quantised activations, from model_emulation.py
    golden.json         `every`, and what was measured when the goldens were made
v3-tf5 holds only a config: v3-bf16's in the spelling that transformers 5 writes.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers
from model_emulation import Emulation
from model_variants import FP8_CONFIG, VARIANTS, quark_config
from model_weights import Checkpoint, dense_layers
from safetensors.torch import save_file as save_torch

VISION_CONFIGS = {
    "kimi_k25": {"hidden_size": 8, "model_type": "kimi_k25_vision", "num_hidden_layers": 1, "patch_size": 2},
    "kimi_vl": {"hidden_size": 8, "model_type": "moonvit", "num_hidden_layers": 1, "patch_size": 2},
    "mistral3": {"hidden_size": 8, "model_type": "pixtral", "num_hidden_layers": 1, "patch_size": 2},
}
ROUNDING_CLEARANCE = 1e-6  # relative to the row's largest element
ROOT = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "models"


def relative(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def to_torch(x):
    """numpy to torch through the bytes: torch does not know ml_dtypes."""
    kinds = {"bfloat16": torch.bfloat16, "float8_e4m3fn": torch.float8_e4m3fn}
    x = np.ascontiguousarray(x)
    if x.dtype.name in kinds:
        raw = torch.from_numpy(x.view(np.uint8).reshape(*x.shape[:-1], -1).copy())
        return raw.view(kinds[x.dtype.name]).reshape(x.shape)
    return torch.from_numpy(x.copy())


def load_transformers(variant, values):
    """transformers' model on these float32 values, through its own loader; every tensor must find its place."""
    model_type = variant.config["model_type"]
    with tempfile.TemporaryDirectory() as folder:
        config = dict(spelled(variant), model_type="deepseek_v3" if model_type == "kimi_k2" else model_type,
                      torch_dtype="float32")
        (Path(folder) / "config.json").write_text(json.dumps(config))
        save_torch(values, Path(folder) / "model.safetensors", metadata={"format": "pt"})
        # Mistral Large 3 has no class of its own: Mistral4's computes the same.
        auto = model_type != "mistral4"
        model_class = transformers.AutoModelForCausalLM if auto else transformers.Mistral4ForCausalLM
        model, info = model_class.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager",
            output_loading_info=True)
        wrong = {kind: names for kind, names in info.items() if names}
        if wrong:
            raise SystemExit(f"{variant.name}: transformers did not take the tensors as they are: {wrong}")
        model.save_pretrained(Path(folder) / "again", safe_serialization=True)
        check_names(variant, values, Path(folder) / "again")
    return model.eval()


def check_names(variant, values, folder):
    """What transformers saves has the names and shapes written here: one tensor an expert, nothing fused."""
    from safetensors import safe_open

    found = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as f:
            for name in f.keys():
                found[name] = tuple(f.get_slice(name).get_shape())
    expected = {name: tuple(x.shape) for name, x in values.items()}
    if variant.config["model_type"] == "axk1":  # what its published files hold or lack, without effect
        found = {name: x for name, x in found.items() if not name.endswith("e_score_correction_bias")}
        for layer in range(dense_layers(variant.config)):
            del expected[f"model.layers.{layer}.post_mlp_layernorm.weight"]
    if found != expected:
        raise SystemExit(f"{variant.name}: transformers saves other tensors: {set(found) ^ set(expected)}")


def choose_tokens(variant, checkpoint):
    """Random tokens, each drawn again while one of its router decisions, in any mode, is nearly a tie, or while a
    quantised activation lies where the last bit of a float32 decides its code."""
    values = checkpoint.torch_values()
    modes = [Emulation(variant.config, values, checkpoint.form, mode) for mode in (None, "bf16", *variant.activations)]
    rng = np.random.default_rng(variant.seed)
    tokens = []
    while len(tokens) < variant.tokens:
        chunk = min(4, variant.tokens - len(tokens)) if variant.tokens <= 100 else 1
        for _ in range(1000):
            trial = tokens + rng.integers(0, variant.config["vocab_size"], chunk).tolist()
            good = chunk
            for mode in modes:
                mode.logits(trial, watch_rounding=True)
                bad = (mode.margin[-chunk:] < variant.router_margin) | (mode.clearance[-chunk:] < ROUNDING_CLEARANCE)
                close = bad.nonzero()
                good = min(good, int(close[0]) if len(close) else chunk)
                if not good:
                    break
            if good:
                tokens = trial[: len(tokens) + good]
                break
        else:
            return None
    return tokens


def measure(variant, checkpoint, tokens, rows):
    """Goldens with quantised activations, and how much the last bit of a float32 matters to them."""
    values = checkpoint.torch_values()

    def run(mode, dtype=torch.float32):
        return Emulation(variant.config, values, checkpoint.form, mode, dtype).logits(tokens)[rows].float().numpy()

    goldens = {mode: run(mode, torch.float64) for mode in variant.activations}
    drift = {mode: relative(run(mode), golden) for mode, golden in goldens.items()}
    return run(None), run("bf16"), goldens, drift


def shard(stored, count):
    """Splits by bytes, in order, so that a layer's tensors are spread over files as in published folders."""
    total = sum(x.nbytes for x in stored.values())
    parts, seen = [{} for _ in range(count)], 0
    for name, x in stored.items():
        parts[min(seen * count // total, count - 1)][name] = x
        seen += x.nbytes
    return parts


def write_weights(folder, stored, count, stem):
    if count == 1:
        save_torch({n: to_torch(x) for n, x in stored.items()}, folder / f"{stem}.safetensors", {"format": "pt"})
        return
    weight_map = {}
    for i, part in enumerate(shard(stored, count)):
        file = f"{stem}-{i + 1:05d}-of-{count:05d}.safetensors"
        save_torch({n: to_torch(x) for n, x in part.items()}, folder / file, {"format": "pt"})
        weight_map.update({name: file for name in part})
    index = {"metadata": {"total_size": sum(x.nbytes for x in stored.values())}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=0) + "\n")


def spelled(variant):
    named = {variant.spelling.get(key, key): value for key, value in variant.config.items()}
    named.pop(None, None)
    if named["model_type"] == "glm_moe_dsa":
        named["rope_parameters"] = {"rope_theta": named.pop("rope_theta"), "rope_type": "default"}
        named.pop("rope_scaling")
    if named["model_type"] == "mistral4":  # born in transformers 5
        nope, rope = named["qk_nope_head_dim"], named["qk_rope_head_dim"]
        named["rope_parameters"] = dict(named.pop("rope_scaling"), rope_theta=named.pop("rope_theta"),
                                        partial_rotary_factor=rope / (nope + rope))
    return named


def file_config(variant):
    config = spelled(variant)
    forms = {variant.attention, variant.mlp, variant.experts}
    quantization = None
    if "fp8" in forms:
        quantization = FP8_CONFIG
    if "mxfp4" in forms:
        quantization = quark_config(variant.exclude)
    if quantization:
        config["quantization_config"] = quantization
    if not variant.wrapper:
        return config
    text_keys = {"text_config": config, "tie_word_embeddings": False, "vision_config": VISION_CONFIGS[variant.wrapper]}
    if variant.wrapper == "mistral3":
        return {"architectures": ["Mistral3ForConditionalGeneration"], "dtype": "bfloat16", "image_token_index": 10,
                "model_type": "mistral3", "spatial_merge_size": 2, **text_keys}
    name = {"kimi_k25": "KimiK25ForConditionalGeneration", "kimi_vl": "KimiVLForConditionalGeneration"}
    return {"architectures": [name[variant.wrapper]], "dtype": "bfloat16", "ignore_index": -100,
            "media_placeholder_token_id": config["vocab_size"] - 1, "model_type": variant.wrapper, "pad_token_id": 2,
            **text_keys}


def params_json(variant):
    """The config as Mistral spells it."""
    c, yarn = variant.config, variant.config["rope_scaling"]
    return {
        "dim": c["hidden_size"],
        "head_dim": c["qk_nope_head_dim"] + c["qk_rope_head_dim"],
        "hidden_dim": c["intermediate_size"],
        "kv_lora_rank": c["kv_lora_rank"],
        "llama_4_scaling": {"beta": yarn["llama_4_scaling_beta"],
                            "original_max_position_embeddings": yarn["original_max_position_embeddings"]},
        "max_position_embeddings": c["max_position_embeddings"],
        "moe": {
            "expert_hidden_dim": c["moe_intermediate_size"],
            "expert_model_parallel": 1,
            "expert_parallel": 1,
            "first_k_dense_replace": c["first_k_dense_replace"],
            "num_expert_groups": 1,
            "num_expert_groups_per_tok": 1,
            "num_experts": c["n_routed_experts"],
            "num_experts_per_tok": c["num_experts_per_tok"],
            "num_shared_experts": c["n_shared_experts"],
            "route_every_n": 1,
            "routed_scale": c["routed_scaling_factor"],
        },
        "n_heads": c["num_attention_heads"],
        "n_kv_heads": c["num_attention_heads"],
        "n_layers": c["num_hidden_layers"],
        "norm_eps": c["rms_norm_eps"],
        "q_lora_rank": c["q_lora_rank"],
        "qk_nope_head_dim": c["qk_nope_head_dim"],
        "qk_rope_head_dim": c["qk_rope_head_dim"],
        "rope_theta": c["rope_theta"],
        "tied_embeddings": False,
        "v_head_dim": c["v_head_dim"],
        "vision_encoder": {"hidden_size": 8, "num_hidden_layers": 1, "patch_size": 2},
        "vocab_size": c["vocab_size"],
        "yarn": {"alpha": yarn["beta_slow"], "apply_scale": yarn["mscale_all_dim"] != 0, "beta": yarn["beta_fast"],
                 "factor": yarn["factor"],
                 "original_max_position_embeddings": yarn["original_max_position_embeddings"]},
    }


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


def draw(variant):
    """Draws weights and tokens until the goldens are well conditioned: a backend in bf16 can come close to them, and
    the last bit of a float32 decides no quantised code."""
    for attempt in range(50):
        trial = replace(variant, seed=variant.seed + 100 * attempt)
        checkpoint = Checkpoint(trial)
        tokens = choose_tokens(trial, checkpoint)
        rows = list(range(0, len(tokens or []), trial.every))
        if tokens:
            own, bf16, goldens, drift = measure(trial, checkpoint, tokens, rows)
            if relative(bf16, own) < 0.01 and all(d < 2e-5 for d in drift.values()):
                return checkpoint, tokens, rows, own, bf16, goldens, drift
    raise SystemExit(f"{variant.name}: no seed gives well-conditioned goldens")


def make(variant):
    checkpoint, tokens, rows, own, bf16, goldens, drift = draw(variant)
    model = load_transformers(variant, checkpoint.reference_values())
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, rows].numpy()
    if relative(own, logits) > 2e-6:
        raise SystemExit(f"{variant.name}: the emulation is {relative(own, logits):.1e} from transformers")

    folder = ROOT / variant.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if variant.mistral:
        write_json(folder / "params.json", params_json(variant))
    else:
        write_json(folder / "config.json", file_config(variant))
    write_weights(folder, checkpoint.stored, variant.shards, "consolidated" if variant.mistral else "model")
    (folder / "tokens.json").write_text(json.dumps(tokens) + "\n")
    np.save(folder / "logits.npy", logits.astype(np.float32))
    for mode, golden in goldens.items():
        np.save(folder / f"logits-{mode}.npy", golden.astype(np.float32))
    golden = {
        "every": variant.every,
        "tokens": len(tokens),
        "activations": {mode: {"float32_against_float64": drift[mode], "distance_from_exact": relative(g, logits)}
                        for mode, g in goldens.items()},
        "bf16_activations_distance": relative(bf16, logits),
        "seed": checkpoint.variant.seed,
        "transformers": transformers.__version__,
    }
    write_json(folder / "golden.json", golden)
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{variant.name:14s} seed {checkpoint.variant.seed} {size / 1000:7.1f} kB  std {logits.std():.2f}  "
          f"emulation {relative(own, logits):.1e}  bf16 {relative(bf16, logits):.1e}  {golden['activations']}")


def make_tf5():
    """v3-bf16's config as transformers 5 spells it; the weights are v3-bf16's."""
    variant = next(v for v in VARIANTS if v.name == "v3-bf16")
    config = transformers.DeepseekV3Config(**variant.config)
    config.architectures = ["DeepseekV3ForCausalLM"]
    folder = ROOT / "v3-tf5"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        config.save_pretrained(scratch)
        spelled = json.loads((Path(scratch) / "config.json").read_text())
    # What only the published spelling has: a config born in transformers 5 lacks these.
    for key in ("torch_dtype", "rope_scaling", "rope_theta", "topk_method", "scoring_func", "ep_size",
                "moe_layer_freq"):
        spelled.pop(key, None)
    spelled["dtype"] = "bfloat16"
    write_json(folder / "config.json", spelled)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="make only this variant (repeatable)")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    for variant in VARIANTS:
        if not only or variant.name in only:
            make(variant)
    if not only or "v3-tf5" in only:
        make_tf5()


if __name__ == "__main__":
    main()
