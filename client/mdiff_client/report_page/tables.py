"""The tables of the page, as HTML; what comes from data is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape

from mdiff_client.evaluation import ALL_AXES
from mdiff_client.metrics import PIECES
from mdiff_client.report_page.figures import Figure, Quantity
from mdiff_client.report_page.reporting import Comparison, Report
from mdiff_client.report_page.verdict import Level, allowed, level
from mdiff_client.sampling.plan import described

_LISTED = 25  # volumes whose seed and sha256 are told


def tag(of: Level) -> str:
    """A level as a coloured word."""
    return f'<span class="tag {class_of(of)}">{"not judged" if of is Level.UNJUDGED else of.name.lower()}</span>'


def class_of(of: Level) -> str:
    """The class that colours a level."""
    return of.name.lower()


def figures_table(one: Comparison, figures: Sequence[Figure], title: str) -> str:
    """Figures of each phase beside their reference, and how each is judged."""
    count = len(one.indices)
    group = min(count, PIECES)
    sentences = [title] if title else []
    sentences += ["In brackets: 95 % of the bootstrap over the volumes"] if count > 1 else []
    if one.real:
        sentences.append(f"Real pieces: where 95 % of {f'groups of {group} of ' if group > 1 else ''}them lie")
    within = "Real pieces" if one.real else "Within"
    head = (
        '<thead><tr><th scope="col">Figure</th><th scope="col" class="number">Volumes</th>'
        f'<th scope="col" class="number">Reference</th><th scope="col" class="number">{within}</th>'
        '<th scope="col">Judged</th></tr></thead>'
    )
    bodies = "".join(
        f'<tbody><tr><th scope="rowgroup" colspan="5">{escape(phase)}</th></tr>'
        + "".join(_row(figure, count) for figure in figures if figure.phase == phase)
        + "</tbody>"
        for phase in dict.fromkeys(figure.phase for figure in figures)
    )
    caption = escape("".join(f"{sentence}. " for sentence in sentences).strip())
    return f'<div class="scroll"><table><caption>{caption}</caption>{head}{bodies}</table></div>'


def _row(figure: Figure, count: int) -> str:
    error = figure.quantity in (Quantity.S2, Quantity.LINEAL_PATH)
    along = "" if figure.axes == ALL_AXES else f" along {figure.axes}"
    interval = f'<span class="interval">[{figure.told_range(figure.interval)}]</span>' if count > 1 else ""
    reference = "" if error or figure.reference is None else figure.told(figure.reference)
    within = figure.real or allowed(figure)
    return (
        f'<tr><th scope="row">{figure.quantity.value}{", error" if error else ""}{along}</th>'
        f'<td class="number">{figure.told(figure.value)}{interval}</td><td class="number">{reference}</td>'
        f'<td class="number">{figure.told_range(within) if within else ""}</td><td>{tag(level(figure))}</td></tr>'
    )


def metrics_table(one: Comparison) -> str:
    """The metrics that are not judged, and what others lack."""
    # Percolation is among the figures.
    measured = [row for name, rows in one.metrics.items() if name != "percolation" for row in rows]
    lacking = "".join(
        f'<p class="note">{escape(f"{name} was not measured: {advice}")}</p>' for name, advice in one.unmeasured.items()
    )
    if not measured:
        return lacking

    def cell(value: float | None, interval: tuple[float, float] | None) -> str:
        if value is None:
            return '<td class="number"></td>'
        within = f'<span class="interval">[{interval[0]:.3g}\u00a0–\u00a0{interval[1]:.3g}]</span>' if interval else ""
        return f'<td class="number">{value:.3g}{within}</td>'

    real = '<th scope="col" class="number">Real pieces</th>' if one.real else ""
    rows = "".join(
        f'<tr><th scope="row">{escape(row.title)}</th><td>{escape(row.of)}</td>{cell(row.value, row.interval)}'
        + (cell(row.floor, row.floor_interval) if one.real else "")
        + "</tr>"
        for row in measured
    )
    head = (
        '<thead><tr><th scope="col">Metric</th><th scope="col">Of</th>'
        f'<th scope="col" class="number">Volumes</th>{real}</tr></thead>'
    )
    caption = "<caption>Told and not judged. In brackets: 95 % of the bootstrap.</caption>"
    table = f'<div class="scroll"><table>{caption}{head}<tbody>{rows}</tbody></table></div>'
    return f"<h3>More metrics</h3>{table}{lacking}"


def provenance_table(report: Report) -> str:
    """What made the volumes, and what they were compared with."""
    contract, made = report.store.contract, report.store.made
    conditions = [one.condition.described(contract) for one in report.comparisons]
    rows = {
        "Model": contract.name,
        "Weights sha256": contract.provenance.weights_sha256,
        "Trained on": contract.provenance.data,
        "Licence of the data": contract.provenance.licence,
        "Trained by": contract.provenance.command,
        "Git revision": contract.provenance.git_revision,
        "Volumes made by": f"mdiff {made.get('version', 'of an unknown version')}",
        "Sampling plan": described(report.store.plan),
        "Asked for": "; ".join(filter(None, conditions)) or "nothing in particular",
    }
    if made.get("planes"):
        rows["Planes"] = _planes(made["planes"])
    if made.get("seed") is not None:
        rows["Seed"] = str(made["seed"])
    if made.get("library"):
        rows["Library"] = json.dumps(made["library"])
    if report.real:
        rows["Real material"] = f"{report.real.name}, {' × '.join(map(str, report.real.labels.shape))} voxels"
        rows["Its sha256"] = report.real.sha256
    listed = sorted(index for one in report.comparisons for index in one.indices)
    rows.update((f"Volume {index}", _recorded(report.store.record(index))) for index in listed[:_LISTED])
    if len(listed) > _LISTED:
        rows["More volumes"] = f"{len(listed) - _LISTED}; the records in the store name their seeds and sha256"
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in rows.items()
    )
    return f'<div class="scroll"><table class="provenance"><tbody>{body}</tbody></table></div>'


def _planes(made: Mapping[str, Mapping[str, object]] | Sequence[Mapping[str, Mapping[str, object]]]) -> str:
    """The model, class and weights of each plane; of several combinations each once."""
    found = dict.fromkeys(
        f"{plane} {of.get('model')}, "
        + (f"class {of['class']}, " if of.get("class") else "")
        + f"{of.get('weights_sha256')}"
        for one in ([made] if isinstance(made, Mapping) else made)
        for plane, of in one.items()
    )
    return "; ".join(found)


def _recorded(record: Mapping[str, object]) -> str:
    seed = f"seed {record['seed']}, " if "seed" in record else ""
    return f"{seed}sha256 {record.get('sha256', 'not noted')}"
