"""Every family of models: inspect, run without a tokenizer, dummy weights, and what is refused."""

import json
import shutil

import checkpoint_files as files
import numpy as np
import pytest
from conftest import MODELS, REPOSITORY, editable_copy, edit_config, run, run_logits

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
    ("minicpm3-4b", ["--layers", 2]), ("glm-4.7-flash", ["--layers", 2, "--experts", 8]),
    ("glm-5.2", ["--layers", 4, "--experts", 8, "--context", 3000])])
def test_dummy_weights_of_the_real_shape(name, cut):
    """Kernels for latents of 256 and 32 rotated dimensions, for heads of 192 + 64 and 256, and for a context beyond
    index_topk with a layer that shares its choice."""
    text = run("bench", "decode", "--dummy", REPOSITORY / "configs" / f"{name}.json", *cut,
               "--steps", 2, "--repeat", 1).stdout
    assert b"tokens/s" in text


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
        "quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}), QUANTIZATION, ["static"]),
    ("kimi-k25", lambda c: c["text_config"].update(quantization_config={
        "quant_method": "compressed-tensors", "format": "pack-quantized"}), QUANTIZATION, ["compressed-tensors"]),
    ("minicpm3", lambda c: c["rope_scaling"].update(original_max_position_embeddings=64), BAD_CONFIG, ["long_factor"]),
    ("minicpm3", lambda c: c["rope_scaling"].update(short_factor=[1.0]), BAD_CONFIG, ["short_factor", "6 numbers"]),
    ("minicpm3", lambda c: c.update(scale_depth=0), BAD_CONFIG, ["scale_depth", "a number from 1e-06"]),
    ("glm-lite", lambda c: c.update(attention_bias=True), BAD_CONFIG, ["attention_bias"]),
    ("glm-lite", lambda c: c.update(mlp_layer_types=["dense", "sparse", "dense"]), BAD_CONFIG, ["mlp_layer_types"]),
    ("sarvam", lambda c: c.update(score_function="softmax"), BAD_CONFIG, ["noaux_tc with softmax"]),
])
def test_configs_that_are_refused(name, change, status, words, tmp_path):
    folder = editable_copy(name, tmp_path / "model")
    edit_config(folder, change)
    expect(status, folder, words)


@pytest.mark.parametrize("change,status,words", [
    (lambda c: c.pop("kv_lora_rank"), ARCHITECTURE, ["params.json: kv_lora_rank", "latent attention"]),
    (lambda c: c.update(quantization={"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}), QUANTIZATION,
     ["params.json: quantization", "BF16"]),
    (lambda c: c.update(quantization_config={"quant_method": "compressed-tensors"}), QUANTIZATION,
     ["compressed-tensors"]),
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
