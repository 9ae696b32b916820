"""The small checkpoints under tests/fixtures/models: each one's config and how its tensors are stored.

Configs are in the spelling of the published checkpoints (rope_theta, rope_scaling, torch_dtype). Dimensions are odd on
purpose: head counts of 3 and 5, latents that are no power of two, blocks with ragged edges.
"""

from dataclasses import dataclass, field


@dataclass
class Variant:
    name: str
    config: dict
    seed: int
    tokens: int = 48  # how many tokens the golden run reads
    every: int = 6  # the golden holds the rows 0, every, 2 * every, ...
    vocab_prefix: str = ""  # "language_model." for multimodal checkpoints
    attention: str = "bf16"  # storage of the attention's matrices: bf16, fp8 or mxfp4
    mlp: str = "bf16"  # storage of dense layers and shared experts
    experts: str = "bf16"
    shards: int = 1
    mtp: bool = False  # tensors of a multi-token-prediction layer lie in the files
    bias_dtype: str = "float32"  # of e_score_correction_bias
    exclude: list = field(default_factory=list)  # Quark's list of modules left in BF16
    activations: tuple = ()  # goldens with quantised activations
    router_margin: float = 0.015  # no router choice is closer than this to a tie
    spelling: dict = field(default_factory=dict)  # keys of `config` that the file spells otherwise or, None, lacks
    wrapper: str = ""  # model_type of a config.json whose text_config is `config`
    fused_experts: bool = False  # a layer's experts lie in one tensor a projection, as transformers 5 saves them
    mistral: bool = False  # Mistral's own names of tensors, and a params.json


def common(**dims):
    config = {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "first_k_dense_replace": 1,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "max_position_embeddings": 512,
        "moe_layer_freq": 1,
        "num_hidden_layers": 2,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 10000,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.40.0",
        "use_cache": True,
    }
    config.update(dims)
    config["num_key_value_heads"] = config["num_attention_heads"]
    return config


def v2(**dims):
    base = {
        "architectures": ["DeepseekV2ForCausalLM"],
        "aux_loss_alpha": 0.001,
        "model_type": "deepseek_v2",
        "norm_topk_prob": False,
        "scoring_func": "softmax",
        "seq_aux": True,
    }
    return common(**base, **dims)


def v3(**dims):
    base = {
        "architectures": ["DeepseekV3ForCausalLM"],
        "ep_size": 1,
        "model_type": "deepseek_v3",
        "norm_topk_prob": True,
        "num_nextn_predict_layers": 0,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
    }
    base.update(dims)
    return common(**base)


def kimi(**dims):
    base = {"model_type": "kimi_k2", "n_group": 1, "topk_group": 1, "routed_scaling_factor": 2.827}
    base.update(dims, rope_theta=50000.0)
    return v3(**base)


def yarn(factor, original, mscale=1.0, mscale_all_dim=1.0, beta_fast=32, beta_slow=1):
    return {
        "beta_fast": beta_fast,
        "beta_slow": beta_slow,
        "factor": factor,
        "mscale": mscale,
        "mscale_all_dim": mscale_all_dim,
        "original_max_position_embeddings": original,
        "type": "yarn",
    }


def glm(**dims):
    base = {
        "architectures": ["Glm4MoeLiteForCausalLM"],
        "eos_token_id": [1, 2],
        "model_type": "glm4_moe_lite",
        "n_group": 1,
        "norm_topk_prob": True,
        "num_nextn_predict_layers": 1,
        "partial_rotary_factor": 1.0,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1000000,
        "routed_scaling_factor": 1.8,
        "topk_group": 1,
        "topk_method": "noaux_tc",
    }
    return common(**{**base, **dims})


def sparse(index_topk, index_n_heads, index_head_dim, **dims):
    """DeepSeek-V3.2: V3 with an indexer."""
    base = {"architectures": ["DeepseekV32ForCausalLM"], "model_type": "deepseek_v32", "index_topk": index_topk,
            "index_n_heads": index_n_heads, "index_head_dim": index_head_dim}
    return v3(**{**base, **dims})


def dense(architecture, model_type, **dims):
    config = common(architectures=[architecture], model_type=model_type, **dims)
    for key in ("first_k_dense_replace", "moe_layer_freq"):
        del config[key]
    return config


def mistral4(**dims):
    base = {
        "architectures": ["Mistral4ForCausalLM"],
        "model_type": "mistral4",
        "n_group": 1,
        "norm_topk_prob": True,
        "rope_interleave": True,
        "routed_scaling_factor": 1.0,
        "sliding_window": None,
        "topk_group": 1,
    }
    return common(**{**base, **dims})


FP8_CONFIG = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": "fp8",
    "weight_block_size": [128, 128],
}


