"""Options that several commands have, alone and in groups, and what they stand for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdiff_core.errors import MdiffError, UsageError

if TYPE_CHECKING:
    from mdiff_client.denoisers.place import Place
    from mdiff_client.evaluation import Labels
    from mdiff_client.metrics import Tools


def complete_model(context: typer.Context, incomplete: str) -> list[str]:
    """Names that the shell may offer: models of the repository; of a server's none, which it would have to ask."""
    from mdiff_core.repository import bundled_repository, model_names

    repository, url = context.params.get("repository"), context.params.get("url")
    names: list[str] = []
    if not url or _is_set_aside(url, repository):
        with suppress(MdiffError):
            names = model_names(Path(repository) if repository else bundled_repository())
    return [name for name in names if name.startswith(incomplete)]


def complete_plan(incomplete: str) -> list[str]:
    """Names that the shell may offer: the sampling plans."""
    from mdiff_client.sampling import PLANS

    return [name for name in PLANS if name.startswith(incomplete)]


Repository = Annotated[
    Path | None, typer.Option(help="Model repository of the embedded engine; none: the bundled one.")
]
Model = Annotated[str, typer.Option(help="Model: see mdiff-client info.", autocompletion=complete_model)]
Class = Annotated[str | None, typer.Option("--class", help="Class to sample; none: any.")]
Fraction = Annotated[
    list[str] | None,
    typer.Option(
        help="Phase fraction to ask for, as PHASE=0.4, once for each phase but one; of two phases 0.4 is the second's."
    ),
]
Guidance = Annotated[
    float, typer.Option(help="Strength of class and fraction: 1 as trained, more exaggerates them at twice the cost.")
]
Grey = Annotated[bool, typer.Option("--grey", help="Store grey levels in [-1, 1] instead of phases.")]
Volumes = Annotated[str, typer.Argument(help="Zarr store of volumes: a folder, or s3://BUCKET/NAME.zarr.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and stop.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
LogJson = Annotated[
    bool, typer.Option("--log-json", help="Log events to stderr, a JSON object a line, instead of the progress bar.")
]


def place_of(
    url: Annotated[
        str | None,
        typer.Option(
            envvar="MDIFF_URL",
            help="gRPC address of a Triton server, host:port, or dns:///host:port; none: the embedded engine. "
            "A bearer token is taken from MDIFF_TOKEN alone.",
        ),
    ] = None,
    repository: Repository = None,
    timeout: Annotated[float, typer.Option(help="Seconds that one call to the server may take.")] = 30.0,
    patience: Annotated[float, typer.Option(help="Seconds to keep trying while the server is unavailable.")] = 60.0,
    tls_ca: Annotated[
        Path | None,
        typer.Option(envvar="MDIFF_TLS_CA", help="PEM certificates that the server's must be signed by: turns TLS on."),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        typer.Option(envvar="MDIFF_TLS_CERT", help="PEM certificate of this client, for a server that demands one."),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(envvar="MDIFF_TLS_KEY", help="Its PEM private key.")] = None,
) -> Place:
    """Where the models are.

    Raises:
        UsageError: options that do not go together.
    """
    from mdiff_client.denoisers.connection import Connection
    from mdiff_client.denoisers.place import Place
    from mdiff_core.tls import Certificates

    if _is_set_aside(url, repository):
        url = None
    if not url:
        files = {"MDIFF_TLS_CA": tls_ca, "MDIFF_TLS_CERT": tls_cert, "MDIFF_TLS_KEY": tls_key}
        if any(path and str(path) != os.environ.get(name) for name, path in files.items()):
            raise UsageError("--tls-ca, --tls-cert and --tls-key are about a server: give --url")
        return Place(None, repository)
    token = os.environ.get("MDIFF_TOKEN")  # no option, whose value every user of this machine could read
    return Place(Connection(url, timeout, patience, Certificates(tls_ca, tls_cert, tls_key), token), repository)


def _is_set_aside(url: str | None, repository: Path | None) -> bool:
    """Whether a repository goes before a server: a variable stands for every command of a shell, an option for one."""
    return repository is not None and url == os.environ.get("MDIFF_URL")


once_place_of = partial(place_of, patience=0.0)
"""The same for commands that had rather say that a server is not there than wait for it."""


@dataclass(frozen=True)
class Labelling:
    """How labelled files tell phases.

    Attributes:
        phases: values of each, as ``rest=0+2,active=1``; None: 0, 1, 2 … in the order of the material's phases.
        raw_shape: of RAW files.
    """

    phases: str | None
    raw_shape: tuple[int, ...] | None

    def check_used(self, files: bool, options: str) -> None:
        """Refuse it where there are no ``files``, which ``options`` would have given.

        Raises:
            UsageError: so it is.
        """
        if (self.phases or self.raw_shape) and not files:
            raise UsageError(f"--phases and --raw-shape are about labelled files: give some with {options}")


def labelling_of(
    phases: Annotated[
        str | None,
        typer.Option(help="Phases and their values in labelled files, as rest=0+2,active=1; none: 0, 1, 2 …"),
    ] = None,
    raw_shape: Annotated[str | None, typer.Option(help="Shape of RAW files, as 300x64x64.")] = None,
) -> Labelling:
    """How the labelled files that a command reads tell phases.

    Raises:
        UsageError: a shape that is none.
    """
    from mdiff_images import parse_shape

    return Labelling(phases, parse_shape(raw_shape) if raw_shape else None)


@dataclass(frozen=True)
class AskedMetrics:
    """Metrics beside S2 and LP.

    Attributes:
        names: of the metrics.
        lenient: tell of one that lacks something, instead of refusing it: ``all`` were asked for.
        training: files that the model was trained on.
        independent: volumes in those are stacks of unrelated images.
        others: tools that were given beside the training material.
    """

    names: Sequence[str]
    lenient: bool
    training: Sequence[Path]
    independent: bool
    others: Tools

    def tools(self, read: Callable[..., Labels]) -> Tools:
        """What the metrics need more than volumes.

        ``read``: labels of a file, as :func:`mdiff_client.evaluation.read_labels` once the phases are known.

        Raises:
            DataError, UsageError: as ``read``.
        """
        from mdiff_client.metrics import training_images

        images = [read(path, all_present=False) for path in self.training]
        return replace(self.others, training=training_images(images, independent=self.independent))


def metrics_of(
    metrics: Annotated[
        str | None,
        typer.Option(help="Metrics beside S2 and LP, as chords,euler or all; none: those that need nothing more."),
    ] = None,
    training: Annotated[
        list[Path] | None,
        typer.Option(
            help="Volume or image that the model was trained on, once for each: for the metrics that search it."
        ),
    ] = None,
    independent: Annotated[
        bool,
        typer.Option(
            "--independent", help="Training volumes are stacks of images that have nothing to do with each other."
        ),
    ] = False,
    mcrpy: Annotated[
        Path | None,
        typer.Option(
            envvar="MDIFF_MCRPY_PYTHON", help="Python of an environment with MCRpy, for three-point and gram."
        ),
    ] = None,
    fid_weights: Annotated[
        Path | None,
        typer.Option(help="Checkpoint for fid. It is a pickle, which may run anything: take one that you trust."),
    ] = None,
    extractor: Annotated[
        str,
        typer.Option(help="Network of fid by its name in torch-fidelity, or curves: S2 and LP, which need no weights."),
    ] = "inception-v3-compat",
) -> AskedMetrics:
    """The metrics that are asked for, and what they need.

    Raises:
        UsageError: there is no such metric.
    """
    from mdiff_client.metrics import ALL, Tools, parse_metrics

    others = Tools(mcrpy=mcrpy, fid_weights=fid_weights, extractor=extractor)
    lenient = ALL in (metrics or "").split(",")
    return AskedMetrics(parse_metrics(metrics), lenient, training or (), independent, others)
