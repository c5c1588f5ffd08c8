"""The prompt of a conversation: what a model's template makes of the messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastdecode.display.terminal import printable
from fastdecode.models.chat import messages as chat_messages
from fastdecode.models.chat.messages import Messages
from fastdecode.models.chat.templates import ChatTemplate, ChatTemplates
from fastdecode.options import checks

# What transformers passes to every template.
_OWN = ("messages", "tools", "documents", "add_generation_prompt")
# Marks where the message ends that is to be continued. Templates that trim it cut the space.
_END = "END_OF_THE_MESSAGE_TO_CONTINUE "

# The most characters of a field's name that a message shows.
_SHOWN = 80


def prompts(
    tokenizer: Any,
    messages: Messages,
    *,
    tools: Any = None,
    documents: Any = None,
    add_generation_prompt: bool | None = None,
    continue_final_message: bool | str = False,
    chat_template: Any = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> tuple[list[str], bool]:
    """The prompt of each conversation, and whether the caller gave a single one.

    Args:
        tokenizer: a tokenizer of transformers, or one that behaves like it.
        messages: a conversation, or several; see `fastdecode.models.chat.messages`.
        tools: see `fastdecode.options.signatures` for this and the other arguments.
        documents: see there.
        add_generation_prompt: see there.
        continue_final_message: see there.
        chat_template: see there.
        chat_template_kwargs: see there.

    Raises:
        TypeError: for a wrong type.
        ValueError: for a bad value, where there is no template, and where it is invalid, fails or
            refuses the messages; the message names the template's file and line.
        OSError: where `chat_template` is a file that cannot be read.
    """
    conversations, single = chat_messages.read(messages)
    schemas = chat_messages.mappings("tools", _described(tools))
    documents = chat_messages.mappings("documents", documents)
    field = _continued(continue_final_message)
    if add_generation_prompt is None:
        add_generation_prompt = not field
    elif checks.boolean("add_generation_prompt", add_generation_prompt) and field:
        raise ValueError(
            "continue_final_message continues the last message, and add_generation_prompt begins "
            "a new one; give one of the two"
        )
    template = ChatTemplates.of_tokenizer(tokenizer).chosen(chat_template, tools=tools is not None)
    variables = _special_tokens(tokenizer) | _more(chat_template_kwargs)
    variables |= {"tools": schemas, "documents": documents}
    variables["add_generation_prompt"] = add_generation_prompt
    found = []
    for row, conversation in enumerate(conversations):
        name = "messages" if single else f"messages[{row}]"
        if field:
            found.append(_open_ended(template, name, conversation, field, variables))
        else:
            found.append(_rendered(template, name, conversation, variables))
    return found, single


def _rendered(
    template: ChatTemplate,
    name: str,
    conversation: list[dict[str, Any]],
    variables: Mapping[str, Any],
) -> str:
    from fastdecode.models.chat.sandbox import TemplateFault, render

    try:
        return render(template.text, {**variables, "messages": conversation})
    except TemplateFault as fault:
        place = template.place if fault.line is None else f"{template.place}, line {fault.line}"
        problem = printable(fault.problem.replace("the messages", name))
        raise ValueError(f"{place}: the chat template {problem}") from fault


def _open_ended(
    template: ChatTemplate,
    name: str,
    conversation: list[dict[str, Any]],
    field: str,
    variables: Mapping[str, Any],
) -> str:
    """The prompt up to the end of the last message, which the model continues."""
    last = f"{name}[{len(conversation) - 1}]"
    message = conversation[-1]
    text = message.get(field)
    if text is None:
        raise ValueError(f"{last} has no {_quoted(field)} to continue (continue_final_message)")
    fields = chat_messages.same_text(message, field)
    if not any(one in template.text for one in fields):
        raise ValueError(
            f'{template.place}: the chat template does not use "{field}", so '
            "continue_final_message cannot continue it"
        )
    marked: Any
    if isinstance(text, list | tuple):
        place = max((i for i, part in enumerate(text) if "text" in part), default=None)
        if place is None:
            raise ValueError(f'{last}["{field}"] has no text to continue')
        part = text[place]
        text = part["text"]
        marked = [*message[field]]
        marked[place] = part | {"text": text + _END}
    elif isinstance(text, str):
        marked = text + _END
    else:
        raise TypeError(f'{last}["{field}"] must be a string, not {checks.shown(text)}')
    changed = message | dict.fromkeys(fields, marked)
    rendered = _rendered(template, name, [*conversation[:-1], changed], variables)
    end = rendered.rfind(_END.strip())
    if end < 0 or text.strip() not in rendered:
        raise ValueError(
            f"{template.place}: the chat template does not write {last} in full, so "
            "continue_final_message cannot continue it"
        )
    kept = rendered[:end]
    # A template that trims the message would trim the spaces at its end as well.
    return kept if rendered[end:].startswith(_END) else kept.rstrip()


def _continued(value: Any) -> str | None:
    """The field that is continued, if any."""
    if isinstance(value, str) and value:
        return value
    return "content" if checks.boolean("continue_final_message", value) else None


def _described(tools: Any) -> Any:
    """Tools as JSON schemas; functions are described by transformers, from their docstrings."""
    if not isinstance(tools, list | tuple) or not any(map(callable, tools)):
        return tools
    from transformers.utils import get_json_schema

    found = []
    for place, tool in enumerate(tools):
        try:
            found.append(get_json_schema(tool) if callable(tool) else tool)
        except MemoryError:
            raise
        except Exception as error:
            raise ValueError(f"tools[{place}] cannot be described: {error}") from error
    return found


def _special_tokens(tokenizer: Any) -> dict[str, Any]:
    """The special tokens by the names that templates use, such as "bos_token"."""
    return {
        name: str(token)
        for name, token in (getattr(tokenizer, "special_tokens_map", None) or {}).items()
        if isinstance(token, str)
    }


def _more(variables: Any) -> dict[str, Any]:
    """The caller's own variables, checked."""
    if variables is None:
        return {}
    if not isinstance(variables, Mapping):
        raise TypeError(f"chat_template_kwargs must be a dictionary, not {checks.shown(variables)}")
    for name in _OWN:
        if name in variables:
            raise ValueError(
                f"chat_template_kwargs has {name!r}, which is an argument of its own; give it there"
            )
    found: dict[str, Any] = chat_messages.plain("chat_template_kwargs", variables)
    return found


def _quoted(field: str) -> str:
    """The name of a field as JSON has it, on one line and not long."""
    return json.dumps(field if len(field) <= _SHOWN else f"{field[:_SHOWN]}...")
