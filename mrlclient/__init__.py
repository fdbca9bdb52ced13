"""Provider-neutral Matryoshka embeddings."""
