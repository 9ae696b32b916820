"""The DeepSeek-V3 architecture, arranged for fast training of a small model.

The function computed is that of transformers' DeepseekV3ForCausalLM (no YaRN), and
`published_state` gives the weights under their published per-expert names.  All routed
experts are evaluated for every token in two large products, which at this size is cheaper
than gathering tokens; the experts that the router did not choose get weight zero.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

from mxfp4 import fake_quant


@dataclass
class Config:
    vocab_size: int = 1536
    hidden_size: int = 256
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    q_lora_rank: int = 128
    kv_lora_rank: int = 512
    qk_nope_head_dim: int = 128
    qk_rope_head_dim: int = 64
    v_head_dim: int = 128
    intermediate_size: int = 512
    moe_intermediate_size: int = 128
    n_routed_experts: int = 8
    num_experts_per_tok: int = 2
    n_shared_experts: int = 1
    first_k_dense_replace: int = 1
    routed_scaling_factor: float = 1.5
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    max_position_embeddings: int = 1024

    def published(self) -> dict:
        """config.json in the spelling of the published DeepSeek-V3 checkpoints."""
        return {
            "architectures": ["DeepseekV3ForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 2,
            "ep_size": 1,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "model_type": "deepseek_v3",
            "moe_layer_freq": 1,
            "n_group": 1,
            "topk_group": 1,
            "topk_method": "noaux_tc",
            "scoring_func": "sigmoid",
            "norm_topk_prob": True,
            "num_key_value_heads": self.num_attention_heads,
            "num_nextn_predict_layers": 0,
            "rope_scaling": None,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            **asdict(self),
        }


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight.to(x.dtype) * y.to(x.dtype)


class Linear(nn.Linear):
    """A quantised matrix; `act_quant` also rounds its input to MXFP4 (W4A4 evaluation)."""

    act_quant = False

    def __init__(self, k: int, n: int):
        super().__init__(k, n, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(fake_quant(x) if self.act_quant else x, self.weight)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of interleaved pairs; the output has the two halves one after the other."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Attention(nn.Module):
    absorbed = False

    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.q_a_proj = Linear(c.hidden_size, c.q_lora_rank)
        self.q_a_layernorm = RMSNorm(c.q_lora_rank, 1e-6)
        self.q_b_proj = Linear(c.q_lora_rank, c.num_attention_heads * (c.qk_nope_head_dim + c.qk_rope_head_dim))
        self.kv_a_proj_with_mqa = Linear(c.hidden_size, c.kv_lora_rank + c.qk_rope_head_dim)
        self.kv_a_layernorm = RMSNorm(c.kv_lora_rank, 1e-6)
        self.kv_b_proj = Linear(c.kv_lora_rank, c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim))
        self.o_proj = Linear(c.num_attention_heads * c.v_head_dim, c.hidden_size)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        c, (b, t, _) = self.c, x.shape
        h, nope, rope, v_dim = c.num_attention_heads, c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim
        q = self.q_b_proj(self.q_a_layernorm(self.q_a_proj(x))).view(b, t, h, nope + rope).transpose(1, 2)
        latent, k_rope = self.kv_a_proj_with_mqa(x).split([c.kv_lora_rank, rope], -1)
        latent = self.kv_a_layernorm(latent)
        q_nope, q_rope = q.split([nope, rope], -1)
        q_rope = rotate(q_rope, cos, sin)
        k_rope = rotate(k_rope.view(b, 1, t, rope), cos, sin)
        if self.absorbed:
            return self.o_proj(self._absorbed(latent, k_rope, q_nope, q_rope))
        k_nope, v = self.kv_b_proj(latent).view(b, t, h, nope + v_dim).transpose(1, 2).split([nope, v_dim], -1)
        q = torch.cat([q_nope, q_rope], -1)
        k = torch.cat([k_nope, k_rope.expand(-1, h, -1, -1)], -1)
        # Fused attention kernels want one head size.
        v = F.pad(v, (0, nope + rope - v_dim))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)[..., :v_dim]
        return self.o_proj(y.transpose(1, 2).reshape(b, t, h * v_dim))

    def _absorbed(self, latent, k_rope, q_nope, q_rope) -> torch.Tensor:
        """Attention in the latent space, with the key and value halves of kv_b_proj as head products."""
        c, (b, t, _) = self.c, latent.shape
        h, nope = c.num_attention_heads, c.qk_nope_head_dim
        w = self.kv_b_proj.weight.view(h, nope + c.v_head_dim, c.kv_lora_rank)
        rounded = fake_quant if Linear.act_quant else (lambda z: z)
        q_latent = rounded(q_nope) @ w[:, :nope]
        keys = torch.cat([latent.unsqueeze(1), k_rope], -1)
        scale = (nope + c.qk_rope_head_dim) ** -0.5
        scores = (torch.cat([q_latent, q_rope], -1) @ keys.transpose(-1, -2)).float() * scale
        mask = torch.ones(t, t, dtype=torch.bool, device=latent.device).triu(1)
        probs = scores.masked_fill(mask, float("-inf")).softmax(-1).to(latent.dtype)
        y = rounded(probs @ latent.unsqueeze(1)) @ w[:, nope:].transpose(-1, -2)
        return y.transpose(1, 2).reshape(b, t, h * c.v_head_dim)


class MLP(nn.Module):
    def __init__(self, hidden: int, inner: int):
        super().__init__()
        self.gate_proj = Linear(hidden, inner)
        self.up_proj = Linear(hidden, inner)
        self.down_proj = Linear(inner, hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class MoE(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        e, d, i = c.n_routed_experts, c.hidden_size, c.moe_intermediate_size
        self.router = nn.Parameter(torch.empty(e, d))
        self.register_buffer("bias", torch.zeros(e))
        self.gate_proj = nn.Parameter(torch.empty(e, i, d))
        self.up_proj = nn.Parameter(torch.empty(e, i, d))
        self.down_proj = nn.Parameter(torch.empty(e, d, i))
        self.shared_experts = MLP(d, i * c.n_shared_experts)

    def route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights of all experts (zero unless chosen) and how often each was chosen."""
        with torch.autocast(x.device.type, enabled=False):
            scores = F.linear(x.float(), self.router.float()).sigmoid()
        chosen = (scores + self.bias).topk(self.c.num_experts_per_tok, -1).indices
        mask = torch.zeros_like(scores).scatter(-1, chosen, 1.0)
        weights = scores * mask
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-20) * self.c.routed_scaling_factor
        return weights, mask

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        e, i, d = self.gate_proj.shape
        weights, mask = self.route(x)
        rounded = fake_quant if Linear.act_quant else (lambda z: z)
        xs = rounded(x)
        inner = F.silu(F.linear(xs, self.gate_proj.view(e * i, d))) * F.linear(xs, self.up_proj.view(e * i, d))
        inner = inner.view(*x.shape[:-1], e, i)
        # The weight commutes with the product by down_proj, which lets one product do all experts.
        inner = rounded(inner) * weights.unsqueeze(-1).to(inner.dtype)
        y = F.linear(inner.flatten(-2), self.down_proj.permute(1, 0, 2).reshape(d, e * i))
        return y + self.shared_experts(x), mask.flatten(0, -2).sum(0)


