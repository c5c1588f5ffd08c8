"""Models on the CPU by the Rust engine: the same bits in any batch, without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastdecode._core import GgufFile, NativeModel, NativeRows
from fastdecode.files.inner import Folder
from fastdecode.models import settings

# The classes of transformers whose models the engine runs, by their `model_type`.
_CLASSES = {
    "gpt2": "GPT2LMHeadModel",
    "gpt_neo": "GPTNeoForCausalLM",
    "gpt_neox": "GPTNeoXForCausalLM",
    "opt": "OPTForCausalLM",
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
}
_ADAPTER = "adapter_config.json"
# What the layers of such a model may be made of, beside the classes of its own family.
_MODULES = ("torch.nn.modules.", "transformers.activations", "transformers.pytorch_utils")


def runs_natively(model: Any) -> bool:
    """Whether `LoadedEngine` can run `model`."""
    return not refusal(model)


def refusal(model: Any) -> str:
    """Why `LoadedEngine` cannot run `model`; empty where it can."""
    import torch

    kind, config = type(model), model.config
    folder = config.model_type.removesuffix("_text")
    family = f"transformers.models.{folder}.modeling_{folder}"
    if _CLASSES.get(config.model_type) != kind.__name__ or kind.__module__ != family:
        return f"the native engine runs {', '.join(_CLASSES.values())}"
    if model.device.type != "cpu" or any(p.device.type != "cpu" for p in model.parameters()):
        return f"it is on {model.device}, and the native engine runs on the CPU"
    kept = (torch.float32, torch.float16, torch.bfloat16)
    if any(p.dtype not in kept for p in model.parameters()):
        return "the native engine reads weights in float32, float16 and bfloat16"
    # A hook, an adapter or a quantized layer would be bypassed.
    for module in model.modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            return "it has hooks, which the native engine would not call"
        found = type(module).__module__
        if found != family and not found.startswith(_MODULES):
            return f"it has a {type(module).__name__}, which is not a layer of {kind.__name__}"
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    if tied != bool(config.tie_word_embeddings):
        says = "the embeddings are tied" if tied else "the embeddings are not tied"
        return f"{says}, and its configuration has tie_word_embeddings={not tied}"
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        return "the head has a bias"
    try:
        NativeModel.check(config.to_json_string(use_diff=False))
    except ValueError as error:
        return str(error)
    return ""


class NativeEngine:
    """A model on the CPU, run by the Rust engine.

    Weights are kept as float32, bfloat16, int8 or int4, or as a GGUF file has them, and all else is
    float32. A row's logits depend on its tokens alone, to the last bit: not on the rest of the
    batch, the number of threads (`FASTDECODE_THREADS`) or the instruction set (`FASTDECODE_LEVEL`).
    """

    def __init__(self, model: NativeModel, eos_ids: tuple[int, ...] = ()) -> None:
        """Use a packed model; `from_folder` reads one."""
        self._native = model
        self._eos_ids = eos_ids

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        dtype: str = "float32",
        kv_cache_dtype: str = "float32",
        read: Callable[[Path, str, str], NativeModel] = NativeModel.from_folder,
    ) -> NativeEngine:
        """Read a folder with `config.json` and safetensors; torch is not imported.

        The weights are read once and packed for the kernels.

        Args:
            folder: where the files are.
            dtype: the format of the weights, one of `engines.NATIVE_DTYPES`.
            kv_cache_dtype: the format of the KV cache: "float32", "bfloat16" or "int8".
            read: reads and packs the weights of a folder in these formats.

        Raises:
            FileNotFoundError: where a file is missing; another OSError where it cannot be read.
            ValueError: where a file is damaged, or of another kind of model.
        """
        settings.check(folder)
        if (folder / _ADAPTER).is_file():
            raise ValueError(
                f"{folder / _ADAPTER}: the native engine does not apply adapters; merge the "
                'adapter into the weights, or use engine="transformers"'
            )
        return cls.of_packed(read(folder, dtype, kv_cache_dtype), folder)

    @classmethod
    def of_packed(cls, native: NativeModel, folder: Folder) -> NativeEngine:
        """Use a packed model, with the settings in a folder.

        Args:
            native: the model.
            folder: where its settings are.

        Raises:
            ValueError: where the settings are damaged.
        """
        return cls(native, settings.end_tokens(folder, native.vocab_size))

    @classmethod
    def from_gguf(
        cls,
        file: GgufFile | Path,
        dtype: str = "gguf",
        eos_ids: tuple[int, ...] = (),
        kv_cache_dtype: str = "float32",
        read: Callable[[GgufFile | Path, str, str], NativeModel] = NativeModel.from_gguf,
    ) -> NativeEngine:
        """Read a GGUF file; neither torch nor llama.cpp is imported.

        Quantised weights are kept as they are where the engine has a format for them. Others are
        widened to float32, exactly as the Python package `gguf` does it, and then converted.

        Args:
            file: the file, or where it is.
            dtype: the format of the weights in memory: "gguf", as they are stored; "float32" or
                "bfloat16", which convert all weights; "int8" or "int4", which convert those that
                are not stored with as few bits.
            eos_ids: the tokens that end a sequence.
            kv_cache_dtype: the format of the KV cache: "float32", "bfloat16" or "int8".
            read: reads and packs the weights of a file in these formats.

        Raises:
            FileNotFoundError: where there is no such file; another OSError where it cannot be read.
            ValueError: where it is damaged, or has a model that the engine does not run.
        """
        return cls.with_ends(read(file, dtype, kv_cache_dtype), eos_ids)

    @classmethod
    def with_ends(cls, native: NativeModel, eos_ids: tuple[int, ...]) -> NativeEngine:
        """Use a packed model, with those of the end tokens that it knows."""
        return cls(native, tuple(token for token in eos_ids if token < native.vocab_size))

    @property
    def name(self) -> str:
        """The name that selects it in `open_engine`."""
        return "native"

    @property
    def context(self) -> int | None:
        """The maximum length of a sequence in tokens."""
        return self.packed().context

    @property
    def vocab_size(self) -> int:
        """The width of a row of logits."""
        return self.packed().vocab_size

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The tokens that end a sequence by the model's own settings."""
        return self._eos_ids

    @property
    def joins(self) -> bool:
        """Rows join and leave between steps."""
        return True

    @property
    def dtype(self) -> str:
        """The format of its weights."""
        return self.packed().dtype

    @property
    def kv_cache_dtype(self) -> str:
        """The format of keys and values in the KV cache."""
        return self.packed().kv_cache_dtype

    @property
    def definition(self) -> str:
        """The number of the definition of `dtype`, "int8/1", raised whenever its bits change.

        Where the KV cache is not in float32, it also names the definition of its format.
        """
        return self._native.definition

    @property
    def bytes_per_token(self) -> int:
        """Memory of one token of one row in the KV cache, in bytes.

        Layers with a window give those of a token back once no later token attends to it.
        """
        return self.packed().bytes_per_token

    def start(
        self, prompts: Sequence[Sequence[int]], repeats: Sequence[int]
    ) -> tuple[NativeRows, NDArray[np.float32]]:
        """Prefill each prompt once; see `base.Engine`. Repeats share the prompt's cache.

        Beyond `step`, `keep` and `join`, the rows can be cut back: `rows.truncate(lengths)` leaves
        the first `lengths[i]` tokens of row i, and its next logits have the bits that they have
        after a prompt of these tokens. Layers with a window keep 32 positions more than the next
        token attends to, so a row can be cut back to 32 tokens below the greatest length that it
        has had, or to 0; a length that needs more is a `ValueError`.
        """
        rows = self.packed().rows()
        return rows, rows.join([list(prompt) for prompt in prompts], list(repeats))

    def all_logits(self, sequences: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """Logits after every token; see `base.Engine`."""
        native = self.packed()
        for sequence in sequences:
            yield native.all_logits(list(sequence))

    def packed(self) -> NativeModel:
        """The packed model."""
        return self._native

    def keep_prefixes(self, nbytes: int) -> None:
        """Keep the KV cache of recent prompts; see `fastdecode.Decoder.keep_prefixes`."""
        self.packed().keep_prefixes(nbytes)


class LoadedEngine(NativeEngine):
    """The same for a model that transformers has loaded; changes of its parameters are followed.

    The weights are copied once, packed for the kernels; the model keeps its own.
    """

    def __init__(self, model: Any, dtype: str = "float32", kv_cache_dtype: str = "float32") -> None:
        """Use a model for which `runs_natively` holds; it is put in evaluation mode.

        Args:
            model: the model.
            dtype: the format of the weights, one of `engines.NATIVE_DTYPES`.
            kv_cache_dtype: the format of the KV cache: "float32", "bfloat16" or "int8".
        """
        self._model = model.eval()
        self._dtype = dtype
        self._kv_cache_dtype = kv_cache_dtype
        self._version: list[tuple[int, int]] = []
        self._prefixes = 0
        super().__init__(self.packed())
        self._ends = settings.EndTokens(model, self.vocab_size)

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The tokens that end a sequence by the model's own settings."""
        return self._ends.within(self.vocab_size)

    def packed(self) -> NativeModel:
        """The packed model, packed again where the parameters have changed."""
        from fastdecode.models.engines.plain_gpt2 import parameter_versions

        version = parameter_versions(self._model)
        if version != self._version:
            self._native = NativeModel.from_arrays(
                self._model.config.to_json_string(use_diff=False),
                {name: _array(parameter) for name, parameter in self._model.named_parameters()},
                self._dtype,
                self._kv_cache_dtype,
            )
            self._native.keep_prefixes(self._prefixes)
            self._version = version
        return self._native

    def keep_prefixes(self, nbytes: int) -> None:
        """Keep the KV cache of recent prompts, until a parameter changes."""
        self.packed().keep_prefixes(nbytes)
        self._prefixes = nbytes


def _array(parameter: Any) -> NDArray[Any]:
    """The parameter's memory as an array; bfloat16, which NumPy lacks, as uint16."""
    import torch

    values = parameter.detach().contiguous()
    if values.dtype is torch.bfloat16:
        bits: NDArray[Any] = values.view(torch.int16).numpy()
        return bits.view(np.uint16)
    array: NDArray[Any] = values.numpy()
    return array
