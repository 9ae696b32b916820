"""Every family of models: inspect, run without a tokenizer, dummy weights, and what is refused."""

import json
import re
import shutil

import checkpoint_files as files
import numpy as np
import pytest
import quantized_checkpoints as quantized
from conftest import MODELS, REPOSITORY, editable_copy, edit_config, relative, run, run_logits

FIXTURES = sorted(folder.parent.name for folder in MODELS.glob("*/logits.npy"))
# Architecture and a line of the report, by fixture.
REPORTS = {
    "glm-lite": ("Glm4MoeLiteForCausalLM (glm4_moe_lite)", "q_lora 24, kv_lora 64, nope 24, rope 8, v 32"),
    "kimi-vl": ("KimiVLForConditionalGeneration (kimi_vl)", "8, top 3, 2 shared, router noaux_tc"),
    "youtu": ("YoutuForCausalLM (youtu)", "q_lora 40, kv_lora 64, nope 16, rope 8, v 16"),
    "minicpm3": ("MiniCPM3ForCausalLM (minicpm3)", "embedding 12, residual 0.80829, logits 0.266667"),
    "sarvam": ("SarvamMLAForCausalLM (sarvam_mla)", "q_lora none"),
    "axk1": ("AXK1ForCausalLM (axk1)", "8, top 3, 1 shared, router noaux_tc"),
    "mistral-small4": ("Mistral3ForConditionalGeneration (mistral3)", "router greedy"),
    "mistral-large3": ("MistralLarge3ForCausalLM (mistral_large3)", "1 + 0.4 ln(1 + floor(position / 8))"),
}
BAD_CONFIG, ARCHITECTURE, QUANTIZATION, TENSOR = 5, 6, 7, 9


@pytest.mark.parametrize("name", FIXTURES)
def test_inspect_and_run_by_tokens(name):
    """A folder without a tokenizer is looked at and run."""
    report = run("inspect", MODELS / name, "--check").stdout.decode()
    for line in REPORTS.get(name, ()):
        assert line in report
    tokens = json.loads((MODELS / name / "tokens.json").read_text())[:5]
    result = run("run", MODELS / name, "--tokens", ",".join(map(str, tokens)), "--max-tokens", 3, "--print-ids")
    assert 1 <= len(result.stdout.split()) <= 3