class Layer(nn.Module):
    def __init__(self, c: Config, index: int):
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = Attention(c)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.sparse = index >= c.first_k_dense_replace
        self.mlp = MoE(c) if self.sparse else MLP(c.hidden_size, c.intermediate_size)

    def forward(self, x, cos, sin):
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        y = self.mlp(self.post_attention_layernorm(x))
        y, load = y if self.sparse else (y, None)
        return x + y, load


class TinyGsm(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c, i) for i in range(c.num_hidden_layers))
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.lm_head = nn.Linear(c.hidden_size, c.vocab_size, bias=False)
        half = torch.arange(0, c.qk_rope_head_dim, 2).float() / c.qk_rope_head_dim
        angles = torch.outer(torch.arange(c.max_position_embeddings).float(), 1.0 / c.rope_theta**half)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def initialise(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, p in self.named_parameters():
            if p.dim() < 2:
                continue
            std = p.shape[-1] ** -0.5
            if name.endswith(("o_proj.weight", "down_proj", "down_proj.weight")):
                std /= (2 * self.c.num_hidden_layers) ** 0.5
            elif "embed_tokens" in name:
                std = 0.3
            elif "lm_head" in name:
                std *= 0.5
            p.data.copy_(torch.randn(p.shape, generator=generator) * std)

    def hidden(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.embed_tokens(ids)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.bfloat16)
        cos, sin = self.cos[: ids.shape[1]].to(x.dtype), self.sin[: ids.shape[1]].to(x.dtype)
        loads = []
        for layer in self.layers:
            x, load = layer(x, cos, sin)
            if load is not None:
                loads.append(load)
        return self.norm(x), torch.stack(loads)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean loss over targets that are not -100, and the loads of the experts by layer."""
        x, loads = self.hidden(ids)
        logits = self.lm_head(x).float()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100), loads

    def published_state(self) -> dict[str, torch.Tensor]:
        state = {}
        for name, tensor in self.state_dict().items():
            if name.startswith("lm_head"):
                state[name] = tensor
                continue
            name = "model." + name
            stem, _, leaf = name.rpartition(".")
            if stem.endswith(".mlp") and leaf in ("gate_proj", "up_proj", "down_proj"):
                for e in range(tensor.shape[0]):
                    state[f"{stem}.experts.{e}.{leaf}.weight"] = tensor[e]
            elif stem.endswith(".mlp") and leaf == "router":
                state[f"{stem}.gate.weight"] = tensor
            elif stem.endswith(".mlp") and leaf == "bias":
                state[f"{stem}.gate.e_score_correction_bias"] = tensor
            else:
                state[name] = tensor
        return state

    def load_published(self, state: dict[str, torch.Tensor]) -> None:
        own = {}
        for name, tensor in self.state_dict().items():
            full = name if name.startswith("lm_head") else "model." + name
            stem, _, leaf = full.rpartition(".")
            if stem.endswith(".mlp") and leaf in ("gate_proj", "up_proj", "down_proj"):
                own[name] = torch.stack([state[f"{stem}.experts.{e}.{leaf}.weight"] for e in range(tensor.shape[0])])
            elif stem.endswith(".mlp") and leaf == "router":
                own[name] = state[f"{stem}.gate.weight"]
            elif stem.endswith(".mlp") and leaf == "bias":
                own[name] = state[f"{stem}.gate.e_score_correction_bias"]
            else:
                own[name] = state[full]
        self.load_state_dict({k: v.to(self.state_dict()[k].dtype) for k, v in own.items()})


QUANTISED = ("_proj.weight", "_proj_with_mqa.weight", "gate_proj", "up_proj", "down_proj")


def is_quantised(name: str) -> bool:
    """Whether the parameter is a layer matrix, stored as MXFP4 in the quantised folder."""
    return name.endswith(QUANTISED) and "layers." in name
