"""Random tensors of a small MLA checkpoint, their stored form, and what the stored form means in float32.

Every tensor is rounded to what the file holds first; the goldens are computed from the rounded values.
"""

import zlib

import ml_dtypes
import numpy as np
import torch

BF16 = ml_dtypes.bfloat16
E4M3 = ml_dtypes.float8_e4m3fn
E2M1 = ml_dtypes.float4_e2m1fn
E8M0 = ml_dtypes.float8_e8m0fnu


def random_matrix(seed, name, rows, columns, gain):
    """Normal, with scales that differ by row and by 32 columns, so that a wrong scale shows."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    row_scale = np.exp(0.25 * rng.standard_normal((rows, 1)))
    column_scale = np.exp(0.25 * rng.standard_normal((1, -(-columns // 32)))).repeat(32, axis=1)[:, :columns]
    x = rng.standard_normal((rows, columns)) * (gain / np.sqrt(columns)) * row_scale * column_scale
    return x.astype(np.float32)


def random_vector(seed, name, n, mean, std):
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return (mean + std * rng.standard_normal(n)).astype(np.float32)


def quantize_mxfp4(x):
    """(rows, k) float32 -> packed codes (rows, k/2) u8, scales (rows, k/32) u8; scale mode `even`."""
    rows, k = x.shape
    blocks = x.reshape(rows, k // 32, 32)
    amax = np.abs(blocks).max(axis=-1)
    bits = amax.view(np.uint32) + np.uint32(0x200000)
    exponent = np.clip((bits >> 23).astype(np.int32) - 127 - 2, -127, 127)
    exponent = np.where(amax == 0, -127, exponent)
    scale = np.ldexp(np.float32(1), exponent).astype(E8M0)
    value = (blocks.astype(np.float64) / scale.astype(np.float64)[..., None]).astype(np.float32)
    codes = np.clip(value, -6, 6).astype(E2M1).view(np.uint8) & 15
    codes = codes.reshape(rows, k)
    return (codes[:, 0::2] | (codes[:, 1::2] << 4)).astype(np.uint8), scale.view(np.uint8)


def dequantize_mxfp4(packed, scales):
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(packed.shape[0], -1)
    value = codes.astype(np.uint8).view(E2M1).astype(np.float32)
    return value * np.repeat(scales.view(E8M0).astype(np.float32), 32, axis=1)


def quantize_fp8_block(x):
    """(n, k) float32 -> e4m3 (n, k), weight_scale_inv float32 (ceil(n/128), ceil(k/128))."""
    n, k = x.shape
    scale = np.zeros((-(-n // 128), -(-k // 128)), np.float32)
    q = np.zeros((n, k), E4M3)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            block = np.s_[i * 128 : (i + 1) * 128, j * 128 : (j + 1) * 128]
            scale[i, j] = np.float32(np.abs(x[block]).max()) / np.float32(448)
            q[block] = np.clip(x[block] / scale[i, j], -448, 448).astype(E4M3)
    return q, scale


def dequantize_fp8_block(q, scale):
    full = np.repeat(np.repeat(scale, 128, axis=0), 128, axis=1)[: q.shape[0], : q.shape[1]]
    return q.astype(np.float32) * full


UNBIASED = ("deepseek_v2", "mistral4", "axk1")  # their routers have no e_score_correction_bias


def own_indexer(config, layer):
    """Whether the layer chooses the tokens that it attends to itself."""
    if "index_topk" not in config:
        return False
    freq, offset = config.get("index_topk_freq", 1), config.get("index_skip_topk_offset", 2)
    return max(layer - offset + 1, 0) % freq == 0


def dense_layers(config):
    """How many of the first layers are dense."""
    return config["first_k_dense_replace"] if config.get("n_routed_experts") else config["num_hidden_layers"]


def fuse_experts(tensors):
    """One tensor a projection for all experts of a layer: gate and up in one, (experts, 2 * inner, hidden)."""
    fused, experts = {}, {}
    for name, x in tensors.items():
        layer, _, rest = name.partition(".experts.")
        if not rest or "shared_experts" in name:
            fused[name] = x
            continue
        expert, projection, _ = rest.split(".")
        experts.setdefault(layer + ".experts.", {}).setdefault(projection, {})[int(expert)] = x
    for prefix, parts in experts.items():
        stack = {projection: np.stack([parts[projection][e] for e in sorted(parts[projection])])
                 for projection in parts}
        fused[prefix + "gate_up_proj"] = np.concatenate([stack["gate_proj"], stack["up_proj"]], axis=1)
        fused[prefix + "down_proj"] = stack["down_proj"]
    return fused


def mistral_name(name):
    """A tensor's name in the files that Mistral publishes beside a params.json."""
    for old, new in (("model.layers", "layers"), ("input_layernorm", "attention_norm"),
                     ("post_attention_layernorm", "ffn_norm"), ("self_attn.q_a_proj", "attention.wq_a"),
                     ("self_attn.q_a_layernorm", "attention.q_a_norm"), ("self_attn.q_b_proj", "attention.wq_b"),
                     ("self_attn.kv_a_proj_with_mqa", "attention.wkv_a_with_mqa"),
                     ("self_attn.kv_a_layernorm", "attention.kv_a_norm"), ("self_attn.kv_b_proj", "attention.wkv_b"),
                     ("self_attn.o_proj", "attention.wo"), ("mlp.gate.", "gate."), ("mlp.experts", "experts"),
                     ("mlp.shared_experts", "shared_experts"), ("mlp.", "feed_forward."), ("gate_proj", "w1"),
                     ("down_proj", "w2"), ("up_proj", "w3"), ("model.embed_tokens", "tok_embeddings"),
                     ("model.norm", "norm"), ("lm_head", "output"), ("vision_tower.", "vision_encoder."),
                     ("mm_projector.", "vision_language_adapter.")):
        name = name.replace(old, new)
    return name


