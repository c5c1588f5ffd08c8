"""The sweep: is a small model of each architecture decoded as transformers decodes it?

`python tests/sweep.py` compares every model type, or those named on the command line, and prints a
line for each; `--write` updates `docs/architectures.csv`, the table of expected outcomes.
"""

from __future__ import annotations

import csv
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import causal_models
import torch
from fastdecode import Decoder
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

TABLE = Path(__file__).resolve().parent.parent / "docs" / "architectures.csv"
COLUMNS = ("model type", "class", "outcome", "mode", "note")
# The version of transformers that the table was made with.
VERSION = "5.24"
EQUAL, SLOWER, REFUSED, NOT_BUILT = "equal", "equal, slower", "refused", "not built"
DIFFERS = "differs"
# The mode of an engine whose batches need nothing special.
FASTEST = "padded"

NEW_TOKENS = 8
BEAMS = 3
SAMPLING = {"temperature": 0.9, "top_p": 0.95}
SEEDS = (7, 8)
# Logits of float32 passes of different shapes agree to about 1e-5; choices between tokens that are
# closer than this are not compared.
TIE = 1e-3


@dataclass(frozen=True)
class Outcome:
    """What became of one model type.

    Attributes:
        model_type: its name in transformers' mapping.
        architecture: its class.
        outcome: one of the constants above.
        mode: how its batches run, as in `Capabilities.mode`; empty where there is none.
        note: the reason where it is refused or not built, what transformers does wrong, and what
            differs.
    """

    model_type: str
    architecture: str
    outcome: str
    mode: str = ""
    note: str = ""


class Differs(Exception):
    """Two results that should be the same."""


def compare(model_type: str, **options: Any) -> Outcome:
    """Build a small model of `model_type`, decode with it, and compare with transformers.

    Args:
        model_type: its name in transformers' mapping.
        **options: further arguments of `Decoder`.
    """
    architecture = causal_models.architectures()[model_type]

    def outcome(kind: str, note: str, mode: str = "") -> Outcome:
        return Outcome(model_type, architecture, kind, mode, note)

    try:
        model = causal_models.build(model_type)
    except Exception as error:  # whatever transformers raises
        return outcome(NOT_BUILT, one_line(error))
    size = model.config.get_text_config(decoder=True).vocab_size
    try:
        decoder = Decoder(model, word_tokenizer(size), engine="transformers", **options)
    except (TypeError, ValueError) as error:
        return outcome(REFUSED, one_line(error))
    except Exception as error:
        return outcome(DIFFERS, f"opening: {type(error).__name__}: {one_line(error)}")
    try:
        case = Case(model, decoder)
    except Exception as error:
        return outcome(DIFFERS, f"transformers: {type(error).__name__}: {one_line(error)}")
    found = []
    for check in CHECKS:
        try:
            check(case)
        except Differs as difference:
            found.append(f"{check.__name__}: {difference}")
        except Exception as error:
            found.append(f"{check.__name__}: {type(error).__name__}: {one_line(error)}")
    mode = decoder.engine.capabilities.mode
    if found:
        return outcome(DIFFERS, "; ".join([*case.notes, *found]), mode)
    return outcome(EQUAL if mode == FASTEST else SLOWER, "; ".join(case.notes), mode)


