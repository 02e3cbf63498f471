"""Clusters that are called what they show: by hand, or by a label that most of them have."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import fiftyone as fo
from fiftyone import ViewField as F

from fiftyone_isoclip.dataset.clusterings import METHOD, NOISE
from fiftyone_isoclip.dataset.fields import dataset_of
from fiftyone_isoclip.dataset.locks import one_writer
from fiftyone_isoclip.dataset.runs import list_runs, load_run, update_run
from fiftyone_isoclip.dataset.writing import write_values
from fiftyone_isoclip.errors import DatasetError

LEAST_SHARE = 0.5
"""The share of a cluster's labels that one must have to name it."""

_BETWEEN = "\x1f"


@dataclass(frozen=True, slots=True)
class ClusterNaming:
    """What the labels say about one cluster.

    ``was`` and ``name`` are its names before and now, ``size`` the samples in it and ``labelled``
    those that have a label. ``majority`` is the label that most of these have, or None where none
    stands out, and ``purity`` the share of the most frequent one among them, in [0, 1].
    """

    was: str
    name: str
    size: int
    labelled: int
    majority: str | None
    purity: float


@dataclass(frozen=True, slots=True)
class NamingReport:
    """The clusters of a run, the largest first, and what they are called by a label's majority."""

    key: str
    label_field: str
    clusters: tuple[ClusterNaming, ...]

    @property
    def n_named(self) -> int:
        """How many clusters have a majority."""
        return sum(cluster.majority is not None for cluster in self.clusters)

    @property
    def purity(self) -> float:
        """The share of all labelled samples that have their cluster's most frequent label."""
        labelled = sum(cluster.labelled for cluster in self.clusters)
        alike = sum(cluster.purity * cluster.labelled for cluster in self.clusters)
        return alike / labelled if labelled else 0.0

    def __str__(self) -> str:
        return (
            f"{self.n_named} of {len(self.clusters)} clusters named by {self.label_field}, "
            f"purity {self.purity:.2f}"
        )


@one_writer("key")
def name_cluster(dataset: fo.Dataset, key: str, cluster: str, name: str) -> None:
    """Call a cluster by another name, in the run's field and in what ``load_clusters`` tells.

    Args:
        dataset: where the run is.
        key: the run's key.
        cluster: the name it has now.
        name: the name to give it, which no other cluster may have.

    Raises:
        DatasetError: there is no such run or cluster, or the name cannot be given.
    """
    load_run(dataset_of(dataset), key, METHOD)
    name = name.strip()
    sizes = _sizes(dataset, key)
    if cluster not in sizes:
        raise DatasetError(f"run {key!r} has no cluster {cluster!r}; its clusters: {_some(sizes)}")
    if not name or not name.isprintable():
        raise DatasetError(f"{name!r} is no name; give cluster {cluster!r} one of visible letters")
    if name != cluster and name in {*sizes, NOISE}:
        raise DatasetError(f"run {key!r} has a cluster {name!r} already; choose another name")
    _rename(dataset, key, {cluster: name})


@one_writer("key")
def name_clusters_by(
    dataset: fo.Dataset, key: str, label_field: str, *, least_share: float = LEAST_SHARE
) -> NamingReport:
    """Call clusters by the label that most of their labelled samples have.

    Where no label has the share asked for, or two are equally frequent, a cluster keeps its name.
    The second largest cluster of one majority is called, say, "cat 2".

    Args:
        dataset: where the run is.
        key: the run's key.
        label_field: a field of strings or Classifications; samples without a label do not count.
        least_share: the share of its labels that one must have to name a cluster, in (0, 1].

    Raises:
        DatasetError: there is no such run or field of labels, or the share is none.
    """
    load_run(dataset_of(dataset), key, METHOD)
    if not 0 < least_share <= 1:
        raise DatasetError(f"a share in (0, 1] is needed, found least_share={least_share}")
    sizes = _sizes(dataset, key)
    labels = _labels(dataset, key, _label_path(dataset, label_field))
    majorities = {cluster: _majority(labels[cluster], least_share) for cluster in sizes}
    taken = {NOISE, *(cluster for cluster, majority in majorities.items() if majority is None)}
    clusters = []
    for was, size in sizes.items():
        majority, counts = majorities[was], labels[was]
        name = was if majority is None else _unused(majority, taken)
        taken.add(name)
        most, labelled = max(counts.values(), default=0), counts.total()
        purity = most / labelled if labelled else 0.0
        clusters.append(ClusterNaming(was, name, size, labelled, majority, purity))
    _rename(dataset, key, {cluster.was: cluster.name for cluster in clusters})
    return NamingReport(key, label_field, tuple(clusters))


