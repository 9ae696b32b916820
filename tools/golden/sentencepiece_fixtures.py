#!/usr/bin/env python3
"""Writes tests/text/fixtures/sentencepiece.json and mistral-tekken.json: small tokenizers in the shapes of the published ones
that are not byte-level (and Mistral's), and what the reference libraries make of hard text.

    python tools/golden/sentencepiece_fixtures.py

needs tokenizers, sentencepiece (for a charsmap) and mistral-common. Deterministic.
"""

import base64
import json
import pathlib
import random
import tempfile

import sentencepiece
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from sentencepiece import sentencepiece_model_pb2
from text_corpus import CORPUS, hard_texts
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "tests" / "text" / "fixtures"
SPACE = "\u2581"
TEXTS = [
    "Hello, world!", "", " ", "  two  spaces ", "\n\ttab\r\n", "ﬁne ﬂat Ｆｕｌｌ ①②③ ½ Å e\u0301 \u0344 ㌖ ᾳ İI ẞ ǅ",
    "Z\u0351\u036b\u0343 a\u0315\u0300\u05ae\u0300b \u0f73\u0f71\u0f72", "한국어 \u1112\u1161\u11ab 각", "हिन्दी क़ क\u093c",
    "你好，世界！漢字かなカナ", "👨‍👩‍👧‍👦 🇫🇷 ❤️", "العربية ١٢٣", "ก็ ณ", "<s>a</s> <unk> [x] [X]", "▁under ▁▁ ▁",
    "\u00a0nbsp\u3000wide\u200bzero", "CamelCase it's 12345 3.14", "ab\u0000c\u007f\ufffd", "𠀀 𝒜 \U0010ffff",
    "Москва Ελληνικά Σσς", "a" * 40 + " " * 9 + "b" * 3, "\u1e9b\u0323 \u212b \u2126 \ufb2c \u1d15f",
    "\u32ff \u1e030 \U00011938 \U0001fbf0",
]  # fmt: skip


def words(count, rng):
    """Strings of characters of every script, many of them combining."""
    letters = "".join(TEXTS) + "".join(text.decode("utf-8", "ignore") for text in hard_texts(["<s>"])[:28])
    return ["".join(rng.choice(letters) for _ in range(rng.randint(1, 30))) for _ in range(count)]


def train(tokenizer, size, **more):
    options = {"vocab_size": size, "show_progress": False, "special_tokens": ["<unk>", "<s>", "</s>"], **more}
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(**options))
    return json.loads(tokenizer.to_str())


