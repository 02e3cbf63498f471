"""The model of a similarity index, and what its queries by text become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from bson import ObjectId

from fiftyone_isoclip.dataset.fields import Origin, read_origin
from fiftyone_isoclip.dataset.similarity_field import embedding_path
from fiftyone_isoclip.dataset.similarity_views import ThreadViews
from fiftyone_isoclip.dataset.zoo import register
from fiftyone_isoclip.errors import DatasetError
from fiftyone_isoclip.projector import WHOLE

if TYPE_CHECKING:
    from fiftyone_isoclip.dataset.centres import Centre
    from fiftyone_isoclip.dataset.model import IsoClipModel
    from fiftyone_isoclip.projector import EmbeddingMap

Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class TextQuery:
    """Prompts as plain text embeddings, (m, r), to be compared with plain image embeddings."""

    embeddings: Float32s


class ModelQueries(ThreadViews):
    """An index whose images are compared through a map, and whose texts are not."""

    _dataset: Any

    def __repr__(self) -> str:
        """What is indexed and how, in a line."""
        config = self.config
        try:
            held = f"{self.total_index_size} vectors"
        except DatasetError:  # a database that is away is no reason not to be shown
            held = "vectors out of reach"
        where = config.embeddings_field or "no field"
        return (
            f"<{type(self).__name__} {self.key!r} in {config.method}: {held} of {where}, "
            f"band {config.band}>"
        )

    __str__ = __repr__  # FiftyOne's writes out everything it would store

    def image_map(self) -> EmbeddingMap | None:
        """What plain embeddings go through to be compared as images; None compares them as is."""
        raise NotImplementedError

    def get_model(self) -> Any:
        """The model of the run; its zoo name is registered first."""
        register()
        return super().get_model()

    def compute_embeddings(self, samples: Any, model: Any = None, **kwargs: Any) -> Any:
        """As FiftyOne's, with the run's model giving what this index holds: plain or IsoCLIP."""
        if model is None and self.image_map() is not None:
            isoclip = self._isoclip_model()
            model = None if isoclip is None else isoclip.as_plain()
        return super().compute_embeddings(samples, model=model, **kwargs)

    def _parse_query(self, query: Any) -> Any:
        """As FiftyOne's, but prompts stay plain text embeddings where images are plain too."""
        prompts = prompts_of(query)
        if prompts is None or not self.supports_prompts:
            return super()._parse_query(query)
        model = self._isoclip_model() if self.image_map() is not None else None
        if model is None:
            return super()._parse_query(query)
        if self.config.fingerprint not in (None, model.clip.fingerprint):
            raise DatasetError(
                f"the index was built with weights {self.config.fingerprint[:12]}, and "
                f"{self.config.model} now gives {model.clip.fingerprint[:12]}; build it again"
            )
        return TextQuery(model.plain_prompts(prompts))

    def _isoclip_model(self) -> IsoClipModel | None:
        """The model of the run, if it has one and it is one of ours."""
        if self._model is None and self.config.model is None:
            return None
        from fiftyone_isoclip.dataset.model import IsoClipModel  # here, because it imports torch

        model = self.get_model()
        return model if isinstance(model, IsoClipModel) else None

    def _origin(self) -> Origin | None:
        """What made the vectors of the field, if there is a field and it tells."""
        field = self.config.embeddings_field
        if field is None:
            return None
        return read_origin(
            self._dataset, embedding_path(self._dataset, field, self.config.patches_field)
        )

    def _remember(self, model: IsoClipModel, centre: Centre | None = None) -> None:
        """Write into the run's configuration what the vectors are compared by."""
        if centre is not None:
            self.config.centre = centre.digest
        self.config.checkpoint = model.clip.checkpoint.name
        self.config.fingerprint = model.clip.fingerprint
        self.config.band = str(WHOLE if model.config.plain else model.band)
        if self.key is not None:
            self.save_config()


def prompts_of(query: Any) -> list[str] | None:
    """The prompts of a query, or None if it is made of ids or vectors; as FiftyOne tells them."""
    if query is None or isinstance(query, np.ndarray):
        return None
    asked = [query] if isinstance(query, str) else list(query)
    if not asked or not isinstance(asked[0], str) or ObjectId.is_valid(asked[0]):
        return None
    return asked
