#!/usr/bin/env python3
"""Trains tiny-gsm within a wall-clock budget and writes its exported folders.

    python3 train.py --out OUTPUT --tokenizer FOLDER --seconds 470

The learning rate follows the clock, so the run always ends with a finished schedule.  In the
last part some steps see the layer matrices rounded to MXFP4 (straight-through), so that the
quantised weights answer as well as the unrounded ones.
"""

from __future__ import annotations

import argparse
import math
import os
import pathlib
import threading
import queue
import time

import torch

import export
import generate
from data import Stream
from evaluate import evaluate_all
from model import Config, TinyGsm, is_quantised
from mxfp4 import fake_quant


def log(*words) -> None:
    print(*words, flush=True)


class Masters:
    """The layer matrices in one flat buffer, so that rounding all of them is one operation."""

    def __init__(self, model: TinyGsm):
        chosen = [p for n, p in model.named_parameters() if is_quantised(n)]
        self.flat = torch.cat([p.data.flatten() for p in chosen])
        self.saved = torch.empty_like(self.flat)
        at = 0
        for p in chosen:
            p.data = self.flat[at: at + p.numel()].view(p.shape)
            at += p.numel()

    def round(self) -> None:
        self.saved.copy_(self.flat)
        self.flat.copy_(fake_quant(self.flat))

    def restore(self) -> None:
        self.flat.copy_(self.saved)


def prefetch(stream: Stream, device: torch.device, depth: int = 4) -> "queue.Queue":
    """Moves batches to the device from a thread."""
    ready: queue.Queue = queue.Queue(depth)

    def feed() -> None:
        while True:
            batch = [torch.from_numpy(x) for x in stream.next()]
            if device.type == "cuda":
                batch = [x.pin_memory().to(device, non_blocking=True) for x in batch]
            ready.put(batch)

    threading.Thread(target=feed, daemon=True).start()
    return ready


def schedule(progress: float, peak: float) -> float:
    """Linear warm-up over 2% of the time, then cosine to 2% of the peak."""
    if progress < 0.02:
        return peak * (progress / 0.02 + 0.02)
    x = min(1.0, (progress - 0.02) / 0.98)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * x)))


def optimizer(model: TinyGsm, lr: float, fused: bool) -> torch.optim.Optimizer:
    decay = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], lr=lr, betas=(0.9, 0.98), eps=1e-9, fused=fused)


def train(args, device: torch.device) -> TinyGsm:
    excluded = {generate.fingerprint(p.question) for p in generate.heldout()}
    excluded |= {generate.fingerprint(q) for q, _ in export.handwritten()}
    tokens = args.tokens
    shapes = [(max(1, tokens // t), t) for t in (88, 128, 232)]
    stream = Stream(args.tokenizer / "tokenizer.json", shapes, excluded, args.workers, args.seed)
    torch.manual_seed(args.seed)
    config = Config(num_hidden_layers=args.layers)
    model = TinyGsm(config)
    model.initialise(args.seed)
    model.to(device)
    log("parameters", sum(p.numel() for p in model.parameters()))
    masters = Masters(model)
    opt = optimizer(model, args.lr, device.type == "cuda")
    step_fn = torch.compile(model, dynamic=False) if args.compile else model
    batches = prefetch(stream, device)
    biases = torch.stack([l.mlp.bias for l in model.layers if l.sparse])
    for i, layer in enumerate(l for l in model.layers if l.sparse):
        layer.mlp.bias = biases[i]

    start, compiled_at, step, losses = time.time(), None, 0, []
    seen_shapes: set = set()
    while True:
        elapsed = time.time() - start
        if compiled_at is None and len(seen_shapes) == len(shapes) and step > 20:
            if device.type == "cuda":
                torch.cuda.synchronize()
            compiled_at = time.time() - start
        progress = elapsed / args.seconds
        if progress >= 1 or step == args.max_steps:
            break
        rounded = progress > args.qat_from and step % 4 != 0
        for group in opt.param_groups:
            group["lr"] = schedule(progress, args.lr)
        ids, targets = batches.get()
        seen_shapes.add(ids.shape)
        if rounded:
            masters.round()
        with torch.autocast(device.type, torch.bfloat16):
            loss, loads = step_fn(ids, targets)
        loss.backward()
        if rounded:
            masters.restore()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        # Loss-free balancing: an overloaded expert's score is lowered a little, for the choice only.
        rate = args.bias_rate if progress < 0.7 else args.bias_rate * 0.1
        biases += rate * torch.sign(loads.mean(-1, keepdim=True) - loads)
        losses.append(loss.detach())
        step += 1
        if step % args.log_every == 0:
            mean = torch.stack(losses).mean().item()
            losses = []
            share = (loads / loads.sum(-1, keepdim=True)).amax(-1)
            log(f"step {step} {time.time() - start:.0f}s loss {mean:.4f} norm {norm.item():.2f} samples {stream.samples} waiting {stream.queue.qsize()} "
                f"largest expert shares {[round(x, 3) for x in share.tolist()]}")
    if device.type == "cuda":
        torch.cuda.synchronize()
    log(f"trained {step} steps on {stream.samples} problems in {time.time() - start:.1f} s ({compiled_at or 0:.0f} s until all shapes were compiled)")
    stream.close()
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--tokenizer", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=470)
    parser.add_argument("--max-steps", type=int, default=10**9)
    parser.add_argument("--tokens", type=int, default=98304, help="tokens a step")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--qat-from", type=float, default=0.75)
    parser.add_argument("--bias-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--compile", type=int, default=1)
    parser.add_argument("--log-every", type=int, default=200)
    parser.add_argument("--eval-count", type=int, default=500)
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.cache_size_limit = 64
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = train(args, device)
    export.write_all(model, args.tokenizer, args.out)
    if args.eval_count:
        evaluate_all(args.out, args.eval_count, device)


if __name__ == "__main__":
    main()
