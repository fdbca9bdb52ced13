"""An `Embedder` in other people's frameworks: one file each, which imports its framework and nothing else."""
