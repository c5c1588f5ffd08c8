"""The Rust core, as Python sees it. `fastdecode.core` is the public name of what stands here."""

from collections.abc import Sequence
from typing import Any, Final, SupportsIndex, final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "RNG_VERSION",
    "Draws",
    "Sample",
    "__version__",
    "argmax",
    "distribution",
    "log_softmax",
    "logsumexp",
    "multinomial",
    "philox4x32",
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
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Sample: ...
    @property
    def temperature(self) -> float: ...
    @property
    def top_k(self) -> int | None: ...
    @property
    def top_p(self) -> float | None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __getnewargs__(self) -> tuple[float, int | None, float | None]: ...

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
    def __len__(self) -> int: ...

def argmax(logits: Any) -> NDArray[np.int64]: ...
def top_k(logits: Any, k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]: ...
def distribution(logits: Any, params: Sample | None = None) -> NDArray[np.float64]: ...
def weights(logits: Any, params: Sample | None = None) -> NDArray[np.uint64]: ...
def sample(
    logits: Any,
    params: Sample | None = None,
    *,
    seed: SupportsIndex,
    streams: Any = None,
    samples: Any = None,
    positions: Any = None,
) -> Draws: ...
def multinomial(
    logits: Any,
    num_samples: SupportsIndex,
    params: Sample | None = None,
    *,
    seed: SupportsIndex,
    streams: Any = None,
    positions: Any = None,
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
def philox4x32(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]: ...
