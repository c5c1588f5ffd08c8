"""The sampler alone compared with others: microseconds per row, by vocabulary size and by k.

Rows are float32, one row per call, on one thread. The others are torch, NumPy, and llama.cpp's
sampler chain through its C API, if installed. Each time includes the preparation that a sampler
needs: llama.cpp's chain takes an array of (id, logit, probability), which its users fill for every
row. vLLM on PyPI is built for CUDA and lacks the kernel that its CPU build draws with, so the torch
operations of its `TopKTopPSampler.forward_native` are written out here: a sort, a cumulative sum,
and an exponential race instead of a draw. FlashInfer is left out because its samplers are GPU
kernels.

    python benchmarks/samplers.py
    python benchmarks/samplers.py --vocabularies 50257 --ks 1 50 1000
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402 (reads the variables above at import)
from numpy.typing import NDArray  # noqa: E402

_ROWS = 8
Call = Callable[[int], Any]


def rows_of(vocabulary: int) -> NDArray[np.float32]:
    """Rows like a language model's: a few likely tokens and a long tail, at random ids."""
    rng = np.random.default_rng(vocabulary)
    ranks = rng.permuted(np.tile(np.arange(1, vocabulary + 1), (_ROWS, 1)), axis=1)
    return (-1.5 * np.log(ranks) + rng.normal(size=ranks.shape) * 0.3).astype(np.float32)


def fastdecode_calls(x: NDArray[np.float32], k: int) -> dict[str, Call]:
    """The functions of `fastdecode.core`."""
    from fastdecode import core

    plain, top_k, top_p = core.Sample(), core.Sample(top_k=k), core.Sample(top_p=0.9)
    return {
        "greedy": lambda i: core.argmax(x[i]),
        "plain": lambda i: core.sample(x[i], plain, seed=i),
        "top-k": lambda i: core.sample(x[i], top_k, seed=i),
        "top-p": lambda i: core.sample(x[i], top_p, seed=i),
    }


def numpy_calls(x: NDArray[np.float32], k: int) -> dict[str, Call]:
    """The usual hand-written code."""
    rng = np.random.default_rng(0)

    def draw(logits: NDArray[np.float32]) -> int:
        weights = np.exp(logits - logits.max()).cumsum(dtype=np.float64)
        return int(weights.searchsorted(rng.random() * weights[-1], "right"))

    def top_k(i: int) -> int:
        kept = np.argpartition(x[i], -k)[-k:] if k < x.shape[1] else np.arange(k)
        return int(kept[draw(x[i][kept])])

    def top_p(i: int) -> int:
        order = np.argsort(-x[i])
        sums = np.exp(x[i][order] - x[i][order[0]]).cumsum(dtype=np.float64)
        last = int(sums.searchsorted(0.9 * sums[-1]))
        return int(order[sums[: last + 1].searchsorted(rng.random() * sums[last], "right")])

    return {
        "greedy": lambda i: x[i].argmax(),
        "plain": lambda i: draw(x[i]),
        "top-k": top_k,
        "top-p": top_p,
    }


def torch_calls(x: NDArray[np.float32], k: int) -> dict[str, Call]:
    """`topk` or `sort`, `softmax`, `multinomial`."""
    import torch

    torch.set_num_threads(1)
    tensor = torch.from_numpy(x)

    def draw(logits: Any) -> Any:
        return torch.multinomial(torch.softmax(logits, -1), 1)

    def top_k(i: int) -> int:
        found, ids = torch.topk(tensor[i], k)
        return int(ids[draw(found)])

    def top_p(i: int) -> int:
        found, ids = torch.sort(tensor[i], descending=True)
        weights = torch.softmax(found, -1)
        found[weights.cumsum(-1) - weights >= 0.9] = -torch.inf
        return int(ids[draw(found)])

    return {
        "greedy": lambda i: int(tensor[i].argmax()),
        "plain": lambda i: int(draw(tensor[i])),
        "top-k": top_k,
        "top-p": top_p,
    }


def race_calls(x: NDArray[np.float32], k: int) -> dict[str, Call]:
    """vLLM's torch operations: cut tokens become -inf, then an exponential race."""
    import torch

    torch.set_num_threads(1)
    tensor = torch.from_numpy(x)

    def race(logits: Any) -> int:
        weights = torch.softmax(logits, -1)
        return int(weights.div_(torch.empty_like(weights).exponential_()).argmax())

    def top_k(i: int) -> int:
        least = tensor[i].topk(k).values[-1]
        return race(tensor[i].masked_fill(tensor[i] < least, -torch.inf))

    def top_p(i: int) -> int:
        found, ids = tensor[i].sort(descending=False)
        cut = found.softmax(-1).cumsum(-1) <= 0.1
        cut[-1] = False
        return race(torch.empty_like(found).scatter_(0, ids, found.masked_fill_(cut, -torch.inf)))

    return {
        "greedy": lambda i: int(tensor[i].argmax()),
        "plain": lambda i: race(tensor[i]),
        "top-k": top_k,
        "top-p": top_p,
    }


