"""Image files sorted into clusters of like pictures."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

from fiftyone_isoclip.encoder import Clip
from fiftyone_isoclip.files.embeddings import Files, Progress, embed_files
from fiftyone_isoclip.files.reports import list_failures
from fiftyone_isoclip.index import ClusterMethod, cluster
from fiftyone_isoclip.projector import Band


@dataclass(frozen=True, slots=True)
class FileCluster:
    """Like files, the most typical of them, and their mean cosine to the centre (cohesion)."""

    medoid: str
    cohesion: float
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileClusters:
    """The clusters, largest first; ``noise`` holds the files that are like no others."""

    images: int
    failed: dict[str, str]
    clusters: tuple[FileCluster, ...]
    noise: tuple[str, ...]
    silhouette: float | None
    model: str
    band: str

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values, the failures as a list of path and reason."""
        return asdict(self) | {"failed": list_failures(self.failed)}


def cluster_files(
    files: Files,
    clip: Clip,
    *,
    count: int | None = None,
    method: ClusterMethod = "kmeans",
    band: Band | None = None,
    progress: Progress | None = None,
) -> FileClusters:
    """Sort files into clusters of like pictures by IsoCLIP similarity.

    ``count`` is for "kmeans" and chosen by silhouette if None; "leiden" finds its own and may
    leave files out as noise.

    Raises:
        IsoClipError: the band, the count or the method is not a possible one.
    """
    band = clip.image_band if band is None else band
    embedding_map = clip.isoclip(band)
    embedded = embed_files(files, clip, progress=progress)
    found = cluster(embedding_map(embedded.embeddings), count=count, method=method)
    paths = embedded.embedded_paths
    members: dict[int, list[str]] = defaultdict(list)
    for path, label in zip(paths, found.labels.tolist(), strict=True):
        members[label].append(path)
    return FileClusters(
        images=len(embedded.paths),
        failed=embedded.failed,
        clusters=tuple(
            FileCluster(paths[medoid], float(cohesion), tuple(members[label]))
            for label, (medoid, cohesion) in enumerate(
                zip(found.medoids, found.cohesion, strict=True)
            )
        ),
        noise=tuple(members[-1]),
        silhouette=found.silhouette,
        model=clip.checkpoint.name,
        band=str(band),
    )
