"""What there is to embed: whole images or boxes on them, and which of them are up to date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.sources import held_by
from fiftyone_isoclip.encoder import Box
from fiftyone_isoclip.errors import DatasetError


@dataclass(frozen=True, slots=True)
class Fields:
    """The paths of one embedding field: vectors, what they were made from, why there is none."""

    embedding: str
    labels: str | None = None

    @classmethod
    def of(cls, dataset: fo.Dataset, field: str, patches_field: str | None) -> Fields:
        """The paths for whole images, or for the boxes of a Detections field.

        Raises:
            DatasetError: the field would lie inside another one, or the patches field holds no
                detections.
        """
        if "." in field:
            raise DatasetError(
                f"field {field!r} would lie inside another field; give a name without dots, and "
                "for vectors of boxes patches_field=..."
            )
        if patches_field is None:
            return cls(field)
        found = dataset.get_field(patches_field)
        kind = getattr(found, "document_type", None)
        if kind is not fo.Detections:
            was = getattr(kind, "__name__", type(found).__name__) if found else "no such field"
            raise DatasetError(
                f"patches_field={patches_field!r} must name a Detections field of "
                f"{dataset.name!r}, found {was}"
            )
        labels = f"{patches_field}.detections"
        return cls(f"{labels}.{field}", labels)

    @property
    def source(self) -> str:
        """Where the state of the file and the checkpoint are kept."""
        return f"{self.embedding}_source"

    @property
    def error(self) -> str:
        """Where the reason of a failure is kept."""
        return f"{self.embedding}_error"


ELSEWHERE = "elsewhere"
"""Stands in a source for the time of a file that another machine read."""


def source_of(fingerprint: str, size: int | None, read: int | str) -> str:
    """What a vector was made from: weights, the bytes of a file, and its time or `ELSEWHERE`."""
    # Sixteen digits tell checkpoints apart, and the string is stored with every vector.
    return " ".join([fingerprint[:16], *([] if size is None else [str(size)]), str(read)])


@dataclass(frozen=True, slots=True)
class Target:
    """One image, or one box (relative x, y, w, h) of it, and what is stored for it now.

    ``id`` is the sample's or the label's; ``source`` is None unless a vector is stored.
    """

    id: str
    sample_id: str
    path: str
    box: Box | None
    source: str | None
    error: str | None

    def source_now(self, fingerprint: str) -> str | None:
        """The source of a vector made now, or None if the file cannot be examined."""
        try:
            state = Path(self.path).stat()
        except (OSError, ValueError):
            return None
        box = "" if self.box is None else " " + ",".join(f"{number:.6g}" for number in self.box)
        return source_of(fingerprint, state.st_size, state.st_mtime_ns) + box

    def is_current(self, now: str | None) -> bool:
        """Whether its vector was made from the file that this source of now tells of.

        Of a file that another machine read only the size is known, and it need not be here.
        """
        if self.source is None or not self.source.endswith(ELSEWHERE):
            return self.source is not None and self.source == now
        return now is None or now.startswith(self.source.removesuffix(ELSEWHERE))


def list_targets(samples: Any, fields: Fields) -> list[Target]:
    """What the samples (and only they) hold under these fields, in their order."""
    if fields.labels is None:
        return list(_whole_images(samples, fields))
    return list(_boxes(samples, fields))


CHANGED = "its file has changed since it was embedded; embed() it again"


def list_changed(samples: Any, field: str, fingerprint: str) -> set[str]:
    """The ids of samples whose file is another one than their vector was made from.

    A file that cannot be found has not changed: its vector is still that of the picture.
    """
    fields = Fields(field)
    if not samples.has_field(fields.source):
        return set()
    targets = list_targets(samples, fields)
    now = ((target, target.source_now(fingerprint)) for target in targets if target.source)
    return {target.id for target, source in now if source and not target.is_current(source)}


def _whole_images(samples: Any, fields: Fields) -> Iterator[Target]:
    has_vector = F(held_by(samples, fields.embedding)).exists()
    columns = samples.values(["id", "filepath", fields.source, fields.error, has_vector])
    for id_, path, source, error, has in zip(*columns, strict=True):
        yield Target(id_, id_, path, None, source if has else None, error)


def _boxes(samples: Any, fields: Fields) -> Iterator[Target]:
    assert fields.labels is not None
    has_vector = F(fields.labels).map(F(fields.embedding.rsplit(".", 1)[-1]).exists())
    paths = [f"{fields.labels}.{name}" for name in ("id", "bounding_box")]
    columns = samples.values(["id", "filepath", *paths, fields.source, fields.error, has_vector])
    for sample_id, path, *labels in zip(*columns, strict=True):
        for id_, box, source, error, has in zip(*(column or () for column in labels), strict=True):
            yield Target(id_, sample_id, path, tuple(box), source if has else None, error)