def with_bytes(spec):
    """The 256 bytes behind the special tokens, as SentencePiece numbers them."""
    vocab = sorted(spec["model"]["vocab"], key=spec["model"]["vocab"].get)
    named = vocab[:3] + [f"<0x{byte:02X}>" for byte in range(256)] + vocab[3:]
    spec["model"]["vocab"] = {token: i for i, token in enumerate(named)}
    spec["model"].update(byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    return spec


def llama():
    """MiniCPM3's and Llama 2's: all of it in the normalizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    # Learnt word by word, used without words.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never")
    spec = with_bytes(train(tokenizer, 360, limit_alphabet=60))
    spec["pre_tokenizer"] = None
    spec["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    return spec


def gemma():
    """Sarvam's and Gemma's: spaces stay with the word before."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    spec = with_bytes(train(tokenizer, 340, limit_alphabet=50, max_token_length=8))
    spec["model"]["fuse_unk"] = False
    spec["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]}
    return spec


def metaspace(fuses):
    """BPE with an unknown token, and a space in front of the first word only."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuses))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip(left=False, right=True)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="first")
    spec = train(tokenizer, 200, limit_alphabet=70)
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.add_tokens([AddedToken("[X]", normalized=True), AddedToken("Ａb", normalized=True),
                          AddedToken("[y]", normalized=False, single_word=True)])
    return json.loads(tokenizer.to_str())


RULES = [("41 42", "61"), ("FB01", "66 69"), ("FF21", "41"), ("E9", "65"), ("65 301", "65"), ("2460", "28 31 29"),
         ("3000", "20"), ("A0", "20"), ("200B", ""), ("D A", "A"), ("9", "20"), ("1112 1161 11AB", "D55C"), ("4F60", "59")]


def unigram(byte_fallback):
    """T5's and XLNet's: a charsmap of SentencePiece, and scores."""
    with tempfile.TemporaryDirectory() as folder:
        rules = pathlib.Path(folder) / "rules.tsv"
        rules.write_text("".join(f"{source}\t{target}\n" for source, target in RULES))
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS), model_prefix=f"{folder}/m", vocab_size=560 if byte_fallback else 300,
            character_coverage=0.98, model_type="unigram", normalization_rule_tsv=str(rules), minloglevel=2,
            byte_fallback=byte_fallback, num_threads=1, remove_extra_whitespaces=False)
        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString((pathlib.Path(folder) / "m.model").read_bytes())
    vocab = [(piece.piece, piece.score) for piece in proto.pieces]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=byte_fallback))
    steps = [normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)]
    if not byte_fallback:
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=not byte_fallback)
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    if byte_fallback:
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), tokenizer.decoder])
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    return json.loads(tokenizer.to_str())


def normalizer_cases(texts, charsmap):
    """Each normalizer on each text that it changes."""
    specs = [{"type": name} for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")]
    specs += [{"type": "Strip", "strip_left": left, "strip_right": not left} for left in (True, False)]
    specs += [{"type": "Replace", "pattern": {"Regex": "\\s+|[ab]"}, "content": "_"}, {"type": "Prepend", "prepend": "×"},
              {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}, {"type": "NFC"}]}, charsmap]
    shell = json.loads(Tokenizer(models.BPE()).to_str())
    cases = []
    for spec in specs:
        normalizer = Tokenizer.from_str(json.dumps(shell | {"normalizer": spec})).normalizer
        rows = [[text, normalizer.normalize_str(text)] for text in texts]
        cases.append({"normalizer": spec, "rows": [row for row in rows if row[0] != row[1]]})
    return cases


def tekken(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    spec = train(tokenizer, 330, special_tokens=[], initial_alphabet=alphabet)
    byte_of = {c: b for b, c in zip(list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100)),
                                    map(chr, list(range(0x21, 0x7F)) + list(range(0xA1, 0xAD)) + list(range(0xAE, 0x100))))}
    rest = iter(range(0x100, 0x200))
    byte_of.update({chr(next(rest)): b for b in range(256) if b not in set(byte_of.values())})
    ranks = [bytes([b]) for b in range(256)]
    for left, right in spec["model"]["merges"]:
        ranks.append(bytes(byte_of[c] for c in left + right))
    pattern = ("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
               "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}"
               "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+")
    named = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[THINK]"]
    file = {
        "config": {"pattern": pattern, "num_vocab_tokens": len(ranks), "default_vocab_size": len(ranks) + 12 - 20,
                   "default_num_special_tokens": 12, "version": "v11"},
        "vocab": [{"rank": i, "token_bytes": base64.b64encode(r).decode(), "token_str": None} for i, r in enumerate(ranks)],
        "special_tokens": [{"rank": i, "token_str": t, "is_control": True} for i, t in enumerate(named)],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "tekken.json"
        path.write_text(json.dumps(file))
        reference = Tekkenizer.from_file(path)
        rows = [[text, reference.encode(text, bos=False, eos=False)] for text in texts]
    return {"file": file, "rows": rows}


def write(name, value):
    path = FIXTURES / name
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(name, path.stat().st_size, "bytes")


def main():
    rng = random.Random(7)
    texts = TEXTS + words(8, rng)
    charsmap = unigram(False)["normalizer"]["normalizers"][0]
    tokenizers = {"llama": llama(), "gemma": gemma(), "metaspace": metaspace(False), "metaspace fused": metaspace(True),
                  "unigram": unigram(False), "unigram with bytes": unigram(True)}
    cases = []
    for name, spec in tokenizers.items():
        reference = Tokenizer.from_str(json.dumps(spec))
        rows = []
        for text in texts:
            ids = reference.encode(text, add_special_tokens=False).ids
            decoded = reference.decode(ids, skip_special_tokens=False)
            rows.append([ids, None if decoded == text else decoded])
        cases.append({"name": name, "tokenizer": spec, "rows": rows})
    write("sentencepiece.json", {"texts": texts, "cases": cases, "normalizers": normalizer_cases(texts, charsmap)})
    write("mistral-tekken.json", tekken(texts))


if __name__ == "__main__":
    main()
