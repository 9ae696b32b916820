"""GGUF files with struct and numpy alone: the small checkpoints of tests/fixtures as llama.cpp's converter lays them out,
and their tokenizers. tools/golden/quantized_fixtures.py reads them with the `gguf` package."""

import json
import struct

import checkpoint_files as files
import numpy as np

U32, F32, BOOL, STRING, ARRAY, U64, I32 = 4, 6, 7, 8, 9, 10, 5
TYPES = {"F32": 0, "F16": 1, "Q8_0": 8, "Q4_K": 12, "Q6_K": 14, "BF16": 30, "MXFP4": 39, "Q5_0": 6}


# One matrix of float32 as the bytes of each type.


def f32(x):
    return x.astype(np.float32).tobytes()


def f16(x):
    return x.astype(np.float16).tobytes()


def bf16(x):
    return files.float_to_bf16(x).tobytes()


def blocks_of(x, size):
    return x.reshape(-1, size).astype(np.float32)


def q8_0(x):
    b = blocks_of(x, 32)
    d = (np.abs(b).max(axis=1) / 127).astype(np.float16)
    q = np.round(b / np.where(d == 0, 1, d).astype(np.float32)[:, None]).astype(np.int8)
    return np.concatenate([d.view(np.uint8).reshape(-1, 2), q.view(np.uint8)], axis=1).tobytes()


def mxfp4(x):
    codes, scales = files.quantize_mxfp4(blocks_of(x, 32))
    nibbles = np.stack([codes & 15, codes >> 4], -1).reshape(-1, 32)
    return np.concatenate([scales, nibbles[:, :16] | (nibbles[:, 16:] << 4)], axis=1).astype(np.uint8).tobytes()


def q4_k(x):
    """Not ggml's search for the best scales, but a valid choice."""
    g = blocks_of(x, 256).reshape(-1, 8, 32)
    low = np.minimum(g.min(axis=2), 0)
    scale = (g.max(axis=2) - low) / 15
    d = (scale.max(axis=1) / 63).astype(np.float16)
    dmin = (-low.min(axis=1) / 63).astype(np.float16)
    safe = lambda v: np.where(v == 0, 1, v).astype(np.float32)[:, None]
    s = np.clip(np.round(scale / safe(d)), 0, 63).astype(np.uint8)
    m = np.clip(np.round(-low / safe(dmin)), 0, 63).astype(np.uint8)
    step = d.astype(np.float32)[:, None] * s
    shift = dmin.astype(np.float32)[:, None] * m
    q = np.clip(np.round((g + shift[..., None]) / np.where(step == 0, 1, step)[..., None]), 0, 15).astype(np.uint8)
    packed = np.zeros((len(g), 12), np.uint8)
    packed[:, :4] = (s[:, :4] & 63) | ((s[:, 4:] >> 4) << 6)
    packed[:, 4:8] = (m[:, :4] & 63) | ((m[:, 4:] >> 4) << 6)
    packed[:, 8:] = (s[:, 4:] & 15) | ((m[:, 4:] & 15) << 4)
    pairs = q.reshape(-1, 4, 2, 32)
    codes = (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(-1, 128)
    halves = np.stack([d, dmin], axis=1).view(np.uint8).reshape(-1, 4)
    return np.concatenate([halves, packed, codes], axis=1).tobytes()


def q6_k(x):
    g = blocks_of(x, 256).reshape(-1, 16, 16)
    scale = np.abs(g).max(axis=2) / 31
    d = (scale.max(axis=1) / 127).astype(np.float16)
    s = np.round(scale / np.where(d == 0, 1, d).astype(np.float32)[:, None]).astype(np.int8)
    step = d.astype(np.float32)[:, None] * s
    q = np.clip(np.round(g / np.where(step == 0, 1, step)[..., None]), -32, 31).astype(np.int8) + 32
    q = q.astype(np.uint8).reshape(-1, 2, 4, 32)  # block, half, quarter, element
    low = np.concatenate([(q[:, :, 0] & 15) | ((q[:, :, 2] & 15) << 4), (q[:, :, 1] & 15) | ((q[:, :, 3] & 15) << 4)],
                         axis=2).reshape(-1, 128)
    high = ((q[:, :, 0] >> 4) | ((q[:, :, 1] >> 4) << 2) | ((q[:, :, 2] >> 4) << 4) | ((q[:, :, 3] >> 4) << 6))
    return np.concatenate([low, high.reshape(-1, 64), s.view(np.uint8), d.view(np.uint8).reshape(-1, 2)],
                          axis=1).tobytes()


ENCODE = {"F32": f32, "F16": f16, "BF16": bf16, "Q8_0": q8_0, "Q4_K": q4_k, "Q6_K": q6_k, "MXFP4": mxfp4}


# The file.


def text(value):
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def value(kind, v):
    if kind == STRING:
        return text(v)
    if kind == BOOL:
        return struct.pack("<B", v)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", U64: "<Q"}[kind], v)


def metadata_entry(key, kind, v):
    """`kind` is a type, or a list of one for an array of it."""
    if isinstance(kind, list):
        body = struct.pack("<IIQ", ARRAY, kind[0], len(v)) + b"".join(value(kind[0], x) for x in v)
    else:
        body = struct.pack("<I", kind) + value(kind, v)
    return text(key) + body


def write(path, metadata, tensors, alignment=32):
    """metadata: key -> (type, value); tensors: name -> (type name, shape outermost first, bytes)."""
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(metadata_entry(k, kind, v) for k, (kind, v) in metadata.items())
    data = b""
    for name, (kind, shape, raw) in tensors.items():
        head += text(name) + struct.pack("<I", len(shape))
        head += b"".join(struct.pack("<Q", n) for n in reversed(shape))
        head += struct.pack("<IQ", TYPES[kind], len(data))
        data += raw + b"\0" * (-len(raw) % alignment)
    path.write_bytes(head + b"\0" * (-len(head) % alignment) + data)


# A checkpoint as llama.cpp's converter has it.

NAMES = {
    "input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight", "self_attn.q_a_proj.weight": "attn_q_a.weight",
    "self_attn.q_a_layernorm.weight": "attn_q_a_norm.weight", "self_attn.q_b_proj.weight": "attn_q_b.weight",
    "self_attn.kv_a_proj_with_mqa.weight": "attn_kv_a_mqa.weight",
    "self_attn.kv_a_layernorm.weight": "attn_kv_a_norm.weight", "self_attn.kv_b_proj.weight": "attn_kv_b.weight",
    "self_attn.o_proj.weight": "attn_output.weight", "mlp.gate.weight": "ffn_gate_inp.weight",
    "mlp.gate.e_score_correction_bias": "exp_probs_b.bias", "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight", "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.shared_experts.gate_proj.weight": "ffn_gate_shexp.weight",
    "mlp.shared_experts.up_proj.weight": "ffn_up_shexp.weight",
    "mlp.shared_experts.down_proj.weight": "ffn_down_shexp.weight",
    "eh_proj.weight": "nextn.eh_proj.weight", "enorm.weight": "nextn.enorm.weight", "hnorm.weight": "nextn.hnorm.weight",
    "shared_head.norm.weight": "nextn.shared_head_norm.weight",
}
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
       "lm_head.weight": "output.weight"}


