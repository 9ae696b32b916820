"""Writes tests/checkpoint/fixtures: files made by safetensors and transformers, and MXFP4 goldens made with ml_dtypes.

Run from the repository's root: python tools/golden/checkpoint_fixtures.py
"""

import json
import math
import pathlib
import shutil

import ml_dtypes
import numpy as np
import torch
import transformers
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "checkpoint" / "fixtures"
FP4_EXPONENT = 2  # floor(log2 6)


def dtypes():
    """One tensor 0..5 of shape (2, 3) for each dtype, named after it."""
    values = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    powers = torch.pow(2.0, values)
    tensors = {
        "F32": values,
        "BF16": values.to(torch.bfloat16),
        "F16": values.to(torch.float16),
        "F8_E4M3": values.to(torch.float8_e4m3fn),
        "F8_E8M0": powers.to(torch.float8_e8m0fnu),
        "U8": values.to(torch.uint8),
        "I32": values.to(torch.int32),
        "I64": values.to(torch.int64),
    }
    (FIXTURES / "dtypes").mkdir(parents=True)
    save_file(tensors, FIXTURES / "dtypes" / "model.safetensors", metadata={"format": "pt"})


def configs():
    """Published configs, the same as transformers 5 writes them, and transformers' defaults."""
    folder = FIXTURES / "configs"
    folder.mkdir(parents=True)
    classes = {
        "deepseek_v2": (transformers.DeepseekV2Config, "deepseek-v2-lite-bf16"),
        "deepseek_v3": (transformers.DeepseekV3Config, "deepseek-v3"),
        "kimi_k2": (transformers.DeepseekV3Config, "kimi-k2"),
        "moonlight": (transformers.DeepseekV3Config, "moonlight-16b-a3b"),
        "glm4_moe_lite": (transformers.Glm4MoeLiteConfig, "glm-4.7-flash"),
        "youtu": (transformers.YoutuConfig, "youtu-llm-2b"),
        "minicpm3": (transformers.MiniCPM3Config, "minicpm3-4b"),
        "sarvam_mla": (transformers.SarvamMLAConfig, "sarvam-105b"),
        "axk1": (transformers.AXK1Config, "a.x-k1"),
        "mistral4": (transformers.Mistral4Config, "mistral-small-4"),
    }
    for name, (config_class, file) in classes.items():
        published = json.loads((ROOT / "configs" / f"{file}.json").read_text())
        published = published.get("text_config", published)
        published.pop("quantization_config", None)
        (folder / f"{name}_published.json").write_text(json.dumps(published, indent=1) + "\n")
        config = config_class(**{k: v for k, v in published.items() if k != "model_type"})
        (folder / f"{name}_transformers.json").write_text(config.to_json_string(use_diff=True))
        if name in ("kimi_k2", "moonlight"):
            continue
        defaults = config_class().to_dict()
        if name == "deepseek_v2":  # its mixture has no default
            defaults["num_experts_per_tok"] = 6
        (folder / f"{name}_defaults.json").write_text(json.dumps(defaults, indent=1) + "\n")


CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
    "vocab_size": 8, "hidden_size": 32, "intermediate_size": 32, "moe_intermediate_size": 32,
    "num_hidden_layers": 1, "num_attention_heads": 2, "q_lora_rank": None, "kv_lora_rank": 32,
    "qk_nope_head_dim": 32, "qk_rope_head_dim": 2, "v_head_dim": 48, "n_routed_experts": 2, "n_shared_experts": 0,
    "num_experts_per_tok": 1, "n_group": 1, "topk_group": 1, "topk_method": "noaux_tc", "scoring_func": "sigmoid",
    "norm_topk_prob": True, "routed_scaling_factor": 1.0, "first_k_dense_replace": 0, "max_position_embeddings": 64,
    "rope_theta": 10000, "rope_scaling": None, "num_nextn_predict_layers": 0, "tie_word_embeddings": False,
}


def projections():
    attention, mlp = "model.layers.0.self_attn.", "model.layers.0.mlp."
    shapes = {
        attention + "q_proj": (68, 32), attention + "kv_a_proj_with_mqa": (34, 32),
        attention + "kv_b_proj": (160, 32), attention + "o_proj": (32, 96),
    }
    for prefix in ("experts.0.", "experts.1."):
        for projection in ("gate_proj", "up_proj", "down_proj"):
            shapes[mlp + prefix + projection] = (32, 32)
    return shapes


