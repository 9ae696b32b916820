"""Chat templates for text_fixtures.py: what the published ones do with text, their tool branches left out."""

_SYSTEM = (
    "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% set ns = namespace(is_first=false, is_tool=false, system_prompt='', is_first_sp=true, is_last_user=false) %}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}"
    "{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}"
    "{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}"
    "{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}"
)
_USER = "{%- if message['role'] == 'user' %}{%- set ns.is_last_user = true -%}{{'<｜User｜>' + message['content']}}{%- endif %}"
_ANSWER = (
    "{%- if message['role'] == 'assistant' %}{{'<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}{%- endif %}"
)
_STRIPPED = "{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split(SPLIT %}{% endif %}"
_PROMPT = "{%- endfor -%}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜>'}}{% endif %}"
_R1 = (
    _SYSTEM
    + _USER
    + "{%- if message['role'] == 'assistant' %}"
    + _STRIPPED.replace("SPLIT", "'</think>')[-1]")
    + "{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}"
)
_KIMI_BODY = (
    "{%- if message['role'] == 'user' -%}\n    <|im_user|>{{role_name}}<|im_middle|>\n"
    "  {%- elif message['role'] == 'assistant' -%}\n    <|im_assistant|>{{role_name}}<|im_middle|>\n"
    "  {%- else -%}\n    <|im_system|>{{role_name}}<|im_middle|>\n  {%- endif -%}\n"
)
_KIMI_DEFAULT = "<|im_system|>system<|im_middle|>You are Kimi, an AI assistant created by Moonshot AI.<|im_end|>\n"
_KIMI_PROMPT = "{%- if add_generation_prompt -%}\n  <|im_assistant|>assistant<|im_middle|>\n{%- endif -%}"

TEMPLATES = {
    "deepseek-v2": (
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{{ bos_token }}"
        "{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}"
        "{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}"
        "{% elif message['role'] == 'system' %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
    "deepseek-v2.5": (
        "{% set ns = namespace(is_tool=false, system_prompt='') %}{%- for message in messages %}"
        "{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}"
        "{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}"
        + _USER.replace("{%- set ns.is_last_user = true -%}", "")
        + _ANSWER
        + _PROMPT
    ),
    "deepseek-v3": _SYSTEM.replace("\\n", "\n") + _USER + _ANSWER + _PROMPT,
    "deepseek-v3-0324": (
        _SYSTEM
        + _USER.replace("message['content']}}", "message['content'] + '<｜Assistant｜>'}}")
        + "{%- if message['role'] == 'assistant' %}{%- set ns.is_last_user = false -%}"
        "{% set content = message['content'] %}{{content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}"
        "{% if add_generation_prompt and not ns.is_last_user and not ns.is_tool %}{{'<｜Assistant｜>'}}{% endif %}"
    ),
    "deepseek-r1": _R1 + _PROMPT.replace("'<｜Assistant｜>'", "'<｜Assistant｜><think>\\n'"),
    "deepseek-r1-first": _R1 + _PROMPT,
    "deepseek-v3.1": (
        "{% if not thinking is defined %}{% set thinking = false %}{% endif %}"
        + _SYSTEM
        + _USER
        + "{%- if message['role'] == 'assistant' %}{%- if ns.is_last_user %}{{'<｜Assistant｜>'}}{{'</think>'}}{%- endif %}"
        "{%- set ns.is_last_user = false -%}"
        + _STRIPPED.replace("SPLIT", "'</think>', 1)[1]")
        + "{{content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endfor -%}"
        "{%- if add_generation_prompt and ns.is_last_user and not ns.is_tool %}{{'<｜Assistant｜>'}}"
        "{%- if not thinking %}{{'</think>'}}{%- else %}{{'<think>'}}{%- endif %}{% endif %}"
    ),
    "kimi-k2": (
        "{%- for message in messages -%}\n  {%- if loop.first and messages[0]['role'] != 'system' -%}\n"
        "    {{ '<|im_system|>system<|im_middle|>You are a helpful assistant<|im_end|>' }}\n  {%- endif -%}\n"
        "  {%- if message['role'] == 'system' -%}\n    {{ '<|im_system|>system<|im_middle|>' }}\n"
        "  {%- elif message['role'] == 'user' -%}\n    {{ '<|im_user|>user<|im_middle|>' }}\n"
        "  {%- elif message['role'] == 'assistant' -%}\n    {{ '<|im_assistant|>assistant<|im_middle|>' }}\n"
        "  {%- endif -%}\n  {{- message['content'] + '<|im_end|>' -}}\n{%- endfor -%}\n"
        "{%- if add_generation_prompt -%}\n  {{ '<|im_assistant|>assistant<|im_middle|>' }}\n{%- endif -%}"
    ),
    "kimi-k2-0905": (
        "{%- for message in messages -%}\n  {%- if loop.first and messages[0]['role'] != 'system' -%}\n    "
        + _KIMI_DEFAULT
        + "  {%- endif -%}\n  {%- set role_name =  message.get('name') or  message['role'] -%}\n  "
        + _KIMI_BODY
        + "  {{ message['content'] }}\n"
        "  {%- if (loop.last and add_generation_prompt) or not loop.last %}<|im_end|>{% endif %}\n{%- endfor -%}\n"
        + _KIMI_PROMPT
    ),
    "kimi-k2-thinking": (
        "{%- macro render_content(msg) -%}{{ msg.get('content') }}{%- endmacro -%}\n"
        "{%- if messages|length == 0 or messages[0]['role'] != 'system' -%}\n  "
        + _KIMI_DEFAULT
        + "{%- endif -%}\n{%- for message in messages -%}\n"
        "  {%- set role_name =  message.get('name') or  message['role'] -%}\n  "
        + _KIMI_BODY
        + "  {%- if message['role'] == 'assistant' -%}\n    <think></think>{{render_content(message)}}\n"
        "  {%- else -%}\n    {{render_content(message)}}\n  {%- endif -%}\n  <|im_end|>\n{%- endfor -%}\n" + _KIMI_PROMPT
    ),
}
