"""Chat templates: where a tokenizer's files have them, and which one a call uses."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdecode.files.inner import Folder
from fastdecode.files.reading import Place, decoded, read_json
from fastdecode.models.settings import read_object
from fastdecode.options import checks

_FILE = "chat_template.jinja"
_FOLDER = "additional_chat_templates"
_DEFAULT = "default"
_TOOLS = "tool_use"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A Jinja template of conversations.

    Attributes:
        text: the template.
        place: where it comes from, for error messages: a file, or the argument of a call.
    """

    text: str
    place: str


class ChatTemplates(dict[str, ChatTemplate]):
    """The templates of a tokenizer by their names; a single one has the name "default"."""

    @classmethod
    def of_folder(cls, folder: Folder, settings: Mapping[str, Any]) -> ChatTemplates:
        """Read them where transformers does.

        `chat_template.jinja` and `additional_chat_templates/NAME.jinja` come before `chat_template`
        in `tokenizer_config.json`, a template or several by name.

        Args:
            folder: where the tokenizer's files are.
            settings: the object in `tokenizer_config.json`.

        Raises:
            ValueError: for a template without a name, and for files that are not UTF-8.
            OSError: where a file cannot be read.
        """
        found = cls()
        paths = {_DEFAULT: folder / _FILE} if (folder / _FILE).is_file() else {}
        more: Iterable[Folder] = (folder / _FOLDER).glob("*.jinja")
        paths |= {path.stem: path for path in sorted(more, key=str)}
        for name, path in paths.items():
            found[name] = ChatTemplate(_read(path), str(path))
        return found or cls.of_value(
            settings.get("chat_template"), f"{folder / 'tokenizer_config.json'}: chat_template"
        )

    @classmethod
    def of_value(cls, value: Any, place: str) -> ChatTemplates:
        """Those of the value of a setting: a text, or several by name.

        Args:
            value: a text; a mapping; or a list of objects with "name" and "template"; or None.
            place: where it is, for error messages.

        Raises:
            ValueError: for a template without a name.
        """
        if value is None:
            return cls()
        if isinstance(value, str):
            return cls({_DEFAULT: ChatTemplate(value, place)})
        if not isinstance(value, Mapping):
            for row, item in enumerate(value):
                if not isinstance(item.get("name"), str):
                    raise ValueError(f'{place}[{row}] has no "name", which must be a string')
            value = {item["name"]: item["template"] for item in value}
        return cls({name: ChatTemplate(text, f"{place} {name!r}") for name, text in value.items()})

    @classmethod
    def of_tokenizer(cls, tokenizer: Any) -> ChatTemplates:
        """Those of a tokenizer object."""
        known = getattr(tokenizer, "chat_templates", None)
        if isinstance(known, cls):
            return known
        value = getattr(tokenizer, "chat_template", None)
        found = cls.of_value(value, "the tokenizer's chat_template")
        folder = getattr(tokenizer, "name_or_path", None)
        if not found or not isinstance(folder, str) or not folder:
            return found
        folder = Path(folder)
        with suppress(OSError, ValueError):
            # A tokenizer of transformers has the texts, and not the files that they come from.
            stored = cls.of_folder(folder, read_object(folder / "tokenizer_config.json"))
            found |= {
                name: template
                for name, template in stored.items()
                if name in found and found[name].text == template.text
            }
        return found

    def value(self) -> str | dict[str, str] | None:
        """As tokenizers of transformers have them: a text, several by name, or None."""
        if self.keys() == {_DEFAULT}:
            return self[_DEFAULT].text
        return {name: template.text for name, template in self.items()} or None

    def chosen(self, given: Any = None, *, tools: bool = False) -> ChatTemplate:
        """The template of a call.

        Args:
            given: what the caller gave: a template, also as this class has it, the name of one of
                these, the path of a file, or None.
            tools: whether the call has tools, for which there may be a template of its own.

        Raises:
            TypeError: for anything else.
            ValueError: where there is none, or `given` is neither a template nor a name.
            OSError: where the file cannot be read.
        """
        names = ", ".join(map(repr, sorted(self)))
        if isinstance(given, ChatTemplate):
            return given
        if isinstance(given, os.PathLike):
            return read_template(Path(given))
        if given is not None and not isinstance(given, str):
            raise TypeError(
                "chat_template must be a Jinja template, the name of one of the model's or a Path, "
                f"not {checks.shown(given)}"
            )
        if given is not None and given not in self:
            if "{" not in given:
                its = f"the model's are {names}" if self else "the model has none"
                raise ValueError(
                    f"chat_template={checks.shown(given)} is neither a Jinja template nor the name "
                    f"of one; {its}; a file is given as a pathlib.Path"
                )
            return ChatTemplate(given, "chat_template")
        if not self:
            raise ValueError(
                "the model's tokenizer has no chat template, so the model does not say how to "
                "write a conversation; give a Jinja template as chat_template=..., or continue "
                "plain text with generate"
            )
        name = given or (_TOOLS if tools and _TOOLS in self else _DEFAULT)
        if name not in self:
            raise ValueError(
                f"the model has several chat templates and none is the default; choose one with "
                f"chat_template=..., of {names}"
            )
        return self[name]


def read_template(path: Path) -> ChatTemplate:
    """The template in a file of its own, or in the `chat_template` of a JSON file.

    Raises:
        ValueError: where the file is not UTF-8, or JSON without a template.
        OSError: where it cannot be read.
    """
    if path.suffix != ".json":
        return ChatTemplate(_read(path), str(path))
    settings = read_json(path)
    value = settings.get("chat_template") if isinstance(settings, dict) else None
    if not isinstance(value, str):
        raise ValueError(f'{path}: it has no "chat_template" that is a string')
    return ChatTemplate(value, f"{path}: chat_template")


def _read(path: Folder) -> str:
    """A text file, with line ends as Python reads them."""
    text = decoded(path.read_bytes(), Place(str(path)))
    return text.replace("\r\n", "\n").replace("\r", "\n")
