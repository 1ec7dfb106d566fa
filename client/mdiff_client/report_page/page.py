"""The page: one HTML file that carries its style, its scripts and the volumes, and asks no network for anything."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
import numpy.typing as npt

from mdiff_client.evaluation import ALL_AXES, Labels
from mdiff_client.metrics import PIECES
from mdiff_client.pictures.preview import COLOURS
from mdiff_client.report_page.charts import Curves, drawn
from mdiff_client.report_page.figures import Pieces, Quantity
from mdiff_client.report_page.reporting import Comparison, Report
from mdiff_client.report_page.tables import class_of, figures_table, metrics_table, provenance_table, tag
from mdiff_core import DataError, UsageError


def write_page(report: Report, out: Path) -> int:
    """Write a report as one HTML file, whole or not at all; the same report gives the same bytes.

    Returns: bytes written.

    Raises:
        UsageError: more phases than there are colours.
        DataError: ``out`` cannot be written.
    """
    page = _page(report).encode("utf-8")
    partial = out.with_name(f"{out.name}.partial")
    try:
        partial.write_bytes(page)
        partial.replace(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror})") from error
    return len(page)


def _page(report: Report) -> str:
    contract = report.store.contract
    if len(contract.phases) > len(COLOURS):
        raise UsageError(f"a report has colours for {len(COLOURS)} phases, not for {len(contract.phases)}")
    count = sum(len(one.indices) for one in report.comparisons)
    style, library, script = _resource("page.css"), _resource("three/three.min.js"), _resource("page.js")
    return Template(_resource("page.html")).substitute(
        policy=f"script-src {_hashed(library)} {_hashed(script)}; style-src {_hashed(style)}",
        title=escape(f"{count} volume{'' if count == 1 else 's'} of {contract.name}"),
        style=style,
        facts=escape(_facts(report)),
        verdict=_verdict(report),
        look=escape(_look(report)),
        comparisons="\n".join(_comparison(report, one) for one in report.comparisons),
        provenance=provenance_table(report),
        footer=escape(
            f"Made by mdiff {version('mdiff')}. three.js (MIT licence) draws the 3D views. This file is complete in "
            "itself and asks no network for anything."
        ),
        data=_data(report),
        library=library,
        script=script,
    )


def _resource(name: str) -> str:
    return files("mdiff_client.report_page").joinpath(name).read_text(encoding="utf-8")


def _hashed(text: str) -> str:
    """What a content security policy calls an inline script or style: no other one runs."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode()}'"


def _facts(report: Report) -> str:
    contract = report.store.contract
    size = " × ".join(map(str, report.store.shape[1:]))
    unit = "" if contract.voxel_unit == "voxel" else f" of {contract.voxel_size:g} {contract.voxel_unit}"
    against = f"compared with {report.real.name}" if report.real else "compared with the training data’s curves"
    return f"{size} voxels{unit} (z × y × x); phases {', '.join(phase.name for phase in contract.phases)}; {against}"


def _look(report: Report) -> str:
    if report.real is None:
        return "Nothing real is shown beside the volumes, because no real material was given (--reference)."
    if report.real.labels.ndim == 2:
        return f"Sections z are beside a piece from the middle of {report.real.name}, which is an image."
    return f"Generated beside a piece of the same size from the middle of {report.real.name}."


def _verdict(report: Report) -> str:
    verdict = report.verdict
    findings = "".join(
        f"<li>{tag(one.level)}<span><strong>{one.quantity.value}</strong>: {escape(one.text)}</span></li>"
        for one in verdict.findings
    )
    several = "" if len(report.comparisons) == 1 else " (the worst of the conditions below)"
    notes = "".join(f'<p class="rule">{escape(note)}</p>' for note in verdict.notes)
    return (
        f'<section class="verdict {class_of(verdict.level)}" aria-labelledby="verdict">'
        f'<h2 id="verdict">{escape(verdict.title)}{several}</h2><ul>{findings}</ul>{notes}'
        f'<p class="rule"><strong>The rule.</strong> {escape(verdict.rule)}</p></section>'
    )


