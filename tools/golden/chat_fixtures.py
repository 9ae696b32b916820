"""Writes tests/text/fixtures/chat_renderings.json: conversations of every kind and many small templates, with what
jinja2 makes of them as transformers sets it up. Needs transformers and jinja2.

    python tools/golden/chat_fixtures.py
"""

import json
import pathlib

import chat_conversations
import chat_differences
import chat_generator
from text_templates import TEMPLATES

# Written for the tests: tags around turns, tools as JSON, calls and results, thinking kept for the last turn only.
TAGS = """\
{%- macro parts(content) -%}
  {%- if content is string -%}{{ content }}
  {%- elif content is iterable and content is not mapping -%}
    {%- for part in content -%}
      {%- if part.type == 'text' -%}{{ part.text }}{%- else -%}[{{ part.type | upper }}]{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{{- bos_token }}
{%- set state = namespace(last=-1, calls=0) %}
{%- for message in messages if message.role == 'user' %}
  {%- set state.last = loop.index0 %}
{%- endfor %}
{%- if tools %}
<tools count="{{ tools | length }}">
{%- for tool in tools %}
{{ tool.function | tojson(indent=2) if loop.first else tool | tojson }}
{%- endfor %}
</tools>
{%- endif %}
{%- for message in messages %}
  {%- if loop.first and message.role != 'system' %}
<system>Default for {{ messages | length }} messages.</system>
  {%- endif %}
  {%- if message.role == 'tool' %}
    {%- if loop.previtem is undefined or loop.previtem.role != 'tool' %}
<results>
    {%- endif %}
<result id="{{ message.tool_call_id | default('none') }}">{{ parts(message.content) | trim }}</result>
    {%- if loop.last or loop.nextitem.role != 'tool' %}
</results>
    {%- endif %}
    {%- continue %}
  {%- endif %}
<{{ message['role'] }}>
  {%- set content = parts(message.content) %}
  {%- if message.role == 'assistant' %}
    {%- set reasoning = message.reasoning_content or '' %}
    {%- if not reasoning and '</think>' in content %}
      {%- set reasoning = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
      {%- set content = content.split('</think>')[-1].lstrip() %}
    {%- endif %}
    {%- if reasoning and loop.revindex <= 2 %}<think>{{ reasoning }}</think>{% endif %}
  {%- endif %}
  {{- content }}
  {%- for call in message.tool_calls or [] %}
    {%- set state.calls = state.calls + 1 %}
<call n="{{ state.calls }}">{{ call.function.name }}
    {%- set arguments = call.function.arguments %}
    {%- if arguments is mapping %}
      {%- for key, value in arguments | dictsort %}
 {{ key }}={{ value if value is string else value | tojson(sort_keys=true) }}
      {%- endfor %}
    {%- else %} {{ arguments }}{% endif %}</call>
  {%- endfor -%}
</{{ message['role'] }}>
{%- endfor %}
{%- if add_generation_prompt %}
<assistant>{{ '<think>' if enable_thinking is defined and enable_thinking else '' }}
{%- endif %}
"""

