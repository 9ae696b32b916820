#!/usr/bin/env python3
"""Trains the byte-level BPE tokenizer of tiny-gsm and writes its Hugging Face files.

    python3 train_tokenizer.py OUTPUT_FOLDER

Digits are separate tokens, so that numbers can be computed digit by digit, and a newline is
never merged with its neighbours, so that a prompt ends at a token boundary with or without it.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from generate import problem

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
VOCAB_SIZE = 1536
MAX_LENGTH = 1024
SEED = 11


def corpus(count: int):
    rng = random.Random(SEED)
    for _ in range(count):
        p = problem(rng)
        yield f"Question: {p.question}\nAnswer: {p.solution}"


def build(count: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\p{N}"), "isolated"),
        pre_tokenizers.Split(Regex(r" ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s"), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE, special_tokens=[BOS, EOS, PAD], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(corpus(count), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))])
    return tokenizer


def write(tokenizer: Tokenizer, folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))

    def special(text: str) -> dict:
        return {"__type": "AddedToken", "content": text, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}

    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": special(BOS),
        "clean_up_tokenization_spaces": False,
        "eos_token": special(EOS),
        "model_max_length": MAX_LENGTH,
        "pad_token": special(PAD),
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def check(tokenizer: Tokenizer) -> None:
    for text in ("Tom’s naïve café — 12,345 × 6 = 74,070\n\n\t終わり 🙂", "a\r\nb  c", "".join(map(chr, range(1, 400)))):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids) == text, text
    rng = random.Random(SEED + 1)
    for _ in range(200):
        p = problem(rng)
        parts = ["Question: " + p.question, "\nAnswer:", " " + p.solution]
        whole = tokenizer.encode("".join(parts), add_special_tokens=False).ids
        assert whole == [i for part in parts for i in tokenizer.encode(part, add_special_tokens=False).ids]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=60_000)
    args = parser.parse_args()
    tokenizer = build(args.count)
    check(tokenizer)
    write(tokenizer, args.folder)
    print(f"{tokenizer.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
