"""`fastdecode chat`: a conversation with a model, in a terminal or through a pipe."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastdecode._interrupts import INTERRUPTED
from fastdecode.cli.generate import stop_option
from fastdecode.cli.options.model import model_options, opened
from fastdecode.cli.options.parameters import EPILOG, chosen, parameter_options
from fastdecode.cli.options.sections import Command
from fastdecode.cli.output import emit, json_option, printable, tell, tolerant
from fastdecode.options.keyword_types import DEFAULT_REPLY_TOKENS

if TYPE_CHECKING:
    from fastdecode.models.chat.templates import ChatTemplate

# A reply has at least this share of the context to grow in, if not --max-new-tokens.
_ROOM = 4
# The most bytes of KV cache that are kept from one reply to the next.
_KEPT_BYTES = 512 * 2**20
_COMMAND = re.compile(r"/[a-z]+")
_HELP = """\
/clear   forget the messages so far, but not --system
/exit    end, as does Ctrl-D
Ctrl-C   stop a reply; the part generated so far stays in the conversation"""


@click.command(cls=Command, epilog=EPILOG)
@model_options
@click.option("--system", metavar="TEXT", help="Message to the model before the conversation.")
@click.option(
    "--chat-template",
    "template",
    metavar="FILE",
    help="Jinja template of conversations, in place of the model's own.",
)
@click.option(
    "--max-new-tokens", type=int, default=DEFAULT_REPLY_TOKENS, help="Maximum tokens of each reply."
)
@click.option(
    "--seed",
    type=int,
    help="The same seed and messages give the same replies; without it a fresh one, printed.",
)
@click.option(
    "--sample/--greedy",
    default=None,
    help="Draw tokens, or take the likeliest. Without either, draw if there is --seed or an option "
    "of temperature and truncation.",
)
@stop_option
@json_option
@parameter_options
def chat(
    model: str,
    engine: str,
    dtype: str | None,
    system: str | None,
    template: str | None,
    max_new_tokens: int,
    seed: int | None,
    sample: bool | None,
    stop: Sequence[str],
    as_json: bool,
    **parameters: Any,
) -> None:
    """Talk with a model whose tokenizer has a chat template.

    In a terminal, type a message and press Enter; /help lists the commands. Otherwise
    each line of standard input is a message, and the replies are printed with an empty line between
    them.
    """
    from fastdecode.models.chat.templates import read_template
    from fastdecode.options import checks, keywords

    strategy = chosen(parameters, sample, drawn=seed is not None)
    # A bad value is refused before a model is loaded.
    keywords.read(strategy, None)
    checks.integer("--max-new-tokens", max_new_tokens, 1)
    if system is not None:
        checks.well_formed("--system", system)
    arguments = {
        **strategy,
        "max_new_tokens": max_new_tokens,
        "seed": checks.seed(seed),
        "stop": list(stop) or None,
    }
    # Read once, because it may be a pipe.
    own = (
        None if template is None else read_template(Path(checks.path("--chat-template", template)))
    )
    decoder = opened(model, engine, dtype)
    if own is None and not getattr(decoder.tokenizer, "chat_template", None):
        raise ValueError(
            f"the model {model} has no chat template, which says how a conversation is written; "
            "give one with --chat-template FILE, or continue plain text with fastdecode generate"
        )
    if decoder.engine.name == "native":
        # Each prompt begins with the conversation so far.
        decoder.keep_prefixes(_KEPT_BYTES)
    tolerant()
    interactive = sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
    conversation = _Conversation(decoder, system, own, arguments)
    try:
        if interactive:
            _talk(conversation, as_json)
        else:
            _answer_lines(conversation, as_json)
    finally:
        sys.stdout.flush()
        if strategy["do_sample"] and seed is None and not as_json:
            tell(f"seed {arguments['seed']}")


class _Conversation:
    """The messages so far, and the model that replies to them.

    Attributes:
        left_out: how many messages were left out for the last reply, because the context was full.
    """

    def __init__(
        self,
        decoder: Any,
        system: str | None,
        template: ChatTemplate | None,
        arguments: dict[str, Any],
    ) -> None:
        """Begin, and refuse a template that does not even take a greeting."""
        self._decoder = decoder
        self._template = template
        self._arguments = arguments
        self._system = [] if system is None else [{"role": "system", "content": system}]
        self._messages: list[dict[str, str]] = []
        self._replies = 0
        self.left_out = 0
        self._prompt([{"role": "user", "content": "Hello"}])

    def clear(self) -> None:
        """Forget the messages."""
        self._messages = []

    def reply(self, text: str) -> Iterator[Any]:
        """The steps of the reply to a message of the user.

        Message and reply are remembered when the iterator ends or is closed, a reply that was
        interrupted as far as it came; of a message without any reply nothing is.

        Raises:
            ValueError: where the template refuses the message, or it does not fit into the context.
        """
        messages = self._fitting([*self._messages, {"role": "user", "content": text}])
        steps = self._decoder.stream_chat(
            self._system + messages,
            chat_template=self._template,
            # Each reply has a random stream of its own.
            streams=[self._replies],
            **self._arguments,
        )
        self._replies += 1
        said = ""
        try:
            for step in steps:
                said += step.text
                yield step
        finally:
            if said:
                self._messages = [*messages, {"role": "assistant", "content": said}]

    def _prompt(self, messages: list[dict[str, str]]) -> list[int]:
        text = self._decoder.chat_prompt(self._system + messages, chat_template=self._template)
        ids: list[int] = self._decoder.encode(text, add_special_tokens=False)
        return ids

    def _fitting(self, messages: list[dict[str, str]]) -> list[dict[str, str]]:
        """The messages without the oldest, as far as the context needs room for the reply."""
        context, kept = self._decoder.engine.context, messages
        if context is not None:
            room = min(self._arguments["max_new_tokens"], context // _ROOM)
            while len(self._prompt(kept)) > context - room:
                # What remains begins with a message of the user, as templates expect.
                users = (i for i, one in enumerate(kept) if i > 0 and one["role"] == "user")
                later = next(users, None)
                if later is None:
                    break
                kept = kept[later:]
        self.left_out = len(messages) - len(kept)
        return kept


def _talk(conversation: _Conversation, as_json: bool) -> None:
    """Reply to what is typed in a terminal, until its end."""
    # The arrow keys edit a line, and fetch the lines before it.
    with suppress(ImportError):
        import readline  # noqa: F401 (importing it is what it takes)

    tell("Ctrl-C stops a reply, Ctrl-D ends, /help lists the commands.")
    while True:
        # A second Ctrl-C may come at any place.
        with suppress(KeyboardInterrupt):
            try:
                text = input("> ").strip()
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                tell("\nCtrl-D or /exit ends.")
                continue
            if text == "/exit":
                return
            _obey(conversation, text, as_json)


def _obey(conversation: _Conversation, text: str, as_json: bool) -> None:
    """Do what a line of a terminal says, as a rule reply to it."""
    if text == "/clear":
        conversation.clear()
    elif text == "/help":
        tell(_HELP)
    elif _COMMAND.fullmatch(text):
        tell(f"unknown command {text}; /help lists the commands")
    elif text:
        try:
            _answer(conversation, text, as_json)
        except KeyboardInterrupt:
            print()
        except (ValueError, TypeError) as error:
            tell(f"error: {' '.join(str(error).split())}")


def _answer_lines(conversation: _Conversation, as_json: bool) -> None:
    """Reply to each line of standard input."""
    first = True
    for text in _lines():
        if text == "/exit":
            return
        if text == "/clear":
            conversation.clear()
            continue
        if not first and not as_json:
            print()
        first = False
        try:
            _answer(conversation, text, as_json)
        except KeyboardInterrupt:
            print(end="" if as_json else "\n", flush=True)
            raise click.exceptions.Exit(INTERRUPTED) from None


def _answer(conversation: _Conversation, text: str, as_json: bool) -> None:
    """Print the reply to a message, as it is generated or as a line of JSON.

    Raises:
        ValueError: as for `_Conversation.reply`.
        KeyboardInterrupt: at Ctrl-C; the part of the reply so far is printed, and remembered.
    """
    from fastdecode.jobs.records import Record

    record: Record | None = None
    reason: str | None = "interrupted"
    steps = conversation.reply(text)
    try:
        for step in steps:
            if record is None:
                _note_of_left_out(conversation)
                record = Record(text, step, None)
            record.step(step)
            reason = step.finish_reason
            if not as_json:
                shown = printable(step.text) if sys.stdout.isatty() else step.text
                print(shown, end="", flush=True)
    except KeyboardInterrupt:
        reason = "interrupted"
        raise
    finally:
        steps.close()  # type: ignore[attr-defined]
        if as_json and record is not None:
            emit(record.ended(reason))
    if not as_json:
        print(flush=True)
        if reason in ("length", "context") and sys.stderr.isatty():
            limit = "--max-new-tokens" if reason == "length" else "the model's context"
            tell(f"note: the reply was cut at {limit}")


def _note_of_left_out(conversation: _Conversation) -> None:
    count = conversation.left_out
    if count:
        oldest = "oldest message is" if count == 1 else f"oldest {count} messages are"
        tell(f"note: the context is full; the {oldest} left out")


def _lines() -> Iterator[str]:
    """The lines of standard input that are not blank, each as soon as it is there.

    Raises:
        ValueError: where one is not UTF-8.
    """
    from fastdecode.files.reading import Place, decoded

    # An input in memory has text.
    lines = getattr(sys.stdin, "buffer", sys.stdin) or ()
    for number, line in enumerate(lines, 1):
        text = line if isinstance(line, str) else decoded(line, Place("standard input", number))
        if text := text.removeprefix("\ufeff").strip():
            yield text
