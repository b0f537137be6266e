"""The few numbers at the top of the page, each with what it needs to mean something."""

from typing import Any

from cryoem.report.run_folder import RunFolder


def headline(run: RunFolder) -> list[dict[str, str]]:
    """Return cards of value, label and conditions: resolutions first, then sizes."""
    cards = [resolution_card(entry) for entry in run.metrics.get("resolution") or []]
    particles = run.data.get("n_particles") or len(run.latents.get("z", ()))
    if particles:
        cards.append({"value": f"{particles:,}", "label": "particles", "note": _sampling(run)})
    if "z" in run.latents:
        n = run.latents["z"].shape[1]
        cards.append({"value": str(n), "label": f"latent dimension{'s'[: n > 1]}", "note": ""})
    if run.finished_epochs is not None:
        planned = run.planned_epochs
        note = f"of {planned} planned" if planned and planned > 0 else ""
        cards.append({"value": str(run.finished_epochs), "label": "epochs", "note": note})
    return cards


def resolution_card(entry: dict[str, Any]) -> dict[str, str]:
    """Return an entry of the ``resolution`` list of ``metrics.json`` in words."""
    value = entry.get("angstrom")
    bound = "≤ " if entry.get("is_bound") else ""
    mask = entry.get("mask", "none")
    conditions = [
        f"FSC = {entry.get('threshold', '?')}",
        str(entry.get("between", "")),
        "no mask" if mask == "none" else f"mask: {mask}",
    ]
    return {
        "value": "none" if value is None else f"{bound}{value:.1f} Å",
        "label": "resolution",
        "note": ", ".join(conditions),
    }


def _sampling(run: RunFolder) -> str:
    if not run.volumes:
        return ""
    header = run.volumes[0]
    size = header.pixel_size_angstrom
    return f"box {header.width} px" + (f" of {size:.4g} Å" if size else "")


def other_numbers(run: RunFolder) -> list[tuple[str, str]]:
    """Return the remaining numbers of ``metrics.json``, nested names joined with a slash."""
    rows: list[tuple[str, str]] = []
    for key, value in run.metrics.items():
        if key != "resolution":
            rows += _flat(key, value)
    return rows


def _flat(key: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for name, item in value.items() for row in _flat(f"{key} / {name}", item)]
    if isinstance(value, list):
        return [(key, ", ".join(_number(item) for item in value))]
    return [(key, _number(value))]


def _number(value: Any) -> str:
    if value is None:
        return "not a number"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