def float_tensors(folder):
    """name -> float32, of a checkpoint in F32, BF16 and MXFP4."""
    stored, values = files.read_folder(folder), {}
    for name, t in stored.items():
        if t.dtype == "BF16":
            values[name] = files.bf16_to_float(t.array())
        elif t.dtype == "F32":
            values[name] = t.array()
        elif t.dtype == "U8" and name.endswith(".weight"):
            values[name] = files.dequantize_mxfp4(t.array(), stored[name + "_scale"].array())
    return values


def gguf_values(values, config, split=True):
    """The same under GGUF's names: experts stacked, kv_b_proj split by heads and its keys transposed."""
    heads, nope, v = config["num_attention_heads"], config["qk_nope_head_dim"], config["v_head_dim"]
    out, experts = {}, {}
    for name, x in values.items():
        if name in TOP:
            out[TOP[name]] = x
            continue
        _, _, layer, rest = name.split(".", 3)
        prefix = f"blk.{layer}."
        if rest.startswith("mlp.experts."):
            _, _, index, projection, _ = rest.split(".")
            key = f"{prefix}ffn_{projection.removesuffix('_proj')}_exps.weight"
            experts.setdefault(key, {})[int(index)] = x
        elif rest == "self_attn.kv_b_proj.weight" and split:
            by_head = x.reshape(heads, nope + v, -1)
            out[prefix + "attn_k_b.weight"] = by_head[:, :nope].transpose(0, 2, 1)
            out[prefix + "attn_v_b.weight"] = by_head[:, nope:]
        else:
            out[prefix + NAMES[rest]] = x
    for key, parts in experts.items():
        out[key] = np.stack([parts[i] for i in range(len(parts))])
    return out


