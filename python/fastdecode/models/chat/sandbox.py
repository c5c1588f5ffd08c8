"""Renders chat templates as transformers does: Jinja in its sandbox, with the same additions.

The settings, filters and functions are those of transformers, so that a template gives the same
text; `limits` bounds what it may use up.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from markupsafe import Markup

from fastdecode.models.chat import limits
from fastdecode.models.chat.limits import Exceeded

# The longest template; those of models have a thirtieth of it.
_LONGEST_TEMPLATE = 2**20
_LONGEST_MESSAGE = 300
_NAME = "<chat template>"


class TemplateFault(Exception):
    """What is wrong with a template, or what it says against the messages.

    Attributes:
        problem: a sentence without a subject, which is the template.
        line: where; None where that is not known.
    """

    def __init__(self, problem: str, line: int | None) -> None:
        """Hold both."""
        super().__init__(problem)
        self.problem = problem
        self.line = line


def render(template: str, variables: Mapping[str, Any]) -> str:
    """The text that a template makes of variables.

    Args:
        template: the template.
        variables: plain data, by name.

    Raises:
        TemplateFault: where the template is no valid Jinja, fails, refuses the variables, or uses
            more than `limits` allow.
    """
    if len(template) > _LONGEST_TEMPLATE:
        problem = f"has {len(template):,} characters, more than {_LONGEST_TEMPLATE:,}"
        raise TemplateFault(problem, None)
    try:
        with limits.limited():
            pieces, size = [], 0
            for piece in _compiled(template).generate(variables):
                size += len(piece)
                if size > limits.MOST:
                    limits.spend(size)
                pieces.append(piece)
            return "".join(pieces)
    except MemoryError:
        raise
    except Exception as error:
        line = getattr(error, "lineno", None) or _line(error.__traceback__)
        raise TemplateFault(_problem(error), line) from error


@functools.lru_cache(maxsize=16)
def _compiled(template: str) -> jinja2.Template:
    environment = _environment()
    code = environment.compile(template, filename=_NAME)
    return jinja2.Template.from_code(environment, code, environment.globals)


@functools.cache
def _environment() -> _Environment:
    return _Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_GenerationBlock, loopcontrols],
        finalize=_finalized,
    )


class _Refusal(jinja2.TemplateError):
    """What a template raises itself."""


class _Environment(ImmutableSandboxedEnvironment):
    """The sandbox, with limits at each operation."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.filters["tojson"] = _tojson
        self.filters = {name: _limited(name, one) for name, one in self.filters.items()}
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        self.globals["dict"] = _Dictionaries()
        self.globals["namespace"] = _Namespace
        # Random text of any length has no place in a prompt.
        del self.globals["lipsum"]

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        limits.check_operator(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, function: Any, *given: Any, **named: Any) -> Any:
        given = tuple(limits.check_call(function, given, named))
        return limits.made(super().call(context, function, *given, **named))

    def iteration(self, size: int) -> bool:
        """Count a round of a loop that writes `size` characters of the template's own."""
        limits.spend(size)
        return True

    @jinja2.pass_eval_context
    def concatenation(self, context: nodes.EvalContext, parts: Sequence[Any]) -> str:
        """The texts of `parts`, one after another: the operator `~`."""
        limits.weigh(parts)
        limits.spend(sum(len(part) for part in parts if isinstance(part, str)))
        if context.autoescape:
            return Markup("").join(parts)
        return "".join(map(str, parts))

    def literal(self, value: Any) -> Any:
        """A list, tuple or dictionary that a template writes out."""
        return limits.made(value)

    def _generate(self, source: nodes.Template, *more: Any, **settings: Any) -> str:
        _Limiter(self).visit(source)
        return super()._generate(source, *more, **settings)