# Turns in brackets that have to alternate, the system message with the last question.
BRACKETS = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set turns = messages %}
{%- endif %}
{%- for turn in turns | rejectattr('role', 'equalto', 'tool') %}
    {%- if turn.role not in ['user', 'assistant'] %}
        {{- raise_exception('Only users and assistants speak, not ' ~ turn.role ~ '.') }}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for turn in turns %}
    {%- if turn['role'] == 'user' %}
        {{- '[ASK]' + (system + '\\n\\n' if loop.last and system is defined else '') }}
        {{- turn['content'] | string + '[/ASK]' }}
    {%- elif turn['role'] == 'assistant' %}
        {{- ' ' ~ turn['content'] ~ eos_token }}
    {%- else %}
        {{- '[RESULT]' ~ {'content': turn.content, 'id': turn.get('tool_call_id')} | tojson | safe ~ '[/RESULT]' }}
    {%- endif %}
{%- endfor %}
"""

CHOSEN = ["deepseek-v3", "deepseek-v3.1", "kimi-k2", "kimi-k2-thinking"]

# What jinja2 does without being asked: an else behind a loop of which no turn came to its end, an undefined value as a
# mapping of nothing, ranges cut, and unknown names refused before anything runs, but for those in branches.
CORNERS = [
    "{% for v in [1, 2] %}{{ v }}{% break %}{% else %}E{% endfor %}",
    "{% for v in [1, 2] %}{{ v }}{% if v == 2 %}{% break %}{% endif %}{% else %}E{% endfor %}",
    "{% for v in [1, 2] %}{{ v }}{% continue %}{% else %}E{% endfor %}",
    "{% for v in [] %}{{ v }}{% else %}E{% endfor %}",
    "{{ '[%s]' % missing }}{{ 'plain' % missing }}",
    "{{ '[%d]' % missing }}",
    "{{ range(5, 0, -2)[::2] }} {{ range(9)[2:7:3] }} {{ range(4)[3:1] }}",
    "{% for v in [] %}{{ v|nosuch }}{% endfor %}",
    "{% for v in [] %}{% else %}{{ v is nosuch }}{% endfor %}",
    "{% if missing %}{{ 1|nosuch }}{% elif missing is nosuch %}{% else %}b{% endif %}",
    "{% if missing %}{{ 1|nosuch }}{% else %}b{% endif %}",
    "{% if missing %}{% for v in [] %}{{ v|nosuch }}{% endfor %}{% endif %}",
    "{% if missing %}{% for v in [1]|nosuch %}{% endfor %}{% with x = 1|nosuch %}{% endwith %}{% endif %}a",
    "{% if missing %}{% with x = 1 %}{{ x|nosuch }}{% endwith %}{% endif %}a",
    "{% if missing %}{% set x %}{{ 1|nosuch }}{% endset %}{% endif %}a",
    "{% if missing %}{% filter nosuch %}{% endfilter %}{% endif %}a",
    "{% if missing %}{% generation %}{{ 1|nosuch }}{% endgeneration %}{% endif %}a",
    "{% if missing %}{% macro m(x=1|nosuch) %}{% endmacro %}{% endif %}a",
    "{% macro m() %}{{ 1 is nosuch }}{% endmacro %}a",
    "{{ 1|nosuch if missing else 'b' }}{{ 'c' if not missing else 1|nosuch }}",
    "{{ 'b' if not missing is nosuch else 1 }}",
    "{{ true or 1|nosuch }}{{ false and 1|nosuch }}{{ 2 > 3 > 1|nosuch }}",
    "{{ missing and 1|nosuch }}",
    "{{ true or (1|nosuch).x and missing }}",
]


def corner(template):
    request = {"template": template, "messages": [], "tools": None, "add_generation_prompt": False, "variables": {},
               "tokens": {}}  # fmt: skip
    return chat_differences.expected(request).get("text")


def main():
    templates = {"tags": TAGS, "brackets": BRACKETS} | {name: TEMPLATES[name] for name in CHOSEN}
    cases = []
    for name, template in templates.items():
        for place, (_, messages, tools) in enumerate(chat_conversations.CONVERSATIONS):
            for prompt in (False, True) if name == "tags" else (True,):
                variables = chat_conversations.VARIABLES[place % 3]
                request = {
                    "template": template, "messages": messages, "tools": tools, "add_generation_prompt": prompt,
                    "variables": variables, "tokens": chat_conversations.TOKENS,
                }  # fmt: skip
                cases.append([name, place, prompt, variables, chat_differences.expected(request).get("text")])
    small = []
    for _, request in chat_generator.requests(9000, 100_000):
        text = chat_differences.expected(request).get("text")
        template = request["template"]
        if text is not None and " at 0x" not in text and len(template) < 250 and len(text) < 250:
            small.append([template, text])
    conversations = [[name, messages, tools] for name, messages, tools in chat_conversations.CONVERSATIONS]
    fixture = {
        "templates": templates, "tokens": chat_conversations.TOKENS, "conversations": conversations, "cases": cases,
        "variables": chat_generator.VARIABLES, "small": small[:700],
        "corners": [[template, corner(template)] for template in CORNERS],
    }  # fmt: skip
    path = pathlib.Path(__file__).resolve().parents[2] / "tests" / "text" / "fixtures" / "chat_renderings.json"
    path.write_text(json.dumps(fixture, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
