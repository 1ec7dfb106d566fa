"""Several stores and outside volumes beside one material, in the same measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mdiff_client.evaluation import (
    ALL_AXES,
    Comparison,
    Labels,
    References,
    compare,
    describe_volumes,
    labels_of,
    phase_names,
    references_of,
)
from mdiff_client.metrics import Measured, Setting, Tools, Volumes, measure
from mdiff_client.store import VolumeStore
from mdiff_core import DataError, Descriptors, ModelContract, UsageError, reference_descriptors


@dataclass(frozen=True)
class Material:
    """What everything is compared with.

    Attributes:
        name: in words.
        greys: grey level of each phase, 0 to 255, by name, in the order of the labels.
        references: its curves, by phase.
        references_along: the same along one axis, where the material is anisotropic.
        real: phase labels of it, [Z, Y, X] or [H, W], where there are any.
        edge: of the model's images, or of what is compared, pixels.
    """

    name: str
    greys: Mapping[str, int]
    references: References
    references_along: Mapping[str, References]
    real: Labels | None
    edge: int

    @classmethod
    def of_model(cls, contract: ModelContract, real: Labels | None = None, name: str = "") -> Material:
        """The training data of a model, or a volume or image of that material, in the order of its phases.

        Raises:
            DataError: the real material is too small.
            UsageError: the model has no phases, or no curves where there is no real material.
        """
        names = phase_names(contract)
        greys = {phase.name: phase.grey for phase in contract.phases}
        if real is not None:
            return cls(name, greys, *references_of(real, contract, names), real, min(contract.image_size))
        if not contract.references:
            raise UsageError(f"model {contract.name} has no reference curves: give real material with --against")
        curves = contract.references, contract.references_along
        return cls(f"the training data of {contract.name}", greys, *curves, None, min(contract.image_size))

    @classmethod
    def of_file(cls, real: Labels, names: Sequence[str], edge: int, name: str) -> Material:
        """Any volume or image; its curves reach to half of ``edge``.

        Raises:
            DataError: it is too small.
        """
        greys = {phase: round(255 * label / (len(names) - 1)) for label, phase in enumerate(names)}
        return cls(name, greys, reference_descriptors(real, names, (edge, edge)), {}, real, edge)


@dataclass(frozen=True)
class Source:
    """Volumes that somebody or something made.

    Attributes:
        name: what tells them from the others.
        volumes: phase labels, one volume after the other.
    """

    name: str
    volumes: Volumes


@dataclass(frozen=True)
class Entry:
    """One source beside the material.

    Attributes:
        volumes: how many.
        phases: compared with the reference over all axes, by phase.
        metrics: the others that were asked for, by name.
        curves: mean over the volumes, by phase.
    """

    volumes: int
    phases: dict[str, Comparison]
    metrics: dict[str, list[Measured]]
    curves: dict[str, Descriptors]


@dataclass(frozen=True)
class SideBySide:
    """What ``mdiff-client compare`` tells.

    Attributes:
        reference: what all are compared with, in words.
        references: its curves, by phase.
        sources: by name.
        unmeasured: what the metrics lack that could not be measured, by name.
    """

    reference: str
    references: dict[str, Descriptors]
    sources: dict[str, Entry]
    unmeasured: dict[str, str]


def sources_of(
    locations: Sequence[str], names: Sequence[str], phases: str | None, raw_shape: tuple[int, ...] | None
) -> list[Source]:
    """Stores, one source for each condition, and files of one volume each.

    Args:
        locations: of stores and files.
        names: of the phases, in the order of the labels.
        phases: their values in the files, see :func:`mdiff_client.evaluation.read_labels`.
        raw_shape: of RAW files.

    Raises:
        DataError: one that cannot be read, or a store without a complete volume.
        UsageError: a store of other phases, or two sources of one name.
    """
    found: list[Source] = []
    for location in locations:
        if is_store(location):
            found += _of_store(VolumeStore.open(location), names)
        else:
            labels = labels_of(Path(location), names, phases, raw_shape, all_present=False)
            found.append(Source(Path(location).name, partial(iter, [labels])))
    called = [source.name for source in found]
    twice = next((name for name in called if called.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two of them are called {twice}: rename one, so that the table can tell them apart")
    return found


def is_store(location: str) -> bool:
    """Whether there is a store rather than a file."""
    return "://" in location or Path(location).is_dir()


def _of_store(store: VolumeStore, names: Sequence[str]) -> Iterator[Source]:
    there = phase_names(store.contract)
    if list(names) != there:
        raise UsageError(f"{store.location} has the phases {', '.join(there)}, not {', '.join(names)}")
    made = store.by_condition()
    if not made:
        raise DataError(f"{store.location}: there is no complete volume to compare")
    for condition, indices in made.items():
        asked = f" ({condition.described(store.contract)})" if len(made) > 1 else ""
        yield Source(Path(store.location).name + asked, partial(map, store.labels, indices))


def side_by_side(
    sources: Sequence[Source],
    material: Material,
    metrics: Sequence[str] = (),
    tools: Tools | None = None,
    *,
    lenient: bool = False,
) -> SideBySide:
    """Compare every source with the same material.

    Args:
        sources: at least one.
        material: its phases are the labels of the sources.
        metrics: names of more to measure.
        tools: what some of them need.
        lenient: tell of a metric that lacks something, instead of refusing it.

    Raises:
        DataError: volumes too small for the curves.
        UsageError: a metric lacks something.
    """
    names = tuple(material.greys)
    edge = min(material.edge, *map(smallest_edge, sources))
    setting = Setting(
        names=names,
        greys=tuple(grey / 255 for grey in material.greys.values()),
        edge=edge,
        max_lag=edge // 2,
        references=material.references,
        references_along=material.references_along,
        real=material.real,
        tools=tools or Tools(),
    )
    entries: dict[str, Entry] = {}
    unmeasured: dict[str, str] = {}
    for source in sources:
        # What they lack is the setting's, and so the same for all.
        measured, unmeasured = measure(metrics, source.volumes, None, setting, lenient=lenient)
        entries[source.name] = _entry(source, setting, measured)
    return SideBySide(material.name, dict(material.references), entries, unmeasured)


def smallest_edge(source: Source) -> int:
    """Of its first volume, voxels."""
    return int(min(next(source.volumes()).shape))


def _entry(source: Source, setting: Setting, metrics: dict[str, list[Measured]]) -> Entry:
    described = describe_volumes(source.volumes(), {ALL_AXES: setting.references}, setting.names)[ALL_AXES]
    phases = {name: compare(samples, setting.references[name]) for name, samples in described.items()}
    count = max((one.samples for one in phases.values()), default=0)
    curves = {name: Descriptors.mean(samples) for name, samples in described.items()}
    return Entry(count, phases, metrics, curves)
