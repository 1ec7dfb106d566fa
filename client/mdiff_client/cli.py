"""Command ``mdiff-client``."""

from __future__ import annotations

import os

# Before numpy is loaded: its products on one thread are the same to the bit on any number of cores, and several run
# beside each other anyway.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ.get("OPENBLAS_NUM_THREADS", "1")

import logging
import time
from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdiff_client.log import events_on_stderr, warn_on_stderr
from mdiff_core.command import run_app
from mdiff_core.errors import DataError, UsageError
from mdiff_core.outputs import check_new

if TYPE_CHECKING:
    from mdiff_client.denoisers.place import Place
    from mdiff_client.denoisers.timed import Latency
    from mdiff_client.evaluation import Evaluation
    from mdiff_client.store import VolumeStore

app = typer.Typer(
    help="Sample 2D images and 3D volumes of microstructure from a 2D denoiser, and look at them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # without rich --help comes in two thirds of the time
)

_logger = logging.getLogger(__name__)

Url = Annotated[
    str | None,
    typer.Option(
        envvar="MDIFF_URL",
        help="gRPC address of a Triton server, host:port, or dns:///host:port; none: the embedded engine. "
        "A bearer token is taken from MDIFF_TOKEN alone.",
    ),
]
TlsCa = Annotated[
    Path | None,
    typer.Option(envvar="MDIFF_TLS_CA", help="PEM certificates that the server's must be signed by: turns TLS on."),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(envvar="MDIFF_TLS_CERT", help="PEM certificate of this client, for a server that demands one."),
]
TlsKey = Annotated[Path | None, typer.Option(envvar="MDIFF_TLS_KEY", help="Its PEM private key.")]
Repository = Annotated[
    Path | None, typer.Option(help="Model repository of the embedded engine; none: the bundled one.")
]
Timeout = Annotated[float, typer.Option(help="Seconds that one call to the server may take.")]
Model = Annotated[str, typer.Option(help="Model: see mdiff-client info.")]
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
Patience = Annotated[float, typer.Option(help="Seconds to keep trying while the server is unavailable.")]
Grey = Annotated[bool, typer.Option("--grey", help="Store grey levels in [-1, 1] instead of phases.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and stop.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
LogJson = Annotated[
    bool, typer.Option("--log-json", help="Log events to stderr, a JSON object a line, instead of the progress bar.")
]


@app.command()
def info(
    url: Url = None,
    repository: Repository = None,
    model: Annotated[str | None, typer.Option(help="Model; none: every model there is.")] = None,
    timeout: Timeout = 30.0,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    json: Json = False,
) -> None:
    """Print what a server or a repository offers: the contracts of its models."""
    from mdiff_client.report import contracts_json, contracts_text

    place = _place(url, repository, tls_ca, tls_cert, tls_key, timeout)
    contracts = [place.contract(model)] if model else place.contracts()
    typer.echo(contracts_json(contracts) if json else contracts_text(contracts))


@app.command()
def generate2d(
    out: Annotated[
        Path, typer.Argument(help="What to create: NAME.npy, NAME.zarr, NAME.png, or NAME, a folder of PNG files.")
    ],
    url: Url = None,
    repository: Repository = None,
    model: Model = "spheres64",
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="The same seed gives the same images.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 1,
    class_: Class = None,
    fraction: Fraction = None,
    guidance: Guidance = 1.0,
    sampler: Annotated[
        str | None,
        typer.Option(help="ddim, dpm-solver++, or ddpm, with the learned variance where there is one; none: ddim."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Reverse steps, evenly spaced over those of training; none: 50.")
    ] = None,
    eta: Annotated[float | None, typer.Option(help="Stochasticity of DDIM, 0 to 1; none: 0.")] = None,
    grey: Grey = False,
    timeout: Timeout = 30.0,
    patience: Patience = 60.0,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    dry_run: DryRun = False,
    json: Json = False,
    log_json: LogJson = False,
) -> None:
    """Sample images, each for itself, and report how near they are to the training data."""
    from mdiff_client.denoisers.timed import TimedDenoiser
    from mdiff_client.generate import generate_images, image_evaluations
    from mdiff_client.image_files import check_images
    from mdiff_client.progress import progress
    from mdiff_client.report import image_costs, images_json, images_text
    from mdiff_client.sampling import IMAGES, Condition, changed

    with events_on_stderr(json=log_json):
        chosen = changed(IMAGES, sampler=sampler, steps=steps, eta=eta)
        check_images(out, count)
        place = _place(url, repository, tls_ca, tls_cert, tls_key, timeout, patience)
        if dry_run:
            contract = place.contract(model)
            condition = Condition.asked(contract, class_, fraction or [], guidance, volume=False)
            _print_costs(image_costs(contract, chosen, count, condition, grey=grey), json)
            return
        with place.denoiser(model) as untimed:
            denoiser, contract = TimedDenoiser(untimed), untimed.contract
            condition = Condition.asked(contract, class_, fraction or [], guidance, volume=False)
            evaluations = image_evaluations(contract, chosen, count)
            began = _started(out, model, seed, images=count, evaluations=evaluations)
            with progress(evaluations, "evaluation", hidden=log_json) as advance:
                statistics = generate_images(
                    denoiser,
                    chosen,
                    out,
                    seed=seed,
                    count=count,
                    grey=grey,
                    condition=condition,
                    on_evaluation=advance,
                )
        latency = denoiser.latency()
        _finished(began, latency)
        report = images_json if json else images_text
        typer.echo(report(contract, chosen, count, condition, statistics.comparisons(), latency))


@app.command()
def generate3d(
    out: Annotated[Path, typer.Argument(help="Zarr store to create.")],
    url: Url = None,
    repository: Repository = None,
    model: Annotated[
        str | None,
        typer.Option(help="Model: see mdiff-client info; none: that of the first --plane, or spheres64."),
    ] = None,
    plane: Annotated[
        list[str] | None,
        typer.Option(help="Model of one plane, and a class of it, as xy=MODEL or xy=MODEL:CLASS; the others: --model."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="The same seed gives the same volumes.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Number of volumes.")] = 1,
    in_flight: Annotated[
        int | None,
        typer.Option(
            min=1, help="Volumes made at the same time; none: 2 from a server on another machine, 1 on this one."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Make what is missing in OUT, where the same command has begun it.")
    ] = False,
    size: Annotated[
        str | None,
        typer.Option(
            help="Voxels along z, y and x, as 64x128x96, none fewer than the model's images have; none: cube."
        ),
    ] = None,
    periodic: Annotated[
        str | None, typer.Option(help="Axes along which opposite faces match, as xyz, or none, instead of the plan's.")
    ] = None,
    class_: Class = None,
    fraction: Fraction = None,
    guidance: Guidance = 1.0,
    anchor: Annotated[
        list[str] | None,
        typer.Option(help="A slice that the volumes contain, as AXIS=INDEX:FILE: z=12:slice.tif is the xy plane z 12."),
    ] = None,
    anchor_phases: Annotated[
        str | None, typer.Option(help="Phases and their values in the anchors, as matrix=0,sphere=255; none: 0, 1, 2 …")
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(
            help="Sampling plan: draft, fast, balanced, films, paper, or a file NAME.toml; none: fast, or films "
            "for more than two phases, plain for grey levels."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Reverse steps, instead of the plan's.")] = None,
    harmonize: Annotated[int | None, typer.Option(help="Harmonizing passes n_h, instead of the plan's.")] = None,
    sampler: Annotated[str | None, typer.Option(help="ddpm, ddim or dpm-solver++, instead of the plan's.")] = None,
    eta: Annotated[
        float | None, typer.Option(help="Stochasticity of DDIM, 0 to 1, instead of the plan's, and of its churn.")
    ] = None,
    thick_slices: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Share of the width that the material's S2 gives the slices, instead of the plan's."
        ),
    ] = None,
    plane_ratio: Annotated[
        str | None, typer.Option(help="How often the planes xy, xz and yz are asked, as 2:1:1, instead of the plan's.")
    ] = None,
    grey: Grey = False,
    threshold: Annotated[
        str | None,
        typer.Option(help="Store a grey model's levels as 0 below and 1 above it: otsu, or a level from -1 to 1."),
    ] = None,
    timeout: Timeout = 30.0,
    patience: Patience = 60.0,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    dry_run: DryRun = False,
    json: Json = False,
    log_json: LogJson = False,
) -> None:
    """Sample volumes and report how near they are to the training data."""
    from mdiff_client.anchor_files import read_anchors
    from mdiff_client.evaluation import evaluate
    from mdiff_client.generate import generate, stored_as
    from mdiff_client.plan_files import parse_periodic, parse_ratio, parse_size, read_plan
    from mdiff_client.plane_models import open_models
    from mdiff_client.progress import progress
    from mdiff_client.report import costs
    from mdiff_client.sampling import default_plan
    from mdiff_client.store import VolumeStore
    from mdiff_client.thresholds import Threshold

    with events_on_stderr(json=log_json):
        changes = {
            "steps": steps,
            "harmonize": harmonize,
            "sampler": sampler,
            "eta": eta,
            "thick_slices": thick_slices,
            "ratio": parse_ratio(plane_ratio) if plane_ratio else None,
            "periodic": parse_periodic(periodic) if periodic is not None else None,
            "size": parse_size(size) if size else None,
        }
        split = Threshold.parse(threshold) if threshold else None
        if not resume:
            check_new(out)
        place = _place(url, repository, tls_ca, tls_cert, tls_key, timeout, patience)
        with open_models(place, model, plane or []) as models:
            contract = models.contract
            chosen = read_plan(plan or default_plan(contract), **changes)
            planes, condition = models.asked(class_, fraction or [], guidance)
            anchors = read_anchors(anchor or [], contract, chosen.shape(contract), anchor_phases)
            stored_as(contract, split, grey=grey)
            if dry_run:
                _print_costs(costs(contract, chosen, count, condition, grey=grey), json)
                return
            missing = count - (len(VolumeStore.open(out).complete()) if resume and out.exists() else 0)
            evaluations = missing * chosen.evaluations(contract.schedule.build())
            began = _started(out, contract.name, seed, volumes=missing, evaluations=evaluations)
            with progress(evaluations, "evaluation", hidden=log_json) as advance:
                store = generate(
                    planes,
                    chosen,
                    out,
                    seed=seed,
                    count=count,
                    grey=grey,
                    threshold=split,
                    condition=condition,
                    anchors=anchors,
                    contract=contract,
                    # While one volume is updated, the server denoises the other; on this machine both want the cores.
                    in_flight=in_flight or (1 if place.is_here else 2),
                    resume=resume,
                    on_evaluation=advance,
                )
        latency = models.latency()
        _finished(began, latency)
        if store.contract.phases:
            _report(store, evaluate(store), json, latency)
        else:
            _print_costs(costs(contract, chosen, count, condition, grey=grey), json, latency)


@app.command("evaluate")
def evaluate_command(
    volumes: Annotated[Path, typer.Argument(help="Zarr store made by generate3d.")],
    against: Annotated[
        Path | None,
        typer.Option(help="Real volume or image (TIFF, NPY, RAW) to compare with; none: the training data."),
    ] = None,
    floor: Annotated[
        Path | None,
        typer.Option(help="Real volume or image: also report how far real crops of it are from the reference."),
    ] = None,
    phases: Annotated[
        str | None,
        typer.Option(help="Phases and their values in the real data, as rest=0+2,active=1; none: 0, 1, 2 …"),
    ] = None,
    raw_shape: Annotated[str | None, typer.Option(help="Shape of real data in a RAW file, as 300x64x64.")] = None,
    json: Json = False,
) -> None:
    """Report phase fraction, specific surface, S2 and LP error of volumes against real material."""
    from mdiff_client.evaluation import evaluate, read_labels
    from mdiff_client.store import VolumeStore
    from mdiff_images import parse_shape

    if phases and not (against or floor):
        raise UsageError("--phases is about real data: give it with --against or --floor")
    store = VolumeStore.open(volumes)
    shape = parse_shape(raw_shape) if raw_shape else None
    reference, real = (read_labels(path, store.contract, phases, shape) if path else None for path in (against, floor))
    _report(store, evaluate(store, reference, real), json)


@app.command("preview")
def preview_command(
    volumes: Annotated[Path, typer.Argument(help="Zarr store made by generate3d.")],
    out: Annotated[Path, typer.Argument(help="PNG to write.")],
    volume: Annotated[int, typer.Option(min=0, help="Which volume of the store.")] = 0,
    phase: Annotated[str | None, typer.Option(help="Phase shown as bodies; none: the last one.")] = None,
) -> None:
    """Draw a volume: three orthogonal sections and a 3D view."""
    import numpy as np

    from mdiff_client.pictures import preview
    from mdiff_client.store import VolumeStore

    check_new(out)
    store = VolumeStore.open(volumes)
    contract, array = store.contract, store.read(volume)
    picture = preview(
        array,
        phases=contract.phases if array.dtype == np.uint8 else (),
        highlight=contract.phase_label(phase) if phase else None,
        voxel_size=contract.voxel_size,
        voxel_unit=contract.voxel_unit,
        title=f"{contract.name}, volume {volume}",
    )
    try:
        picture.save(out, format="PNG")
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error})") from error


def _place(
    url: str | None,
    repository: Path | None,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    timeout: float,
    patience: float = 0.0,
) -> Place:
    from mdiff_client.denoisers.connection import Connection
    from mdiff_client.denoisers.place import Place
    from mdiff_core.tls import Certificates

    # A variable stands for every command of a shell, an option for this one.
    if repository and url == os.environ.get("MDIFF_URL"):
        url = None
    if not url:
        files = {"MDIFF_TLS_CA": tls_ca, "MDIFF_TLS_CERT": tls_cert, "MDIFF_TLS_KEY": tls_key}
        if any(path and str(path) != os.environ.get(name) for name, path in files.items()):
            raise UsageError("--tls-ca, --tls-cert and --tls-key are about a server: give --url")
        return Place(None, repository)
    token = os.environ.get("MDIFF_TOKEN")  # no option, whose value every user of this machine could read
    return Place(Connection(url, timeout, patience, Certificates(tls_ca, tls_cert, tls_key), token), repository)


def _started(out: Path, model: str, seed: int, **counts: int) -> float:
    _logger.info("run started", extra={"figures": {"out": str(out), "model": model, "seed": seed, **counts}})
    return time.perf_counter()


def _finished(began: float, latency: Latency | None) -> None:
    from mdiff_client.report import latency_json

    seconds = time.perf_counter() - began
    _logger.info("run finished", extra={"figures": {"seconds": seconds, **latency_json(latency)}})


def _print_costs(costs: Mapping[str, int | str], json: bool, latency: Latency | None = None) -> None:
    from mdiff_client.report import costs_text, latency_json, latency_text

    if json:
        typer.echo(dumps({**costs, **latency_json(latency)}))
    else:
        typer.echo("\n".join([costs_text(costs), *([latency_text(latency)] if latency else [])]))


def _report(store: VolumeStore, evaluation: Evaluation, json: bool, latency: Latency | None = None) -> None:
    from mdiff_client.report import evaluation_json, evaluation_text

    asked_for = store.condition.described(store.contract)
    if json:
        typer.echo(evaluation_json(evaluation, store.condition, asked_for, latency))
    else:
        typer.echo(evaluation_text(evaluation, asked_for, latency))


def main() -> None:
    """Entry point."""
    # gRPC's own log would come between our lines, and says nothing that an error does not say.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    warn_on_stderr()
    run_app(app)
