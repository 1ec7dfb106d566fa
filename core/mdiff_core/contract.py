"""The model contract: the one document that travels from training to the client.

Training writes it into the checkpoint, export checks the network against it and puts it into the ONNX metadata and into
``parameters`` of ``config.pbtxt`` under :data:`CONTRACT_KEY`, and the client reads it back from the server.
"""

from __future__ import annotations

import bisect
import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mdiff_core.descriptors import Descriptors
from mdiff_core.errors import ContractError, UsageError
from mdiff_core.schedule import NoiseSchedule

CONTRACT_KEY = "mdiff_contract"
CONTRACT_VERSION = 1

Prediction = Literal["epsilon", "epsilon+variance"]
PLANES = ("xy", "xz", "yz")
"""Name of the plane normal to each axis of a volume [Z, Y, X]."""
AXES = ("z", "y", "x")
NOT_TOLD = -1.0
"""Stands for every phase fraction where the network is not told any."""


@dataclass(frozen=True)
class Phase:
    """A phase of the material; its label is its place in the contract's list, ``grey`` its shade in pictures."""

    name: str
    grey: int

    def __post_init__(self) -> None:
        _require(bool(self.name), "a phase needs a name")
        _require(0 <= self.grey <= 255, f"phase {self.name!r}: grey level {self.grey} is not in 0-255")


@dataclass(frozen=True)
class ScheduleSpec:
    """How the network was noised in training: ``kind``, number of steps T and, for ``linear``, the first and last β."""

    kind: Literal["linear", "cosine"]
    timesteps: int
    beta_first: float = 1e-4
    beta_last: float = 2e-2

    def __post_init__(self) -> None:
        _require(self.kind in ("linear", "cosine"), f"noise schedule {self.kind!r} is unknown: use linear or cosine")
        _require(self.timesteps >= 1, "a noise schedule needs at least one step")
        _require(0 < self.beta_first <= self.beta_last < 1, "betas must satisfy 0 < first <= last < 1")

    def build(self) -> NoiseSchedule:
        """The schedule itself."""
        if self.kind == "cosine":
            return NoiseSchedule.cosine(self.timesteps)
        return NoiseSchedule.linear(self.timesteps, self.beta_first, self.beta_last)


@dataclass(frozen=True)
class Provenance:
    """Where the weights come from. ``weights_sha256`` is over the names and float32 values of the exported weights."""

    data: str
    licence: str
    command: str
    git_revision: str
    weights_sha256: str = ""