class Case:
    """A model, its decoder, prompts of different lengths, and their right continuations.

    Attributes:
        greedy: the greedy continuation of each prompt: transformers', or that of plain passes where
            transformers' `generate` fails or has other logits than plain passes.
        notes: what is wrong on transformers' side.
    """

    def __init__(self, model: Any, decoder: Decoder) -> None:
        self.model = model
        self.decoder = decoder
        generator = torch.Generator().manual_seed(1)
        self.prompts: list[list[int]] = [
            torch.randint(10, 100, (length,), generator=generator).tolist()
            for length in (5, 1, 13, 9)
        ]
        self.texts = [text_of(prompt) for prompt in self.prompts]
        self.notes: list[str] = []
        try:
            self.greedy = [self.transformers_greedy(prompt) for prompt in self.prompts]
        except Differs:
            self.note("transformers' generate differs from its own plain pass")
        except Exception as error:
            self.note(f"transformers' generate fails ({type(error).__name__})")
        if self.notes:
            self.greedy = [self.plain_greedy(prompt) for prompt in self.prompts]

    def transformers(self, prompt: Sequence[int], **keywords: Any) -> Any:
        """transformers' `generate`, for this prompt alone."""
        ids = torch.tensor([prompt])
        return self.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            return_dict_in_generate=True,
            **keywords,
        )

    def transformers_greedy(self, prompt: list[int]) -> list[int]:
        """transformers' greedy tokens.

        Raises:
            Differs: where their logits are not those of a plain pass.
        """
        output = self.transformers(prompt, output_logits=True)
        tokens: list[int] = output.sequences[0].tolist()
        rows = self.logprobs(tokens[:-1])[len(prompt) - 1 :]
        noted = torch.cat(output.logits).double().log_softmax(-1)
        if float((rows - noted).abs().max()) > TIE:
            raise Differs
        return tokens[len(prompt) :]

    def transformers_beams(self, prompt: list[int]) -> list[list[int]] | None:
        """transformers' beams, best first; None, with a note, where it fails at them."""
        try:
            output = self.transformers(prompt, num_beams=BEAMS, num_return_sequences=BEAMS)
        except Exception as error:
            self.note(f"transformers' beam search fails ({type(error).__name__})")
            return None
        return [row[len(prompt) :] for row in output.sequences.tolist()]

    def plain_beams(self, prompt: list[int]) -> list[list[int]]:
        """The beams by a plain pass for each beam and token, best first."""
        beams: list[tuple[float, list[int]]] = [(0.0, [])]
        for _ in range(NEW_TOKENS):
            grown = []
            for total, tokens in beams:
                row = self.logprobs(prompt + tokens)[-1]
                best = row.topk(BEAMS)
                for logprob, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                    grown.append((total + logprob, [*tokens, token]))
            beams = sorted(grown, reverse=True)[:BEAMS]
        return [tokens for _, tokens in beams]

    def same_beams(self, prompt: list[int], ours: list[list[int]], right: list[list[int]]) -> bool:
        """Whether these are the same beams, up to the order of beams that tie."""
        if ours == right:
            return True
        sums = [[self.plain_sum(prompt, beam) for beam in side] for side in (ours, right)]
        return max(abs(a - b) for a, b in zip(*sums, strict=True)) < TIE

    def note(self, text: str) -> None:
        """Keep a note, but no second one: where greedy decoding fails, so do beams."""
        if not self.notes:
            self.notes.append(text)

    def plain_greedy(self, prompt: list[int]) -> list[int]:
        """Greedy tokens by a plain pass for each."""
        tokens = list(prompt)
        for _ in range(NEW_TOKENS):
            tokens.append(int(plain(self.model, tokens)[-1].argmax()))
        return tokens[len(prompt) :]

    def logprobs(self, tokens: Sequence[int]) -> torch.Tensor:
        """Log-probabilities after each token, by one plain pass, shape (tokens, vocabulary)."""
        return plain(self.model, tokens).log_softmax(-1)

    def check_greedy(self, place: int, ours: list[int], end: int | None = None) -> None:
        """That these are the tokens of prompt `place`, up to choices between tokens that tie."""
        prompt, right = self.prompts[place], self.greedy[place]
        if end in right:
            right = right[: right.index(end) + 1]
        if ours == right:
            return
        pairs = zip(ours, right, strict=False)
        first = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        if first is not None:
            row = self.logprobs(prompt + right[:first])[-1]
            if float((row[ours[first]] - row[right[first]]).abs()) < TIE:
                return
        raise Differs(f"{len(prompt)} tokens -> {ours}, not {right}")

    def check_noted(self, prompt: list[int], generation: Any) -> None:
        """That the log-probabilities noted on the way are those of a plain pass."""
        tokens = generation.token_ids
        rows = self.logprobs(prompt + tokens)[len(prompt) - 1 :]
        gaps = [
            abs(float(rows[place, token]) - noted)
            for place, (token, noted) in enumerate(zip(tokens, generation.logprobs, strict=True))
        ]
        if not max(gaps) <= TIE:
            place = gaps.index(max(gaps))
            raise Differs(f"token {place + 1} is {max(gaps):.3g} nats away from a plain pass")

    def plain_sum(self, prompt: list[int], tokens: list[int]) -> float:
        """The log-probability of `tokens` after `prompt`, by one plain pass."""
        rows = self.logprobs(prompt + tokens)[len(prompt) - 1 :]
        return sum(float(rows[place, token]) for place, token in enumerate(tokens))


def depends(case: Case) -> None:
    """The small model depends on its whole prompt; else a forgotten one would go unnoticed."""
    one, other = (plain(case.model, [first, *range(20, 25)])[-1] for first in (10, 11))
    gap = float((one - other).abs().max())
    if gap < 30 * TIE:
        raise Differs(f"the first token changes the last logits by {gap:.3g} only")


def greedy(case: Case) -> None:
    """A ragged batch gives what transformers gives for each prompt alone."""
    found = case.decoder.generate(case.texts, max_new_tokens=NEW_TOKENS, logprobs=0)
    for place, ours in enumerate(found):
        case.check_greedy(place, ours.token_ids)
        case.check_noted(case.prompts[place], ours)


def ends(case: Case) -> None:
    """A row that ends early changes no other."""
    end = case.greedy[0][1]
    found = case.decoder.generate(case.texts, max_new_tokens=NEW_TOKENS, eos_token_id=end)
    for place, ours in enumerate(found):
        case.check_greedy(place, ours.token_ids, end)


def samples(case: Case) -> None:
    """Samples in one batch are those of each row alone, with the model's own probabilities."""
    # A draw may fall on the border between two tokens, which a rounding moves, but not twice.
    found = _samples(case, SEEDS[0])
    if found and _samples(case, SEEDS[1]):
        raise Differs(found)


