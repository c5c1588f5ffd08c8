"""Checkpoints: a model and its tokenizer, from the package, from a folder, or from the hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from fastdecode.models import strict_json
from fastdecode.models.engines.torch_pass import is_refused_memory, memory_error
from fastdecode.models.strict_json import shown
from fastdecode.models.tokenizer_files.files import check_room
from fastdecode.models.weight_files import NAMES, open_weights, read_header

# How files of models begin.
_GGUF = b"GGUF"
_PACKED = b"FDPACKED"
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")
# Seconds after which the hub counts as unreachable.
_HUB_TIMEOUT = 5.0
_NEEDS_CODE = (
    "needs the Python code that comes with it, which fastdecode does not run by itself; if you "
    "have read that code and trust it, give trust_remote_code=True (--trust-remote-code)"
)
# The files of a repository that a model is packed from.
_DOWNLOADED = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
_OF_TOKENIZER = ("special_tokens_map.json", "added_tokens.json", "tokenizer.json")


def load(
    name_or_path: str,
    *,
    device: Any = None,
    dtype: Any = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[Any, Any]:
    """The model, in evaluation mode, and its tokenizer.

    Args:
        name_or_path: "demo", a folder, or a hub name.
        device: a torch device; None is the CPU.
        dtype: a torch dtype or its name; None is float32, whatever the checkpoint stores.
        revision: a hub revision.
        trust_remote_code: whether to run Python code of its folder or repository.

    Raises:
        ValueError: where there is no such model, the hub is unreachable, or the weights are
            damaged or incomplete, or the model needs Python code that may not be run.
    """
    if name_or_path == "demo":
        with as_file(files("fastdecode") / "demo") as folder:
            return _read(str(folder), "demo", device, dtype, None, local=True)
    trusted = trust_remote_code
    if Path(name_or_path).is_dir():
        return _read(name_or_path, name_or_path, device, dtype, None, local=True, trusted=trusted)
    if Path(name_or_path).exists():
        raise ValueError(
            f"model={name_or_path!r}: it is a file; give the folder that a model's files are in, "
            "a GGUF file, whose name ends in .gguf, or a packed file, which `fastdecode pack` makes"
        )
    if not is_hub_name(name_or_path):
        raise ValueError(
            f"model={name_or_path!r}: there is no such folder, and it is not a hub name; "
            'give a folder with a model, a .gguf file, a hub name, or "demo"'
        )
    local = _in_cache(name_or_path, revision)
    if not local:
        _find_on_hub(name_or_path, revision)
    return _read(name_or_path, name_or_path, device, dtype, revision, local=local, trusted=trusted)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer that transformers makes of a folder.

    Raises:
        ValueError: where it cannot, or needs Python code of the folder.
    """
    from transformers import AutoTokenizer

    check_room(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        _use(tokenizer)
        return tokenizer
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise ValueError(f"the tokenizer {_NEEDS_CODE}") from error
        found = _damage(str(folder), False, weights=False) or f"{folder}: {_short(error)}"
        raise ValueError(f"the tokenizer cannot be read: {found}") from error


def is_gguf(name_or_path: str) -> bool:
    """Whether a model is named by the path of a GGUF file: by its name, or by how it begins.

    A file of that name may not exist. Stores of models name files by their hashes.
    """
    return _is_file_of(name_or_path, ".gguf", _GGUF)


def is_packed(name_or_path: str) -> bool:
    """Whether a model is named by the path of a packed file: by its name, or by how it begins.

    A file of that name may not exist.
    """
    return _is_file_of(name_or_path, ".fastdecode", _PACKED)


def _is_file_of(name_or_path: str, suffix: str, beginning: bytes) -> bool:
    path = Path(name_or_path)
    if path.suffix.lower() == suffix:
        return not path.is_dir()
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(beginning)) == beginning
    except OSError:
        return False


def refuse_folder_of_gguf(name_or_path: str) -> None:
    """Refuse a folder that has GGUF files and no model as transformers saves it.

    Raises:
        ValueError: for such a folder; the message names the files.
    """
    folder = Path(name_or_path)
    if not folder.is_dir() or (folder / "config.json").exists():
        return
    found = sorted(path.name for path in folder.iterdir() if path.suffix.lower() == ".gguf")
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise ValueError(
            f"model={name_or_path!r} is a folder without config.json, in which {found[0]!r}{more} "
            f"can be a model; give the path of the file, model={str(folder / found[0])!r}"
        )


