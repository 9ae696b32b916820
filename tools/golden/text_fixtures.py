#!/usr/bin/env python3
"""Makes tests/text/fixtures: small tokenizers with the structure of the published ones, and what the reference
libraries (tokenizers, tiktoken, chat templates as transformers renders them) make of hard text.

Usage: text_fixtures.py [OUTPUT_FOLDER]; needs tokenizers, tiktoken and jinja2. Deterministic.
"""

import base64
import json
import pathlib
import random
import sys

import jinja2.ext
import jinja2.sandbox
import tiktoken
from text_corpus import CORPUS, hard_texts
from text_templates import TEMPLATES
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

V2_LETTERS = (
    "\\s?[A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-"
    "\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec"
    "\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-"
    "\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3"
    "\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17"
    "\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-"
    "\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943]+"
)
V2_SPLITS = ["[\r\n]", V2_LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", "[一-龥ࠀ-一가-퟿]+"]
V3_SPLITS = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
]
KIMI_PATTERN = "|".join(
    [
        r"[\p{Han}]+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
V3_MARKS = ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "<｜tool▁calls▁begin｜>", "<|EOT|>"]
KIMI_NAMED = [
    "[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>", "<|im_assistant|>", "<|start_header_id|>", "<|end_header_id|>",
    "[EOT]", "<|im_system|>", "<|tool_calls_section_begin|>", "<|im_middle|>",
]  # fmt: skip
KIMI_NOT_SPECIAL = {"<|tool_calls_section_begin|>"}


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def regex_splits(patterns):
    return [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]


def byte_level():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def train(splits, size, initial):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits + [byte_level()])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=alphabet, special_tokens=initial, show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def config_of(template, **more):
    token = lambda content: {"__type": "AddedToken", "content": content, "normalized": True}
    config = {
        "add_bos_token": True, "add_eos_token": False, "bos_token": token(BOS), "eos_token": token(EOS),
        "tokenizer_class": "LlamaTokenizerFast", "chat_template": template,
    }  # fmt: skip
    return config | more


def cases_of(encode, decode, texts, prefix):
    """Each case: the input's bytes, the ids without and with the tokens around, and the decoded text."""
    cases = []
    for raw in texts:
        text = raw.decode("utf-8", errors="replace")
        ids = encode(text)
        cases.append([raw.hex() if raw != text.encode() else text, raw != text.encode(), ids, decode(ids)])
    return {"prefix": prefix, "cases": cases}


def hf_cases(tokenizer, texts, prefix):
    return cases_of(
        lambda t: tokenizer.encode(t, add_special_tokens=False).ids,
        lambda ids: tokenizer.decode(ids, skip_special_tokens=False),
        texts,
        prefix,
    )


CONVERSATIONS = [
    [("user", "Hello, 世界!")],
    [("system", "Be brief."), ("user", "What is 12345 + 678?\n")],
    [("user", "Hi"), ("assistant", "Hello."), ("user", "  And now?  \n\n")],
    [("system", "A."), ("system", "B\n"), ("user", "x"), ("assistant", "<think>\nno\n</think>\n\nyes"), ("user", "y")],
    [("user", "x"), ("assistant", "a</think>b</think>c"), ("assistant", "again")],
    [("user", "one"), ("user", "two"), ("system", "late"), ("assistant", "three")],
    [("assistant", "first"), ("user", "")],
    [("system", "only")],
]


def chat_cases(template, encode):
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    compiled = environment.from_string(template)
    cases = []
    for conversation in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in conversation]
        for prompt in (False, True):
            rendered = compiled.render(
                messages=messages, add_generation_prompt=prompt, bos_token=BOS, eos_token=EOS, tools=None
            )
            # Contents that spell out a token are encoded as text by mxmla, so only the rendering compares.
            is_plain = not any("think>" in content for _, content in conversation)
            ids = encode(rendered) if is_plain else None
            cases.append({"messages": messages, "prompt": prompt, "text": rendered, "ids": ids})
    return cases