def _samples(case: Case, seed: int) -> str:
    """What differs with this seed; empty where nothing does."""
    keywords = {"max_new_tokens": NEW_TOKENS, "n": 3, "logprobs": 0, "seed": seed, **SAMPLING}
    together = case.decoder.generate(case.texts, **keywords)
    for place, prompt in enumerate(case.prompts):
        for row in together[3 * place : 3 * place + 3]:
            case.check_noted(prompt, row)
    alone = case.decoder.generate(case.texts, batch_size=1, **keywords)
    for ours, right in zip(together, alone, strict=True):
        if ours.token_ids != right.token_ids:
            return f"{ours.token_ids} in a batch, {right.token_ids} alone"
    return ""


def beams(case: Case) -> None:
    """The beams are transformers', each with its log-probability."""
    places = [0, 2]
    found = case.decoder.generate(
        [case.texts[place] for place in places],
        max_new_tokens=NEW_TOKENS,
        num_beams=BEAMS,
        num_return_sequences=BEAMS,
        logprobs=0,
    )
    for index, place in enumerate(places):
        prompt = case.prompts[place]
        ours = found[BEAMS * index : BEAMS * (index + 1)]
        for beam in ours:
            case.check_noted(prompt, beam)
        tokens = [beam.token_ids for beam in ours]
        right = case.transformers_beams(prompt)
        if not (right and case.same_beams(prompt, tokens, right)):
            # transformers' beams are not the model's where it cannot reorder the state.
            plain_beams = case.plain_beams(prompt)
            if not case.same_beams(prompt, tokens, plain_beams):
                raise Differs(f"{tokens}, not {plain_beams}")
            case.note("transformers' beam search differs from its own plain pass")


def score(case: Case) -> None:
    """Scores in a ragged batch are those of one plain pass over each text alone."""
    tokens = [prompt + new for prompt, new in zip(case.prompts, case.greedy, strict=True)]
    found = case.decoder.score([text_of(text) for text in tokens], bos=False, eos=False)
    for text, ours in zip(tokens, found, strict=True):
        rows = case.logprobs(text)
        right = [float(rows[place, token]) for place, token in enumerate(text[1:])]
        known = [value for value in ours.token_logprobs if value is not None]
        if len(known) != len(right):
            raise Differs(f"{len(known)} tokens are scored, not {len(right)}")
        gap = max(abs(a - b) for a, b in zip(known, right, strict=True))
        if gap > TIE:
            raise Differs(f"a log-probability is off by {gap:.3g}")


def streams(case: Case) -> None:
    """Two open streams do not disturb each other."""
    places = [0, 2]
    opened = [case.decoder.stream(case.texts[place], max_new_tokens=NEW_TOKENS) for place in places]
    found: list[list[int]] = [[], []]
    for steps in zip(*opened, strict=True):
        for row, step in zip(found, steps, strict=True):
            row.append(step.token_id)
    for place, ours in zip(places, found, strict=True):
        case.check_greedy(place, ours)


CHECKS: list[Callable[[Case], None]] = [depends, greedy, ends, samples, beams, score, streams]


@torch.inference_mode()
def plain(model: Any, tokens: Sequence[int]) -> torch.Tensor:
    """Logits after each token, shape (tokens, vocabulary), by one pass without a cache."""
    logits: torch.Tensor = model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits
    if logits.ndim != 3:
        raise ValueError(f"logits have shape {tuple(logits.shape)}")
    return logits[0].double()


def word_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose token i is the word "w<i>"."""
    words = {f"w{token}": token for token in range(size)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def text_of(tokens: Sequence[int]) -> str:
    """The text that `word_tokenizer` splits into these tokens."""
    return " ".join(f"w{token}" for token in tokens)


def one_line(error: BaseException) -> str:
    """The message on one line, at most 200 characters."""
    text = " ".join((str(error) or type(error).__name__).split())
    return text if len(text) <= 200 else text[:199] + "…"


def expected() -> dict[str, Outcome]:
    """The outcomes in `docs/architectures.csv`, by model type."""
    if not TABLE.exists():
        return {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {row["model type"]: Outcome(*(row[column] for column in COLUMNS)) for row in rows}


def write(outcomes: dict[str, Outcome]) -> None:
    """Replace `docs/architectures.csv`."""
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for model_type in sorted(outcomes):
            writer.writerow(astuple(outcomes[model_type]))


def main(arguments: Sequence[str]) -> None:
    """Compare, print, and write on request."""
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    named = [argument for argument in arguments if not argument.startswith("-")]
    outcomes = expected()
    started = time.perf_counter()
    for model_type in named or sorted(causal_models.architectures()):
        before = time.perf_counter()
        found = compare(model_type)
        seconds = time.perf_counter() - before
        print(
            f"{seconds:5.1f} s  {model_type}: {found.outcome} [{found.mode}] {found.note}",
            flush=True,
        )
        outcomes[model_type] = found
    print(f"{time.perf_counter() - started:.0f} s in all")
    if "--write" in arguments:
        write(outcomes)


if __name__ == "__main__":
    main(sys.argv[1:])