class _Limiter(jinja2.visitor.NodeTransformer):
    """Adds the calls that count to what the sandbox does not see: loops, `~`, and literals."""

    def __init__(self, environment: _Environment) -> None:
        self._environment = environment

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """Count each round, and each element that the loop's condition is asked about."""
        size = sum(len(data.data) for data in node.find_all(nodes.TemplateData))
        self.generic_visit(node)
        counted = self._call("iteration", node, nodes.Const(size))
        node.body.insert(0, nodes.ExprStmt(counted, lineno=node.lineno))
        if node.test is not None:
            asked = self._call("iteration", node, nodes.Const(0))
            node.test = nodes.And(asked, node.test, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """`a ~ b` as a call."""
        self.generic_visit(node)
        parts = nodes.Tuple(node.nodes, "load", lineno=node.lineno)
        return self._call("concatenation", node, parts)

    def _literal(self, node: nodes.Expr) -> nodes.Node:
        self.generic_visit(node)
        return self._call("literal", node, node)

    visit_List = visit_Dict = _literal

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        """Tuples are the targets of assignments as well."""
        return self._literal(node) if node.ctx == "load" else node

    def _call(self, method: str, at: nodes.Node, argument: nodes.Expr) -> nodes.Call:
        function = nodes.EnvironmentAttribute(method, lineno=at.lineno)
        call = nodes.Call(function, [argument], [], None, None, lineno=at.lineno)
        call.set_environment(self._environment)
        return call


class _GenerationBlock(Extension):
    """`{% generation %}`, which marks what a model has generated, and changes nothing."""

    tags = {"generation"}  # noqa: RUF012 (Jinja declares it so)

    def parse(self, parser: jinja2.parser.Parser) -> nodes.Node:
        """The block as a call of its own, in which variables are set as in transformers."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_unchanged", lineno=line)
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _unchanged(self, caller: Macro) -> str:
        return str(caller())


class _Dictionaries:
    """`dict` in templates: it makes dictionaries, and has no attributes of the class."""

    def __call__(self, *given: Any, **named: Any) -> dict[Any, Any]:
        return dict(*given, **named)

    def fromkeys(self, *given: Any) -> dict[Any, Any]:
        """As of the class."""
        return dict.fromkeys(*given)


class _Namespace(Namespace):
    """`namespace` in templates: without names that begin with an underscore."""

    def __init__(*given: Any, **named: Any) -> None:
        # A template may name one of its variables `self`.
        this, *rest = given
        values = dict(*rest, **named)
        for name in values:
            _check_name(name)
        Namespace.__init__(this, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        # Namespaces may contain themselves.
        return "<Namespace>"


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"the name {name!r} of a namespace begins with an underscore")


def _limited(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is counted."""
    # The first argument of some filters is the context or the environment.
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def limited(*given: Any, **named: Any) -> Any:
        checked = limits.check_filter(name, given[first:], named)
        return limits.made(function(*given[:first], *checked, **named))

    return limited


def _finalized(value: Any) -> Any:
    """What a template writes, which Jinja turns into text next."""
    if isinstance(value, str):
        limits.spend(len(value))
    else:
        limits.weigh(value)
    return value


def _raise_exception(message: Any) -> NoReturn:
    raise _Refusal(str(message))


def _strftime_now(form: str) -> str:
    limits.spend(len(form))
    return datetime.now().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _line(traceback: TracebackType | None) -> int | None:
    """The line of the template in which an error was raised."""
    found = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == _NAME:
            found = traceback.tb_lineno
        traceback = traceback.tb_next
    return found


def _problem(error: Exception) -> str:
    """The error in words."""
    said = " ".join(str(error).split())
    if len(said) > _LONGEST_MESSAGE:
        said = said[: _LONGEST_MESSAGE - 3] + "..."
    match error:
        case _Refusal():
            return f"refuses the messages: {said}"
        case Exceeded():
            return f"was stopped: {said}"
        case jinja2.TemplateSyntaxError():
            return f"is not valid Jinja: {said}"
        case SecurityError():
            return f"does what no template may: {said}"
        case RecursionError():
            return "was stopped: it is nested too deeply, or calls itself without end"
        case jinja2.UndefinedError():
            return f"fails: {said}"
    return f"fails: {type(error).__name__}: {said}"