class Checkpoint:
    """One variant's tensors: `stored` goes into the files, `value` is what they mean, `form` is how they lie there."""

    def __init__(self, variant):
        self.variant = variant
        self.stored = {}  # name -> numpy array in the file's dtype
        self.value = {}  # published name without prefix -> float32 array
        self.form = {}  # the same name -> bf16, fp8, mxfp4, float32
        self._text_tensors()
        if variant.mtp:
            self._mtp_tensors()
        if variant.wrapper or variant.mistral:
            self._vision_tensors()
        if variant.fused_experts:
            self.stored = fuse_experts(self.stored)
        if variant.mistral:
            self.stored = {mistral_name(name): x for name, x in self.stored.items()}

    def _store(self, name, x, form):
        file_name = self.variant.vocab_prefix + name
        if form == "mxfp4":
            packed, scales = quantize_mxfp4(x)
            self.stored[file_name] = packed
            self.stored[file_name + "_scale"] = scales
            self.value[name] = dequantize_mxfp4(packed, scales)
        elif form == "fp8":
            q, scale = quantize_fp8_block(x)
            self.stored[file_name] = q
            self.stored[file_name + "_scale_inv"] = scale
            self.value[name] = dequantize_fp8_block(q, scale)
        else:
            self.stored[file_name] = x.astype(BF16 if form == "bf16" else np.float32)
            self.value[name] = self.stored[file_name].astype(np.float32)
        self.form[name] = form

    def _matrix(self, name, rows, columns, form, gain=1.0):
        self._store(name, random_matrix(self.variant.seed, name, rows, columns, gain), form)

    def _norm(self, name, n):
        self._store(name, random_vector(self.variant.seed, name, n, 1.0, 0.2), "bf16")

    def _mlp(self, prefix, hidden, inner, form):
        self._matrix(prefix + "gate_proj.weight", inner, hidden, form)
        self._matrix(prefix + "up_proj.weight", inner, hidden, form)
        gain = 0.8 / self.variant.config.get("routed_scaling_factor", 1.0) ** 0.5
        self._matrix(prefix + "down_proj.weight", hidden, inner, form, gain)

    def _layer(self, layer):
        v, c = self.variant, self.variant.config
        hidden, heads = c["hidden_size"], c["num_attention_heads"]
        qk = c["qk_nope_head_dim"] + c["qk_rope_head_dim"]
        latent, rope = c["kv_lora_rank"], c["qk_rope_head_dim"]
        prefix = f"model.layers.{layer}."
        self._norm(prefix + "input_layernorm.weight", hidden)
        self._norm(prefix + "post_attention_layernorm.weight", hidden)
        if c["model_type"] == "axk1":
            self._norm(prefix + "post_mlp_layernorm.weight", hidden)
        attention = prefix + "self_attn."
        if c["q_lora_rank"] is None:
            self._matrix(attention + "q_proj.weight", heads * qk, hidden, v.attention)
        else:
            self._matrix(attention + "q_a_proj.weight", c["q_lora_rank"], hidden, v.attention)
            self._norm(attention + "q_a_layernorm.weight", c["q_lora_rank"])
            self._matrix(attention + "q_b_proj.weight", heads * qk, c["q_lora_rank"], v.attention)
        self._matrix(attention + "kv_a_proj_with_mqa.weight", latent + rope, hidden, v.attention, 0.7)
        self._norm(attention + "kv_a_layernorm.weight", latent)
        self._matrix(attention + "kv_b_proj.weight", heads * (c["qk_nope_head_dim"] + c["v_head_dim"]), latent,
                     v.attention)
        self._matrix(attention + "o_proj.weight", hidden, heads * c["v_head_dim"], v.attention)
        if own_indexer(c, layer):
            self._indexer(attention + "indexer.")
        if layer < dense_layers(c):
            self._mlp(prefix + "mlp.", hidden, c["intermediate_size"], v.mlp)
            return
        self._matrix(prefix + "mlp.gate.weight", c["n_routed_experts"], hidden, "bf16", 1.6)
        if c["model_type"] not in UNBIASED:
            name = prefix + "mlp.gate.e_score_correction_bias"
            bias = random_vector(v.seed, name, c["n_routed_experts"], 0.3, 0.15)
            self._store(name, bias, "bf16" if v.bias_dtype == "bfloat16" else "float32")
        inner = c["moe_intermediate_size"]
        for expert in range(c["n_routed_experts"]):
            self._mlp(f"{prefix}mlp.experts.{expert}.", hidden, inner, v.experts)
        self._mlp(prefix + "mlp.shared_experts.", hidden, inner * c["n_shared_experts"], v.mlp)

    def _indexer(self, prefix):
        v, c = self.variant, self.variant.config
        heads, width = c["index_n_heads"], c["index_head_dim"]
        self._matrix(prefix + "wq_b.weight", heads * width, c["q_lora_rank"], v.attention)
        self._matrix(prefix + "wk.weight", width, c["hidden_size"], v.attention)
        self._norm(prefix + "k_norm.weight", width)
        self._store(prefix + "k_norm.bias", random_vector(v.seed, prefix + "k_norm.bias", width, 0.0, 0.2), "bf16")
        self._matrix(prefix + "weights_proj.weight", heads, c["hidden_size"], "bf16")

    def _text_tensors(self):
        c = self.variant.config
        # Rows of unit variance; a tied head multiplies by them too, and should not make its logits too large.
        gain = np.sqrt(c["hidden_size"]) / c.get("scale_emb", 1) if not c["tie_word_embeddings"] else 2.0
        self._matrix("model.embed_tokens.weight", c["vocab_size"], c["hidden_size"], "bf16", gain)
        for layer in range(c["num_hidden_layers"]):
            self._layer(layer)
        self._norm("model.norm.weight", c["hidden_size"])
        if not c["tie_word_embeddings"]:
            self._matrix("lm_head.weight", c["vocab_size"], c["hidden_size"], "bf16", 2.0)

    def _mtp_tensors(self):
        """Some tensors of the multi-token-prediction layer that published DeepSeek-V3 folders hold after the last."""
        c = self.variant.config
        hidden = c["hidden_size"]
        prefix = f"model.layers.{c['num_hidden_layers']}."
        keep = dict(self.value), dict(self.form)
        self._matrix(prefix + "eh_proj.weight", hidden, 2 * hidden, "bf16")
        for norm in ("enorm", "hnorm", "shared_head.norm", "input_layernorm", "post_attention_layernorm"):
            self._norm(f"{prefix}{norm}.weight", hidden)
        if c["q_lora_rank"]:
            self._matrix(prefix + "self_attn.q_a_proj.weight", c["q_lora_rank"], hidden, "bf16")
        self._mlp(prefix + "mlp.experts.0.", hidden, c["moe_intermediate_size"], "bf16")
        bias = np.zeros(c["n_routed_experts"], np.float32)
        self._store(prefix + "mlp.gate.e_score_correction_bias", bias, "float32")
        self.value, self.form = keep

    def _vision_tensors(self):
        seed = self.variant.seed
        for name, rows, columns in (("vision_tower.encoder.blocks.0.wqkv.weight", 24, 8),
                                    ("vision_tower.patch_embed.proj.weight", 8, 12),
                                    ("mm_projector.proj.0.weight", 16, 16)):
            self.stored[name] = random_matrix(seed, name, rows, columns, 1.0).astype(BF16)
        for name in ("mm_projector.pre_norm.weight", "mm_projector.pre_norm.bias", "mm_projector.proj.0.bias"):
            self.stored[name] = random_vector(seed, name, 16, 0.5, 0.1).astype(BF16)

    def torch_values(self):
        return {name: torch.from_numpy(x.copy()) for name, x in self.value.items()}

    def reference_values(self):
        """The same as transformers saves them."""
        fused = self.variant.config["model_type"] == "mistral4"
        values = fuse_experts(self.value) if fused else self.value
        return {name: torch.from_numpy(x.copy()) for name, x in values.items()}
