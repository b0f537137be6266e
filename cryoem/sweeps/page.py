"""``sweep.html`` and the figures of a sweep: what was tried, what came out, what to do next."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cryoem.figures import (
    importance_bars,
    parallel_coordinates,
    save_figure,
    sweep_curves,
    sweep_frequencies,
)
from cryoem.report.page import inline_png, write_page
from cryoem.sweeps.importance import importances
from cryoem.sweeps.leaderboard import best, ranked
from cryoem.sweeps.objective import Objective, explained_up_to
from cryoem.sweeps.points import FAILED, FINISHED, PRUNED, Point, Points
from cryoem.sweeps.space import Space

_CAPTIONS = {
    "parallel": (
        "What was tried",
        "One line for each finished training, through its values to its objective; the best one is "
        "thick. Lines that share a value are moved apart a little.",
    ),
    "importance": (
        "What matters",
        "How much worse a random forest predicts the objective when the values of one key are "
        "shuffled, as shares of the sum. Of so few trainings this is no more than a rough order.",
    ),
    "frequencies": (
        "By frequency",
        "What is explained of held-out images that are cut at a frequency; the right end is the "
        "whole image. Where a curve rises, that band says more than knowing its latent costs; "
        "where it falls, the volumes are wrong there, or have learnt noise.",
    ),
    "course": (
        "On the way",
        "The objective after each epoch. A cross: stopped, because its best value was worse than "
        "the median of the others at that epoch. Curves that still rise ask for more epochs.",
    ),
}


@dataclass(frozen=True)
class Outlook:
    """What the page says about a recommendation: how to run it, and how long that may take."""

    command: str
    notes: Sequence[str] = ()


def write_sweep_page(
    folder: Path, space: Space, points: Points, objective: Objective, outlook: Outlook
) -> Path:
    """Write ``sweep.html`` and ``figures/*.png``; each new figure replaces the older one."""
    drawn = _figures(folder, space, points, objective)
    figures = []
    for name, figure in drawn.items():
        path = save_figure(figure, folder / "figures" / f"{name}.png")
        title, caption = _CAPTIONS[name]
        figures.append(
            {"name": name, "title": title, "caption": caption, **inline_png(path.read_bytes())}
        )
    first = best(points, objective)
    contents: dict[str, Any] = {
        "name": folder.name,
        "folder": str(folder.resolve()),
        "keys": list(space),
        "metric": objective.metric,
        "better": "more" if objective.maximise else "less",
        "headline": _cards(points, objective),
        "best": first,
        "outlook": outlook,
        "figures": figures,
        "rows": [_row(folder, point) for point in ranked(points, objective)],
        "failed": points.in_state(FAILED),
    }
    path = folder / "sweep.html"
    write_page("sweep.html", contents, path)
    return path


def _figures(folder: Path, space: Space, points: Points, objective: Objective) -> dict[str, Figure]:
    done = points.in_state(FINISHED)
    drawn = {}
    if len(done) > 1 and space:
        table = {key: [point.values[key] for point in done] for key in space}
        values = [float(point.objective or 0) for point in done]
        drawn["parallel"] = parallel_coordinates(
            table, values, objective.metric, objective.maximise
        )
        importance = importances(space, done)
        if importance:
            drawn["importance"] = importance_bars(importance)
    first = best(points, objective)
    shells = {point.name: explained_up_to(folder / point.name) for point in done}
    known = {name: curve for name, curve in shells.items() if curve is not None}
    if known:
        drawn["frequencies"] = sweep_frequencies(known, None if first is None else first.name)
    curves = {point.name: objective.so_far(folder / point.name) for point in points.all}
    curves = {name: curve for name, curve in curves.items() if curve}
    if curves:
        stopped = [point.name for point in points.in_state(PRUNED, FAILED)]
        drawn["course"] = sweep_curves(
            curves, stopped, None if first is None else first.name, objective.metric
        )
    return drawn


def _cards(points: Points, objective: Objective) -> list[dict[str, str]]:
    first = best(points, objective)
    counts = [f"{len(points.in_state(s))} {s}" for s in (FINISHED, PRUNED, FAILED)]
    seconds = sum(point.seconds for point in points.all)
    cards = [
        {"value": str(len(points.all)), "label": "points", "note": ", ".join(counts)},
        {"value": _duration(seconds), "label": "of training", "note": "summed over all points"},
    ]
    if first is not None:
        shown = {"value": f"{first.objective:.6g}", "label": "best", "note": objective.metric}
        cards.insert(0, shown)
    return cards


def _row(folder: Path, point: Point) -> dict[str, Any]:
    return {
        "name": point.name,
        "state": point.state,
        "objective": "" if point.objective is None else f"{point.objective:.6g}",
        "values": list(point.values.values()),
        "time": _duration(point.seconds),
        "report": f"{point.name}/report.html"
        if (folder / point.name / "report.html").is_file()
        else "",
    }


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
