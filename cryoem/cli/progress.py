"""The progress bar of the verbs: how many, how fast, how long still."""

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


def progress_bar() -> Progress:
    """Return a bar on stderr that goes when it is done; its tasks have a field ``speed``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)


def advance(bar: Progress, task: TaskID, done: int) -> None:
    """Show that so many images are done, and the rate."""
    speed = bar.tasks[task].speed
    bar.update(task, completed=done, speed=f"{speed:.0f} images/s" if speed else "")
