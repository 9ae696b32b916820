"""A forward pass of its own, in PyTorch, with the absorbed form of latent attention.

It exists for what transformers cannot compute: logits with quantised activations. Without them it must agree with
transformers, which model_fixtures.py checks first. `activations` is
  None     nothing is rounded,
  "mxfp4"  the input of every product with FP8 or MXFP4 weights is quantised along the contracted axis, blocks of 32,
  "fp8"    the same in e4m3, groups of 128 (the last may be short),
  "fp8-ue8m0"  the same with scales rounded up to powers of two, as DeepSeek-V3.1's authors do,
  "bf16"   every op's result is rounded to bfloat16: how far a bf16 backend may be from the goldens.
"""

import math

import torch
import torch.nn.functional as F
from model_weights import UNBIASED, dense_layers, own_indexer


def fake_mxfp4(x):
    """Quantises and dequantises along the last axis; scale mode `even`, ties to the even code."""
    shape, dtype = x.shape, x.dtype
    n = shape[-1]
    blocks = F.pad(x.float(), (0, -n % 32)).reshape(*shape[:-1], -1, 32)
    amax = blocks.abs().amax(dim=-1)
    exponent = (((amax.contiguous().view(torch.int32) + 0x200000) >> 23) - 127 - 2).clamp(-127, 127)
    scale = torch.ldexp(torch.ones_like(amax), exponent)
    value = (blocks / scale[..., None]).clamp(-6, 6)
    # The grid's step is 0.5 below 2, 1 below 4, 2 above; torch.round goes to the even multiple, which is the even code.
    magnitude = value.abs()
    step = torch.where(magnitude < 2, 0.5, torch.where(magnitude < 4, 1.0, 2.0))
    quantised = torch.round(value / step) * step
    quantised = torch.where((amax == 0)[..., None], torch.zeros_like(quantised), quantised * scale[..., None])
    return quantised.reshape(*shape[:-1], -1)[..., :n].to(dtype)


def fp8_scale(amax, power_of_two):
    scale = amax.clamp_min(1e-10) / 448.0
    if not power_of_two:
        return scale
    mantissa, exponent = torch.frexp(scale)  # 0.5 <= mantissa < 1
    return torch.ldexp(torch.ones_like(scale), exponent - (mantissa == 0.5).int())


def fake_fp8(x, power_of_two):
    shape, dtype = x.shape, x.dtype
    n = shape[-1]
    groups = F.pad(x.float(), (0, -n % 128)).reshape(*shape[:-1], -1, 128)
    scale = fp8_scale(groups.abs().amax(dim=-1, keepdim=True), power_of_two)
    quantised = (groups / scale).clamp(-448, 448).to(torch.float8_e4m3fn).float() * scale
    return quantised.reshape(*shape[:-1], -1)[..., :n].to(dtype)


def clearance(x, mode):
    """How far each row's larger elements are from where their code would flip, relative to the row's maximum."""
    width = 32 if mode == "mxfp4" else 128
    shape = x.shape
    row_max = x.float().abs().amax(dim=-1)[..., None, None]
    blocks = F.pad(x.float(), (0, -shape[-1] % width)).reshape(*shape[:-1], -1, width)
    amax = blocks.abs().amax(dim=-1, keepdim=True)
    if mode == "mxfp4":
        scale = torch.exp2(torch.floor(torch.log2(amax * (8 / 7))) - 2)
        magnitude = (blocks / scale).abs()
        edges = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])
        distance = (magnitude[..., None] - edges).abs().amin(-1)
    else:
        scale = fp8_scale(amax, mode == "fp8-ue8m0")
        magnitude = (blocks / scale).abs()
        step = torch.exp2(torch.floor(torch.log2(magnitude.clamp_min(2.0**-6))) - 3)
        distance = ((magnitude / step) % 1 - 0.5).abs() * step
    # An exact tie comes from sums of products of 4-bit values, which no order of summing changes: it is no risk.
    ignored = (blocks.abs() < row_max / 16) | (distance == 0)
    distance = torch.where(ignored, torch.inf, distance * scale / row_max)
    return distance.flatten(1).amin(-1)


