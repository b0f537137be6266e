"""Figures from arrays: each function returns a matplotlib figure, drawn without a display."""

from cryoem.figures.changes import changes as changes
from cryoem.figures.epoch_curves import epoch_curves as epoch_curves
from cryoem.figures.fsc_curve import fsc_curve as fsc_curve
from cryoem.figures.latent_colours import latent_colours as latent_colours
from cryoem.figures.latent_histogram import latent_histogram as latent_histogram
from cryoem.figures.latent_scatter import latent_scatter as latent_scatter
from cryoem.figures.loss_curve import loss_curve as loss_curve
from cryoem.figures.particle_gallery import particle_gallery as particle_gallery
from cryoem.figures.pose_distribution import pose_distribution as pose_distribution
from cryoem.figures.pose_margins import pose_margins as pose_margins
from cryoem.figures.readings import half_map_curves as half_map_curves
from cryoem.figures.readings import readings_bars as readings_bars
from cryoem.figures.readings import sign_panels as sign_panels
from cryoem.figures.save import DPI as DPI
from cryoem.figures.save import save_figure as save_figure
from cryoem.figures.shell_likelihood import shell_likelihood as shell_likelihood
from cryoem.figures.sweep import importance_bars as importance_bars
from cryoem.figures.sweep import parallel_coordinates as parallel_coordinates
from cryoem.figures.sweep import sweep_curves as sweep_curves
from cryoem.figures.sweep import sweep_frequencies as sweep_frequencies
from cryoem.figures.volume_montage import volume_montage as volume_montage
from cryoem.figures.volume_slices import volume_slices as volume_slices