def test_tied_head_is_the_embedding(tmp_path):
    """A copy of the embedding as lm_head.weight gives the same logits; inspect counts it then."""
    folder = editable_copy("youtu", tmp_path / "untied")
    tensors = files.read(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    files.write(folder / "model.safetensors", tensors)
    tied = run_logits(MODELS / "youtu", tmp_path / "tied.npy", "--device", "ref")
    assert np.array_equal(tied, run_logits(folder, tmp_path / "untied.npy", "--device", "ref"))
    for model, counted in ((MODELS / "youtu", False), (folder, True)):
        output = tmp_path / "report.json"
        run("inspect", model, "--json", output)
        groups = {group["name"]: group["parameters"] for group in json.loads(output.read_text())["groups"]}
        assert (groups["head"] > 0) == counted


def test_text_parameters_at_the_root(tmp_path):
    """A wrapper's config may have them beside its other keys."""
    folder = editable_copy("kimi-k25", tmp_path / "flat")
    edit_config(folder, lambda config: config.update(
        {key: value for key, value in config.pop("text_config").items() if key not in ("architectures", "model_type")}))
    same = run_logits(MODELS / "kimi-k25", tmp_path / "a.npy", "--device", "ref")
    assert np.array_equal(same, run_logits(folder, tmp_path / "b.npy", "--device", "ref"))


def test_unused_norms_are_noted():
    notes = run("inspect", MODELS / "axk1").stderr.decode()
    assert "skipped 1 norms (model.layers.0.post_mlp_layernorm.weight)" in notes


def test_score_correction_bias_is_used_where_it_is(tmp_path):
    """A.X-K1's files hold none; zeros mean the same, other values do not."""
    folder = editable_copy("axk1", tmp_path / "biased")
    without = run_logits(folder, tmp_path / "without.npy", "--device", "ref")
    tensors = files.read(folder / "model.safetensors")
    for values, same in ((np.zeros(8), True), (np.arange(8) * 0.3, False)):
        for layer in (1, 2):
            name = f"model.layers.{layer}.mlp.gate.e_score_correction_bias"
            tensors[name] = files.Tensor("F32", (8,), values.astype(np.float32).tobytes())
        files.write(folder / "model.safetensors", tensors)
        found = run_logits(folder, tmp_path / "with.npy", "--device", "ref")
        assert np.array_equal(found, without) == same


def test_a_query_scale_begins_at_its_length(tmp_path):
    """Without it the first positions are the same, and later ones are not."""
    folder = editable_copy("mistral-large3", tmp_path / "flat")
    path = folder / "params.json"
    config = json.loads(path.read_text())
    del config["llama_4_scaling"]
    path.write_text(json.dumps(config))
    scaled = run_logits(MODELS / "mistral-large3", tmp_path / "a.npy", "--device", "ref")
    flat = run_logits(folder, tmp_path / "b.npy", "--device", "ref")
    assert np.array_equal(scaled[:8], flat[:8])
    assert (np.abs(scaled[8:] - flat[8:]).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("name,cut", [
    ("minicpm3-4b", ["--layers", 2]), ("youtu-llm-2b", ["--layers", 2]),
    ("moonlight-16b-a3b", ["--layers", 2, "--experts", 8]), ("glm-4.7-flash", ["--layers", 2, "--experts", 8]),
    ("glm-5.2", ["--layers", 4, "--experts", 8, "--context", 3000])])
def test_dummy_weights_of_the_real_shape(name, cut):
    """Kernels for latents of 256 and 32 rotated dimensions, for heads of 192 + 64 and 256, and for a context beyond
    index_topk with a layer that shares its choice."""
    text = run("bench", "decode", "--dummy", REPOSITORY / "configs" / f"{name}.json", *cut,
               "--steps", 2, "--repeat", 1).stdout
    assert b"tokens/s" in text


@pytest.mark.parametrize("name,bytes_a_token,indexers", [
    ("v32", 2 * (2 * (40 + 8) + 2 * 20), 2), ("glm-dsa", 2 * (4 * (28 + 8) + 3 * 12), 3)])
def test_inspect_counts_the_indexers_keys(name, bytes_a_token, indexers, tmp_path):
    output = tmp_path / "inspect.json"
    text = run("inspect", MODELS / name, "--json", output).stdout.decode()
    found = json.loads(output.read_text())
    assert found["kv_bytes_per_token"] == bytes_a_token and found["indexer_layers"] == indexers
    assert "indexer        top 16 of" in text
    assert [group["tensors"] for group in found["groups"] if group["name"] == "indexer"] == [3 * indexers]


@pytest.mark.parametrize("spelling", [
    {"indexer_types": ["full", "full", "shared", "full"]}, {"index_topk_pattern": "FFSF"}])
def test_indexers_may_be_spelt_out(spelling, tmp_path):
    folder = editable_copy("glm-dsa", tmp_path / "spelt")
    edit_config(folder, lambda config: config.update(index_topk_freq=1, **spelling))
    same = run_logits(MODELS / "glm-dsa", tmp_path / "a.npy", "--device", "ref")
    assert np.array_equal(same, run_logits(folder, tmp_path / "b.npy", "--device", "ref"))


def test_quantize_leaves_the_indexers_weights(tmp_path):
    run("quantize", MODELS / "v32", tmp_path / "dst", "--format", "mxfp4")
    assert run_logits(tmp_path / "dst", tmp_path / "a.npy", "--device", "cpu",
                      tokens=MODELS / "v32" / "tokens.json").shape[1] == 48


def expect(status, model, words):
    result = run("inspect", model, check=False)
    message = result.stderr.decode()
    assert result.returncode == status, message
    assert all(word in message for word in words), message


@pytest.mark.parametrize("architecture,words", [
    ("AXK2ForCausalLM", ["indexer"]), ("HYV4ForCausalLM", ["indexer"]),
    ("KimiLinearForCausalLM", ["linear attention"]), ("DeepseekV4ForCausalLM", ["not MLA"]),
    ("LongcatFlashForCausalLM", ["zero experts"])])
def test_relatives_are_refused_with_the_reason(architecture, words, tmp_path):
    folder = editable_copy("glm-lite", tmp_path / "model")
    edit_config(folder, lambda config: config.update(architectures=[architecture]))
    expect(ARCHITECTURE, folder, [architecture, *words])


@pytest.mark.parametrize("name,change,status,words", [
    ("mistral-small4", lambda c: c["text_config"].update(n_group=2), BAD_CONFIG, ["n_group", "expected 1"]),
    ("mistral-small4", lambda c: c["text_config"].update(model_type="mistral"), ARCHITECTURE, ["mistral4"]),
    ("mistral-small4", lambda c: c["text_config"]["rope_parameters"].update(partial_rotary_factor=1.0), BAD_CONFIG,
     ["partial_rotary_factor", "0.5"]),
    ("mistral-small4", lambda c: c["text_config"].update(sliding_window=128), BAD_CONFIG, ["sliding_window"]),
    ("mistral-small4", lambda c: c.update(quantization_config={
        "quant_method": "fp8", "activation_scheme": "static", "weight_block_size": [128, 128]}), QUANTIZATION,
     ["static"]),
    ("kimi-k25", lambda c: c["text_config"].update(quantization_config={
        "quant_method": "compressed-tensors", "format": "pack-quantized"}), QUANTIZATION, ["config_groups"]),
    ("minicpm3", lambda c: c["rope_scaling"].update(original_max_position_embeddings=64), BAD_CONFIG, ["long_factor"]),
    ("minicpm3", lambda c: c["rope_scaling"].update(short_factor=[1.0]), BAD_CONFIG, ["short_factor", "6 numbers"]),
    ("minicpm3", lambda c: c.update(scale_depth=0), BAD_CONFIG, ["scale_depth", "a number from 1e-06"]),
    ("glm-lite", lambda c: c.update(attention_bias=True), BAD_CONFIG, ["attention_bias"]),
    ("glm-lite", lambda c: c.update(mlp_layer_types=["dense", "sparse", "dense"]), BAD_CONFIG, ["mlp_layer_types"]),
    ("sarvam", lambda c: c.update(score_function="softmax"), BAD_CONFIG, ["noaux_tc with softmax"]),
    ("v32", lambda c: c.update(q_lora_rank=None), BAD_CONFIG, ["q_lora_rank", "indexer"]),
    ("v32", lambda c: c.update(index_head_dim=4), BAD_CONFIG, ["index_head_dim", "8 rotated"]),
    ("v32", lambda c: c.update(index_topk=0), BAD_CONFIG, ["index_topk"]),
    ("glm-dsa", lambda c: c.update(indexer_types=["shared"] + ["full"] * 3), BAD_CONFIG, ["indexer_types", "first layer"]),
    ("glm-dsa", lambda c: c.update(indexer_types=["full"] * 3), BAD_CONFIG, ["indexer_types", "the 4 layers"]),
    ("glm-dsa", lambda c: c.update(index_topk_pattern="FXSF"), BAD_CONFIG, ["index_topk_pattern", "F and S"]),
    ("glm-dsa", lambda c: c.update(index_skip_topk_offset=0), BAD_CONFIG, ["index_topk_freq", "first layer"]),
    ("glm-dsa", lambda c: c.update(index_topk_freq=3), TENSOR, ["layers.3.self_attn.indexer"]),
])
def test_configs_that_are_refused(name, change, status, words, tmp_path):
    folder = editable_copy(name, tmp_path / "model")
    edit_config(folder, change)
    expect(status, folder, words)


@pytest.mark.parametrize("change,status,words", [
    (lambda c: c.pop("kv_lora_rank"), ARCHITECTURE, ["params.json: kv_lora_rank", "latent attention"]),
    (lambda c: c.update(quantization={"qformat_weight": "int8", "qscheme_act": "TENSOR"}), QUANTIZATION,
     ["params.json: quantization", "BF16"]),
    (lambda c: c.update(quantization_config={"quant_method": "compressed-tensors"}), QUANTIZATION,
     ["config_groups"]),
    (lambda c: c.pop("n_heads"), BAD_CONFIG, ["params.json: n_heads"]),
    (lambda c: c["yarn"].pop("factor"), BAD_CONFIG, ["yarn.factor"]),
    (lambda c: c["moe"].update(num_expert_groups=2), BAD_CONFIG, ["n_group"]),
    (lambda c: c.update(q_lora_rank=None), BAD_CONFIG, ["q_lora_rank"]),
])
def test_params_that_are_refused(change, status, words, tmp_path):
    folder = editable_copy("mistral-large3", tmp_path / "model")
    path = folder / "params.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    expect(status, folder, words)


def test_mistrals_own_names_of_fp8(tmp_path):
    """qscale_weight and qscale_act beside FP8 matrices, as Mistral Large 3 and Small 4 come: the logits of the values."""
    stored = files.read_folder(MODELS / "mistral-large3")
    values, matrices = dict(stored), [name for name in stored if re.match(
        r"layers\.\d+\.(attention|feed_forward|shared_experts|experts\.\d+)\.w", name)]
    assert len(matrices) == 2 * 5 + 3 + 3 + 6 * 3
    for name in matrices:
        made = quantized.fp8_tensor(files.bf16_to_float(stored[name].array()), "scale", (), "BF16")
        module = name[: -len("weight")]
        stored.update({name: made["weight"], module + "qscale_weight": made["scale"],
                       module + "qscale_act": files.from_array("BF16", np.array(0x3C00, np.uint16))})
        scale = files.bf16_to_float(made["scale"].array())
        values[name] = files.from_array("F32", files.e4m3_table()[made["weight"].array()] * scale)
    logits = {}
    for kind, tensors in (("fp8", stored), ("values", values)):
        folder = editable_copy("mistral-large3", tmp_path / kind)
        for old in folder.glob("consolidated*"):
            old.unlink()
        files.write(folder / "consolidated.safetensors", tensors)
        if kind == "fp8":
            path = folder / "params.json"
            config = json.loads(path.read_text())
            config["quantization"] = {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}
            path.write_text(json.dumps(config))
            assert b"fp8-tensor" in run("inspect", folder, "--check", "--strict").stdout
        logits[kind] = run_logits(folder, tmp_path / "x.npy", "--device", "ref", tokens=folder / "tokens.json")
    assert relative(logits["fp8"], logits["values"]) <= 1e-5
    plain = run_logits(MODELS / "mistral-large3", tmp_path / "x.npy", "--device", "ref")
    assert relative(logits["fp8"], plain) > 1e-3  # not those of the weights in BF16


def test_quantize_wants_hugging_face_layout(tmp_path):
    result = run("quantize", MODELS / "mistral-large3", tmp_path / "dst", "--format", "mxfp4", check=False)
    assert result.returncode == 4 and b"params.json" in result.stderr
    assert not (tmp_path / "dst").exists()


def test_an_unknown_norm_is_not_skipped(tmp_path):
    """What one family does not use is still unexpected in another."""
    folder = tmp_path / "model"
    shutil.copytree(MODELS / "axk1", folder)
    edit_config(folder, lambda config: config.update(architectures=["DeepseekV3ForCausalLM"], topk_method="noaux_tc"))
    expect(TENSOR, folder, ["e_score_correction_bias"])