def _comparison(report: Report, one: Comparison) -> str:
    asked_for = one.condition.described(report.store.contract)
    several = len(report.comparisons) > 1
    heading = f"Asked for {asked_for or 'nothing in particular'}" if several else "Curves"
    verdict = f"<p>{tag(one.verdict.level)} {escape(one.verdict.title)}</p>" if several else ""
    number = report.comparisons.index(one)
    over_all = [figure for figure in one.figures if figure.axes == ALL_AXES or figure.quantity is Quantity.PERCOLATION]
    along = [figure for figure in one.figures if figure not in over_all]
    tables = figures_table(one, over_all, "Over all axes" if along else "")
    if along:
        tables += figures_table(one, along, "Along each axis, because the material is anisotropic")
    tables += metrics_table(one)
    return (
        f'<section aria-labelledby="curves-{number}"><h2 id="curves-{number}">{escape(heading)}</h2>{verdict}'
        f"{_charts(report, one)}<h3>Figures</h3>{tables}</section>"
    )


def _charts(report: Report, one: Comparison) -> str:
    contract = report.store.contract
    charts = []
    for phase, reference in one.references[ALL_AXES].items():
        for field, name in (("s2", Quantity.S2.value), ("lineal_path", Quantity.LINEAL_PATH.value)):
            curves = Curves(
                name=name,
                phase=phase,
                lag=(contract.voxel_size, contract.voxel_unit),
                volumes=_sampled(one.volumes, phase, field),
                reference=np.array(getattr(reference, field)),
                real=_sampled(one.real, phase, field) if one.real else None,
            )
            charts.append(f"<figure><figcaption>{name}, {escape(phase)}</figcaption>{drawn(curves)}</figure>")
    key = [("made", "mean of the volumes"), ("reference", report.real.name if report.real else "training data")]
    lines = "".join(
        f'<li><svg viewBox="0 0 34 14"><line class="{kind}" x1="0" x2="34" y1="7" y2="7"/></svg>{escape(text)}</li>'
        for kind, text in key
    )
    if one.real:
        lines += (
            '<li><svg viewBox="0 0 34 14"><rect class="band" width="34" height="14"/></svg>'
            f"where 95 % of {PIECES} real pieces of {report.edge} voxels lie</li>"
        )
    return f'<ul class="key">{lines}</ul><div class="charts">{"".join(charts)}</div>'


def _sampled(pieces: Pieces, phase: str, field: str) -> npt.NDArray[np.float64]:
    return np.array([getattr(piece, field) for piece in pieces.descriptors[ALL_AXES][phase]])


def _data(report: Report) -> str:
    """What the script draws, as JSON that no value in it can end the script element of."""
    contract = report.store.contract
    several = len(report.comparisons) > 1

    def name(index: int, labels: Labels) -> str:
        asked_for = report.store.condition(index).described(contract)
        whole = labels.shape == report.store.shape[1:]
        return (
            f"Generated, volume {index}"
            + (f": {asked_for}" if several and asked_for else "")
            + ("" if whole else f", the first {' × '.join(map(str, labels.shape))} voxels")
        )

    content = {
        "phases": [
            {"name": phase.name, "colour": colour.tolist()}
            for phase, colour in zip(contract.phases, COLOURS, strict=False)
        ],
        "volumes": [_packed(name(index, labels), labels) for index, labels in report.shown.items()],
        "real": _packed(f"Real, {report.real.name}", report.real_shown)
        if report.real and report.real_shown is not None
        else None,
    }
    return json.dumps(content).replace("<", "\\u003c")


def _packed(name: str, labels: Labels) -> dict[str, object]:
    packed = base64.b64encode(zlib.compress(np.ascontiguousarray(labels).tobytes(), 9)).decode()
    return {"name": name, "shape": labels.shape, "packed": packed}
