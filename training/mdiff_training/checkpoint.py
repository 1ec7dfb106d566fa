"""Checkpoints: one safetensors file with weights, averaged weights, optimizer moments, and the contract."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mdiff_core import DataError, ModelContract
from mdiff_training.denoiser import Denoiser
from mdiff_training.unet import UNet, UNetConfig

LOSS_WINDOW = 100
"""Steps over which a loss is averaged before it is noted."""

_RISE = 2.0


@dataclass(frozen=True)
class Checkpoint:
    """State of a training run after ``step`` optimizer steps.

    ``tensors`` has the weights under ``model.``, their moving average under ``ema.``, the optimizer's moments under
    ``first.`` and ``second.``, what was learned about the steps t as ``timesteps``, and loss and gradient norm of each
    step since the last whole window as ``window``. ``losses`` is the mean loss of each :data:`LOSS_WINDOW` steps;
    ``data`` is the :func:`~mdiff_training.data.digest.digest` of what was trained on, empty where that is not known.
    """

    contract: ModelContract
    network: UNetConfig
    step: int
    losses: tuple[float, ...]
    tensors: dict[str, Tensor]
    data: str = ""

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors under ``name.``, with that prefix taken off."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}

    @property
    def risen(self) -> bool:
        """Whether the loss lies far above the lowest it has been, so that the averaged weights may be spoilt."""
        return bool(self.losses) and self.losses[-1] > _RISE * min(self.losses)

    def save(self, path: Path) -> None:
        """Write atomically: a reader sees the old file or the new one.

        Raises:
            DataError: it cannot be written.
        """
        metadata = {
            "contract": self.contract.to_json(),
            "network": json.dumps(dataclasses.asdict(self.network)),
            "step": str(self.step),
            "losses": json.dumps(self.losses),
            "data": self.data,
        }
        with _replacing(path) as partial:
            save_file({key: value.detach().contiguous() for key, value in self.tensors.items()}, partial, metadata)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read :meth:`save`'s file.

        Raises:
            DataError: the file is absent, damaged, or not a checkpoint of mdiff.
            ContractError: its contract cannot be used.
        """
        if not path.is_file():
            raise DataError(f"{path}: no such checkpoint")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
            network: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(metadata["network"]).items()
            }
            config, step, losses = UNetConfig(**network), int(metadata["step"]), tuple(json.loads(metadata["losses"]))
            contract, data = metadata["contract"], metadata.get("data", "")
        except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not a checkpoint of mdiff, or damaged ({error})") from error
        return cls(ModelContract.from_json(contract), config, step, losses, tensors, data)

    def denoiser(self) -> Denoiser:
        """The network with the averaged weights, in evaluation mode."""
        network = UNet(self.network)
        network.load_state_dict(self.part("ema"))
        return Denoiser(network, self.contract.schedule.build()).eval()

    def weights_sha256(self) -> str:
        """sha256 over names and values of the averaged weights, in the order of their names."""
        digest = hashlib.sha256()
        for name, value in sorted(self.part("ema").items()):
            digest.update(name.encode())
            digest.update(value.to(torch.float32).contiguous().numpy().tobytes())
        return digest.hexdigest()


class Keeper:
    """The checkpoint of a run, written over as it goes on, and beside it an older one to go back to.

    A loss tells of the weights before its step, so the newest checkpoint may be bad before anything shows. The older
    one is the last whose loss had not risen.

    Attributes:
        previous: where the older one lies.
    """

    def __init__(self, path: Path, last: Checkpoint | None = None, *, writes: bool = True) -> None:
        """Go on from ``last``; where another process writes, only remember what is kept."""
        self.previous = path.with_name(f"{path.stem}.previous{path.suffix}")
        self._path = path
        self._writes = writes
        self._step = last.step if last else None
        self._risen = last is not None and last.risen

    def save(self, checkpoint: Checkpoint, *, final: bool = False) -> None:
        """Write the checkpoint; the older one goes with the ``final`` one, unless the loss has risen.

        Raises:
            DataError: it cannot be written.
        """
        if self._writes:
            if self._step is not None and not self._risen:
                with _replacing(self.previous) as partial:
                    shutil.copyfile(self._path, partial)
            checkpoint.save(self._path)
            if final and not checkpoint.risen:
                with suppress(OSError):
                    self.previous.unlink()
        self._step, self._risen = checkpoint.step, checkpoint.risen

    def kept(self) -> str:
        """What there is to go back to, in words."""
        if self._step is None:
            return "no checkpoint was saved yet"
        older = f" and {self.previous} an older one" if self.previous.exists() else ""
        return f"{self._path} keeps step {self._step}{older}"


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to be written, which then takes its place, with the permissions of any new file.

    Raises:
        DataError: it cannot be written; nothing of it is left.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors writes a file that only its owner may read
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written ({error})") from error