def quark_config(exclude):
    def tensor(dynamic):
        return {
            "ch_axis": -1,
            "dtype": "fp4",
            "group_size": 32,
            "is_dynamic": dynamic,
            "is_scale_quant": False,
            "mx_element_dtype": None,
            "observer_cls": "PerBlockMXObserver",
            "qscheme": "per_group",
            "round_method": "half_even",
            "scale_calculation_mode": "even",
            "scale_format": "e8m0",
            "scale_type": "float",
            "symmetric": None,
        }

    return {
        "algo_config": None,
        "exclude": exclude,
        "export": {
            "kv_cache_group": [],
            "min_kv_scale": 0.0,
            "pack_method": "reorder",
            "weight_format": "real_quantized",
            "weight_merge_groups": None,
        },
        "global_quant_config": {
            "bias": None,
            "input_tensors": tensor(True),
            "output_tensors": None,
            "target_device": None,
            "weight": tensor(False),
        },
        "kv_cache_quant_config": {},
        "layer_quant_config": {},
        "layer_type_quant_config": {},
        "quant_method": "quark",
        "quant_mode": "eager_mode",
    }


VARIANTS = [
    Variant(
        "v2-bf16",
        v2(
            vocab_size=64, hidden_size=36, intermediate_size=56, moe_intermediate_size=24, num_attention_heads=3,
            q_lora_rank=None, kv_lora_rank=96, qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=24,
            n_routed_experts=6, n_shared_experts=2, num_experts_per_tok=2, n_group=1, topk_group=1,
            topk_method="greedy", routed_scaling_factor=1.0,
        ),
        seed=11,
    ),
    Variant(
        # rms_norm_eps is far from 1e-6: the norms of the two latents do not use it.
        "v2-groups",
        v2(
            vocab_size=100, hidden_size=40, intermediate_size=40, moe_intermediate_size=16, num_attention_heads=2,
            q_lora_rank=24, kv_lora_rank=40, qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=24,
            n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=3, n_group=4, topk_group=2,
            topk_method="group_limited_greedy", routed_scaling_factor=16.0, rms_norm_eps=1e-3,
            rope_scaling=yarn(40, 16, 0.707, 0.707),
        ),
        seed=12,
        tokens=64,
        every=8,
        router_margin=0.008,
    ),
    Variant(
        "v3-bf16",
        v3(
            vocab_size=72, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_attention_heads=5,
            q_lora_rank=24, kv_lora_rank=160, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=12,
            n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=3, n_group=4, topk_group=2,
            routed_scaling_factor=2.5, num_nextn_predict_layers=1, rope_scaling=yarn(4, 32),
        ),
        seed=13,
        tokens=80,
        every=9,
        shards=3,
        mtp=True,
    ),
    Variant(
        "kimi-yarn",
        kimi(
            vocab_size=80, hidden_size=32, intermediate_size=32, moe_intermediate_size=32, num_attention_heads=2,
            q_lora_rank=32, kv_lora_rank=64, qk_nope_head_dim=32, qk_rope_head_dim=32, v_head_dim=32,
            n_routed_experts=6, n_shared_experts=1, num_experts_per_tok=2, rms_norm_eps=1e-5,
            max_position_embeddings=2048, rope_scaling=yarn(32.0, 64, beta_fast=4.0, beta_slow=1.0),
        ),
        seed=14,
        tokens=300,
        every=33,
    ),
    Variant(
        "kimi-k25",
        kimi(
            vocab_size=80, hidden_size=32, intermediate_size=32, moe_intermediate_size=16, num_attention_heads=2,
            q_lora_rank=16, kv_lora_rank=48, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16,
            n_routed_experts=5, n_shared_experts=1, num_experts_per_tok=2, num_hidden_layers=3,
            first_k_dense_replace=0,
            rope_scaling=yarn(64.0, 32, beta_fast=1.0, beta_slow=1.0),
        ),
        seed=15,
        vocab_prefix="language_model.",
        wrapper="kimi_k25",
    ),
    Variant(
        # (nope + v) = 56, so that a block of 128 rows of kv_b_proj ends inside a head.
        "v3-fp8",
        v3(
            vocab_size=48, hidden_size=136, intermediate_size=24, moe_intermediate_size=24, num_attention_heads=3,
            q_lora_rank=40, kv_lora_rank=136, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=24,
            n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, n_group=2, topk_group=1,
            routed_scaling_factor=2.5, rope_scaling=yarn(40, 16),
        ),
        seed=16,
        attention="fp8",
        mlp="fp8",
        experts="fp8",
        activations=("fp8", "fp8-ue8m0"),
    ),
    Variant(
        "v3-mxfp4",
        v3(
            vocab_size=80, hidden_size=64, intermediate_size=96, moe_intermediate_size=32, num_attention_heads=3,
            q_lora_rank=64, kv_lora_rank=96, qk_nope_head_dim=32, qk_rope_head_dim=16, v_head_dim=32,
            n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=2, n_group=2, topk_group=1,
            routed_scaling_factor=2.5, rope_scaling=yarn(40, 16),
        ),
        seed=17,
        attention="mxfp4",
        mlp="mxfp4",
        experts="mxfp4",
        bias_dtype="bfloat16",
        exclude=["lm_head", "model.layers.1.mlp.gate"],
        activations=("mxfp4", "fp8"),
    ),
    Variant(
        # The experts alone are quantised; no q_lora, as in smaller models of the family.
        "kimi-mxfp4",
        kimi(
            vocab_size=64, hidden_size=32, intermediate_size=64, moe_intermediate_size=32, num_attention_heads=3,
            q_lora_rank=None, kv_lora_rank=64, qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=32,
            n_routed_experts=10, n_shared_experts=1, num_experts_per_tok=3,
            rope_scaling=yarn(32.0, 16, beta_fast=1.0, beta_slow=1.0),
        ),
        seed=18,
        experts="mxfp4",
        exclude=["lm_head", "re:model\\.layers\\.\\d+\\.self_attn\\..*", "*.mlp.gate", "*shared_experts*",
                 "model.layers.0.mlp.*"],
        activations=("mxfp4",),
    ),
    Variant(
        "v3-real-dims",
        v3(
            vocab_size=48, hidden_size=32, intermediate_size=64, moe_intermediate_size=32, num_attention_heads=2,
            q_lora_rank=32, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128,
            n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, n_group=1, topk_group=1,
            routed_scaling_factor=2.5, rope_scaling=yarn(40, 4096), max_position_embeddings=4096,
        ),
        seed=19,
        tokens=72,
        every=10,
        attention="mxfp4",
        mlp="mxfp4",
        experts="mxfp4",
        exclude=["lm_head", "*.mlp.gate"],
        activations=("mxfp4",),
    ),
    Variant(
        # GLM-4.7-Flash: nope and v differ, in its ratio of 3 to 4; rms_norm_eps is not that of the latents' norms.
        "glm-lite",
        glm(
            vocab_size=64, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_attention_heads=3,
            q_lora_rank=24, kv_lora_rank=64, qk_nope_head_dim=24, qk_rope_head_dim=8, v_head_dim=32,
            n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=4, num_hidden_layers=3,
        ),
        seed=20,
        mtp=True,
    ),
    Variant(
        "glm-real-dims",
        glm(
            vocab_size=48, hidden_size=32, intermediate_size=32, moe_intermediate_size=32, num_attention_heads=2,
            q_lora_rank=32, kv_lora_rank=512, qk_nope_head_dim=192, qk_rope_head_dim=64, v_head_dim=256,
            n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, num_hidden_layers=1,
            num_nextn_predict_layers=0,
        ),
        seed=21,
        tokens=72,
        every=10,
        attention="mxfp4",
        exclude=["lm_head", "*.mlp.*"],
    ),
    Variant(
        # Moonlight's text in Kimi-VL's wrapper: no q_lora.
        "kimi-vl",
        v3(
            vocab_size=72, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_attention_heads=4,
            q_lora_rank=None, kv_lora_rank=64, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16,
            n_routed_experts=8, n_shared_experts=2, num_experts_per_tok=3, n_group=1, topk_group=1,
            routed_scaling_factor=2.446, rope_theta=800000.0, rms_norm_eps=1e-5,
        ),
        seed=22,
        vocab_prefix="language_model.",
        wrapper="kimi_vl",
    ),
    Variant(
        "gigachat3",
        v3(
            vocab_size=80, hidden_size=36, intermediate_size=64, moe_intermediate_size=24, num_attention_heads=3,
            q_lora_rank=None, kv_lora_rank=64, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=24,
            n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=4, n_group=1, topk_group=1,
            routed_scaling_factor=1.0, rope_theta=100000, num_nextn_predict_layers=1,
        ),
        seed=23,
        mtp=True,
    ),
    Variant(
        "youtu",
        dense(
            "YoutuForCausalLM", "youtu",
            vocab_size=96, hidden_size=48, intermediate_size=80, num_attention_heads=3,
            q_lora_rank=40, kv_lora_rank=64, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16,
            num_hidden_layers=2, rope_theta=1600000, rope_interleave=True, mlp_bias=False, tie_word_embeddings=True,
        ),
        seed=24,
    ),
    Variant(
        # v_head_dim is hidden / heads; the long factors are never reached.
        "minicpm3",
        dense(
            "MiniCPM3ForCausalLM", "minicpm3",
            vocab_size=88, hidden_size=60, intermediate_size=80, num_attention_heads=5,
            q_lora_rank=24, kv_lora_rank=40, qk_nope_head_dim=20, qk_rope_head_dim=12, v_head_dim=12,
            num_hidden_layers=3, rms_norm_eps=1e-5, scale_emb=12, scale_depth=1.4, dim_model_base=16,
            tie_word_embeddings=True,
            rope_scaling={"type": "longrope", "original_max_position_embeddings": 512,
                          "short_factor": [1.0, 1.05, 1.2, 1.5, 2.2, 3.0],
                          "long_factor": [1.0, 1.3, 2.0, 3.5, 6.0, 9.0]},
        ),
        seed=25,
        spelling={"v_head_dim": None},
        tokens=64,
        every=8,
    ),
    Variant(
        "sarvam",
        v3(
            architectures=["SarvamMLAForCausalLM"], model_type="sarvam_mla",
            vocab_size=72, hidden_size=36, intermediate_size=64, moe_intermediate_size=24, num_attention_heads=4,
            q_lora_rank=None, kv_lora_rank=64, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16,
            n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=3, n_group=1, topk_group=1,
            routed_scaling_factor=2.5, head_dim=72, q_head_dim=24,
            rope_scaling=dict(yarn(40, 16), type="deepseek_yarn"),
        ),
        seed=26,
        spelling={"n_routed_experts": "num_experts", "n_shared_experts": "num_shared_experts",
                  "scoring_func": "score_function"},
    ),
    Variant(
        # The first layer's post_mlp_layernorm is there and not used.
        "axk1",
        v3(
            architectures=["AXK1ForCausalLM"], model_type="axk1",
            vocab_size=80, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_attention_heads=4,
            q_lora_rank=24, kv_lora_rank=64, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16,
            n_routed_experts=8, n_shared_experts=1, num_experts_per_tok=3, n_group=4, topk_group=2,
            routed_scaling_factor=2.5, num_hidden_layers=3, rope_scaling=yarn(4, 32), topk_method="none",
        ),
        seed=27,
    ),
    Variant(
        # Queries grow at every eighth position.
        "mistral-small4",
        mistral4(
            vocab_size=72, hidden_size=32, intermediate_size=48, moe_intermediate_size=16, num_attention_heads=4,
            q_lora_rank=24, kv_lora_rank=48, qk_nope_head_dim=16, qk_rope_head_dim=16, v_head_dim=32,
            n_routed_experts=6, n_shared_experts=1, num_experts_per_tok=2, first_k_dense_replace=0,
            rope_scaling=dict(yarn(16, 8), llama_4_scaling_beta=0.4),
        ),
        seed=28,
        vocab_prefix="language_model.",
        wrapper="mistral3",
        fused_experts=True,
    ),
    Variant(
        # Rows see up to 60 tokens and attend to 16.
        "v32",
        sparse(
            16, 6, 20,
            vocab_size=48, hidden_size=24, intermediate_size=24, moe_intermediate_size=8, num_attention_heads=3,
            q_lora_rank=16, kv_lora_rank=40, qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=12,
            n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, n_group=2, topk_group=1,
            routed_scaling_factor=2.5, num_hidden_layers=2, rope_scaling=yarn(40, 16),
        ),
        seed=30,
        tokens=60,
        every=4,
    ),
    Variant(
        # Layer 2 shares the choice of layer 1.
        "glm-dsa",
        sparse(
            16, 4, 12,
            architectures=["GlmMoeDsaForCausalLM"], model_type="glm_moe_dsa", eos_token_id=[1, 2],
            vocab_size=40, hidden_size=20, intermediate_size=16, moe_intermediate_size=8, num_attention_heads=2,
            q_lora_rank=16, kv_lora_rank=28, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=12,
            n_routed_experts=3, n_shared_experts=1, num_experts_per_tok=2, n_group=1, topk_group=1,
            routed_scaling_factor=2.5, num_hidden_layers=4, first_k_dense_replace=3, rms_norm_eps=1e-5,
            rope_theta=8000000, index_topk_freq=2, index_skip_topk_offset=2, indexer_rope_interleave=True,
        ),
        seed=31,
        tokens=60,
        every=4,
    ),
    Variant(
        "mistral-large3",
        mistral4(
            vocab_size=72, hidden_size=40, intermediate_size=64, moe_intermediate_size=24, num_attention_heads=3,
            q_lora_rank=24, kv_lora_rank=64, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16,
            n_routed_experts=6, n_shared_experts=1, num_experts_per_tok=2,
            rope_scaling=dict(yarn(36, 8, mscale_all_dim=0), attention_factor=1.0, llama_4_scaling_beta=0.4),
        ),
        seed=29,
        shards=2,
        mistral=True,
    ),
]
