"""All that training changes, and how it goes into a checkpoint and comes back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mdiff_core import ModelContract, NoiseSchedule, UsageError
from mdiff_training.checkpoint import Checkpoint
from mdiff_training.config import TrainingConfig
from mdiff_training.denoiser import Denoiser
from mdiff_training.timesteps import TimestepSampler, timestep_sampler
from mdiff_training.unet import UNet, UNetConfig


@dataclass
class State:
    """State of a training run after ``step`` optimizer steps.

    Attributes:
        network: the weights.
        averaged: their moving average, by name.
        optimizer: AdamW, with its moments.
        timesteps: which steps t are drawn.
        data: the :func:`~mdiff_training.data.digest.digest` of what is trained on.
        step: optimizer steps done.
        losses: mean loss of each whole window of :data:`~mdiff_training.checkpoint.LOSS_WINDOW` steps.
        window: loss and gradient norm of each step since.
    """

    network: UNet
    averaged: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    timesteps: TimestepSampler
    data: str
    step: int = 0
    losses: list[float] = field(default_factory=list)
    window: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def begin(cls, config: TrainingConfig, contract: ModelContract, device: torch.device, data: str = "") -> State:
        """Fresh weights from the plan's seed."""
        plan = config.training
        torch.manual_seed(plan.seed)
        network = UNet(network_config(config.model, contract)).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return cls(
            network,
            {name: value.detach().clone() for name, value in network.state_dict().items()},
            torch.optim.AdamW(network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay),
            timestep_sampler(contract.schedule.timesteps, plan.importance_sampling),
            data,
        )

    @property
    def learning_rate(self) -> float:
        """Of the next step, or of the last one."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        self.optimizer.param_groups[0]["lr"] = rate

    def average(self, decay: float) -> None:
        """Let the average follow the weights: it keeps ``decay`` of what it was."""
        torch._foreach_lerp_(list(self.averaged.values()), list(self.network.state_dict().values()), 1 - decay)

    def denoiser(self, schedule: NoiseSchedule) -> Denoiser:
        """A network with the averaged weights, in evaluation mode."""
        network = UNet(self.network.config)
        network.load_state_dict(self.averaged)
        return Denoiser(network, schedule).to(next(self.network.parameters()).device).eval()

    def checkpoint(self, contract: ModelContract) -> Checkpoint:
        """The state as it can be saved."""
        tensors = {f"model.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.averaged.items()}
        for name, parameter in self.network.named_parameters():
            moments = self.optimizer.state[parameter]
            tensors |= {f"first.{name}": moments["exp_avg"], f"second.{name}": moments["exp_avg_sq"]}
        tensors |= {"timesteps": self.timesteps.state(), "window": torch.tensor(self.window).reshape(-1, 2)}
        on_cpu = {name: value.cpu() for name, value in tensors.items()}
        return Checkpoint(contract, self.network.config, self.step, tuple(self.losses), on_cpu, self.data)

    def restore(self, saved: Checkpoint) -> None:
        """Go on where the checkpoint was made.

        Raises:
            UsageError: it is of another network, or of other steps t.
        """
        if saved.network != self.network.config:
            raise UsageError("the checkpoint belongs to another network: resume with the preset it was started with")
        self.network.load_state_dict(saved.part("model"))
        for name, value in saved.part("ema").items():
            self.averaged[name].copy_(value)
        first, second = saved.part("first"), saved.part("second")
        for name, parameter in self.network.named_parameters() if first else ():  # imported weights have no moments
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(saved.step)),
                "exp_avg": first[name].to(parameter),
                "exp_avg_sq": second[name].to(parameter),
            }
        self.timesteps.restore(saved.tensors.get("timesteps", torch.empty(0)))
        self.window = [(loss, norm) for loss, norm in saved.tensors.get("window", torch.empty(0, 2)).tolist()]
        self.step, self.losses = saved.step, list(saved.losses)


def network_config(model: UNetConfig, contract: ModelContract) -> UNetConfig:
    """The preset's network with what follows from the data: channels, labels and fractions."""
    return dataclasses.replace(
        model, channels=contract.channels, labels=contract.labels, fractions=len(contract.fractions)
    )


def check_same_data(saved: Checkpoint, contract: ModelContract, data: str) -> None:
    """Refuse to go on with other data than the checkpoint's; one that does not know its data is trusted.

    Raises:
        UsageError: naming what differs.
    """
    for what in ("schedule", "phases", "references", "classes", "null_class", "fractions"):
        if getattr(saved.contract, what) != getattr(contract, what):
            raise UsageError(f"the checkpoint was trained with other {what}: resume with the same data and preset")
    if saved.data not in ("", data):
        raise UsageError("the checkpoint was trained on other images: resume with the same files, read the same way")
