"""Checkpoints in the formats that published files have, derived from a small one of BF16: each projection is quantised
here, with numpy, and stored under the format's own names, with the config that its tool writes.

tools/golden/quantized_fixtures.py reads what this writes with the formats' own packages, and keeps transformers' logits
on the values they find (tests/fixtures/quantized.npz).
"""

import json

import checkpoint_files as files
import numpy as np
from conftest import MODELS, edit_config, editable_copy

BASE = "kimi-yarn"  # every dimension is a multiple of 32
GGUF_BASE = "v3-real-dims"  # has rows of a multiple of 256
E4M3 = files.e4m3_table()


def is_projection(name):
    return "_proj" in name and "layernorm" not in name and name.endswith(".weight")


def nearest_e4m3(x):
    """Codes of the nearest values, saturating at 448; a tie goes to the even code."""
    positive = E4M3[:127]
    edges = (positive[1:] + positive[:-1]) / 2
    below = np.searchsorted(edges, np.abs(x), side="left")
    above = np.searchsorted(edges, np.abs(x), side="right")
    code = np.where(below % 2 == 0, below, above).astype(np.uint8)
    return np.where(np.signbit(x), code | 128, code).astype(np.uint8)


def nearest_e2m1(x):
    edges = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
    below = np.searchsorted(edges, np.abs(x), side="left")
    above = np.searchsorted(edges, np.abs(x), side="right")
    code = np.where(below % 2 == 0, below, above).astype(np.uint8)
    return np.where(np.signbit(x), code | 8, code).astype(np.uint8)


def pack_nibbles(codes):
    return codes[:, 0::2] | (codes[:, 1::2] << 4)


def bf16_round(x):
    return files.bf16_to_float(files.float_to_bf16(x))


# One matrix of float32 in each layout: suffix -> Tensor.


