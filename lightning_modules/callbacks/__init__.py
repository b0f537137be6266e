"""One job each."""

from lightning_modules.callbacks.checkpoint import LastCheckpoint as LastCheckpoint
from lightning_modules.callbacks.divergence import Divergence as Divergence
from lightning_modules.callbacks.export import ExportRun as ExportRun
from lightning_modules.callbacks.held_out import HeldOut as HeldOut
from lightning_modules.callbacks.interrupt import CleanInterrupt as CleanInterrupt
from lightning_modules.callbacks.live_panels import LivePanels as LivePanels
from lightning_modules.callbacks.metrics_table import MetricsTable as MetricsTable
from lightning_modules.callbacks.progress import Progress as Progress
from lightning_modules.callbacks.random_state import RandomState as RandomState
from lightning_modules.callbacks.rank_watch import RankWatch as RankWatch