def is_hub_name(name: str) -> bool:
    """Whether a model on the hub may have this name, where no file or folder has it."""
    return _REPOSITORY.fullmatch(name) is not None and not name.startswith(".")


@contextmanager
def files_of(name_or_path: str, revision: str | None = None) -> Iterator[Path | None]:
    """The folder with a model's files, where they are on this machine; nothing is downloaded.

    Args:
        name_or_path: "demo", a folder, or a hub name that is looked up in the local cache.
        revision: a hub revision.
    """
    if name_or_path == "demo":
        with as_file(files("fastdecode") / "demo") as folder:
            yield folder
    elif Path(name_or_path).is_dir():
        yield Path(name_or_path)
    elif is_gguf(name_or_path) or is_packed(name_or_path):
        yield None
    elif is_hub_name(name_or_path):
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(name_or_path, "config.json", revision=revision)
        yield Path(found).parent if isinstance(found, str) else None
    else:
        yield None


def _in_cache(name: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    def has(file: str) -> bool:
        return isinstance(try_to_load_from_cache(name, file, revision=revision), str)

    return has("config.json") and any(has(file) for names in NAMES for file in names)


def _find_on_hub(name: str, revision: str | None) -> None:
    """Query the hub once, with a short time-out, because the loaders retry for a long time."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    try:
        HfApi().model_info(name, revision=revision, timeout=_HUB_TIMEOUT)
    except MemoryError:
        raise
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"model={name!r}: the hub has no such model (or it is private), and there is no such "
            'folder; check the name, or use model="demo"'
        ) from error
    except HfHubHTTPError as error:
        raise ValueError(f"model={name!r}: the hub refused it: {error}") from error
    except Exception as error:
        raise ValueError(
            f"model={name!r}: the hub could not be reached and the model is not in the local "
            'cache; use model="demo", which needs no network, or the path of a local folder'
        ) from error


def download(name: str, revision: str | None) -> Path:
    """The folder with the files of a model of the hub, which are downloaded.

    Raises:
        ValueError: where there is no such model, or the hub is unreachable.
    """
    if not is_hub_name(name):
        raise ValueError(
            f"model={name!r}: there is no such folder, and it is not a hub name; give a folder "
            'with a model, a .gguf file, a hub name, or "demo"'
        )
    _find_on_hub(name, revision)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, revision=revision, allow_patterns=_DOWNLOADED))


def _read(
    source: str,
    name: str,
    device: Any,
    dtype: Any,
    revision: str | None,
    *,
    local: bool,
    trusted: bool = False,
) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = _dtype(dtype)
    # Left unset, `trust_remote_code` makes transformers ask on standard input whether to run the
    # Python files of the model.
    more: dict[str, Any] = {"local_files_only": local, "trust_remote_code": trusted}
    if revision is not None:
        more["revision"] = revision
    if Path(source).is_dir():
        check_room(Path(source))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **more)
        _use(tokenizer)
        model, report = AutoModelForCausalLM.from_pretrained(
            # Tensors of another size are reported, and refused below by their names.
            source,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **more,
        )
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        if is_refused_memory(error):
            raise memory_error(error) from error
        if "trust_remote_code" in str(error):
            raise ValueError(f"model={name!r} cannot be loaded: it {_NEEDS_CODE}") from error
        found = _damage(source, trusted) or f"{type(error).__name__}: {_short(error)}"
        raise ValueError(
            f"model={name!r} cannot be loaded: {found}; are its files complete?"
        ) from error
    # Without tokenizer files transformers makes up one that has no tokens.
    if getattr(tokenizer, "vocab_size", 1) == 0:
        raise ValueError(
            f"model={name!r} cannot be loaded: it has no tokenizer files; save the tokenizer "
            "beside the model, or use Decoder(model, tokenizer)"
        )
    for tensor, stored, configured in sorted(report["mismatched_keys"]):
        raise ValueError(
            f"model={name!r} cannot be loaded: the tensor {tensor!r} has shape {tuple(stored)} "
            f"in the weights, and {tuple(configured)} by the sizes in config.json; are the two of "
            "one model?"
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"model={name!r}: the weights are incomplete: {len(missing)} tensors are missing "
            f"of the model in config.json, the first is {missing[0]!r}; take the checkpoint again"
        )
    broken = next((k for k, p in model.named_parameters() if not bool(p.isfinite().all())), None)
    if broken is not None:
        raise ValueError(
            f"model={name!r}: the weights are damaged: {broken!r} has values that are not finite"
        )
    return model.to(torch.device(device) if device is not None else "cpu").eval(), tokenizer


def _damage(source: str, trusted: bool, *, weights: bool = True) -> str:
    """The first file of a folder that its reader refuses, and why; empty where there is none.

    Args:
        source: the folder.
        trusted: whether Python code of the folder may be run.
        weights: whether to look at the weights and the model's settings, too.
    """
    import torch
    from safetensors import safe_open
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    from transformers.quantizers import AutoHfQuantizer, AutoQuantizationConfig

    folder = Path(source)

    def build() -> None:
        config = AutoConfig.from_pretrained(source, trust_remote_code=trusted)
        for part in (config, config.get_text_config(decoder=True)):
            settings = getattr(part, "quantization_config", None)
            if settings is not None:
                try:
                    # A method that transformers does not know is one that it ignores.
                    if AutoHfQuantizer.supports_quant_method(settings):
                        AutoQuantizationConfig.from_dict(settings)
                except MemoryError:
                    raise
                except Exception as error:
                    raise ValueError(
                        f"{folder / 'config.json'}: quantization_config is "
                        f"{shown(settings)}: {_short(error)}"
                    ) from error
        # Without memory for its weights.
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)

    def merges() -> None:
        if not (folder / "tokenizer.json").is_file():
            vocabulary, merged = folder / "vocab.json", folder / "merges.txt"
            try:
                BPE.from_file(str(vocabulary), str(merged))
            except MemoryError:
                raise
            except Exception as error:
                raise ValueError(f"{merged} with vocab.json: {error}") from error

    readers: list[tuple[Path, Callable[[], object]]] = [
        (path, partial(strict_json.read, path)) for path in sorted(folder.glob("*.json"))
    ]
    for name, reader in (
        ("tokenizer.json", lambda: Tokenizer.from_file(str(folder / "tokenizer.json"))),
        ("merges.txt", merges),
        *([("config.json", build)] if weights else []),
        ("generation_config.json", lambda: GenerationConfig.from_pretrained(source)),
        (
            "tokenizer_config.json",
            lambda: _use(AutoTokenizer.from_pretrained(source, trust_remote_code=trusted)),
        ),
    ):
        if (folder / name).is_file():
            readers.append((folder / name, reader))
    for path in sorted(folder.glob("*.safetensors")) if weights else ():
        readers += [(path, partial(_header, path)), (path, partial(safe_open, path, "np"))]
    # The class of a tokenizer reads all of its files.
    others = [name for name in _OF_TOKENIZER if (folder / name).is_file()]
    beside = f" (or {' or '.join(others)})" if others else ""
    for path, reader in readers:
        try:
            reader()
        except (KeyboardInterrupt, MemoryError):
            raise
        except Exception as error:
            text = _short(error)
            if text.startswith(str(path)):
                return text
            name = f"{path}{beside}" if path.name == "tokenizer_config.json" else str(path)
            return f"{name}: {type(error).__name__}: {text}"
    return ""


def _header(path: Path) -> None:
    """Check the header of a safetensors file, and the numbers in its tensors' names."""
    with open_weights(path) as file:
        header = read_header(file)
    for name in header.tensors:
        for part in name.split("."):
            # transformers orders tensors by these numbers.
            number = part if part.isdigit() else part[len(part.rstrip("0123456789")) :]
            try:
                int(number or "0")
            except ValueError as error:
                raise ValueError(
                    f"{path}, header: a number in the name of the tensor {shown(name)} cannot be "
                    f"read: {_short(error)}"
                ) from error


def _use(tokenizer: Any) -> None:
    """Let a tokenizer fail now, and not at the first text, over settings that it cannot use."""
    if getattr(tokenizer, "vocab_size", 1) > 0:
        tokenizer("", add_special_tokens=True)


def _dtype(name: str | None) -> Any:
    import torch

    return name if name == "auto" else getattr(torch, name or "float32")


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
