"""A progress bar with images per second."""

from pytorch_lightning.callbacks import ProgressBar


class Progress(ProgressBar):
    """A rich bar on a terminal, a line per ``every_n_seconds`` elsewhere.

    Give ``enable_progress_bar=True`` to the trainer; it then uses this one.
    """

    def __init__(self, every_n_seconds: float = 15.0) -> None:
        super().__init__()
        self.every_n_seconds = every_n_seconds
