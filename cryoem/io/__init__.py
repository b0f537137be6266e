"""Files: particle stacks and their metadata in, volumes, stacks and STAR files out."""