def make_v2(out):
    folder = out / "deepseek-v2"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train(regex_splits(V2_SPLITS) + [pre_tokenizers.Digits(individual_digits=True)], 1400, [])
    tokenizer.add_special_tokens([AddedToken(t, normalized=True, special=True) for t in (BOS, EOS)])
    spec = json.loads(tokenizer.to_str())
    # As the published file spells them.
    spec["model"]["merges"] = [" ".join(m) if not isinstance(m, str) else m for m in spec["model"]["merges"]]
    write_json(folder / "tokenizer.json", spec)
    write_json(folder / "tokenizer_config.json", config_of(TEMPLATES["deepseek-v2"]))
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    write_json(folder / "cases.json", hf_cases(reference, hard_texts([BOS, EOS]), [reference.token_to_id(BOS)]))
    encode = lambda t: reference.encode(t, add_special_tokens=False).ids
    write_json(folder / "chat.json", {"deepseek-v2": chat_cases(TEMPLATES["deepseek-v2"], encode)})


def make_v3(out):
    folder = out / "deepseek-v3"
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train(regex_splits(V3_SPLITS), 1400, [BOS, EOS])
    tokenizer.add_special_tokens(["<｜place▁holder▁no▁0｜>", "<｜place▁holder▁no▁01｜>"])
    tokenizer.add_tokens([AddedToken(t, normalized=True, special=False) for t in V3_MARKS])
    write_json(folder / "tokenizer.json", json.loads(tokenizer.to_str()))
    write_json(folder / "tokenizer_config.json", config_of(TEMPLATES["deepseek-v3"]))
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = hard_texts([BOS, EOS, "<｜place▁holder▁no▁01｜>"] + V3_MARKS)
    write_json(folder / "cases.json", hf_cases(reference, texts, [reference.token_to_id(BOS)]))
    encode = lambda t: reference.encode(t, add_special_tokens=False).ids
    chats = {n: chat_cases(t, encode) for n, t in TEMPLATES.items() if n.startswith("deepseek") and n != "deepseek-v2"}
    write_json(folder / "chat.json", chats)


def make_kimi(out):
    folder = out / "kimi-k2"
    folder.mkdir(parents=True, exist_ok=True)
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Sequence(regex_splits([KIMI_PATTERN]) + [byte_level()])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trained.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=1400, initial_alphabet=alphabet, show_progress=False, min_frequency=2)
    )
    spell = {c: b for b, c in byte_alphabet().items()}
    by_id = sorted(trained.get_vocab().items(), key=lambda item: item[1])
    ranks = {bytes(spell[c] for c in token): rank for rank, (token, _) in enumerate(by_id)}
    (folder / "tiktoken.model").write_bytes(
        b"".join(base64.b64encode(token) + b" " + str(rank).encode() + b"\n" for token, rank in ranks.items())
    )
    first = len(ranks)
    named = {first + i: t for i, t in enumerate(KIMI_NAMED)} | {first + 254: "[UNK]", first + 255: "[PAD]"}
    write_json(
        folder / "tokenizer_config.json",
        {
            "added_tokens_decoder": {
                str(i): {"content": t, "special": t not in KIMI_NOT_SPECIAL} for i, t in named.items()
            },
            "bos_token": "[BOS]", "eos_token": "[EOS]", "tokenizer_class": "TikTokenTokenizer",
            "chat_template": TEMPLATES["kimi-k2"],
        },
    )  # fmt: skip
    special = {named.get(i, f"<|reserved_token_{i}|>"): i for i in range(first, first + 256)}
    encoding = tiktoken.Encoding("kimi", pat_str=KIMI_PATTERN, mergeable_ranks=ranks, special_tokens=special)
    encode = lambda t: kimi_encode(encoding, t)
    texts = hard_texts(KIMI_NAMED + [f"<|reserved_token_{first + 20}|>"])
    write_json(folder / "cases.json", cases_of(encode, encoding.decode, texts, []))
    chats = {n: chat_cases(t, encode) for n, t in TEMPLATES.items() if n.startswith("kimi")}
    write_json(folder / "chat.json", chats)
    long_texts = [["a", 60000], [" ", 30000], ["中", 26000], ["ab c\n", 90000], ["né ", 150000], ["\x1c", 25001]]
    cases = []
    for unit, count in long_texts:
        ids = encode(unit * count)
        total = 0
        for i in ids:
            total = (total * 1000003 + i) % (1 << 32)
        cases.append({"unit": unit, "count": count, "ids": len(ids), "hash": total})
    write_json(folder / "long.json", cases)


def kimi_encode(encoding, text):
    """The text in parts: of 400000 characters, and cut where a run of (non-)space passes 25000."""
    ids = []
    for start in range(0, max(len(text), 1), 400_000):
        chunk = text[start : start + 400_000]
        begin = run = 0
        was_space = None
        for i, c in enumerate(chunk):
            run = run + 1 if c.isspace() == was_space else 1
            was_space = c.isspace()
            if run > 25_000:
                ids += encoding.encode(chunk[begin:i], allowed_special="all")
                begin, run = i, 1
        ids += encoding.encode(chunk[begin:], allowed_special="all")
    return ids