def yarn_mscale(factor, mscale):
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def rope_tables(config, length):
    """cos and sin (length, rope/2), in float32 as transformers has them, and the softmax scale."""
    dim, base, yarn = config["qk_rope_head_dim"], float(config["rope_theta"]), config.get("rope_scaling")
    scale = (config["qk_nope_head_dim"] + dim) ** -0.5
    powers = base ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    frequency, amplitude = 1.0 / powers, 1.0
    if yarn and yarn["type"] == "longrope":
        frequency = 1.0 / (torch.tensor(yarn["short_factor"]) * powers)
    elif yarn:
        factor, original = yarn["factor"], yarn["original_max_position_embeddings"]

        def rotations_dim(rotations):
            return dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

        low = max(math.floor(rotations_dim(yarn["beta_fast"])), 0)
        high = min(math.ceil(rotations_dim(yarn["beta_slow"])), dim - 1)
        ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low or 0.001)).clamp(0, 1)
        frequency = 1.0 / (factor * powers) * ramp + frequency * (1 - ramp)
        all_dim = yarn_mscale(factor, yarn["mscale_all_dim"])
        amplitude = yarn.get("attention_factor", yarn_mscale(factor, yarn["mscale"]) / all_dim)
        scale *= all_dim * all_dim
    angle = torch.arange(length, dtype=torch.float32)[:, None] * frequency
    return angle.cos() * amplitude, angle.sin() * amplitude, scale


