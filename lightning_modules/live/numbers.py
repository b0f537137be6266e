"""Names of what is measured after each epoch, in metrics.csv and, behind ``live/``, the loggers."""

EPOCH_NUMBERS = (
    "probe_explained_nats",
    "volume_change",
    "pose_change_degrees",
    "shift_change_pixels",
    "latents_change",
    "active_latents",
    "latent_r2_of_view",
    "latent_r2_of_defocus",
    "suspicious_particles",
    "epoch_images_per_s",
    "data_wait_share",
    "peak_memory_gb",
)
