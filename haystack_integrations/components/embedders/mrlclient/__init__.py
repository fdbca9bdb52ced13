"""Where Haystack looks for integrations: it loads a pipeline's components from `haystack_integrations` only."""

from mrlclient.integrations.haystack import MRLDocumentEmbedder, MRLTextEmbedder

__all__ = ["MRLDocumentEmbedder", "MRLTextEmbedder"]
