"""Commands ``library …``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mdiff_client.cli.app import app
from mdiff_client.cli.gathered import gathers
from mdiff_client.cli.options import Grey, Json, LogJson, complete_model, complete_plan, once_place_of, place_of
from mdiff_client.cli.output import finished, started
from mdiff_client.cli.terminal import BAD, FAIR, GOOD, tell
from mdiff_client.log import events_on_stderr
from mdiff_core.errors import DataError

if TYPE_CHECKING:
    from mdiff_client.denoisers.place import Place
    from mdiff_client.library.library import Library
    from mdiff_client.library.spec import LibrarySpec
    from mdiff_client.store import VolumeStore

library = typer.Typer(
    help="Libraries of volumes, made by any number of workers: plan, create, run, status, verify, finalize.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(library, name="library")

_COLOURS = {
    "^done +[1-9].*": GOOD,
    "^missing +[1-9].*": FAIR,
    "^(given up|damaged) +[1-9].*": BAD,
}
Store = Annotated[str, typer.Argument(help="The library: a folder NAME.zarr, or s3://BUCKET/NAME.zarr.")]


def _asked(
    from_: Annotated[
        Path | None, typer.Option("--from", help="TOML file that describes the library; options go before it.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model: see mdiff-client info.", autocompletion=complete_model)
    ] = None,
    plane: Annotated[list[str] | None, typer.Option(help="Model of one plane, as xy=MODEL or xy=MODEL:CLASS.")] = None,
    plan: Annotated[
        str | None, typer.Option(help="Sampling plan, or a file NAME.toml.", autocompletion=complete_plan)
    ] = None,
    size: Annotated[str | None, typer.Option(help="Voxels along z, y and x, as 64x128x96, or 96 for a cube.")] = None,
    periodic: Annotated[
        str | None, typer.Option(help="Axes along which opposite faces match, as xyz, or none.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="For each a volume of every combination, as 0-999 or 0-9,50-59.")
    ] = None,
    class_: Annotated[
        list[str] | None, typer.Option("--class", help="Class, as often as there are some to combine.")
    ] = None,
    fraction: Annotated[
        list[str] | None, typer.Option(help="Phase fractions to combine, as sphere=0.2,0.3,0.4, once for each phase.")
    ] = None,
    guidance: Annotated[list[float] | None, typer.Option(help="Guidance, one or several to combine.")] = None,
    grey: Grey = False,
    threshold: Annotated[
        str | None, typer.Option(help="Labels of a grey model's levels: otsu, or a level from -1 to 1.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="What each volume must keep to: fraction=0.05, s2=20, lineal_path=30 (per cent), "
            "percolates=PHASE,PHASE, attempts=3."
        ),
    ] = None,
) -> LibrarySpec:
    from mdiff_client.library.quality import Limits
    from mdiff_client.library.spec import LibrarySpec, parse_fractions

    return LibrarySpec.read(
        from_,
        model=model,
        plane=tuple(plane or ()),
        plan=plan,
        size=size,
        periodic=periodic,
        seeds=seeds,
        classes=tuple(class_ or ()),
        fractions=parse_fractions(fraction or []),
        guidance=tuple(guidance or ()),
        grey=grey,
        threshold=threshold,
        limits=Limits.parse(limit or []),
    )


@library.command("plan")
@gathers(spec=_asked, place=once_place_of)
def plan_command(
    store: Store,
    spec: Callable[[], LibrarySpec],
    *,
    place: Callable[[], Place],
    json: Json = False,
) -> None:
    """Say what a library would cost, after a short probe; writes nothing."""
    from mdiff_client.library.estimate import estimate

    where = place()
    with _open(spec(), where) as found:
        cost = estimate(found, store, on_wire=where.connection is not None)
    _print({name: value for name, value in cost.items() if json or value is not None}, json)


@library.command()
@gathers(spec=_asked, place=once_place_of)
def create(
    store: Store,
    spec: Callable[[], LibrarySpec],
    resume: Annotated[
        bool, typer.Option("--resume", help="Also where the same library was created there before.")
    ] = False,
    *,
    place: Callable[[], Place],
    json: Json = False,
) -> None:
    """Lay out the store of a library, without a volume."""
    from mdiff_client.storage import Storage

    if not resume:
        Storage(store).check_new()
    with _open(spec(), place()) as found:
        found.store(store, resume=resume)
        _print({"library": store, "volumes": found.count, "evaluations_per_volume": found.evaluations}, json)


@library.command()
@gathers(place=place_of)
def run(
    store: Store,
    shard: Annotated[
        str, typer.Option(envvar="MDIFF_SHARD", help="This worker's share, as 3/16: the first is 0/16, the last 15/16.")
    ] = "0/1",
    in_flight: Annotated[
        int | None,
        typer.Option(
            min=1, help="Volumes made at the same time; none: 2 from a server on another machine, 1 on this one."
        ),
    ] = None,
    *,
    place: Callable[[], Place],
    json: Json = False,
    log_json: LogJson = False,
) -> None:
    """Make the volumes that are missing, or those of one shard; may be stopped and run again at any time."""
    from mdiff_client.library.library import spec_of
    from mdiff_client.library.shards import Shard
    from mdiff_client.progress import progress
    from mdiff_client.store import VolumeStore

    with events_on_stderr(json=log_json):
        share, opened = Shard.parse(shard), VolumeStore.open(store)
        where = place()
        with _open(spec_of(opened), where, opened) as found:
            found.store(store, resume=True)
            began = started(store, found.recipe.contract.name)
            made = found.run(
                opened,
                share,
                in_flight or (1 if where.is_here else 2),
                lambda evaluations: progress(evaluations, "evaluation", hidden=log_json),
            )
        finished(began, None)
        _print({"library": store, "shard": shard, "volumes": made}, json)


@library.command()
def status(store: Store, json: Json = False) -> None:
    """Say which volumes are done, given up and missing, and who is at work."""
    from mdiff_client.library.lease import at_work
    from mdiff_client.library.library import FAILED, missing, spec_of
    from mdiff_client.store import VolumeStore

    opened = VolumeStore.open(store)
    spec_of(opened)
    left = missing(opened)
    given_up, workers = opened.documents(FAILED), at_work(opened.storage)
    found = {
        "library": store,
        "volumes": opened.shape[0],
        "done": opened.shape[0] - len(left) - len(given_up),
        "given_up": given_up if json else len(given_up),
        "missing": left if json else len(left),
        "workers": workers if json else len(workers),
    }
    _print(found, json)


@library.command()
def verify(
    store: Store,
    repair: Annotated[
        bool, typer.Option("--repair", help="Take the records of damaged volumes away, so that run makes them again.")
    ] = False,
    json: Json = False,
) -> None:
    """Read every volume again and hold it to the checksum of its record."""
    from mdiff_client.library.library import damaged, forget, spec_of
    from mdiff_client.progress import progress
    from mdiff_client.store import VolumeStore

    opened = VolumeStore.open(store)
    spec_of(opened)
    wrong, complete = {}, opened.complete()
    with progress(len(complete), "volume") as advance:
        for index, complaint in damaged(opened, complete):
            if complaint:
                wrong[index] = complaint
            advance()
    for index in wrong if repair else ():
        forget(opened, index)
    _print({"library": store, "checked": len(complete), "damaged": wrong if json else len(wrong)}, json)
    if wrong and not repair:
        first = next(iter(wrong))
        raise DataError(
            f"{store}: {len(wrong)} volumes are damaged, the first is {first}, {wrong[first]}: --repair takes their "
            "records away, and run makes them again"
        )


@library.command("finalize")
def finalize_command(
    store: Store,
    table: Annotated[Literal["csv", "parquet"], typer.Option(help="What the table is written as.")] = "csv",
    json: Json = False,
) -> None:
    """Merge the records, write the table of all volumes, and consolidate zarr's metadata."""
    from mdiff_client.library.library import FAILED, spec_of
    from mdiff_client.library.table import finalize
    from mdiff_client.store import VolumeStore

    opened = VolumeStore.open(store)
    spec_of(opened)
    name = finalize(opened, parquet=table == "parquet")
    _print(
        {
            "library": store,
            "volumes": opened.shape[0],
            "given_up": len(opened.documents(FAILED)),
            "table": f"{store.rstrip('/')}/{name}",
        },
        json,
    )


@contextmanager
def _open(spec: LibrarySpec, place: Place, store: VolumeStore | None = None) -> Iterator[Library]:
    """The library with its models; of one that lies in a store, the plan is the one noted there."""
    from mdiff_client.library.library import Library
    from mdiff_client.plan_files import read_plan, stored_plan
    from mdiff_client.plane_models import open_models
    from mdiff_client.sampling import default_plan

    with open_models(place, spec.model, spec.plane) as models:
        if store:
            plan = stored_plan(store.plan)
        else:
            plan = read_plan(spec.plan or default_plan(models.contract), **spec.plan_changes)
        yield Library.of(spec, plan, models)


def _print(found: dict[str, Any], json: bool) -> None:
    from mdiff_client.report import costs_text

    if json:
        typer.echo(dumps(found))
    else:
        tell(costs_text(found), _COLOURS)
