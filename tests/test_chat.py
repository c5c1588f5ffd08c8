"""Conversations: the prompts of transformers, from templates that nobody has checked."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path

import fastdecode
import numpy as np
import pytest
from chat_templates import CHATML, FAMILIES, HEADERS, LINES, REASONING, TURNS
from conftest import make_tokenizer
from fastdecode import Decoder
from fastdecode.models.chat import limits
from fastdecode.models.chat.prompts import prompts
from fastdecode.models.tokenizer import FileTokenizer
from fastdecode.options.keyword_types import DEFAULT_REPLY_TOKENS
from fastdecode.options.signatures import DESCRIPTIONS
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

PAGE = Path(__file__).parent.parent / "docs" / "chat.md"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'The weather, "now" — <b>',
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
ASKED = [
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": "Is it cold in Rome?\n"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "w", "arguments": {"a": "ü"}}}],
    },
    {"role": "tool", "content": "7 °C"},
    {"role": "assistant", "content": "Yes, ", "thinking": "Seven is cold."},
]


class Both:
    """A tokenizer with a template, and what both packages make of messages."""

    def __init__(self, template):
        self.tokenizer = make_tokenizer()
        self.tokenizer.chat_template = template

    def ours(self, messages, **keywords):
        found, single = prompts(self.tokenizer, messages, **keywords)
        return found[0] if single else found

    def theirs(self, messages, **keywords):
        if not keywords.get("continue_final_message"):
            keywords = {"add_generation_prompt": True} | keywords
        more = keywords.pop("chat_template_kwargs", None) or {}
        return self.tokenizer.apply_chat_template(messages, tokenize=False, **keywords, **more)

    def agree(self, messages, **keywords):
        try:
            expected = self.theirs(messages, **keywords)
        except Exception as error:
            with pytest.raises(ValueError, match=r"chat.template"):
                self.ours(messages, **keywords)
            return type(error)
        assert self.ours(messages, **keywords) == expected
        return expected


TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", "Hi", "<think>\nx\n</think>\n\ny ", "{{ 7 * 7 }}", "<|im_end|>", "%s"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": TEXTS},
    optional={
        "name": TEXTS,
        "thinking": TEXTS,
        "reasoning_content": st.none() | TEXTS,
        "tool_calls": st.just(ASKED[2]["tool_calls"]),
    },
)
TURNS_OF_TWO = st.lists(TEXTS, min_size=1, max_size=5).map(
    lambda texts: [
        {"role": ("user", "assistant")[place % 2], "content": text}
        for place, text in enumerate(texts)
    ]
)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_are_those_of_transformers(family):
    both = Both(FAMILIES[family])
    outcomes = []

    @settings(max_examples=60)
    @given(
        TURNS_OF_TWO | st.lists(MESSAGE, min_size=1, max_size=5),
        st.none() | st.just([WEATHER]),
        st.booleans(),
        st.sampled_from(
            [{}, {"enable_thinking": False}, {"date_string": "1 May", "bos_token": "B"}]
        ),
    )
    def compare(messages, tools, begins, more):
        keywords = {"tools": tools, "add_generation_prompt": begins, "chat_template_kwargs": more}
        outcomes.append(both.agree(messages, **keywords))

    compare()
    assert sum(isinstance(outcome, str) for outcome in outcomes) >= 20


@pytest.mark.parametrize("family", FAMILIES)
def test_continued_messages_are_those_of_transformers(family):
    both = Both(FAMILIES[family])
    outcomes = []

    @settings(max_examples=40)
    @given(TURNS_OF_TWO)
    def compare(messages):
        outcomes.append(both.agree(messages, continue_final_message=True))

    compare()
    assert any(isinstance(outcome, str) for outcome in outcomes)


def test_tools_reasoning_documents_and_parts():
    for template in (HEADERS, REASONING):
        both = Both(template)
        assert "7 °C" in both.agree(ASKED, tools=[WEATHER])
    documents = [{"title": "A", "text": "a"}, {"title": "B", "text": "b"}]
    assert "A; B" in both.agree(ASKED, documents=documents)
    for field in ("content", "reasoning_content", "thinking"):
        both.agree(ASKED, continue_final_message=field)
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": " two  "}]
    asked = [{"role": "user", "content": parts}]
    assert "one" in Both(TURNS).agree(asked)
    assert Both(TURNS).agree(asked, continue_final_message=True).endswith("two")
    assert "[{'type': 'text'" in Both(HEADERS).agree(asked)


def test_functions_are_described_as_transformers_does():
    def weather(city: str, days: int = 1) -> str:
        """The weather.

        Args:
            city: where
            days: how long
        """

    assert '"days"' in Both(HEADERS).agree(ASKED[:2], tools=[weather])
    with pytest.raises(ValueError, match=r"tools\[0\] cannot be described: .*no docstring"):
        Both(HEADERS).ours("Hi", tools=[lambda city: city])


def test_scalars_tuples_and_objects_are_plain_data():
    class Sent:
        def model_dump(self):
            return {"role": "user", "content": "Hi", "name": None}

    both = Both("{{ messages }} {{ a }} {{ b and b.c }}")
    more = {"a": (1, [np.float32(0.5), np.bool_(False)]), "b": {"c": np.int64(7)}}
    assert both.agree([Sent()], chat_template_kwargs=more)
    assert both.ours([Sent()]) == "[{'role': 'user', 'content': 'Hi'}]  "


# Where the templates are --------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    with as_file(files("fastdecode") / "demo") as demo:
        shutil.copytree(demo, tmp_path / "model")
    return tmp_path / "model"


def put(folder, template):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))


def additional(folder, name, text):
    (folder / "additional_chat_templates").mkdir(exist_ok=True)
    (folder / "additional_chat_templates" / f"{name}.jinja").write_text(text)


LAYOUTS = {
    "none": lambda folder: None,
    "a text": lambda folder: put(folder, "{{ 1 }}"),
    "empty": lambda folder: put(folder, ""),
    "a list": lambda folder: put(
        folder,
        [{"name": "default", "template": "{{ 1 }}"}, {"name": "tool_use", "template": "{{ 2 }}"}],
    ),
    "a file": lambda folder: (folder / "chat_template.jinja").write_bytes(
        "é\r\n{{ 3 }}\r".encode()
    ),
    "a file and a text": lambda folder: (
        put(folder, "{{ 1 }}"),
        (folder / "chat_template.jinja").write_text("{{ 3 }}"),
    ),
    "a file and a folder": lambda folder: (
        (folder / "chat_template.jinja").write_text("{{ 3 }}"),
        additional(folder, "rag", "{{ 4 }}"),
        additional(folder, "tool_use", "{{ 5 }}"),
    ),
    "a folder and a text": lambda folder: (put(folder, "{{ 1 }}"), additional(folder, "rag", "4")),
    "of a processor": lambda folder: (folder / "chat_template.json").write_text(
        '{"chat_template": "{{ 6 }}"}'
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_templates_are_where_transformers_reads_them(folder, layout):
    LAYOUTS[layout](folder)
    ours, theirs = FileTokenizer(folder), AutoTokenizer.from_pretrained(folder)
    assert ours.chat_template == theirs.chat_template
    assert ours.special_tokens_map == theirs.special_tokens_map
    for tools in (None, [WEATHER]):
        try:
            expected = theirs.apply_chat_template([ASKED[1]], tools=tools, tokenize=False)
        except ValueError:
            with pytest.raises(ValueError, match=r"chat template"):
                prompts(ours, "Hi", tools=tools)
        else:
            assert prompts(ours, "Hi", tools=tools) == ([expected], True)


def test_a_template_is_chosen(folder):
    LAYOUTS["a file and a folder"](folder)
    decoder = Decoder.from_pretrained(str(folder))
    assert decoder.chat_prompt("Hi", chat_template="rag") == "4"
    assert decoder.chat_prompt("Hi", chat_template="{{ 7 }}") == "7"
    own = folder / "own.jinja"
    own.write_text("{{ 8 }}{% if %}")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(own))}, line 1: .* not valid Jinja"):
        decoder.chat_prompt("Hi", chat_template=own)
    LAYOUTS["of a processor"](folder)
    assert decoder.chat_prompt("Hi", chat_template=folder / "chat_template.json") == "6"
    with pytest.raises(
        ValueError, match=r"neither a Jinja template nor the name .* 'rag', 'tool_u"
    ):
        decoder.chat_prompt("Hi", chat_template="rags")
    with pytest.raises(ValueError, match=r'config.json: it has no "chat_template"'):
        decoder.chat_prompt("Hi", chat_template=folder / "config.json")
    with pytest.raises(FileNotFoundError):
        decoder.chat_prompt("Hi", chat_template=folder / "absent")
    with pytest.raises(TypeError, match=r"chat_template must be a Jinja template"):
        decoder.chat_prompt("Hi", chat_template=7)


def test_errors_name_the_file_and_the_line(folder):
    put(folder, "a\nb\n{{ nothing.at.all }}")
    config = re.escape(str(folder / "tokenizer_config.json"))
    with pytest.raises(
        ValueError, match=rf"^{config}: chat_template, line 3: .*'nothing' is undef"
    ):
        Decoder.from_pretrained(str(folder)).chat("Hi")
    refuses = "\n{% if messages[0].content == 'No' %}{{ raise_exception('No\x1b[2J!') }}{% endif %}"
    put(folder, [{"name": "default", "template": refuses}])
    said = "chat_template 'default', line 2: the chat template refuses messages[1]: No␛[2J!"
    with pytest.raises(ValueError, match=re.escape(said)):
        Decoder.from_pretrained(str(folder)).chat_prompt(["Yes", "No"])
    put(folder, [{"template": "x"}])
    with pytest.raises(ValueError, match=rf'^{config}: chat_template\[0\] has no "name"'):
        FileTokenizer(folder)
    (folder / "chat_template.jinja").write_bytes(b"a\n\xff")
    with pytest.raises(ValueError, match=r"chat_template.jinja, line 2: it is not UTF-8"):
        FileTokenizer(folder)


# Hostile templates --------------------------------------------------------------------------

GROW = "{%% set ns = namespace(x='aaaaaaaa') %%}{%% for i in range(99) %%}%s{%% endfor %%}"
MACRO = "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}x{% endmacro %}"
HOSTILE = {
    "class": ("{{ ''.__class__.__mro__ }}", "does what no template may"),
    "globals": ("{{ cycler.__init__.__globals__ }}", "does what no template may"),
    "format": ("{{ '{0.__class__.__mro__}'.format(1).x.y }}", "fails|does what no"),
    "format map": ("{{ '{a.__class__.x.y}'.format_map({'a': 1}) }}", "fails|does what no"),
    "attr": ("{{ (''|attr('__class__')).mro() }}", "fails|does what no template may"),
    "attr of a method": ("{{ raise_exception.__globals__.x }}", "does what no template may"),
    "environment": ("{{ self._TemplateReference__context.environment }}", "does what no"),
    "caller's lists": ("{{ messages.append(1) }}", "does what no template may"),
    "caller's dictionaries": ("{{ messages[0].update(a=1) }}", "does what no template may"),
    "dict's class": ("{{ dict.mro() }}", "no attribute 'mro'"),
    "underscores": ("{{ namespace(__class__=1) }}", "does what no template may"),
    "underscores, later": (
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "does what no template may|is not valid Jinja|fails",
    ),
    "other files": ("{% include '/etc/passwd' %}", "fails"),
    "a base": ("{% extends '/etc/passwd' %}", "fails"),
    "imports": ("{% import 'os' as os %}{{ os }}", "fails"),
    "lorem ipsum": ("{{ lipsum(10 ** 6) }}", "'lipsum' is undefined"),
    "syntax": ("{% for %}", "is not valid Jinja"),
    "unknown tag": ("{% spam %}", "is not valid Jinja: Encountered unknown tag"),
    "unknown filter": ("{{ 1|spam }}", "is not valid Jinja: No filter named"),
    "undefined": ("{{ a.b }}", "fails: 'a' is undefined"),
    "types": ("{{ 1 + 'a' }}", "fails: TypeError"),
    "zero": ("{{ 1 // 0 }}", "fails: ZeroDivisionError"),
    "deep": ("{{ " + "(" * 999 + ")" * 999 + " }}", "nested too deeply"),
    "long": ("{{ 1" + " + 1" * 20000 + " }}", "nested too deeply"),
    "large": ("{" * (2**20 + 1), "has 1,048,577 characters"),
    "range": ("{% for i in range(10 ** 9) %}{% endfor %}", "fails: OverflowError"),
    "loops": (
        "{% for i in range(10 ** 5) %}{% for j in range(10 ** 5) %}{% endfor %}{% endfor %}",
        "more than 0.3 seconds",
    ),
    "condition": (
        "{% for i in range(10 ** 5) %}{% for j in range(10 ** 5) if j < 0 %}{% endfor %}"
        "{% endfor %}",
        "more than 0.3 seconds",
    ),
    "macros": (MACRO + "{{ m(60) }}", "more than 0.3 seconds"),
    "recursion": ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls itself"),
    "recursive loop": (
        "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
        "calls itself",
    ),
    "block": ("{% block b %}{{ self.b() }}{% endblock %}", "calls itself"),
    "output": (
        "{% for i in range(10 ** 5) %}" + "x" * 999 + "{% endfor %}",
        "characters or entries|nested ones too",
    ),
    "variables": (
        "{% for i in range(10 ** 5) %}{{ messages[0].content * 10 ** 5 }}{% endfor %}",
        "characters or entries|nested ones too",
    ),
    "captured": (
        "{% set x %}{% for i in range(10 ** 5) %}" + "x" * 10**5 + "{% endfor %}{% endset %}",
        "characters in all",
    ),
    "doubled by ~": (
        GROW % "{% set ns.x = ns.x ~ ns.x %}",
        "characters or entries|nested ones too",
    ),
    "doubled by +": (
        GROW % "{% set ns.x = ns.x + ns.x %}",
        "characters or entries|nested ones too",
    ),
    "doubled lists": (
        GROW % "{% set ns.x = [ns.x] + [ns.x] %}",
        "characters or entries|nested ones too",
    ),
    "doubled by filters": (
        GROW % "{% set ns.x = [ns.x, ns.x] | join %}",
        "characters or entries|nested ones too",
    ),
    "nested lists": (
        GROW % "{% set ns.x = [ns.x, ns.x] %}",
        "characters or entries|nested ones too",
    ),
    "nested tuples": (
        GROW % "{% set ns.x = (ns.x, ns.x) %}",
        "characters or entries|nested ones too",
    ),
    "nested dictionaries": (
        GROW % "{% set ns.x = {'a': ns.x, 'b': ns.x} %}",
        "characters or entries|nested ones too",
    ),
    "nested calls": (
        GROW % "{% set ns.x = dict(a=ns.x, b=ns.x) %}",
        "characters or entries|nested ones too",
    ),
    "kept": (
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}"
        "{% set ns.x = ns.x + ['x' * (8000000 + i)] %}{% endfor %}",
        "characters or entries|nested ones too",
    ),
    "round": ("{{ 1.5|round(10 ** 9, 'ceil') }}", "an integer of more"),
    "power": ("{{ 10 ** (10 ** 9) }}", "an integer of more"),
    "squares": (
        "{% set ns = namespace(x=9) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}"
        "{% endfor %}",
        "an integer of more",
    ),
    "digits": ("{{ (8).from_bytes(('a' * 99999).encode()) }}", "an integer of more"),
    "sum": ("{{ ([[1] * 99] * 99) | sum(start=[]) }}", "it sums lists"),
    **{
        f"width {place}": ("{{ " + text + " }}", "characters or entries|nested ones too")
        for place, text in enumerate(
            (
                "'a' * 10 ** 9",
                "[1] * 10 ** 9",
                "'a'.ljust(10 ** 9)",
                "'a'.encode().ljust(10 ** 9)",
                "'1'.zfill(10 ** 9)",
                "('\\t' * 99).expandtabs(10 ** 8)",
                "'a'|center(10 ** 9)",
                "'a\\nb'|indent(10 ** 9)",
                "['a']|map('center', 10 ** 9)|list",
                "'%999999999d' % 1",
                "'%*d' % (10 ** 9, 1)",
                "'%999999999d'|format(1)",
                "'{:999999999}'.format(1)",
                "'{:{}}'.format(1, 10 ** 9)",
                "'{0[0]:{0[1]}}'.format([1, 10 ** 9])",
                "'{a:{b}}'.format_map({'a': 1, 'b': 10 ** 9})",
                "('{0}' * 9999).format('a' * 9999)",
                "('a' * 9999).replace('a', 'a' * 9999)",
                "('a' * 9999)|replace('a', 'a' * 9999)",
                "('a' * 9999).translate({97: 'a' * 9999})",
                "('a' * 9999).join(['a'] * 9999)",
                "(['a'] * 9999)|join('a' * 9999)|length",
                "''.join(['a' * 9999] * 9999)",
                "(['a' * 9999] * 9999)|string",
                "(['a' * 9999] * 9999)|tojson",
                "['a' * 9999] * 9999",
                "[[1, [2]]]|tojson(indent=10 ** 9)",
                "[1]|batch(10 ** 9, 0)|list",
                "[1]|slice(10 ** 9)|list",
                "(1).to_bytes(10 ** 10, 'big')",
                "strftime_now('%Y' * 10 ** 8)",
            )
        )
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_are_errors(name, monkeypatch):
    template, said = HOSTILE[name]
    monkeypatch.setattr(limits, "LONGEST", 0.3 if "0.3" in said else 60.0)
    messages = [{"role": "user", "content": "Hello"}]
    with pytest.raises(
        ValueError, match=rf"^chat_template(, line \d+)?: the chat template .*({said})"
    ):
        Both(None).ours(messages, chat_template=template)
    assert messages == [{"role": "user", "content": "Hello"}]


def test_limits_leave_long_conversations_alone():
    long = [
        {"role": ("user", "assistant")[place % 2], "content": f"{place} " + "word " * 50}
        for place in range(400)
    ]
    for template in (CHATML, FAMILIES["Mistral"]):
        assert len(Both(template).agree(long)) > 90_000


def test_limits_begin_again_for_each_conversation(monkeypatch):
    monkeypatch.setattr(limits, "MOST_IN_ALL", 30_000)
    template = "{{ 'x' * 10000 }}"
    assert Both(None).ours(["a"] * 9, chat_template=template) == ["x" * 10_000] * 9
    with pytest.raises(ValueError, match=r"characters in all"):
        Both(None).ours("a", chat_template=template * 4)


# Messages -----------------------------------------------------------------------------------

BAD = [
    ([], ValueError, "messages is empty"),
    ([[]], ValueError, r"messages\[0\] is empty"),
    (None, TypeError, "messages must be a list of messages .* not NoneType"),
    (b"Hi", TypeError, "messages must be a list of messages .* not bytes"),
    (ASKED[1], TypeError, r"put it into a list"),
    ([ASKED[1], "Hi"], TypeError, r"messages\[1\] must be a dictionary .* not str \('Hi'\)"),
    (["Hi", ASKED[1]], TypeError, r"messages\[1\] must be a string or a list of messages"),
    ([{"content": "Hi"}], ValueError, r'messages\[0\] has no "role"; say who speaks'),
    ([{"role": "user"}], ValueError, r'messages\[0\] has no "content"'),
    ([{"role": "user", "content": None}], ValueError, r'messages\[0\] has no "content"'),
    ([[ASKED[1]], [{"role": "user"}]], ValueError, r'messages\[1\]\[0\] has no "content"'),
    ([{"role": 7, "content": ""}], TypeError, r'messages\[0\]\["role"\] must be a string, not 7'),
    ([{"role": "user", "content": 7}], TypeError, r'\["content"\] must be a string, not int \(7\)'),
    ([{"role": "user", "content": [7]}], TypeError, r'\["content"\]\[0\] must be of the form'),
    ([{"role": "user", "content": [{"type": "image"}]}], ValueError, "read text only"),
    ([{"role": "user", "content": "\ud800"}], ValueError, r'\["content"\] has the lone surrogate'),
    ([{"role": "user", "content": "", "x": object()}], TypeError, r'\["x"\] must be a string'),
    ([{"role": "user", "content": "", 7: 7}], TypeError, "has the key 7; keys must be strings"),
]


@pytest.mark.parametrize(("messages", "kind", "said"), BAD)
def test_bad_messages(messages, kind, said):
    with pytest.raises(kind, match=said):
        Both(CHATML).ours(messages)


def test_bad_keywords():
    deep: list = []
    for _ in range(99):
        deep = [deep]
    both = Both(CHATML)
    for keywords, kind, said in (
        ({"tools": 7}, TypeError, "tools must be a list of dictionaries, not 7"),
        ({"documents": ["a"]}, TypeError, "documents must be a list of dictionaries"),
        ({"add_generation_prompt": 1}, TypeError, "add_generation_prompt must be True or False"),
        ({"continue_final_message": 1}, TypeError, "continue_final_message must be True or Fal"),
        (
            {"add_generation_prompt": True, "continue_final_message": True},
            ValueError,
            "give one of the two",
        ),
        ({"continue_final_message": "thinking"}, ValueError, r'messages\[0\] has no "thinking"'),
        ({"chat_template_kwargs": 7}, TypeError, "chat_template_kwargs must be a dictionary"),
        ({"chat_template_kwargs": {"tools": 7}}, ValueError, "an argument of its own"),
        ({"chat_template_kwargs": {"x": deep}}, ValueError, "nested more than 64 levels deep"),
    ):
        with pytest.raises(kind, match=said):
            both.ours("Hi", **keywords)
    with pytest.raises(ValueError, match=r"has no chat template.*chat_template=.*generate"):
        Both(None).ours("Hi")
    with pytest.raises(ValueError, match=r"does not write messages\[0\] in full"):
        Both("{{ messages[0].content[:1] }}").ours("Hi", continue_final_message=True)
    with pytest.raises(ValueError, match=r'does not use "content"'):
        Both("{{ messages[0].role }}").ours("Hi", continue_final_message=True)


# Decoding -----------------------------------------------------------------------------------

BEGUN = "{{ bos_token }}" + LINES


@pytest.fixture(scope="module")
def demo():
    return Decoder.from_pretrained("demo")


def test_a_reply_is_the_continuation_of_the_prompt(demo):
    prompt = demo.chat_prompt(ASKED[:2], chat_template=BEGUN)
    assert prompt.startswith("<|endoftext|><|system|>")
    call = {"seed": 7, "top_p": 0.9, "n": 2, "max_new_tokens": 8}
    found = demo.chat(ASKED[:2], chat_template=BEGUN, **call)
    assert found.texts == demo.generate(prompt, add_special_tokens=False, **call).texts
    assert [item.prompt for item in found] == [prompt] * 2
    one = {"seed": 7, "top_p": 0.9, "max_new_tokens": 8}
    steps = list(demo.stream_chat(ASKED[:2], chat_template=BEGUN, **one))
    assert "".join(step.text for step in steps) == found.texts[0]
    assert len(demo.chat("Hi", chat_template=BEGUN, max_length=99)[0].prompt_token_ids) < 99


def test_a_reply_may_be_longer_than_20_tokens(demo):
    (reply,) = demo.chat("Hi", chat_template=BEGUN, eos_token_id=[])
    assert (len(reply.token_ids), reply.finish_reason) == (DEFAULT_REPLY_TOKENS, "length")


def test_the_docs_say_how_long_a_reply_may_be():
    assert f"conversation {DEFAULT_REPLY_TOKENS}, or what" in DESCRIPTIONS
    assert f"at most {DEFAULT_REPLY_TOKENS} tokens unless" in PAGE.read_text("utf-8")


def test_conversations_are_a_batch(demo):
    call = {"chat_template": BEGUN, "max_new_tokens": 6}
    several = demo.chat(["Hi", ASKED[:2], [ASKED[1]]], **call)
    alone = [demo.chat(one, **call)[0].text for one in ("Hi", ASKED[:2], [ASKED[1]])]
    assert several.texts == alone
    assert demo.chat_prompt(["Hi"], chat_template=BEGUN) == [
        demo.chat_prompt("Hi", chat_template=BEGUN)
    ]


@pytest.mark.parametrize("adds", [True, False])
def test_there_is_one_bos_token_where_the_template_writes_it(folder, adds):
    from tokenizers import Tokenizer, processors

    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    bos = tokenizer.token_to_id("<|endoftext|>")
    if adds:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=["<|endoftext|>", "$A"], special_tokens=[("<|endoftext|>", bos)]
        )
        tokenizer.save(path)
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}")
    for engine in ("native", "transformers"):
        decoder = Decoder.from_pretrained(str(folder), engine=engine)
        (reply,) = decoder.chat("Once upon", max_new_tokens=2)
        assert reply.prompt_token_ids == [
            bos,
            *decoder.encode("Once upon", add_special_tokens=False),
        ]
        assert decoder.encode("Once upon").count(bos) == adds
        (reply,) = decoder.chat("Hi", max_new_tokens=2, add_special_tokens=True)
        assert reply.prompt_token_ids.count(bos) == 1 + adds


def test_a_reply_ends_with_the_eos_token_of_the_tokenizer(folder):
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [5, 6]}))
    decoder = Decoder.from_pretrained(str(folder))
    found = decoder.chat("Hi", chat_template=BEGUN, max_new_tokens=1)
    assert found.call["eos_token_id"] == [5, 6, 4095]
    found = decoder.chat("Hi", chat_template=BEGUN, max_new_tokens=1, eos_token_id=7)
    assert found.call["eos_token_id"] == [7]


def test_a_conversation_that_does_not_fit(demo):
    long = "word " * 600
    with pytest.raises(ValueError, match=r"^messages has \d+ tokens, but the model's context"):
        demo.chat(long, chat_template=BEGUN)
    with pytest.raises(ValueError, match=r"^messages\[1\] has \d+ tokens, but the model's context"):
        demo.stream_chat(["Hi", long], chat_template=BEGUN)


def test_unknown_keywords(demo):
    with pytest.raises(
        TypeError, match=r"unknown keyword 'temprature'; did you mean 'temperature'"
    ):
        demo.chat("Hi", chat_template=BEGUN, temprature=1)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'temperature'"):
        demo.chat_prompt("Hi", chat_template=BEGUN, temperature=1)


def test_a_saved_reply_replays(demo, tmp_path):
    found = demo.chat("Hi", chat_template=BEGUN, temperature=0.8, seed=7, max_new_tokens=5)
    found.save(tmp_path / "run.json")
    assert fastdecode.replay(tmp_path / "run.json") == found
    assert fastdecode.verify(tmp_path / "run.json").same


def test_chat_needs_neither_torch_nor_transformers():
    script = (
        "import sys, fastdecode\n"
        "decoder = fastdecode.Decoder.from_pretrained('demo')\n"
        "assert 'jinja2' not in sys.modules\n"
        "decoder.chat('Hi', chat_template='{{ messages[0].content }}', max_new_tokens=2)\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
