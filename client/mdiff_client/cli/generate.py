"""Commands ``generate2d`` and ``generate3d``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.gathered import gathers
from mdiff_client.cli.options import (
    Class,
    DryRun,
    Fraction,
    Grey,
    Guidance,
    Json,
    LogJson,
    Model,
    complete_model,
    complete_plan,
    place_of,
)
from mdiff_client.cli.output import finished, print_costs, report, started
from mdiff_client.cli.terminal import tell
from mdiff_client.log import events_on_stderr

if TYPE_CHECKING:
    from mdiff_client.denoisers.place import Place


@app.command()
@gathers(place=place_of)
def generate2d(
    out: Annotated[
        Path, typer.Argument(help="What to create: NAME.npy, NAME.zarr, NAME.png, or NAME, a folder of PNG files.")
    ],
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
    *,
    place: Callable[[], Place],
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
        if dry_run:
            contract = place().contract(model)
            condition = Condition.asked(contract, class_, fraction or [], guidance, volume=False)
            print_costs(image_costs(contract, chosen, count, condition, grey=grey), json)
            return
        with place().denoiser(model) as untimed:
            denoiser, contract = TimedDenoiser(untimed), untimed.contract
            condition = Condition.asked(contract, class_, fraction or [], guidance, volume=False)
            evaluations = image_evaluations(contract, chosen, count)
            began = started(out, model, seed=seed, images=count, evaluations=evaluations)
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
        finished(began, latency)
        found = (contract, chosen, count, condition, statistics.comparisons(), latency)
        if json:
            typer.echo(images_json(*found))
        else:
            tell(images_text(*found))


@app.command()
@gathers(place=place_of)
def generate3d(
    out: Annotated[str, typer.Argument(help="Zarr store to create: a folder, or s3://BUCKET/NAME.zarr.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Model: see mdiff-client info; none: that of the first --plane, or spheres64.",
            autocompletion=complete_model,
        ),
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
            help="Voxels along z, y and x, as 64x128x96, or 96 for a cube, none fewer than the model's images have; "
            "none: a cube of those."
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
            "for more than two phases, plain for grey levels.",
            autocompletion=complete_plan,
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
    *,
    place: Callable[[], Place],
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
    from mdiff_client.report import costs, written_text
    from mdiff_client.sampling import default_plan
    from mdiff_client.storage import Storage
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
            Storage(out).check_new()
        where = place()
        with open_models(where, model, plane or []) as models:
            contract = models.contract
            chosen = read_plan(plan or default_plan(contract), **changes)
            planes, condition = models.asked(class_, fraction or [], guidance)
            anchors = read_anchors(anchor or [], contract, chosen.shape(contract), anchor_phases)
            stored_as(contract, split, grey=grey)
            if dry_run:
                print_costs(costs(contract, chosen, count, condition, grey=grey), json)
                return
            missing = count - (len(VolumeStore.open(out).complete()) if resume and Storage(out).exists() else 0)
            evaluations = missing * chosen.evaluations(contract.schedule.build())
            began = started(out, contract.name, seed=seed, volumes=missing, evaluations=evaluations)
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
                    in_flight=in_flight or (1 if where.is_here else 2),
                    resume=resume,
                    on_evaluation=advance,
                )
        latency = models.latency()
        seconds = finished(began, latency)
        if store.contract.phases:
            report(store.contract, condition, evaluate(store), json, latency)
        else:
            print_costs(costs(contract, chosen, count, condition, grey=grey), json, latency)
        if not json:
            typer.echo(written_text(out, store.shape, missing, seconds))