@dataclass(frozen=True)
class ModelContract:
    """What a client must know to sample with a denoiser.

    Attributes:
        name: the model's name in a repository.
        image_size: (height, width) of the network's images, pixels.
        channels: image channels C; values in [-1, 1].
        phases: the phases the channels encode: two phases share one channel (-1 the first, +1 the second), more are
            one-hot; empty for grey-level images.
        schedule: the noise schedule of training.
        prediction: ``epsilon``, or ``epsilon+variance`` where the network also gives v (Düreth et al. eq. 5).
        classes: names of the classes a label may take; empty where the network takes no label.
        null_class: the label that stands for "no class" in classifier-free guidance, which follows those of the
            classes, or None.
        planes: the label that serves each plane (``xy``, ``xz``, ``yz``) of an anisotropic material; empty: isotropic.
        fractions: for each phase but the first, the range (low, high) of volume fractions that the network was trained
            to be told; empty where it is told none.
        voxel_size: edge of a voxel in ``voxel_unit``.
        io_dtype: type of ``x`` and ``eps`` on the wire.
        references: descriptors of the training data for each phase, by name.
        references_along: the same along one axis (``z``, ``y``, ``x``) only, where the material is anisotropic.
        references_told: the same for each material whose fractions the network was told; ``references`` are then those
            of the one in the middle.
        provenance: data, licence, command, git revision, sha256.

    Raises:
        ContractError: any field that contradicts another.
    """

    name: str
    image_size: tuple[int, int]
    channels: int
    phases: tuple[Phase, ...]
    schedule: ScheduleSpec
    prediction: Prediction
    provenance: Provenance
    references: Mapping[str, Descriptors] = dataclasses.field(default_factory=dict)
    classes: tuple[str, ...] = ()
    null_class: int | None = None
    planes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    fractions: tuple[tuple[float, float], ...] = ()
    references_along: Mapping[str, Mapping[str, Descriptors]] = dataclasses.field(default_factory=dict)
    references_told: tuple[Mapping[str, Descriptors], ...] = ()
    voxel_size: float = 1.0
    voxel_unit: str = "voxel"
    io_dtype: Literal["float32", "float16"] = "float32"

    def __post_init__(self) -> None:
        # It names a folder of the repository.
        _require(
            re.fullmatch(r"\w[\w.-]*", self.name) is not None,
            f"model name {self.name!r}: use letters, digits, _ . and -, and begin with neither . nor -",
        )
        _require(len(self.image_size) == 2 and min(self.image_size) >= 1, f"image size {self.image_size} is not (H, W)")
        expected = {0: self.channels, 2: 1}.get(len(self.phases), len(self.phases))
        _require(
            len(self.phases) != 1, "one phase alone is no microstructure: name two or more, or none for grey levels"
        )
        _require(
            self.channels == expected and self.channels >= 1,
            f"{len(self.phases)} phases need {expected} channels, not {self.channels}",
        )
        names = [phase.name for phase in self.phases]
        _require(len(set(names)) == len(names), f"phase names must differ: {names}")
        _require(self.prediction in ("epsilon", "epsilon+variance"), f"prediction {self.prediction!r} is unknown")
        classes = len(self.classes)
        _require(len(set(self.classes)) == classes, f"class names must differ: {list(self.classes)}")
        _require(
            self.null_class is None or self.null_class == classes > 0,
            f"null class {self.null_class} is not the label that follows those of the {classes} classes",
        )
        for plane, label in self.planes.items():
            _require(plane in PLANES, f"plane {plane!r} is unknown: use {', '.join(PLANES)}")
            _require(0 <= label < classes, f"plane {plane}: label {label} is not one of the {classes} classes")
        _require(
            len(self.fractions) in (0, len(self.phases) - 1),
            f"{len(self.fractions)} ranges of fractions for {len(self.phases)} phases: each but the first needs one",
        )
        for low, high in self.fractions:
            _require(0 <= low <= high <= 1, f"range of fractions {low}-{high} does not lie within 0-1")
        _require(0 < self.voxel_size < math.inf, f"voxel size {self.voxel_size} is not a positive length")
        _require(self.io_dtype in ("float32", "float16"), f"io_dtype {self.io_dtype!r} is neither float32 nor float16")
        for references in (self.references, *self.references_along.values(), *self.references_told):
            unknown = set(references) - set(names or ["grey"])
            _require(not unknown, f"reference descriptors for unknown phases {sorted(unknown)}")
        astray = set(self.references_along) - set(AXES)
        _require(not astray, f"reference descriptors along unknown axes {sorted(astray)}: use {', '.join(AXES)}")

    def references_at(self, fractions: Sequence[float]) -> Mapping[str, Descriptors]:
        """References of a material of the given fractions, of each phase but the first; of none, those of the model.

        Their curves are, of two phases, interpolated between the materials that the network was told of; of more, those
        of the material nearest to it.
        """
        if not fractions or not self.references:
            return self.references
        names = [phase.name for phase in self.phases]
        told = sorted(self.references_told or (self.references,), key=lambda of: of[names[1]].fraction)
        if len(names) == 2:
            above = bisect.bisect([of[names[1]].fraction for of in told], fractions[0])
            found = _between(*told[max(above - 1, 0) : above + 1], fraction=fractions[0], phase=names[1])
        else:
            found = min(told, key=lambda of: math.dist(fractions, [of[name].fraction for name in names[1:]]))
        asked = dict(zip(names, (1 - sum(fractions), *fractions), strict=True))
        return {name: dataclasses.replace(of, fraction=asked[name]) for name, of in found.items()}

    @property
    def labels(self) -> int:
        """How many values a label may take: the classes, and the null class where there is one; 0: no label."""
        return len(self.classes) + (self.null_class is not None)

    @property
    def guidable(self) -> bool:
        """Whether the network also predicts without its condition, as classifier-free guidance needs."""
        return self.null_class is not None or bool(self.fractions and not self.classes)

    @property
    def cube(self) -> tuple[int, int, int]:
        """Shape [Z, Y, X] of a volume whose slices are the network's images.

        Raises:
            UsageError: the images are not square.
        """
        height, width = self.image_size
        if height != width:
            raise UsageError(f"model {self.name} has images of {height}×{width}: a volume needs square ones")
        return height, height, height

    def phase_label(self, name: str) -> int:
        """Label of the phase called ``name``.

        Raises:
            UsageError: the material has no such phase.
        """
        names = [phase.name for phase in self.phases]
        if name not in names:
            raise UsageError(
                f"model {self.name} has no phase {name!r}: it has {', '.join(names) or 'grey levels only'}"
            )
        return names.index(name)

    def to_json(self) -> str:
        """The contract as one line of JSON with its version number."""
        return json.dumps({"version": CONTRACT_VERSION, **dataclasses.asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ModelContract:
        """Read :meth:`to_json`'s text back.

        Raises:
            ContractError: not JSON, an unknown version, missing or unknown fields, or a field that contradicts another.
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ContractError(f"the model contract is not valid JSON ({error}): export the model again") from error
        if not isinstance(fields, dict):
            raise ContractError("the model contract is not a JSON object: export the model again")
        version = fields.pop("version", None)
        if version != CONTRACT_VERSION:
            raise ContractError(
                f"model contract version {version!r} is unknown to this mdiff, which reads version {CONTRACT_VERSION}: "
                "use the mdiff that exported the model, or export it again"
            )
        try:
            return cls._from_fields(fields)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ContractError(f"the model contract is malformed ({error}): export the model again") from error

    @classmethod
    def _from_fields(cls, fields: dict[str, Any]) -> ModelContract:
        height, width = fields.pop("image_size")
        return cls(
            image_size=(int(height), int(width)),
            phases=tuple(Phase(**phase) for phase in fields.pop("phases")),
            schedule=ScheduleSpec(**fields.pop("schedule")),
            provenance=Provenance(**fields.pop("provenance")),
            references=_references(fields.pop("references")),
            references_along={axis: _references(of) for axis, of in fields.pop("references_along", {}).items()},
            references_told=tuple(_references(of) for of in fields.pop("references_told", ())),
            classes=tuple(fields.pop("classes")),
            fractions=tuple((float(low), float(high)) for low, high in fields.pop("fractions", ())),
            **fields,
        )


def _between(
    below: Mapping[str, Descriptors], above: Mapping[str, Descriptors] | None = None, *, fraction: float, phase: str
) -> Mapping[str, Descriptors]:
    """Descriptors interpolated to a fraction of ``phase``."""
    if above is None:
        return below
    low, high = below[phase].fraction, above[phase].fraction
    weight = (fraction - low) / (high - low)
    return {name: Descriptors.interpolated(of, above[name], weight) for name, of in below.items()}


def _references(fields: dict[str, Any]) -> dict[str, Descriptors]:
    return {
        name: Descriptors(**{**entry, "s2": tuple(entry["s2"]), "lineal_path": tuple(entry["lineal_path"])})
        for name, entry in fields.items()
    }


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ContractError(f"model contract: {message}")
