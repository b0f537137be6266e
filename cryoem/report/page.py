"""Pages that are one file: style and figures inside, nothing fetched from anywhere."""

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from cryoem.figures import DPI
from cryoem.io.atomic import atomic_path


def write_page(template: str, contents: dict[str, Any], path: Path) -> None:
    """Fill in a template of this folder and write it, whole or not at all."""
    environment = Environment(
        loader=PackageLoader("cryoem.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(**contents)
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def inline_png(content: bytes) -> dict[str, str]:
    """Return the pixels of a PNG and its width on a page."""
    width = int.from_bytes(content[16:20], "big") * 96 // DPI  # of the PNG's first chunk
    return {"data": base64.b64encode(content).decode(), "width": str(width)}


def inline_drawing(name: str, title: str, caption: str, figure: Figure) -> dict[str, str]:
    """Return what a page needs of a figure that is in no file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    return {"name": name, "title": title, "caption": caption, **inline_png(file.getvalue())}
