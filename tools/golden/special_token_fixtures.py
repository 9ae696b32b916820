#!/usr/bin/env python3
"""Makes tests/text/fixtures/special-tokens.json: what transformers makes of texts when the files beside tokenizer.json
name special tokens that it does not have, or does not call special.

Usage: special_token_fixtures.py [FIXTURES_FOLDER]; needs transformers. Reads the folder's variants-base.json.
"""

import json
import pathlib
import sys
import tempfile

from transformers import PreTrainedTokenizerFast

TEXTS = [
    "a<pad>b", "x <eot> y", "<|end|>", "q<tool> <|end|><|end|>  the", "<bos>a<eos>", "the quick <unk>brown", "<sep> s",
    "<role>x<other>", " the  the",
]  # fmt: skip


def token(content, **flags):
    return {"__type": "AddedToken", "content": content, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False} | flags  # fmt: skip


def cases(size):
    """(tokenizer_config.json, special_tokens_map.json, added tokens of tokenizer.json[, added_tokens.json])"""
    base = {"id": size, "content": "<eot>", "single_word": False, "lstrip": False, "rstrip": False}
    plain = [base | {"normalized": False, "special": False}]
    decoder = {str(size): {"content": "<|end|>", "special": True}, str(size + 1): {"content": "<tool>", "special": False}}
    return [
        ({}, None, []),
        ({"pad_token": "<pad>", "unk_token": "<unk>"}, None, []),
        ({"additional_special_tokens": ["<|end|>", "<tool>"]}, None, plain),
        ({"additional_special_tokens": [token("<|end|>", lstrip=True, special=True), "<tool>"], "pad_token": token("<pad>")}, None, []),
        ({"extra_special_tokens": {"role_token": "<role>"}}, None, []),
        ({"added_tokens_decoder": decoder, "sep_token": "<sep>"}, None, []),
        ({"added_tokens_decoder": decoder, "pad_token": "the"}, None, []),
        ({}, {"additional_special_tokens": ["<|end|>"], "pad_token": "<pad>", "sep_token": token("<sep>", rstrip=True)}, plain),
        ({"pad_token": "<|end|>"}, None, [], {"<|end|>": size + 1, "<tool>": size}),
    ]  # fmt: skip


def main():
    fixtures = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/text/fixtures")
    spec = json.loads((fixtures / "variants-base.json").read_text())
    results = []
    for config, names, added, *older in cases(len(spec["model"]["vocab"])):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            config = {"tokenizer_class": "PreTrainedTokenizerFast"} | config
            (folder / "tokenizer.json").write_text(json.dumps(spec | {"added_tokens": added}))
            (folder / "tokenizer_config.json").write_text(json.dumps(config))
            if names:
                (folder / "special_tokens_map.json").write_text(json.dumps(names))
            if older:
                (folder / "added_tokens.json").write_text(json.dumps(older[0]))
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        rows = []
        for text in TEXTS:
            ids = tokenizer.encode(text, add_special_tokens=False)
            shown = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            rows.append([text, ids, shown])
        case = {"config": config, "map": names, "added_tokens": added, "rows": rows}
        results.append(case | ({"older": older[0]} if older else {}))
    (fixtures / "special-tokens.json").write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
