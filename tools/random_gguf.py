#!/usr/bin/env python3
"""Writes a GGUF file of a DeepSeek-V2 shape with random weights, MXFP4 but for a Q8_0 head and float32 norms and routers,
with which llama.cpp and its forks can be timed beside `mxmla bench --dummy` of the same config.json.

    pip install gguf
    tools/random_gguf.py configs/deepseek-v2-lite.json FILE
"""

import argparse
import json
import pathlib

import gguf
import numpy as np

PATTERN_BLOCKS = 1 << 16  # weights repeat themselves after this many blocks: no reader can tell


class RandomBlocks:
    def __init__(self, seed):
        random = np.random.default_rng(seed)
        codes = random.integers(0, 256, (PATTERN_BLOCKS, 16), dtype=np.uint8)
        scales = random.integers(118, 120, (PATTERN_BLOCKS, 1), dtype=np.uint8)  # sums of 2048 products stay near 1
        self.mxfp4 = np.concatenate([scales, codes], axis=1)
        values = random.integers(-127, 128, (PATTERN_BLOCKS, 32), dtype=np.int8).view(np.uint8)
        scale = np.full((PATTERN_BLOCKS, 1), 3e-4, np.float16).view(np.uint8)
        self.q8_0 = np.concatenate([scale, values], axis=1)
        self.random = random

    def matrix(self, blocks, *shape):
        """(..., n, k) of a type whose blocks hold 32 elements, as bytes."""
        rows, k = int(np.prod(shape[:-1])), shape[-1]
        count = rows * k // 32
        data = np.tile(blocks, (count // len(blocks) + 1, 1))[:count]
        return data.reshape(*shape[:-1], k // 32 * blocks.shape[1])


def metadata(writer, config):
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_attention_heads"])
    writer.add_key_length(config["qk_nope_head_dim"] + config["qk_rope_head_dim"])
    writer.add_value_length(config["v_head_dim"])
    writer.add_kv_lora_rank(config["kv_lora_rank"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(float(config["rope_theta"]))
    writer.add_rope_dimension_count(config["qk_rope_head_dim"])
    scaling = config["rope_scaling"]
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(float(scaling["factor"]))
    writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    writer.add_rope_scaling_yarn_log_mul(0.1 * scaling["mscale_all_dim"])
    writer.add_leading_dense_block_count(config["first_k_dense_replace"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    writer.add_expert_count(config["n_routed_experts"])
    writer.add_expert_used_count(config["num_experts_per_tok"])
    writer.add_expert_shared_count(config["n_shared_experts"])
    writer.add_expert_weights_scale(config["routed_scaling_factor"])
    writer.add_tokenizer_model("no_vocab")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=pathlib.Path)
    parser.add_argument("file", type=pathlib.Path)
    arguments = parser.parse_args()
    config = json.loads(arguments.config.read_text())
    blocks = RandomBlocks(1)
    writer = gguf.GGUFWriter(arguments.file, "deepseek2", use_temp_file=False)
    metadata(writer, config)
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    latent, rope = config["kv_lora_rank"], config["qk_rope_head_dim"]
    nope, value = config["qk_nope_head_dim"], config["v_head_dim"]
    tensors = []

    def add(name, kind, *shape):
        tensors.append((name, kind, shape))

    def feed_forward(layer, suffix, size):
        add(f"blk.{layer}.ffn_gate{suffix}.weight", "MXFP4", size, hidden)
        add(f"blk.{layer}.ffn_up{suffix}.weight", "MXFP4", size, hidden)
        add(f"blk.{layer}.ffn_down{suffix}.weight", "MXFP4", hidden, size)

    add("token_embd.weight", "Q8_0", config["vocab_size"], hidden)
    for i in range(config["num_hidden_layers"]):
        add(f"blk.{i}.attn_norm.weight", "F32", hidden)
        add(f"blk.{i}.ffn_norm.weight", "F32", hidden)
        add(f"blk.{i}.attn_kv_a_norm.weight", "F32", latent)
        add(f"blk.{i}.attn_q.weight", "MXFP4", heads * (nope + rope), hidden)
        add(f"blk.{i}.attn_kv_a_mqa.weight", "MXFP4", latent + rope, hidden)
        add(f"blk.{i}.attn_kv_b.weight", "MXFP4", heads * (nope + value), latent)
        add(f"blk.{i}.attn_output.weight", "MXFP4", hidden, heads * value)
        if i < config["first_k_dense_replace"]:
            feed_forward(i, "", config["intermediate_size"])
            continue
        experts, size = config["n_routed_experts"], config["moe_intermediate_size"]
        add(f"blk.{i}.ffn_gate_inp.weight", "F32", experts, hidden)
        add(f"blk.{i}.ffn_gate_exps.weight", "MXFP4", experts, size, hidden)
        add(f"blk.{i}.ffn_up_exps.weight", "MXFP4", experts, size, hidden)
        add(f"blk.{i}.ffn_down_exps.weight", "MXFP4", experts, hidden, size)
        feed_forward(i, "_shexp", config["n_shared_experts"] * size)
    add("output_norm.weight", "F32", hidden)
    add("output.weight", "Q8_0", config["vocab_size"], hidden)

    types = {"MXFP4": (gguf.GGMLQuantizationType.MXFP4, 17), "Q8_0": (gguf.GGMLQuantizationType.Q8_0, 34)}
    for name, kind, shape in tensors:
        if kind == "F32":
            writer.add_tensor_info(name, shape, np.dtype(np.float32), 4 * int(np.prod(shape)))
        else:
            stored = (*shape[:-1], shape[-1] // 32 * types[kind][1])
            writer.add_tensor_info(name, stored, np.dtype(np.uint8), int(np.prod(stored)), types[kind][0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for _, kind, shape in tensors:
        if kind == "F32":
            norm = 1 + 0.1 * blocks.random.standard_normal(shape) if len(shape) == 1 else blocks.random.standard_normal(
                shape) / np.sqrt(hidden)
            writer.write_tensor_data(norm.astype(np.float32))
        else:
            writer.write_tensor_data(blocks.matrix(blocks.mxfp4 if kind == "MXFP4" else blocks.q8_0, *shape))
    writer.close()


if __name__ == "__main__":
    main()
