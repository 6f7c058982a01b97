"""Models and tokenizers of transformers, and embeddings of texts."""
