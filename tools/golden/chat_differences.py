"""Compares the program's renderings of chat templates with jinja2's, set up as transformers sets it up.

    ninja -C build mxmla_render_chat
    python tools/golden/chat_differences.py build/tests/text/mxmla_render_chat templates FOLDER
    python tools/golden/chat_differences.py build/tests/text/mxmla_render_chat generated COUNT [SEED]

The first renders every conversation of chat_conversations.py with every *.jinja of the folder, the second random
templates. Both print each difference and exit with status 1 where there is one. Needs transformers and jinja2.
"""

import datetime
import json
import pathlib
import subprocess
import sys
import warnings

import chat_conversations
import chat_generator
import jinja2
from transformers.utils.chat_template_utils import _compile_jinja_template


def expected(request):
    """The text, or the error, that Python gives."""
    try:
        compiled = _compile_jinja_template(request["template"])
        text = compiled.render(
            messages=request["messages"],
            tools=request["tools"],
            documents=None,
            add_generation_prompt=request["add_generation_prompt"],
            **(request["tokens"] | request["variables"]),
        )
        text.encode("utf-8")
        return {"text": text}
    except jinja2.exceptions.TemplateSyntaxError as error:
        return {"error": f"syntax: {error}"}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


def from_templates(folder):
    for path in sorted(pathlib.Path(folder).glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        for name, messages, tools in chat_conversations.CONVERSATIONS:
            for variables in chat_conversations.VARIABLES:
                for prompt in (False, True):
                    yield f"{path.name}: {name} {variables} {prompt}", {
                        "template": template, "messages": messages, "tools": tools, "add_generation_prompt": prompt,
                        "variables": variables, "tokens": chat_conversations.TOKENS,
                    }  # fmt: skip


def main():
    warnings.simplefilter("ignore")
    program, kind, what, *more = sys.argv[1:]
    if kind == "templates":
        requests = from_templates(what)
    else:
        requests = chat_generator.requests(int(what), int(more[0]) if more else 0)
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")
    counts = {"same": 0, "errors on both sides": 0, "with an address": 0, "different": 0}
    for name, request in requests:
        today = datetime.date.today()
        want = expected(request)
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            print(f"{name}: the program ended, status {process.wait()}\n{request['template']}")
            return 1
        got = json.loads(line)
        if " at 0x" in want.get("text", ""):
            counts["with an address"] += 1
        elif want == got:
            counts["same"] += 1
        elif "error" in want and "error" in got:
            counts["errors on both sides"] += 1
        elif today == datetime.date.today():
            counts["different"] += 1
            print(f"--- {name}\n{request['template'] if kind == 'generated' else ''}\n  jinja2: {want}\n  mxmla:  {got}")
    print(counts)
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
