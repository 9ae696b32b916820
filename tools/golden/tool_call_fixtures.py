#!/usr/bin/env python3
"""Writes tests/text/fixtures/tool_calls.json: what chat templates as published with models write for an assistant's
turn with calls, rendered by jinja2 as transformers sets it up. Needs transformers.

    tools/golden/tool_call_fixtures.py FOLDER_OF_TEMPLATES

The templates themselves are the models'; the fixture holds turns only.
"""

import json
import sys
from pathlib import Path

import jinja2.sandbox
from transformers.utils.chat_template_utils import _compile_jinja_template

OUTPUT = Path(__file__).resolve().parents[2] / "tests" / "text" / "fixtures" / "tool_calls.json"
QUESTION = "What is it?"
# File, format, form of the arguments, what comes between the question and the turn, what ends the turn, whether
# thoughts are written.
TEMPLATES = [
    ("deepseek-ai-DeepSeek-V3.1", "deepseek_v31", dict, ["<｜Assistant｜><think></think>"], "<｜end▁of▁sentence｜>", False),
    ("deepseek-ai-DeepSeek-V3.2", "deepseek_v32", dict, ["<｜Assistant｜><think>", "<｜Assistant｜></think>"],
     "<｜end▁of▁sentence｜>", True),
    ("llama-cpp-deepseek-r1", "deepseek_v3", dict, ["<｜end▁of▁sentence｜><｜Assistant｜>"], "<｜end▁of▁sentence｜>", False),
    ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "deepseek_v3", str, ["<｜Assistant｜>"], "<｜end▁of▁sentence｜>", False),
    ("Kimi-K2-Thinking", "kimi_k2", dict, ["<|im_end|><|im_assistant|>assistant<|im_middle|>"], "<|im_end|>", True),
    ("moonshotai-Kimi-K2", "kimi_k2", dict, ["<|im_end|><|im_assistant|>assistant<|im_middle|>"], "<|im_end|>", False),
    ("GLM-4.6", "glm47", dict, ["<|assistant|>"], "", True),
    ("GLM-4.7-Flash", "glm47", dict, ["<|assistant|>"], "", True),
    ("Mistral-Small-3.2-24B-Instruct-2506", "mistral", dict, ["[/INST]"], "</s>", False),
    ("mistralai-Ministral-3-14B-Reasoning-2512", "mistral", dict, ["[/INST]"], "</s>", False),
    ("mistralai-Mistral-Nemo-Instruct-2407", "mistral", dict, ["[/INST]"], "</s>", False),
]  # fmt: skip
ARGUMENTS = [
    [{"place": "Zürich", "days": 3}],
    [{}],
    [{"text": "line one\nline two\t\"quoted\" \\ back <b> & </arg_value] }{ ```", "flag": True, "nothing": None}],
    [{"place": "北京 🌦", "scale": 1.5, "deep": {"a": [1, -2, 3.25, "x"], "b": {}}}, {"number": "12", "list": []}],
    [{"k": "a"}, {"k": ""}, {"k": " b "}],
]
SCHEMAS = {
    "lookup": {
        "type": "object",
        "properties": {
            "place": {"type": "string"}, "text": {"type": "string"}, "number": {"type": "string"}, "k": {"type": "string"},
            "days": {"type": "integer"}, "scale": {"type": ["number", "null"]},
            "flag": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        },
    }
}  # fmt: skip


def compiled(source):
    template = _compile_jinja_template(source)
    if ".append(" not in source:
        return template
    # Kimi's templates append to a list, which transformers' sandbox refuses.
    settings = template.environment
    mutable = jinja2.sandbox.SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    mutable.filters["tojson"] = settings.filters["tojson"]
    return mutable.from_string(source)


def turn(name, form, begins, end, thinks, contents, arguments, thought):
    source = (Path(sys.argv[1]) / f"{name}.jinja").read_text()
    calls = [
        {"id": f"abcdefgh{i}", "type": "function",
         "function": {"name": "lookup", "arguments": json.dumps(a, ensure_ascii=False) if form is str else a}}
        for i, a in enumerate(arguments)
    ]  # fmt: skip
    message = {"role": "assistant", "content": contents, "tool_calls": calls}
    if thought is not None:
        message["reasoning_content"] = thought
    variables = {"bos_token": "<s>", "eos_token": "</s>", "thinking": thinks, "enable_thinking": True}
    messages = [{"role": "user", "content": QUESTION}, message]
    text = compiled(source).render(messages=messages, add_generation_prompt=False, **variables)
    text = text[text.index(QUESTION) + len(QUESTION) :]
    begin = next(b for b in begins if text.lstrip().startswith(b))
    text = text.lstrip()[len(begin) :].strip() if end == "" else text.lstrip()[len(begin) :].removesuffix(end)
    return ("<think>" if begin.endswith("<think>") else "") + text


def main():
    cases = []
    for name, format_name, form, begins, end, thinks in TEMPLATES:
        # Some write calls only where there is no text, and want null there.
        contents = [None] if name.startswith(("deepseek-ai-DeepSeek-R1", "llama-cpp")) else ["", "Let me see."]
        if format_name == "mistral" and "Ministral" not in name:
            contents = [""]
        for i, arguments in enumerate(ARGUMENTS):
            if "Distill" in name and len(arguments) > 2:
                continue  # that template ends the turn after two calls, and goes on
            for content in contents if i in (0, 4) else contents[:1]:
                thought = "First, look.\n\nThen answer." if thinks and len(arguments) == 1 else None
                cases.append({
                    "template": name, "format": format_name,
                    "turn": turn(name, form, begins, end, thinks, content, arguments, thought),
                    "reasoning": thought, "content": content or None, "arguments": arguments,
                })  # fmt: skip
    OUTPUT.write_text(json.dumps({"schemas": SCHEMAS, "cases": cases}, ensure_ascii=False, indent=None, separators=(",", ":")) + "\n")
    print(f"{OUTPUT}: {len(cases)} turns, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