def byte_alphabet():
    """byte -> character of the byte-level alphabet"""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {b: chr(b) for b in printable} | {b: chr(0x100 + i) for i, b in enumerate(others)}


def make_variants(out):
    """Small tokenizers for what the published ones leave out: behaviors of Split, flags of added tokens, templates."""
    base = Tokenizer(models.BPE())
    base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    base.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    base.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False, min_frequency=2)
    )
    spec = json.loads(base.to_str())
    write_json(out / "variants-base.json", spec)
    byte_step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    split = lambda pattern, behavior, invert=False: {
        "type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert
    }  # fmt: skip
    patches = []
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            for pattern in ({"Regex": r"[\s,]"}, {"String": "a"}):
                steps = {"type": "Sequence", "pretokenizers": [split(pattern, behavior, invert), byte_step]}
                patches.append({"pre_tokenizer": steps})
    patches.append({"pre_tokenizer": byte_step | {"add_prefix_space": True}})
    patches.append({"pre_tokenizer": byte_step | {"add_prefix_space": True, "use_regex": True}})
    patches.append({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        split({"Regex": r"\n|^x|y$|\d{2}|[a-f&&[^bc]]+|\bword\b|\h+G|\p{Greek}+|[^\S\n]{,2}!"}, "Isolated"),
        {"type": "Digits", "individual_digits": False},
        byte_step | {"add_prefix_space": True, "use_regex": True}]}})  # fmt: skip
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    first = len(spec["model"]["vocab"])
    added = [
        ("<a>", ""), ("<ab>", "lstrip"), ("<a><b", "rstrip"), ("word", "single_word"), ("wor", "single_word normalized"),
        ("中文", "lstrip rstrip normalized"), ("<S>", "special lstrip rstrip single_word"), ("\u0120\u0120x", "normalized"),
        ("x y", "special normalized"),
    ]  # fmt: skip
    tokens = [
        {"id": first + i, "content": content} | {flag: flag in on.split() for flag in flags}
        for i, (content, on) in enumerate(added)
    ]
    patches.append({"added_tokens": tokens})
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<a>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "two", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<a>": {"id": "<a>", "ids": [first], "tokens": ["<a>"]},
                           "two": {"id": "two", "ids": [5, 6], "tokens": ["x", "y"]}},
    }  # fmt: skip
    processor = {"type": "Sequence", "processors": [spec["post_processor"] or byte_step, template]}
    patches.append({"added_tokens": tokens, "post_processor": processor})
    patches.append({"model": {"ignore_merges": True}})
    texts = [
        "", "a", ",a,,b a  a", "banana, and, apple", "aaa", "x\nxy\ny abcdef deadbeefG word words 1234 αβγ  !!",
        "<a><ab> <a><b  <a>b  <ab  >", "word words sword, word. wor worx wor\u0301 w\u200dword", "x 中文 y\u3000中文\u00a0中文。",
        " <S> x<S> <S>y, <S>  <S>", "\u0120\u0120\u0120x yx y x  y", "the quick 世界 <a>", "Ünï 12345 ²Ⅷ٣ ١٢", "\u180e \x85y\u2028\u2029 ,",
        "a\r\n b\n\n\n c", "word",
    ]  # fmt: skip
    results = []
    for patch in patches:
        one = spec | {k: v for k, v in patch.items() if k != "model"}
        one["model"] = spec["model"] | patch.get("model", {})
        reference = Tokenizer.from_str(json.dumps(one))
        rows = [
            [t, reference.encode(t, add_special_tokens=False).ids, reference.encode(t, add_special_tokens=True).ids,
             reference.decode(reference.encode(t).ids, skip_special_tokens=True)]
            for t in texts
        ]  # fmt: skip
        results.append({"patch": patch, "rows": rows})
    write_json(out / "variants.json", results)


def main():
    default = pathlib.Path(__file__).resolve().parents[2] / "tests" / "text" / "fixtures"
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    out.mkdir(parents=True, exist_ok=True)
    random.seed(0)
    make_v2(out)
    make_v3(out)
    make_kimi(out)
    make_variants(out)
    write_json(out / "templates.json", TEMPLATES)


if __name__ == "__main__":
    main()