def int4(x):
    n, k = x.shape
    groups = x.reshape(n, k // 32, 32)
    scale = bf16_round(np.abs(groups).max(axis=-1) / np.float32(7.5))
    q = np.clip(np.round(groups / scale[..., None]), -8, 7).astype(np.int64).reshape(n, k // 8, 8)
    words = ((q + 8) << (4 * np.arange(8))).sum(axis=-1).astype(np.uint32).view(np.int32)
    return {"weight_packed": files.from_array("I32", words),
            "weight_scale": files.from_array("BF16", files.float_to_bf16(scale)),
            "weight_shape": files.from_array("I32", np.array([n, k], np.int32))}


def mxfp4(x, weight="weight"):
    codes, scales = files.quantize_mxfp4(x)
    return {weight: files.from_array("U8", codes), "weight_scale": files.from_array("U8", scales)}


def mxfp8(x):
    n, k = x.shape
    blocks = x.reshape(n, k // 32, 32)
    exponent = np.ceil(np.log2(np.abs(blocks).max(axis=-1) / 448.0)).astype(np.int32)
    codes = nearest_e4m3(blocks / np.ldexp(np.float32(1), exponent)[..., None]).reshape(n, k)
    return {"weight": files.from_array("F8_E4M3", codes),
            "weight_scale_inv": files.from_array("U8", (exponent + 127).astype(np.uint8))}


def nvfp4_parts(x):
    """Codes, scales of 16 and the tensor's scale, a factor."""
    n, k = x.shape
    blocks = x.reshape(n, k // 16, 16)
    amax = np.abs(blocks).max(axis=-1)
    whole = np.float32(amax.max() / (6 * 448))
    scales = nearest_e4m3(amax / 6 / whole)
    step = E4M3[scales] * whole
    codes = nearest_e2m1(blocks / np.where(step == 0, 1, step)[..., None]).reshape(n, k)
    return pack_nibbles(codes), scales, whole


def nvfp4_modelopt(x):
    codes, scales, whole = nvfp4_parts(x)
    return {"weight": files.from_array("U8", codes), "weight_scale": files.from_array("F8_E4M3", scales),
            "weight_scale_2": files.from_array("F32", np.float32(whole).reshape(())),
            "input_scale": files.from_array("F32", np.float32(0.01).reshape(()))}


def nvfp4_compressed(x):
    codes, scales, whole = nvfp4_parts(x)
    return {"weight_packed": files.from_array("U8", codes), "weight_scale": files.from_array("F8_E4M3", scales),
            "weight_global_scale": files.from_array("F32", np.float32([1 / whole])),
            "input_global_scale": files.from_array("F32", np.float32([100]))}


def fp8_tensor(x, suffix="weight_scale", shape=(1,), dtype="F32"):
    scale = np.float32(np.abs(x).max() / 448)
    if dtype == "BF16":
        scale = bf16_round(np.array([scale]))[0]
    stored = np.full(shape, scale, np.float32)
    return {"weight": files.from_array("F8_E4M3", nearest_e4m3(x / scale)),
            suffix: files.from_array(dtype, files.float_to_bf16(stored) if dtype == "BF16" else stored)}


def fp8_channel(x, dtype="BF16", column=True):
    scale = np.abs(x).max(axis=1) / np.float32(448)
    if dtype == "BF16":
        scale = bf16_round(scale)
    codes = nearest_e4m3(x / scale[:, None])
    stored = scale[:, None] if column else scale
    return {"weight": files.from_array("F8_E4M3", codes),
            "weight_scale": files.from_array(dtype, files.float_to_bf16(stored) if dtype == "BF16" else stored)}


def fp8_block(x, suffix="weight_scale", dtype="BF16"):
    rows, columns = x.shape
    squares = lambda extent: -(-extent // 128)
    scale = np.array([[np.abs(x[i * 128 : i * 128 + 128, j * 128 : j * 128 + 128]).max() / np.float32(448)
                       for j in range(squares(columns))] for i in range(squares(rows))], np.float32)
    if dtype == "BF16":
        scale = bf16_round(scale)
    full = np.repeat(np.repeat(scale, 128, axis=0), 128, axis=1)[:rows, :columns]
    return {"weight": files.from_array("F8_E4M3", nearest_e4m3(x / full)),
            suffix: files.from_array(dtype, files.float_to_bf16(scale) if dtype == "BF16" else scale)}


def f16(x):
    return {"weight": files.from_array("F16", x.astype(np.float16).view(np.uint16))}


def f32(x):
    # Values that BF16 does not have.
    return {"weight": files.from_array("F32", (x * np.float32(1.001)).astype(np.float32))}


# Configs, as the formats' tools write them.

KIMI_IGNORE = ["re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp\\.(gate|up|gate_up|down)_proj.*", "re:.*lm_head.*",
               "re:vision_tower.*", "re:mm_projector.*"]


def compressed_tensors(form, weights, ignore=("lm_head", "re:.*mlp.gate$")):
    base = {"actorder": None, "block_structure": None, "dynamic": False, "group_size": None, "observer": "minmax",
            "observer_kwargs": {}, "symmetric": True}
    return {"config_groups": {"group_0": {"input_activations": None, "output_activations": None, "targets": ["Linear"],
                                          "weights": dict(base, **weights)}},
            "format": form, "ignore": list(ignore), "kv_cache_scheme": None, "quant_method": "compressed-tensors",
            "quantization_status": "compressed"}


INT4_WEIGHTS = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}


def quark(weight, layers=None, exclude=("lm_head", "re:.*mlp.gate$")):
    config = {"weight": weight, "input_tensors": None, "output_tensors": None, "bias": None}
    return {"quant_method": "quark", "global_quant_config": config, "layer_type_quant_config": {},
            "layer_quant_config": {k: dict(config, weight=w) for k, w in (layers or {}).items()},
            "exclude": list(exclude), "export": {"weight_format": "real_quantized", "pack_method": "reorder",
                                                 "kv_cache_group": []}}


QUARK_FP4 = {"dtype": "fp4", "qscheme": "per_group", "group_size": 32, "ch_axis": -1, "scale_format": "e8m0",
             "is_dynamic": False}
QUARK_PTPC = {"dtype": "fp8_e4m3", "qscheme": "per_channel", "ch_axis": 0, "group_size": None, "is_dynamic": False}


def experts_only(name):
    return ".mlp.experts." in name


def attention_in_fp8(x, name):
    return fp8_channel(x, "F32", column=False) if "self_attn" in name else mxfp4(x)


MODELOPT = {"quant_method": "modelopt", "quant_algo": "NVFP4", "producer": {"name": "modelopt", "version": "0.33"},
            "ignore": ["lm_head", "model.layers.*.mlp.gate"],
            "config_groups": {"group_0": {"input_activations": {"num_bits": 4, "type": "float", "group_size": 16},
                                          "weights": {"num_bits": 4, "type": "float", "group_size": 16},
                                          "targets": ["Linear"]}}}

# name -> (matrix and its name -> tensors, quantization_config, which projections, the format's name)
CASES = {
    "ct-int4": (lambda x, _: int4(x), compressed_tensors("pack-quantized", INT4_WEIGHTS, KIMI_IGNORE), experts_only,
                "int4-g32"),
    "ct-int4-all": (lambda x, _: int4(x), compressed_tensors("pack-quantized", INT4_WEIGHTS), is_projection,
                    "int4-g32"),
    "ct-mxfp4": (lambda x, _: mxfp4(x, "weight_packed"),
                 compressed_tensors("mxfp4-pack-quantized", {"num_bits": 4, "type": "float", "strategy": "group",
                                                             "group_size": 32, "scale_dtype": "torch.uint8",
                                                             "zp_dtype": None}), is_projection, "mxfp4"),
    "ct-nvfp4": (lambda x, _: nvfp4_compressed(x),
                 compressed_tensors("nvfp4-pack-quantized", {"num_bits": 4, "type": "float", "strategy": "tensor_group",
                                                             "group_size": 16}), is_projection, "nvfp4"),
    "ct-fp8-tensor": (lambda x, _: fp8_tensor(x, dtype="BF16"),
                      compressed_tensors("float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"}),
                      is_projection, "fp8-tensor"),
    "ct-fp8-channel": (lambda x, _: fp8_channel(x),
                       compressed_tensors("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}),
                       is_projection, "fp8-channel"),
    "ct-fp8-block": (lambda x, _: fp8_block(x),
                     compressed_tensors("float-quantized", {"num_bits": 8, "type": "float", "strategy": "block",
                                                            "block_structure": [128, 128]}),
                     is_projection, "fp8-block128"),
    "modelopt-nvfp4": (lambda x, _: nvfp4_modelopt(x), MODELOPT, is_projection, "nvfp4"),
    "modelopt-fp8": (lambda x, _: fp8_tensor(x, shape=()),
                     {"quant_method": "modelopt", "quant_algo": "FP8", "exclude_modules": ["lm_head"]}, is_projection,
                     "fp8-tensor"),
    "quark-ptpc": (attention_in_fp8, quark(QUARK_FP4, {"*self_attn*": QUARK_PTPC}), is_projection, "mxfp4"),
    "mxfp8": (lambda x, _: mxfp8(x),
              {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "scale_fmt": "ue8m0",
               "weight_block_size": [1, 32]}, is_projection, "mxfp8"),
    "fp8-static": (lambda x, _: dict(fp8_tensor(x, "weight_scale_inv", (), "BF16"),
                                     activation_scale=files.from_array("BF16", np.array(0x3C00, np.uint16))),
                   {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None,
                    "modules_to_not_convert": ["lm_head"]}, is_projection, "fp8-tensor"),
    "f16": (lambda x, _: f16(x), None, is_projection, "f16"),
    "f32": (lambda x, _: f32(x), None, is_projection, "f32"),
}


def derive(case, folder):
    """Writes the checkpoint `case` to `folder`, which must not exist."""
    quantise, config, chosen, _ = CASES[case]
    editable_copy(BASE, folder)
    tensors = files.read_folder(folder)
    for name in [name for name in tensors if is_projection(name) and chosen(name)]:
        x = files.bf16_to_float(tensors.pop(name).array())
        module = name[: -len("weight")]
        tensors.update({module + suffix: t for suffix, t in quantise(x, name).items()})
    files.write(folder / "model.safetensors", tensors)
    if config is not None:
        edit_config(folder, lambda c: c.update(quantization_config=config))
    return folder


def as_kimi_k25(folder):
    """The same under text_config, with the prefix of Kimi-K2.5's tensors, and its vision tower's."""
    tensors = {"language_model." + name: t for name, t in files.read_folder(folder).items()}
    tensors["vision_tower.patch_embed.proj.weight"] = files.from_array("BF16", np.zeros((8, 12), np.uint16))
    files.write(folder / "model.safetensors", tensors)
    text = json.loads((folder / "config.json").read_text())
    wrapper = json.loads((MODELS / "kimi-k25" / "config.json").read_text())
    wrapper["text_config"] = text
    wrapper.pop("quantization_config", None)
    (folder / "config.json").write_text(json.dumps(wrapper))
    return folder
