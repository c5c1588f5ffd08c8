"""Folders with the demo model, and with models that differ from it."""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def copy_of_demo(folder: Path, seed: int | None = None) -> Path:
    """The demo model in a folder; with `seed`, with other weights."""
    shutil.copytree(files("fastdecode") / "demo", folder, dirs_exist_ok=True)
    if seed is not None:
        other_weights(folder, seed)
    return folder


def other_weights(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = folder / "model.safetensors"
    tensors = {
        name: (x + 0.3 * rng.standard_normal(x.shape)).astype(x.dtype)
        for name, x in load_file(path).items()
    }
    save_file(tensors, path)
