"""The Rust core, as Python sees it. `fastdecode.core` is the public name of what stands here."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final, Literal, SupportsIndex, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "RNG_VERSION",
    "Beam",
    "BeamOutcome",
    "BeamState",
    "BeamStep",
    "DecodeState",
    "DecodeStep",
    "Draws",
    "GgufFile",
    "Listing",
    "NativeModel",
    "NativeRows",
    "Sample",
    "__version__",
    "argmax",
    "check_memory",
    "distribution",
    "log_softmax",
    "logsumexp",
    "multinomial",
    "parameters",
    "philox4x32",
    "probe_memory",
    "sample",
    "token_logprobs",
    "top_k",
    "uniform",
    "weights",
]

__version__: Final[str]
RNG_VERSION: Final[str]

@final
class Sample:
    def __new__(
        cls,
        # Sample's arguments, by tools/generate_signatures.py:
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        *,
        dynamic_temperature: Sequence[float] | None = None,
        top_n_sigma: float | None = None,
        min_p: float | None = None,
        top_a: float | None = None,
        typical_p: float | None = None,
        epsilon_cutoff: float | None = None,
        eta_cutoff: float | None = None,
        mirostat: Sequence[float] | None = None,
        xtc: Sequence[float] | None = None,
        logit_bias: Any = None,
        repetition_penalty: float = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        penalties_count_prompt: bool = True,
        dry: Mapping[str, Any] | None = None,
        no_repeat_ngram_size: int = 0,
        bad_words: Sequence[Sequence[int]] | None = None,
        min_new_tokens: int = 0,
        allowed: Sequence[int] | None = None,
        eos_token_id: Sequence[int] | None = None,
        # end of Sample's arguments
    ) -> Sample: ...
    @property
    def temperature(self) -> float: ...
    @property
    def top_k(self) -> int | None: ...
    @property
    def top_p(self) -> float | None: ...
    @property
    def needs_history(self) -> bool: ...
    @property
    def adapts(self) -> bool: ...
    def settings(self) -> dict[str, Any]: ...
    def with_eos(self, eos_token_id: Sequence[int]) -> Sample: ...
    def check_vocabulary(self, size: int) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...

@final
class Beam:
    def __new__(
        cls,
        num_beams: int = 4,
        length_penalty: float = 1.0,
        early_stopping: bool | Literal["never"] | None = None,
        num_return_sequences: int = 1,
        *,
        num_beam_groups: int = 1,
        diversity_penalty: float = 0.0,
        sample: Sample | None = None,
        stochastic: bool = False,
        allowed: Sequence[int] | Callable[[int, list[int]], Sequence[int]] | None = None,
        # Beam's logits processors, by tools/generate_signatures.py:
        logit_bias: Any = None,
        repetition_penalty: float = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        penalties_count_prompt: bool = True,
        dry: Mapping[str, Any] | None = None,
        no_repeat_ngram_size: int = 0,
        bad_words: Sequence[Sequence[int]] | None = None,
        min_new_tokens: int = 0,
        eos_token_id: Sequence[int] | None = None,
        # end of Beam's logits processors
    ) -> Beam: ...
    @property
    def num_beams(self) -> int: ...
    @property
    def length_penalty(self) -> float: ...
    @property
    def early_stopping(self) -> bool | Literal["never"]: ...
    @property
    def num_return_sequences(self) -> int: ...
    @property
    def num_beam_groups(self) -> int: ...
    @property
    def diversity_penalty(self) -> float: ...
    @property
    def sample(self) -> Sample | None: ...
    @property
    def stochastic(self) -> bool: ...
    @property
    def allowed(self) -> Callable[[int, list[int]], Sequence[int]] | None: ...
    def settings(self) -> dict[str, Any]: ...
    def with_eos(self, eos_token_id: Sequence[int]) -> Beam: ...
    def check_vocabulary(self, size: int) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]: ...

@final
class BeamStep:
    @property
    def tokens(self) -> NDArray[np.int64]: ...
    @property
    def parents(self) -> NDArray[np.int64]: ...
    @property
    def done(self) -> list[int]: ...

@final
class BeamOutcome:
    @property
    def token_ids(self) -> list[int]: ...
    @property
    def logprobs(self) -> list[float]: ...
    @property
    def score(self) -> float: ...
    @property
    def ending(self) -> Literal["eos", "length", "stop"] | None: ...
    @property
    def node(self) -> int: ...
    @property
    def inclusion(self) -> float | None: ...

@final
class BeamState:
    def __new__(
        cls,
        beam: Beam,
        prompts: Sequence[Sequence[int]],
        limits: Sequence[int],
        *,
        eos_token_ids: Sequence[int],
        seed: SupportsIndex | None = None,
        streams: SupportsIndex | Sequence[SupportsIndex] | NDArray[np.integer[Any]] | None = None,
        indices: SupportsIndex | Sequence[SupportsIndex] | NDArray[np.integer[Any]] | None = None,
        trace: bool = False,
    ) -> BeamState: ...
    @property
    def rows(self) -> int: ...
    def step(
        self,
        logits: Any,
        allowed: Sequence[Sequence[int] | None] | None = None,
        stop: Callable[[int, list[int]], bool] | None = None,
    ) -> BeamStep: ...
    def live(self) -> list[tuple[int, list[int]]]: ...
    def outcomes(self, prompt: int) -> list[BeamOutcome]: ...
    def settled(self, prompt: int) -> tuple[list[int], list[float]]: ...
    def expansions(
        self, prompt: int
    ) -> list[
        tuple[
            int,
            int,
            int,
            float,
            float,
            Literal["kept", "finished", "pruned"],
            int | None,
        ]
    ]: ...

@final
class Listing:
    def __new__(
        cls, min_probability: float, max_new_tokens: int, eos_token_ids: Sequence[int]
    ) -> Listing: ...
    @property
    def rows(self) -> int: ...
    def step(self, logits: Any) -> BeamStep: ...
    def outcomes(self) -> list[BeamOutcome]: ...

@final
class DecodeStep:
    @property
    def tokens(self) -> NDArray[np.int64]: ...
    @property
    def committable(self) -> NDArray[np.int64]: ...
    @property
    def logprobs(self) -> NDArray[np.float64]: ...
    @property
    def weights(self) -> NDArray[np.uint64]: ...
    @property
    def tickets(self) -> NDArray[np.uint64]: ...
    @property
    def totals(self) -> NDArray[np.uint64]: ...
    @property
    def mus(self) -> NDArray[np.float64]: ...
    @property
    def raw_logprobs(self) -> NDArray[np.float64]: ...
    @property
    def processed_logprobs(self) -> NDArray[np.float64]: ...
    @property
    def kept_logprobs(self) -> NDArray[np.float64]: ...
    @property
    def alternatives(self) -> list[list[tuple[int, float]]]: ...
    @property
    def candidates(self) -> list[list[tuple[int, float, int]]]: ...
    @property
    def ranks(self) -> NDArray[np.int64]: ...
    @property
    def kept(self) -> NDArray[np.int64]: ...
    @property
    def entropies_before(self) -> NDArray[np.float64]: ...
    @property
    def entropies_after(self) -> NDArray[np.float64]: ...
    def __len__(self) -> int: ...

@final
class DecodeState:
    def __new__(
        cls,
        prompts: Sequence[Sequence[int] | NDArray[np.uint32]],
        params: Sample | None = None,
        *,
        seed: SupportsIndex,
        limits: SupportsIndex | Sequence[SupportsIndex] | NDArray[np.integer[Any]],
        streams: SupportsIndex | Sequence[SupportsIndex] | NDArray[np.integer[Any]] | None = None,
        samples: SupportsIndex | Sequence[SupportsIndex] | NDArray[np.integer[Any]] | None = None,
        limit_reasons: str | Sequence[str] | None = None,
        eos_token_ids: Sequence[int] | None = None,
        prompt_lengths: SupportsIndex
        | Sequence[SupportsIndex]
        | NDArray[np.integer[Any]]
        | None = None,
        mus: Sequence[float] | NDArray[np.float64] | None = None,
    ) -> DecodeState: ...
    def __len__(self) -> int: ...
    def join(self, other: DecodeState) -> None: ...
    def keep(self, rows: Sequence[int] | NDArray[np.int64]) -> None: ...
    def fork(self, row: int, sample: SupportsIndex) -> None: ...
    @property
    def reasons(self) -> list[Literal["eos", "length", "context"] | None]: ...
    @property
    def positions(self) -> NDArray[np.int64]: ...
    @property
    def mus(self) -> NDArray[np.float64]: ...
    def generated(self) -> list[list[int]]: ...
    def step(
        self,
        logits: Any,
        *,
        raw_logprobs: bool = False,
        processed_logprobs: bool = False,
        alternatives: SupportsIndex | None = None,
        ledger: bool = False,
        candidates: SupportsIndex | None = None,
    ) -> DecodeStep: ...
    def process(
        self, logits: Any, proposed: Sequence[Sequence[int]] | None = None
    ) -> NDArray[np.float32]: ...
    def draw(
        self,
        logits: Any,
        processed: Any = None,
        *,
        proposed: Sequence[Sequence[int]] | None = None,
        raw_logprobs: bool = False,
        processed_logprobs: bool = False,
        alternatives: SupportsIndex | None = None,
        ledger: bool = False,
        candidates: SupportsIndex | None = None,
    ) -> DecodeStep: ...
    def commit(
        self, drawn: DecodeStep, counts: Sequence[int] | NDArray[np.int64] | None = None
    ) -> None: ...

@final
class Draws:
    @property
    def tokens(self) -> NDArray[np.int64]: ...
    @property
    def logprobs(self) -> NDArray[np.float64]: ...
    @property
    def kept(self) -> NDArray[np.int64]: ...
    @property
    def tickets(self) -> NDArray[np.uint64]: ...
    @property
    def totals(self) -> NDArray[np.uint64]: ...
    @property
    def mus(self) -> NDArray[np.float64]: ...
    @property
    def raw_logprobs(self) -> NDArray[np.float64]: ...
    @property
    def ranks(self) -> NDArray[np.int64]: ...
    @property
    def kept_logprobs(self) -> NDArray[np.float64]: ...
    @property
    def entropies_before(self) -> NDArray[np.float64]: ...
    @property
    def entropies_after(self) -> NDArray[np.float64]: ...
    @property
    def alternatives(self) -> list[list[tuple[int, float]]]: ...
    def __len__(self) -> int: ...

@final
class NativeModel:
    @staticmethod
    def from_folder(
        path: str | PathLike[str], dtype: str = "float32", kv_cache_dtype: str = "float32"
    ) -> NativeModel: ...
    @staticmethod
    def from_gguf(
        file: GgufFile | str | PathLike[str],
        dtype: str = "float32",
        kv_cache_dtype: str = "float32",
    ) -> NativeModel: ...
    @staticmethod
    def from_arrays(
        config: str,
        tensors: dict[str, NDArray[Any]],
        dtype: str = "float32",
        kv_cache_dtype: str = "float32",
    ) -> NativeModel: ...
    @staticmethod
    def check(config: str) -> None: ...
    @property
    def dtype(self) -> str: ...
    @property
    def kv_cache_dtype(self) -> str: ...
    @property
    def definition(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def bytes_per_token(self) -> int: ...
    @property
    def cache_nbytes(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def level(self) -> str: ...
    def read_seconds(self) -> float: ...
    def rows(self) -> NativeRows: ...
    def all_logits(self, tokens: Sequence[int]) -> NDArray[np.float32]: ...

@final
class GgufFile:
    def __new__(cls, path: str | PathLike[str]) -> GgufFile: ...
    @property
    def path(self) -> Path: ...
    def check(self) -> None: ...
    @property
    def version(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def alignment(self) -> int: ...
    def keys(self) -> list[str]: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __getitem__(self, key: str, /) -> Any: ...
    def get(self, key: str, default: Any = None) -> Any: ...
    def tensors(self) -> list[tuple[str, tuple[int, ...], str]]: ...
    def tensor(self, name: str) -> NDArray[np.float32]: ...
    @property
    def config(self) -> str: ...
    def weights(self) -> dict[str, tuple[int, ...]]: ...
    def weight(self, name: str) -> NDArray[np.float32]: ...

@final
class NativeRows:
    def __len__(self) -> int: ...
    def join(
        self, prompts: Sequence[Sequence[int]], repeats: Sequence[int]
    ) -> NDArray[np.float32]: ...
    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]: ...
    def keep(self, rows: NDArray[np.int64]) -> None: ...
    def truncate(self, lengths: NDArray[np.int64] | Sequence[int]) -> None: ...
    @property
    def lengths(self) -> list[int]: ...

def argmax(logits: Any) -> NDArray[np.int64]: ...
def top_k(logits: Any, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def distribution(
    logits: Any,
    params: Sample | Sequence[Sample] | None = None,
    *,
    seed: SupportsIndex | None = None,
    streams: Any = None,
    samples: Any = None,
    positions: Any = None,
    histories: Any = None,
    prompt_lengths: Any = None,
    mus: Any = None,
) -> NDArray[np.float64]: ...
def weights(
    logits: Any,
    params: Sample | Sequence[Sample] | None = None,
    *,
    seed: SupportsIndex | None = None,
    streams: Any = None,
    samples: Any = None,
    positions: Any = None,
    histories: Any = None,
    prompt_lengths: Any = None,
    mus: Any = None,
) -> NDArray[np.uint64]: ...
def sample(
    logits: Any,
    params: Sample | Sequence[Sample] | None = None,
    *,
    seed: SupportsIndex,
    streams: Any = None,
    samples: Any = None,
    positions: Any = None,
    histories: Any = None,
    prompt_lengths: Any = None,
    mus: Any = None,
    ledger: bool = False,
    alternatives: SupportsIndex | None = None,
) -> Draws: ...
def multinomial(
    logits: Any,
    num_samples: SupportsIndex,
    params: Sample | Sequence[Sample] | None = None,
    *,
    replacement: bool = True,
    seed: SupportsIndex,
    streams: Any = None,
    positions: Any = None,
    histories: Any = None,
    prompt_lengths: Any = None,
) -> NDArray[np.int64]: ...
def uniform(
    seed: SupportsIndex,
    stream: SupportsIndex | None = None,
    sample: SupportsIndex | None = None,
    position: SupportsIndex | None = None,
) -> float: ...
def logsumexp(logits: Any) -> NDArray[np.float64]: ...
def log_softmax(logits: Any) -> NDArray[np.float64]: ...
def token_logprobs(logits: Any, tokens: Any) -> NDArray[np.float64]: ...
def parameters() -> list[dict[str, Any]]: ...
def check_memory(bytes: int) -> None: ...
def probe_memory(bytes: int) -> None: ...
def philox4x32(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]: ...
