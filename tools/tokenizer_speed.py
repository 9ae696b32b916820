#!/usr/bin/env python3
"""Times encoding by mxmla, tokenizers and tiktoken, in processor time of one thread, on one text with one vocabulary:

    python tools/tokenizer_speed.py build/bench/tokenizer_bench [FOLDER]

needs tokenizers, tiktoken and jinja2, and the bench binary of a build with -DMXMLA_BENCH=ON. The vocabulary (32000 tokens, split as
DeepSeek-V3's) is trained on the text, which is Python's own library and the paragraphs of tools/golden/text_corpus.py
in a dozen languages.
"""

import os
import pathlib
import random
import subprocess
import sys
import sysconfig
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "golden"))

import tiktoken  # noqa: E402
from text_corpus import CORPUS  # noqa: E402
from text_fixtures import V3_SPLITS, byte_level, regex_splits  # noqa: E402
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: E402


def make_text():
    rng = random.Random(1)
    files = sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py"))
    code = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)[:2_000_000]
    return code + " ".join(rng.choice(CORPUS) for _ in range(8000))[:800_000]


def train(text):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*regex_splits(V3_SPLITS), byte_level()])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=32000, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([text[i : i + 20000] for i in range(0, len(text), 20000)], trainer)
    return tokenizer


def as_tiktoken(tokenizer):
    """The same tokens as ranks; tiktoken splits by one expression, the last and longest of V3's."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spelt = {chr(b): b for b in printable}
    spelt |= {chr(0x100 + i): b for i, b in enumerate(b for b in range(256) if b not in printable)}
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    words = [bytes(spelt[c] for c in word) for word, _ in vocab]
    ranks = {bytes([b]): b for b in range(256)}
    for word in words:
        ranks.setdefault(word, len(ranks))
    return tiktoken.Encoding("bench", pat_str=V3_SPLITS[-1], mergeable_ranks=ranks, special_tokens={})


def speed(encode, text):
    size = len(text.encode()) / 1e6
    best = 0.0
    for _ in range(3):
        begin = time.thread_time()
        count = len(encode(text))
        best = max(best, size / (time.thread_time() - begin))
    return count, best


def main():
    text = make_text()
    tokenizer = train(text)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else scratch)
        folder.mkdir(exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "text.txt").write_text(text, encoding="utf-8", newline="")
        subprocess.run([sys.argv[1], folder, folder / "text.txt"], check=True)
    for name, encode in (("tokenizers", lambda t: tokenizer.encode(t).ids),
                         ("tiktoken", as_tiktoken(tokenizer).encode_ordinary)):
        count, megabytes = speed(encode, text)
        print(f"{name}: {count} tokens, {megabytes:.1f} MB/s a core (best of 3)")


if __name__ == "__main__":
    main()