def llama_calls(x: NDArray[np.float32], k: int) -> dict[str, Call]:
    """llama.cpp's sampler chain in C, on an array that is filled for each row."""
    import ctypes

    import llama_cpp as llama

    vocabulary = x.shape[1]
    cells = np.zeros(
        vocabulary, np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
    )
    ids = np.arange(vocabulary, dtype=np.int32)
    pointer = cells.ctypes.data_as(llama.llama_token_data_p)

    def chain(*samplers: Any) -> Call:
        made = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        for sampler in samplers:
            llama.llama_sampler_chain_add(made, sampler)

        def call(i: int) -> int:
            cells["id"], cells["logit"] = ids, x[i]
            array = llama.llama_token_data_array(pointer, vocabulary, -1, False)
            llama.llama_sampler_apply(made, ctypes.byref(array))
            return int(array.data[array.selected].id)

        return call

    return {
        "greedy": chain(llama.llama_sampler_init_greedy()),
        "plain": chain(llama.llama_sampler_init_dist(1)),
        "top-k": chain(llama.llama_sampler_init_top_k(k), llama.llama_sampler_init_dist(1)),
        "top-p": chain(llama.llama_sampler_init_top_p(0.9, 1), llama.llama_sampler_init_dist(1)),
    }


SIDES = {
    "fastdecode": fastdecode_calls,
    "NumPy": numpy_calls,
    "torch": torch_calls,
    "torch, as vLLM": race_calls,
    "llama.cpp": llama_calls,
}


def measure(calls: dict[str, Call], repeats: int) -> dict[str, float]:
    """Median microseconds per row of each side, measured in turns."""
    times: dict[str, list[float]] = {side: [] for side in calls}
    for repeat in range(repeats + 1):
        for side in sorted(calls, reverse=bool(repeat % 2)):
            begun = perf_counter()
            for i in range(_ROWS):
                calls[side](i)
            if repeat:
                times[side].append((perf_counter() - begun) / _ROWS * 1e6)
    return {side: statistics.median(found) for side, found in times.items()}


def cells(vocabularies: list[int], ks: list[int]) -> Iterator[tuple[str, int, int]]:
    """Setting, vocabulary size and k of each line of the table."""
    for vocabulary in vocabularies:
        for setting in ("greedy", "plain", "top-p"):
            yield setting, vocabulary, 50
        for k in ks:
            if k <= vocabulary:
                yield "top-k", vocabulary, k


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--vocabularies", type=int, nargs="+", default=[1024, 4096, 16384, 50257, 131072, 262144]
    )
    parser.add_argument("--ks", type=int, nargs="+", default=[1, 50, 1000])
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    made: dict[tuple[int, int], dict[str, dict[str, Call]]] = {}
    print("microseconds per row, one thread\n")
    names: list[str] | None = None
    for setting, vocabulary, k in cells(arguments.vocabularies, arguments.ks):
        if (vocabulary, k) not in made:
            made.clear()
            x = rows_of(vocabulary)
            found = {}
            for side, make in SIDES.items():
                try:
                    found[side] = make(x, k)
                except ModuleNotFoundError as error:
                    if names is None:
                        print(f"{side} is not installed: {error.name}\n")
            made[vocabulary, k] = found
        sides = made[vocabulary, k]
        if names is None:
            names = list(sides)
            print(
                "| setting | vocabulary | " + " | ".join(names) + " | ratio to the fastest other |"
            )
            print("|---|---:|" + "---:|" * (len(names) + 1))
        figures = measure(
            {side: calls[setting] for side, calls in sides.items()}, arguments.repeats
        )
        best = min(value for side, value in figures.items() if side != "fastdecode")
        label = f"top-k {k}" if setting == "top-k" else setting.replace("top-p", "top-p 0.9")
        row = " | ".join(f"{figures[side]:.1f}" for side in names)
        print(
            f"| {label} | {vocabulary:,} | {row} | {best / figures['fastdecode']:.1f}x |",
            flush=True,
        )


if __name__ == "__main__":
    main()
