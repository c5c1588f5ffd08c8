"""Help pages that list options in sections, and several options as one decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_OPTIONS = "Options"


class SectionOption(click.Option):
    """An option that the help lists in a section of its own."""

    def __init__(self, *arguments: Any, section: str, **keywords: Any) -> None:
        """Hold the section's title."""
        super().__init__(*arguments, **keywords)
        self.section = section


class Command(click.Command):
    """A command whose help has sections; options without one come first, under "Options"."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        sections: dict[str, list[tuple[str, str]]] = {_OPTIONS: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            # Newer versions of click list arguments here; the description of a command has them.
            if record is not None and isinstance(parameter, click.Option):
                title = getattr(parameter, "section", _OPTIONS)
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records, col_max=28)


class Group(click.Group):
    """A command that lists its subcommands in the order in which they were added."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the subcommands."""
        return list(self.commands)


def combined(*options: Decorator) -> Decorator:
    """Several options as one decorator; the help lists them in this order."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
