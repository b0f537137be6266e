"""The evidence on one page."""

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryoem.analysis.particle_facts import describe
from cryoem.figures import half_map_curves, pose_distribution, readings_bars, sign_panels
from cryoem.preflight.evidence import Evidence, standard_errors
from cryoem.preflight.examine import Findings
from cryoem.preflight.images import write_good_rows
from cryoem.preflight.trial import Trial
from cryoem.preflight.verdicts import Level
from cryoem.report.build import data_rows
from cryoem.report.page import inline_drawing, write_page


@dataclass(frozen=True)
class PlanRow:
    """A line of the plan: what is needed, how much, and how that is known."""

    what: str
    amount: str
    how: str


def write_preflight(findings: Findings, path: Path, plan: list[PlanRow] | None = None) -> None:
    """Write the page, and next to it the rows that are good, where some are not."""
    good_rows = path.with_name(f"{path.stem}_good.npy")
    if findings.scan.bad:
        write_good_rows(findings.scan, findings.table, good_rows)
    write_page("preflight.html", _contents(findings, plan or [], good_rows), path)


def _contents(findings: Findings, plan: list[PlanRow], good_rows: Path) -> dict[str, Any]:
    facts = describe(findings.table)
    facts.pop("notes")
    return {
        "name": findings.table.path.name,
        "file": str(findings.table.path),
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        "seconds": findings.seconds,
        "refused": any(v.level is Level.CONTRADICTION for v in findings.verdicts),
        "summary": _summary(findings),
        "verdicts": findings.verdicts,
        "plan": plan,
        "figures": _figures(findings),
        "trials": [_row(trial, findings.evidence) for trial in _all(findings.evidence)],
        "sample": f"Tried on {len(findings.evidence.sample):,} images, "
        f"cropped in Fourier space to {findings.evidence.sample.lattice.box_size} pixels.",
        "bad": findings.scan.bad,
        "good_rows": str(good_rows),
        "data": data_rows(facts),
        "origin": {key: text.replace(",", ", ") for key, text in findings.table.origin.items()},
    }


def _summary(findings: Findings) -> str:
    levels = [verdict.level for verdict in findings.verdicts]
    if Level.CONTRADICTION in levels:
        return "The images contradict what was stated"
    doubts = levels.count(Level.DOUBT)
    if doubts:
        return (
            f"Nothing contradicts what was stated, but {doubts} thing{'s'[: doubts > 1]} to look at"
        )
    return "Everything fits"


def _all(evidence: Evidence) -> list[Trial]:
    control = [] if evidence.control is None else [evidence.control]
    return [*evidence.trials, *control]


def _row(trial: Trial, evidence: Evidence) -> dict[str, str]:
    stated = evidence.stated
    difference = trial.explained - stated.explained
    itself = trial is stated
    return {
        "name": trial.reading.name,
        "explained": f"{100 * trial.power:.3f} %",
        "preferred": "" if itself else f"{100 * float((difference > 0).float().mean()):.0f} %",
        "errors": "" if itself else f"{standard_errors(trial, stated):+.1f}",
        "fsc": f"{trial.curve.mean():.3f}",
        "skewness": f"{trial.skewness:+.2f}",
    }


def _figures(findings: Findings) -> list[dict[str, str]]:
    evidence = findings.evidence
    figures = [_sign_figure(evidence)]
    if evidence.control is not None:
        figures += [_bars_figure(evidence), _curves_figure(evidence)]
    if findings.pose is not None:
        figures.append(
            inline_drawing(
                "poses",
                "Viewing directions",
                "Equal-area map of the sphere, as the files have them; 1 is what a uniform "
                "distribution would have.",
                pose_distribution(findings.pose.rotation.numpy()),
            )
        )
    return figures


def _sign_figure(evidence: Evidence) -> dict[str, str]:
    shown = [evidence.stated, *(t for t in evidence.trials if not t.reading.use_ctf)]
    if evidence.best not in shown:
        shown.append(evidence.best)
    maps = {trial.reading.name: trial.volume.numpy() for trial in shown}
    skewness = {trial.reading.name: trial.skewness for trial in shown}
    return inline_drawing(
        "sign",
        "Are the particles dark or light?",
        "Projections of maps under both signs; white is density. Right is the sign under which the "
        "molecule is white and compact on an even background, which is a positive skewness "
        "(green frame).",
        sign_panels(maps, skewness),
    )


def _bars_figure(evidence: Evidence) -> dict[str, str]:
    trials = _all(evidence)
    names = [trial.reading.name for trial in trials]
    errors = [100 * float(t.explained.std()) / len(t.explained) ** 0.5 for t in trials]
    return inline_drawing(
        "readings",
        "Which reading of the files do the images bear out?",
        "The longer, the better. Blue: as the files state it; green: what fits better, if anything "
        "does. “Poses of other images” is what chance achieves. Bars show one standard error; the "
        "images are the same in all, so that differences are more certain than they look.",
        readings_bars(
            names, [100 * t.power for t in trials], errors, 0, trials.index(evidence.best)
        ),
    )


def _curves_figure(evidence: Evidence) -> dict[str, str]:
    curves = {trial.reading.name: trial.curve.correlation for trial in _all(evidence)}
    size = evidence.sample.pixel_size_angstrom
    names = (evidence.stated.reading.name, evidence.best.reading.name)
    return inline_drawing(
        "half_maps",
        "Fourier shell correlation of the half maps",
        "Of the few images that were tried, without a mask; all images reach further.",
        half_map_curves(curves, size, *names),
    )
