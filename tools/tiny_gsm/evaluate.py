#!/usr/bin/env python3
"""Accuracy of the exported folders: greedy decoding on the held-out and hand-written problems.

    python3 evaluate.py MODELS_FOLDER [--count 500]

MODELS_FOLDER holds tiny-gsm-bf16 and tiny-gsm.  Weights are read from the folders (MXFP4 ones
dequantised), in bfloat16.  Forms: "wrapped" is `Question: Q\\nAnswer:`, "line" is `Q\\n`, "raw" is `Q`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import time

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer

from model import Attention, Config, Linear, TinyGsm
from mxfp4 import dequantize

FORMS = {"wrapped": "Question: {q}\nAnswer:", "line": "{q}\n", "raw": "{q}"}
MAX_NEW = 200


def load_model(folder: pathlib.Path, device: torch.device) -> TinyGsm:
    published = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = Config(**{f.name: published[f.name] for f in dataclasses.fields(Config)})
    raw = load_file(folder / "model.safetensors")
    state = {}
    for name, tensor in raw.items():
        if name.endswith(".weight_scale"):
            continue
        scales = raw.get(name + "_scale")
        state[name] = tensor if scales is None else dequantize(tensor, scales)
    model = TinyGsm(config)
    model.load_published(state)
    biases = [l.mlp.bias.clone() for l in model.layers if l.sparse]
    cos, sin = model.cos, model.sin
    model = model.to(device, torch.bfloat16).eval()
    # Biases and angles stay float32, as in the reference.
    model.cos, model.sin = cos.to(device), sin.to(device)
    for layer, bias in zip((l for l in model.layers if l.sparse), biases):
        layer.mlp.bias = bias.to(device)
    return model


@torch.no_grad()
def greedy(model: TinyGsm, prompts: list[list[int]], device: torch.device) -> list[list[int]]:
    """New tokens for each prompt; rows are padded on the right, which causal attention ignores."""
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    width = max(map(len, prompts)) + MAX_NEW
    ids = torch.full((len(prompts), width), 2, device=device)
    for i, p in enumerate(prompts):
        ids[i, : len(p)] = torch.tensor(p, device=device)
    done = torch.zeros(len(prompts), dtype=torch.bool, device=device)
    at, rows = lengths.clone(), torch.arange(len(prompts), device=device)
    for step in range(MAX_NEW):
        live = rows[~done]
        x, _ = model.hidden(ids[live, : int(at[live].max())])
        token = model.lm_head(x[torch.arange(len(live), device=device), at[live] - 1]).argmax(-1)
        ids[live, at[live]] = token
        at[live] += 1
        done[live] = token == 1
        if bool(done.all()):
            break
    return [ids[i, lengths[i]: at[i]].tolist() for i in range(len(prompts))]


def answer_of(text: str) -> str:
    return text.rsplit("#### ", 1)[1].strip().replace(",", "") if "#### " in text else ""


def accuracy(model: TinyGsm, tokenizer: Tokenizer, problems: list[tuple[str, str]], form: str, device: torch.device) -> tuple[float, list[str]]:
    prompts = [[0, *tokenizer.encode(FORMS[form].format(q=q), add_special_tokens=False).ids] for q, _ in problems]
    texts = [tokenizer.decode(out) for out in greedy(model, prompts, device)]
    right = sum(answer_of(t) == answer_of("#### " + a.rsplit("#### ", 1)[-1]) for t, (_, a) in zip(texts, problems))
    return right / len(problems), texts


def evaluate_all(models: pathlib.Path, count: int, device: torch.device) -> dict:
    from export import handwritten

    lines = (models / "tiny-gsm" / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    heldout = [(d["question"], d["answer"]) for d in map(json.loads, lines)]
    tokenizer = Tokenizer.from_file(str(models / "tiny-gsm" / "tokenizer.json"))
    report = {}
    for name in ("tiny-gsm-bf16", "tiny-gsm"):
        model = load_model(models / name, device)
        for form in FORMS:
            report[f"{name} {form}"], texts = accuracy(model, tokenizer, heldout, form, device)
            if form == "wrapped":
                for (q, a), t in zip(heldout, texts):
                    if answer_of(t) != answer_of(a):
                        print("WRONG", name, "|", q, "|", t.replace("\n", " / "), "| expected", answer_of(a), flush=True)
        for form in ("wrapped", "raw"):
            report[f"{name} handwritten {form}"], texts = accuracy(model, tokenizer, handwritten(), form, device)
            for (q, a), t in zip(handwritten(), texts):
                mark = "ok" if answer_of(t) == a else "NO"
                print("HAND", name, form, mark, "|", q, "|", t.replace("\n", " / "), "| expected", a, flush=True)
        if name == "tiny-gsm":
            Linear.act_quant = True
            report["tiny-gsm W4A4 wrapped"], _ = accuracy(model, tokenizer, heldout, "wrapped", device)
            Attention.absorbed = True
            report["tiny-gsm W4A4 absorbed wrapped"], _ = accuracy(model, tokenizer, heldout, "wrapped", device)
            Linear.act_quant = Attention.absorbed = False
    for key, value in report.items():
        print(f"{key}: {100 * value:.1f}%", flush=True)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=500)
    args = parser.parse_args()
    start = time.time()
    evaluate_all(args.models, args.count, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    print(f"{time.time() - start:.1f} s")


if __name__ == "__main__":
    main()
