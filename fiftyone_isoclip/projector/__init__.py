"""The paper's mathematics on arrays: bands, spectra and the maps that rewrite CLIP embeddings."""

from fiftyone_isoclip.projector.band import WHOLE, Band
from fiftyone_isoclip.projector.embedding_map import EmbeddingMap
from fiftyone_isoclip.projector.head import Head
from fiftyone_isoclip.projector.spectrum import Spectrum

__all__ = ["WHOLE", "Band", "EmbeddingMap", "Head", "Spectrum"]