def metadata_of(config, split=True):
    c, arch = config, "deepseek2."
    layers, mtp = c["num_hidden_layers"], c.get("num_nextn_predict_layers") or 0
    rope, nope, latent = c["qk_rope_head_dim"], c["qk_nope_head_dim"], c["kv_lora_rank"]
    data = {
        "general.architecture": (STRING, "deepseek2"),
        arch + "block_count": (U32, layers + mtp),
        arch + "context_length": (U32, c["max_position_embeddings"]),
        arch + "embedding_length": (U32, c["hidden_size"]),
        arch + "feed_forward_length": (U32, c["intermediate_size"]),
        arch + "attention.head_count": (U32, c["num_attention_heads"]),
        arch + "attention.head_count_kv": (U32, 1 if split else c["num_attention_heads"]),
        arch + "attention.layer_norm_rms_epsilon": (F32, c["rms_norm_eps"]),
        arch + "attention.kv_lora_rank": (U32, latent),
        arch + "attention.key_length": (U32, latent + rope if split else nope + rope),
        arch + "attention.value_length": (U32, latent if split else c["v_head_dim"]),
        arch + "rope.dimension_count": (U32, rope),
        arch + "rope.freq_base": (F32, c["rope_theta"]),
        arch + "vocab_size": (U32, c["vocab_size"]),
        arch + "leading_dense_block_count": (U32, c["first_k_dense_replace"]),
        arch + "expert_count": (U32, c["n_routed_experts"]),
        arch + "expert_used_count": (U32, c["num_experts_per_tok"]),
        arch + "expert_shared_count": (U32, c["n_shared_experts"]),
        arch + "expert_feed_forward_length": (U32, c["moe_intermediate_size"]),
        arch + "expert_weights_scale": (F32, c["routed_scaling_factor"]),
        arch + "expert_gating_func": (U32, 1 if c["model_type"] == "deepseek_v2" else 2),
    }
    if mtp:
        data[arch + "nextn_predict_layers"] = (U32, mtp)
    if split:
        data[arch + "attention.key_length_mla"] = (U32, nope + rope)
        data[arch + "attention.value_length_mla"] = (U32, c["v_head_dim"])
    if c.get("q_lora_rank"):
        data[arch + "attention.q_lora_rank"] = (U32, c["q_lora_rank"])
    if c.get("norm_topk_prob"):
        data[arch + "expert_weights_norm"] = (BOOL, True)
    if (c.get("n_group") or 1) > 1:
        data[arch + "expert_group_count"] = (U32, c["n_group"])
        data[arch + "expert_group_used_count"] = (U32, c["topk_group"])
    yarn = c.get("rope_scaling")
    if yarn:
        data.update({
            arch + "rope.scaling.type": (STRING, "yarn"),
            arch + "rope.scaling.factor": (F32, yarn["factor"]),
            arch + "rope.scaling.original_context_length": (U32, yarn["original_max_position_embeddings"]),
            arch + "rope.scaling.yarn_beta_fast": (F32, yarn.get("beta_fast", 32)),
            arch + "rope.scaling.yarn_beta_slow": (F32, yarn.get("beta_slow", 1)),
            arch + "rope.scaling.yarn_log_multiplier": (F32, 0.1 * yarn["mscale_all_dim"]),
        })
    return data


def convert(folder, path, kind_of, split=True, extra=None):
    """Writes the checkpoint in `folder` to the GGUF file `path`; kind_of(name, array) is each matrix's type."""
    config = json.loads((folder / "config.json").read_text())
    values = gguf_values(float_tensors(folder), config, split)
    tensors = {}
    for name, x in values.items():
        plain = x.ndim == 1 or "ffn_gate_inp" in name
        kind = "F32" if plain else kind_of(name, x)
        tensors[name] = (kind, x.shape, ENCODE[kind](x))
    write(path, dict(metadata_of(config, split), **(extra or {})), tensors)


def mixed(name, x):
    """Every type that is read, where its rows fit."""
    k = x.shape[-1]
    if k % 256 == 0:
        return "Q6_K" if "attn_v_b" in name else "Q4_K"
    for part, kind in {"attn_q_a": "F16", "attn_kv_a": "BF16", "exps": "MXFP4", "ffn_": "MXFP4"}.items():
        if part in name:
            return kind
    return "Q8_0"


# Tokenizers.


def tokenizer_metadata(folder, pre):
    """A tokenizer.json of byte-level BPE as GGUF's metadata."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    model = tokenizer["model"]
    added = {t["id"]: t for t in tokenizer["added_tokens"]}
    spelling = {i: t for t, i in model["vocab"].items()} | {i: t["content"] for i, t in added.items()}
    size = max(spelling) + 1
    kinds = [5 if i not in spelling else (3 if added[i]["special"] else 4) if i in added else 1 for i in range(size)]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    ids = {t: i for i, t in spelling.items()}
    data = {
        "tokenizer.ggml.model": (STRING, "gpt2"),
        "tokenizer.ggml.pre": (STRING, pre),
        "tokenizer.ggml.tokens": ([STRING], [spelling.get(i, f"[PAD{i}]") for i in range(size)]),
        "tokenizer.ggml.token_type": ([I32], kinds),
        "tokenizer.ggml.merges": ([STRING], merges),
    }
    for role in ("bos", "eos"):
        token = config.get(f"{role}_token")
        token = token["content"] if isinstance(token, dict) else token
        if token:
            data[f"tokenizer.ggml.{role}_token_id"] = (U32, ids[token])
    data["tokenizer.ggml.add_bos_token"] = (BOOL, bool(config.get("add_bos_token")))
    if config.get("chat_template"):
        data["tokenizer.chat_template"] = (STRING, config["chat_template"])
    return data