class Emulation:
    def __init__(self, config, values, forms, activations=None, dtype=torch.float32):
        self.c = config
        self.w = {name: x.to(dtype) for name, x in values.items()}
        self.forms = forms
        self.activations = activations
        self.dtype = dtype
        self.margin = None  # (tokens): the closest router decision of each token, over the layers; infinite without
        self.clearance = None  # (tokens): the closest element to a rounding boundary, when asked for
        self.chosen = None  # (tokens, tokens): what each attends to, by the last indexer; with sparse attention
        self.rows = None  # which tokens an expert's input holds

    def rounded(self, x):
        return x.to(torch.bfloat16).to(self.dtype) if self.activations == "bf16" else x

    def quantised(self, x, weight):
        if self.forms[weight] in ("fp8", "mxfp4"):
            if self.clearance is not None and self.activations in ("fp8", "fp8-ue8m0", "mxfp4"):
                rows = torch.arange(len(x)) if self.rows is None else self.rows
                self.clearance.scatter_reduce_(0, rows, clearance(x, self.activations), "amin")
            if self.activations == "mxfp4":
                return fake_mxfp4(x)
            if self.activations in ("fp8", "fp8-ue8m0"):
                return fake_fp8(x, self.activations == "fp8-ue8m0")
        return x

    def linear(self, x, weight):
        return self.rounded(self.quantised(x, weight) @ self.w[weight].T)

    def norm(self, x, weight, eps):
        return self.rounded(x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * self.w[weight])

    def rope(self, x, cos, sin, halves=False):
        if halves or self.c["model_type"] == "minicpm3":
            a, b = x.chunk(2, dim=-1)
            return self.rounded(torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1))
        even, odd = x[..., 0::2], x[..., 1::2]
        return self.rounded(torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2))

    def query_scale(self, tokens):
        """(tokens, 1): how queries grow with their position."""
        yarn = self.c.get("rope_scaling") or {}
        position = torch.arange(tokens, dtype=self.dtype)
        steps = torch.floor(position / yarn.get("original_max_position_embeddings", 1))
        return (1 + yarn.get("llama_4_scaling_beta", 0.0) * torch.log(1 + steps))[:, None]

    def choose(self, x, q_a, cos, sin, prefix):
        """What each token attends to: the index_topk tokens of the largest scores; notes how close the choice was."""
        c, tokens, rope = self.c, x.shape[0], self.c["qk_rope_head_dim"]
        heads, width, topk = c["index_n_heads"], c["index_head_dim"], min(c["index_topk"], x.shape[0])
        halves = not c.get("indexer_rope_interleave", False)
        q = self.linear(q_a, prefix + "wq_b.weight").view(tokens, heads, width)
        k = self.linear(x, prefix + "wk.weight")
        k = F.layer_norm(k, (width,), self.w[prefix + "k_norm.weight"], self.w[prefix + "k_norm.bias"], 1e-6)
        q = torch.cat([self.rope(q[..., :rope], cos[:, None], sin[:, None], halves), q[..., rope:]], dim=-1)
        k = self.rounded(torch.cat([self.rope(k[..., :rope], cos, sin, halves), k[..., rope:]], dim=-1))
        weights = x @ self.w[prefix + "weights_proj.weight"].T
        scores = torch.einsum("th,ths->ts", weights, torch.einsum("thd,sd->ths", q, k).relu())
        causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()
        order = scores.masked_fill(~causal, -torch.inf).sort(dim=-1, descending=True)
        if topk < tokens:
            spread = torch.stack([row[: t + 1].std() if t else row[0].abs() for t, row in enumerate(scores)])
            margin = (order.values[:, topk - 1] - order.values[:, topk]) / spread
            self.note_margin(torch.where(torch.arange(tokens) < topk, torch.inf, margin).to(self.dtype))
        return torch.zeros_like(causal).scatter(1, order.indices[:, :topk], True) & causal

    def attention(self, x, prefix):
        c, eps = self.c, 1e-6  # the latents' norms keep the class's default, whatever rms_norm_eps says
        tokens, heads = x.shape[0], c["num_attention_heads"]
        nope, rope, v, latent = (c[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
        cos, sin, scale = rope_tables(c, tokens)
        cos, sin = cos.to(self.dtype), sin.to(self.dtype)
        if c["q_lora_rank"] is None:
            q = self.linear(x, prefix + "q_proj.weight")
        else:
            q_a = self.norm(self.linear(x, prefix + "q_a_proj.weight"), prefix + "q_a_layernorm.weight", eps)
            q_a = self.rounded(q_a * self.query_scale(tokens))
            q = self.linear(q_a, prefix + "q_b_proj.weight")
        q = q.view(tokens, heads, nope + rope)
        if "index_topk" in c and own_indexer(c, int(prefix.split(".")[2])):
            self.chosen = self.choose(x, q_a, cos, sin, prefix + "indexer.")
        kv = self.linear(x, prefix + "kv_a_proj_with_mqa.weight")
        c_kv = self.norm(kv[:, :latent], prefix + "kv_a_layernorm.weight", eps)
        k_pe = self.rope(kv[:, latent:], cos, sin)
        q_pe = self.rope(q[..., nope:], cos[:, None], sin[:, None])

        kv_b = prefix + "kv_b_proj.weight"
        w_kc, w_vc = self.w[kv_b].view(heads, nope + v, latent).split([nope, v], dim=1)
        q_nope = self.quantised(q[..., :nope], kv_b)
        q_latent = self.rounded(torch.einsum("thn,hnl->thl", q_nope, w_kc))
        scores = (torch.einsum("thl,sl->hts", q_latent, c_kv) + torch.einsum("thr,sr->hts", q_pe, k_pe)) * scale
        scores = scores.masked_fill(torch.ones(tokens, tokens, dtype=torch.bool).triu(1), -torch.inf)
        if self.chosen is not None:
            scores = scores.masked_fill(~self.chosen, -torch.inf)
        out = self.rounded(torch.einsum("hts,sl->thl", scores.softmax(-1), c_kv))
        out = self.rounded(torch.einsum("thl,hvl->thv", self.quantised(out, kv_b), w_vc))
        return self.linear(out.reshape(tokens, heads * v), prefix + "o_proj.weight")

    def mlp(self, x, prefix):
        gate, up = self.linear(x, prefix + "gate_proj.weight"), self.linear(x, prefix + "up_proj.weight")
        return self.linear(self.rounded(F.silu(gate) * up), prefix + "down_proj.weight")

    def route(self, x, prefix):
        """(tokens, top_k) experts and weights; notes how close each token's decisions were."""
        c = self.c
        logits = x.to(self.dtype) @ self.w[prefix + "gate.weight"].T
        v2 = c["model_type"] == "deepseek_v2"
        scores = logits.softmax(-1) if v2 or c["model_type"] == "mistral4" else logits.sigmoid()
        biased = c["model_type"] not in UNBIASED
        choice = scores + self.w[prefix + "gate.e_score_correction_bias"] if biased else scores
        groups, kept, k = c["n_group"], c["topk_group"], c["num_experts_per_tok"]
        limited = not v2 or c["topk_method"] == "group_limited_greedy"
        if limited and kept < groups:
            grouped = choice.view(len(x), groups, -1)
            group_score = grouped.amax(-1) if v2 else grouped.topk(2, dim=-1)[0].sum(-1)
            order = group_score.sort(dim=-1, descending=True)
            self.note_margin(order.values[:, kept - 1] - order.values[:, kept])
            dropped = torch.ones_like(group_score, dtype=torch.bool).scatter(1, order.indices[:, :kept], False)
            choice = grouped.masked_fill(dropped[..., None], -torch.inf).flatten(1)
        order = choice.sort(dim=-1, descending=True)
        if k < choice.shape[1]:
            self.note_margin(order.values[:, k - 1] - order.values[:, k])
        experts = order.indices[:, :k]
        weights = scores.gather(1, experts)
        if not v2 and c["norm_topk_prob"]:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return experts, weights * c["routed_scaling_factor"]

    def note_margin(self, margin):
        self.margin = torch.minimum(self.margin, margin)

    def moe(self, x, prefix):
        experts, weights = self.route(x, prefix)
        out = self.mlp(x, prefix + "shared_experts.")
        for expert in range(self.c["n_routed_experts"]):
            rows, slots = torch.where(experts == expert)
            if len(rows):
                self.rows = rows
                part = self.mlp(x[rows], f"{prefix}experts.{expert}.") * weights[rows, slots, None]
                self.rows = None
                out = out.index_add(0, rows, part)
        return self.rounded(out)

    @torch.no_grad()
    def logits(self, tokens, watch_rounding=False):
        c = self.c
        self.margin = torch.full((len(tokens),), torch.inf, dtype=self.dtype)
        self.clearance = torch.full((len(tokens),), torch.inf) if watch_rounding else None
        x = self.w["model.embed_tokens.weight"][torch.as_tensor(tokens)] * c.get("scale_emb", 1)
        depth = math.sqrt(c["num_hidden_layers"])
        branch = c.get("scale_depth", depth) / depth
        head_scale = c.get("dim_model_base", c["hidden_size"]) / c["hidden_size"]
        for layer in range(c["num_hidden_layers"]):
            prefix = f"model.layers.{layer}."
            h = self.norm(x, prefix + "input_layernorm.weight", c["rms_norm_eps"])
            x = self.rounded(x + branch * self.attention(h, prefix + "self_attn."))
            h = self.norm(x, prefix + "post_attention_layernorm.weight", c["rms_norm_eps"])
            out = self.mlp(h, prefix + "mlp.") if layer < dense_layers(c) else self.moe(h, prefix + "mlp.")
            if c["model_type"] == "axk1" and layer >= dense_layers(c):
                out = self.norm(out, prefix + "post_mlp_layernorm.weight", c["rms_norm_eps"])
            x = self.rounded(x + branch * out)
        head = self.w["model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"]
        return head_scale * self.norm(x, "model.norm.weight", c["rms_norm_eps"]) @ head.T
