"""Many trainings: which ones, where they run, and what they say together."""
