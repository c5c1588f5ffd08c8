"""The index of weights that are divided into several files, as `model.safetensors.index.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastdecode.models import strict_json
from fastdecode.models.strict_json import shown

# The most characters of the name of a file, in all systems.
_LONGEST = 255
# The weights as one file, and the index of several, as transformers looks for them.
_WEIGHTS = (
    ("model.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
)


def check_index(folder: Path) -> None:
    """Check the index of a model's weights, if it has one and no single file.

    Raises:
        ValueError: where it is damaged, or names a file that is not there.
        OSError: where it cannot be read.
    """
    for whole, name in _WEIGHTS:
        if (folder / whole).is_file():
            return
        index = folder / name
        if index.is_file():
            whole = strict_json.read(index)
            for file in _files(whole, index):
                if not _is_file(folder / file):
                    raise ValueError(
                        f"{index}: weight_map names {shown(file)}, which is no file of the "
                        "folder; take the checkpoint again"
                    )
            # Only loading needs it, and a fingerprint does not.
            if "metadata" not in whole:
                raise ValueError(f'{index}: it has no metadata; add "metadata": {{}}')
            if not isinstance(whole["metadata"], dict):
                raise ValueError(
                    f"{index}: metadata must be an object, not {shown(whole['metadata'])}"
                )
            return


def _is_file(path: Path) -> bool:
    """Whether there is such a file; a name may be too long for one."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def weight_files(index: Path) -> tuple[str, ...]:
    """The names of the files that an index lists, each once, in the order of their names.

    Raises:
        ValueError: where it is damaged; the message names the place.
        OSError: where it cannot be read.
    """
    return _files(strict_json.read(index), index)


def _files(whole: Any, index: Path) -> tuple[str, ...]:
    places = whole.get("weight_map") if isinstance(whole, dict) else None
    if not isinstance(places, dict) or not places:
        raise ValueError(f"{index}: weight_map must be an object of file names by tensor")
    for tensor, name in places.items():
        if not isinstance(name, str) or name != Path(name).name or len(name) > _LONGEST:
            raise ValueError(
                f"{index}: weight_map[{shown(tensor)}] must be the name of a file in the same "
                f"folder, not {shown(name)}"
            )
    return tuple(sorted(set(places.values())))