def label_fields(dataset: fo.Dataset) -> list[str]:
    """The fields whose labels can name clusters: those that this package did not write."""
    schema = dataset.get_field_schema()
    own = {name for run in list_runs(dataset) for name in run.fields}
    for name, field in schema.items():
        if isinstance(field, fo.VectorField):
            own |= {f"{name}_source", f"{name}_error"}
    return [
        name
        for name, field in schema.items()
        if name != "filepath" and name not in own and _holds_labels(field)
    ]


def _sizes(dataset: fo.Dataset, key: str) -> dict[str, int]:
    """The clusters of a run by name, without noise, the largest first."""
    counts = dataset.count_values(key)
    found = {name: n for name, n in counts.items() if name not in (None, NOISE)}
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _labels(dataset: fo.Dataset, key: str, path: str) -> dict[str, Counter[str]]:
    """How often each cluster has each label; counted by the database, in one go."""
    labels: dict[str, Counter[str]] = defaultdict(Counter)
    for pair, n in dataset.count_values(F(key).concat(_BETWEEN, F(path))).items():
        cluster, _, label = (pair or "").partition(_BETWEEN)
        if label.strip():
            labels[cluster][label] = n
    return labels


def _majority(counts: Counter[str], least_share: float) -> str | None:
    ranked = counts.most_common(2)
    if not ranked or ranked[0][1] < least_share * counts.total():
        return None
    return None if len(ranked) == 2 and ranked[0][1] == ranked[1][1] else ranked[0][0]


def _unused(name: str, taken: Iterable[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} {number}"
    return free


def _rename(dataset: fo.Dataset, key: str, names: Mapping[str, str]) -> None:
    # By id, because the names of clusters that swap them tell nothing when half of it is done.
    changed = {was: name for was, name in names.items() if was != name}
    if not changed:
        return
    members = dataset.match(F(key).is_in(list(changed))).values(["id", key])
    details = load_run(dataset, key).details
    facts = [[names.get(name, name), *rest] for name, *rest in details["clusters"]]
    update_run(dataset, key, complete=False)
    write_values(dataset, key, {id_: changed[was] for id_, was in zip(*members, strict=True)})
    update_run(dataset, key, complete=True, details={**details, "clusters": facts})


def _label_path(dataset: fo.Dataset, label_field: str) -> str:
    field = dataset.get_field(label_field)
    if "." in label_field or not _holds_labels(field):
        found = "no field" if field is None else f"a {type(field).__name__}"
        choices = ", ".join(label_fields(dataset)) or "none"
        raise DatasetError(
            f"a field of strings or Classifications is needed, found {found} {label_field!r}; "
            f"those of dataset {dataset.name!r}: {choices}"
        )
    return label_field if isinstance(field, fo.StringField) else f"{label_field}.label"


def _holds_labels(field: fo.Field | None) -> bool:
    if isinstance(field, fo.EmbeddedDocumentField):
        return issubclass(field.document_type, fo.Classification)
    return isinstance(field, fo.StringField)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:10]) + (", ..." if len(listed) > 10 else "") if listed else "none"
