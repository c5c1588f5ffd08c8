"""Chat templates in the manner of well-known families, each with the features that those use."""

# ChatML, as in SmolLM2 and Qwen: a system message of its own where there is none.
CHATML = """\
{%- for message in messages -%}
    {%- if loop.first and message['role'] != 'system' -%}
        {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' -}}
    {%- endif -%}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

# Llama 2: the system message inside the first instruction, strict alternation.
INST = """\
{% if messages[0]['role'] == 'system' %}
{% set system = '<<SYS>>\\n' ~ messages[0]['content'] ~ '\\n<</SYS>>\\n\\n' %}
{% set turns = messages[1:] %}
{% else %}
{% set system, turns = '', messages %}
{% endif %}
{% for turn in turns %}
{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Roles must alternate user/assistant/user/assistant/...') }}
{% endif %}
{% if turn['role'] == 'user' %}
{% set content = system ~ turn['content'] if loop.first else turn['content'] %}
{{- bos_token + '[INST] ' + content.strip() + ' [/INST]' -}}
{% elif turn['role'] == 'assistant' %}
{{- ' ' + turn['content'] | trim + ' ' + eos_token -}}
{% endif %}
{% endfor %}
"""

# Llama 3: headers, a date, tools as JSON, default values, a namespace.
HEADERS = """\
{{- bos_token }}
{%- if not date_string is defined %}{% set date_string = strftime_now("%Y") %}{% endif %}
{%- set ns = namespace(system='') %}
{%- if messages[0].role == 'system' %}
    {%- set ns.system = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday: " + date_string + "\\n" }}
{%- if tools is not none %}
    {{- "Tools: " }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- ns.system }}{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception("One call at a time!") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '{"name": "' + call.name + '", "parameters": ' }}{{ call.arguments | tojson }}{{ "}" }}
    {%- elif message.role in ("tool", "ipython") %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

# Mistral: a list that is built in a loop, tools before the last message of the user, macros.
MISTRAL = """\
{%- macro user(text, tools=none) %}
{%- if tools is not none and tools %}[TOOLS]{{ tools | tojson }}[/TOOLS]{% endif %}
{{- '[INST]' ~ text ~ '[/INST]' }}
{%- endmacro %}
{%- set ns = namespace(turns=[], last=0) %}
{%- for message in messages if message.role != 'system' %}
    {%- set ns.turns = ns.turns + [message] %}
    {%- if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in ns.turns %}
    {%- if message.role == 'user' %}
        {{- user(message.content, tools if loop.index0 == ns.last else none) }}
    {%- elif message.role == 'assistant' %}
        {{- ' %s%s' | format(message.content, eos_token) }}
    {%- else %}
        {{- raise_exception('Only user and assistant roles are supported, not ' + message.role) }}
    {%- endif %}
{%- endfor %}
{%- for message in messages | selectattr('role', 'equalto', 'system') | list %}
    {%- if loop.last %}{{ '\\n' ~ message.content | upper | replace('A', 'aa') }}{% endif %}
{%- endfor %}
"""

# Gemma: no system role, `assistant` under another name, contents in parts.
TURNS = """\
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {{ raise_exception('System role not supported') }}
{%- endif -%}
{%- for message in messages -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""

# Zephyr: lines without control of white space, which trim_blocks and lstrip_blocks tidy up.
LINES = """\
{% for message in messages %}
    {% if message['role'] == 'user' %}
<|user|>
{{ message['content'] + eos_token }}
    {% elif message['role'] == 'system' %}
<|system|>
{{ message['content'] + eos_token }}
    {% elif message['role'] == 'assistant' %}
{% generation %}
<|assistant|>
{{ message['content'] + eos_token }}
{% endgeneration %}
    {% endif %}
    {% if loop.last and add_generation_prompt %}
<|assistant|>
    {% endif %}
{% endfor %}
"""

# Qwen 3: reasoning, a loop from the end, break and continue, split, further variables.
REASONING = """\
{%- set ns = namespace(last=messages | length) %}
{%- for message in messages[::-1] %}
    {%- if message.role != 'user' %}{% continue %}{% endif %}
    {%- set ns.last = messages | length - loop.index %}
    {%- break %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- set thought = '' %}
    {%- if message.reasoning_content is string %}
        {%- set thought = message.reasoning_content %}
    {%- elif '</think>' in content %}
        {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1] %}
        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' ~ message.role ~ '\\n' }}
    {%- if thought and (loop.index0 > ns.last or loop.last) %}
        {{- '<think>\\n%s\\n</think>\\n\\n' % thought.strip() }}
    {%- endif %}
    {{- content }}
    {%- for call in message.tool_calls or [] %}
        {{- '\\n<tool_call>\\n{"name": "{}", "arguments": ' .replace('{}', call.function.name) }}
        {{- call.function.arguments if call.function.arguments is string
            else call.function.arguments | tojson }}
        {{- '}\\n</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if documents %}{{ documents | map(attribute='title') | join('; ') }}{% endif %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{% endif %}
{%- endif %}
"""

# What else is written: dictionaries, items, sorting, groups, numbers, unknown variables.
ODDITIES = """\
{% set roles = dict(user='U', assistant='A', system="S") %}
{% for role, some in messages | groupby('role') %}{{ role }}{{ some | length }} {% endfor %}
{% for message in messages %}
{{ roles[message.role] | default('?', true) }}: {{ message | dictsort | first }} {{ nothing or 1 }}
{{ loop.cycle('a', 'b') }}{{ (loop.index * 2 ** 3 + 10 % 7 - 1.5) | round(1) }}
{{ 'x' * loop.index }}
{{ "%s is %d" % (message.role, loop.index) }} {{ '{:>4}|{}'.format(loop.index, message.role) }}
{{ message.content | string | truncate(9, true) }} {{ [1, (2, 'b'), {'c': none}, true] }}
{{ message.items() | list | length }} {{ message.get('name', 'nobody') | tojson }}
{% endfor %}
{% filter upper %}{{ eos_token }}{% endfilter %}
{{- {'b': [1, 'é'], 'a': {}} | tojson(sort_keys=true, separators=(',', ':'), ensure_ascii=true) -}}
{% set x %}{% for i in range(3) recursive %}{{ i }}{{ loop(range(i)) if i }}{% endfor %}{% endset %}
{{ x ~ 1 ~ none ~ [2] }}{% call(v) each(messages) %}<{{ v }}>{% endcall %}
"""
ODDITIES = (
    "{% macro each(some) %}{% for one in some %}{{ caller(one.role) }}{% endfor %}{% endmacro %}\n"
    + ODDITIES
)

FAMILIES = {
    "ChatML": CHATML,
    "INST": INST,
    "headers": HEADERS,
    "Mistral": MISTRAL,
    "turns": TURNS,
    "lines": LINES,
    "reasoning": REASONING,
    "oddities": ODDITIES,
}