def others(generator):
    def random(*shape):
        return torch.randn(*shape, generator=generator).to(torch.bfloat16)

    layer = "model.layers.0."
    return {
        "model.embed_tokens.weight": random(8, 32), "lm_head.weight": random(8, 32), "model.norm.weight": random(32),
        layer + "input_layernorm.weight": random(32), layer + "post_attention_layernorm.weight": random(32),
        layer + "self_attn.kv_a_layernorm.weight": random(32), layer + "mlp.gate.weight": random(2, 32),
        layer + "mlp.gate.e_score_correction_bias": torch.randn(2, generator=generator),
    }


def mxfp4(matrix, mode):
    """OCP MX v1.0 with E2M1 elements: (codes (n, k/2), scales (n, k/32))."""
    n, k = matrix.shape
    blocks = matrix.astype(np.float32).reshape(n, k // 32, 32)
    amax = np.abs(blocks).max(axis=-1)
    exponents = np.zeros(amax.shape, np.int32)
    for index, value in np.ndenumerate(amax):
        if value == 0:
            exponents[index] = -127
            continue
        if mode == "even":  # Quark's: round the mantissa to E2M1's one bit, then take the exponent
            bits = np.float32(value).view(np.uint32) + np.uint32(0x200000)
            exponent = int((bits >> 23) & 0xFF) - 127 - FP4_EXPONENT
        elif mode == "floor":
            exponent = math.frexp(float(value))[1] - 1 - FP4_EXPONENT
        else:  # ceil
            exponent = math.frexp(float(value))[1] - 1 - FP4_EXPONENT
            if float(value) / 2.0**exponent > 6:
                exponent += 1
        exponents[index] = min(max(exponent, -127), 127)
    scaled = blocks.astype(np.float64) / np.exp2(exponents.astype(np.float64))[..., None]
    scaled = np.clip(scaled, -6, 6)
    codes = scaled.astype(ml_dtypes.float4_e2m1fn).view(np.uint8).reshape(n, k) & 0xF
    return torch.from_numpy(codes[:, 0::2] | (codes[:, 1::2] << 4)), torch.from_numpy((exponents + 127).astype(np.uint8))


def golden(matrices, mode, names):
    tensors = {}
    for name in names:
        tensors[name + ".weight"], tensors[name + ".weight_scale"] = mxfp4(matrices[name], mode)
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def quantize():
    """Source folders in BF16 and in FP8, and what their matrices are in MXFP4."""
    generator = torch.Generator().manual_seed(11)
    shapes = projections()
    few = [name for name in shapes if name.endswith(("kv_b_proj", "o_proj"))]

    folder = FIXTURES / "bf16"
    folder.mkdir(parents=True)
    tensors = others(generator)
    matrices = {}
    for name, shape in shapes.items():
        # Rows of very different magnitudes, zeros among them.
        scale = torch.pow(2.0, torch.randint(-30, 30, (shape[0], 1), generator=generator).float())
        matrix = (torch.randn(*shape, generator=generator) * scale).to(torch.bfloat16)
        matrix[3] = 0
        matrix[4, ::2] = 0
        tensors[name + ".weight"] = matrix
        matrices[name] = matrix.float().numpy()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    (folder / "tokenizer_config.json").write_text("{}\n")
    save_file(golden(matrices, "even", shapes), FIXTURES / "bf16_even.safetensors")
    save_file(golden(matrices, "floor", few), FIXTURES / "bf16_floor.safetensors")
    save_file(golden(matrices, "ceil", few), FIXTURES / "bf16_ceil.safetensors")

    folder = FIXTURES / "fp8"
    folder.mkdir(parents=True)
    tensors = others(generator)
    matrices = {}
    for name, (n, k) in shapes.items():
        values = (torch.randn(n, k, generator=generator) * 100).clamp(-448, 448).to(torch.float8_e4m3fn)
        scales = torch.rand(math.ceil(n / 128), math.ceil(k / 128), generator=generator) * 1e-3
        tensors[name + ".weight"] = values
        tensors[name + ".weight_scale_inv"] = scales
        full = scales.repeat_interleave(128, 0)[:n].repeat_interleave(128, 1)[:, :k]
        matrices[name] = (values.float() * full).numpy()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = dict(CONFIG)
    config["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                     "weight_block_size": [128, 128]}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    save_file(golden(matrices, "even", few), FIXTURES / "fp8_even.safetensors")
    excluded = "model.layers.0.mlp.experts.1.down_proj"
    save_file({excluded + ".weight": torch.from_numpy(matrices[excluded]).to(torch.bfloat16)},
              FIXTURES / "fp8_dequantized.safetensors")


def main():
    shutil.rmtree(FIXTURES, ignore_errors=True)
    dtypes()
    configs()
    quantize()
    for path in FIXTURES.rglob("*.safetensors"):
        path.chmod(0o644)
    total = sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file())
    print(f"{total} bytes under {FIXTURES.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
