"""The table of sampling parameters.

The core declares each parameter: name, kind, default, range, help, and the order in which they act.
A row here adds what only Python knows. Keywords, command-line options, hypothesis strategies, saved
runs, `sampling_keywords.py` and `docs/parameters.md` all follow from the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fastdecode._core import Beam, Sample, parameters


@dataclass(frozen=True, slots=True)
class Row:
    """What Python adds to a parameter of the core.

    Attributes:
        transformers: transformers' name for it, None where it has none.
        transformers_off: the value with which transformers switches it off, where the core has no
            such value or another one; None is off in any case.
        flags: further spellings on the command line, besides `--name-with-hyphens`.
    """

    transformers: str | None = None
    transformers_off: Any = None
    flags: tuple[str, ...] = ()


ROWS: dict[str, Row] = {
    "logit_bias": Row("sequence_bias"),
    "repetition_penalty": Row("repetition_penalty"),
    "frequency_penalty": Row(),
    "presence_penalty": Row(),
    "penalties_count_prompt": Row(),
    "dry": Row(),
    "no_repeat_ngram_size": Row("no_repeat_ngram_size", flags=("--no-repeat-ngram",)),
    "bad_words": Row("bad_words_ids"),
    "min_new_tokens": Row("min_new_tokens"),
    "allowed": Row(),
    "temperature": Row("temperature", flags=("-t",)),
    "dynamic_temperature": Row(),
    "top_n_sigma": Row(),
    "top_k": Row("top_k", transformers_off=0),
    "top_p": Row("top_p"),
    "min_p": Row("min_p"),
    "top_a": Row(),
    "typical_p": Row("typical_p", transformers_off=1.0),
    "epsilon_cutoff": Row("epsilon_cutoff", transformers_off=0.0),
    "eta_cutoff": Row("eta_cutoff", transformers_off=0.0),
    "mirostat": Row(),
    "xtc": Row(),
}

# Parameters of `Sample` that `generate` takes from the model unless the caller gives them.
OF_THE_MODEL = ("eos_token_id",)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of `Sample`: what the core declares, and its row.

    Attributes:
        name: its name in Python.
        stage: whether it edits logits, or changes or cuts the distribution.
        kind: the type of its values: "flag", "integer", "number", "numbers", "tokens",
            "sequences", "biases" or "record".
        default: the value of `Sample` where none is given.
        range: the values that are accepted, in words.
        help: what it does. The first sentence can stand alone.
        names: what the values of a "numbers" are called.
        required: how many of them have to be given.
        fields: the entries of a "record".
        row: what Python adds.
    """

    name: str
    stage: Literal["processor", "truncation"]
    kind: str
    default: Any
    range: str
    help: str
    row: Row
    names: tuple[str, ...] = ()
    required: int = 0
    fields: tuple[Mapping[str, Any], ...] = ()

    @property
    def affects_greedy(self) -> bool:
        """Whether greedy decoding feels it: it edits the logits that greedy compares."""
        return self.stage == "processor"

    @property
    def needs_only_the_row(self) -> bool:
        """Whether it is a truncation that depends on the row alone, not on a key or a state.

        A beam search has nothing but rows, so the core refuses the others there.
        """
        if self.affects_greedy:
            return False
        examples: dict[str, Any] = {"integer": 1, "number": 0.5, "numbers": (0.5,) * self.required}
        try:
            Beam(2, sample=Sample(**{self.name: examples[self.kind]}))
        except ValueError:
            return False
        return True

    @property
    def alias(self) -> str | None:
        """transformers' name, where it is another one."""
        return None if self.row.transformers == self.name else self.row.transformers

    @property
    def unset(self) -> Any:
        """The value, besides None, that counts as not given.

        A truncation that is given asks for sampling even where it cuts nothing, so its default
        counts as given; what transformers writes for "off" does not.
        """
        return self.default if self.affects_greedy else self.row.transformers_off


def _joined(declared: Mapping[str, Any]) -> Parameter:
    facts = {name: declared[name] for name in ("name", "stage", "kind", "default", "range", "help")}
    return Parameter(
        **facts,
        # A test requires a row for each; without one, a new parameter can be tried at once.
        row=ROWS.get(declared["name"], Row()),
        names=tuple(declared.get("names", ())),
        required=declared.get("required", 0),
        fields=tuple(declared.get("fields", ())),
    )


# All parameters by name, in the order in which they act.
PARAMETERS: dict[str, Parameter] = {
    declared["name"]: _joined(declared)
    for declared in parameters()
    if declared["name"] not in OF_THE_MODEL
}

# transformers' other names, and whose they are.
ALIASES: dict[str, str] = {p.alias: p.name for p in PARAMETERS.values() if p.alias is not None}

# The keywords of a beam search, each with the value that counts as not given, besides None.
BEAM_KEYWORDS: dict[str, Any] = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "length_penalty": 1.0,
    "early_stopping": False,
    "diversity_penalty": 0.0,
}
