"""The steps in which a run is changed: each may be repeated, and one that is killed leaves no lie.

What a run owns is first marked as not whole; what nothing refers to any more is cleared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import fiftyone as fo

from fiftyone_isoclip.dataset.kept_pairs import drop_pairs
from fiftyone_isoclip.dataset.locks import hold_record
from fiftyone_isoclip.dataset.writing import insist

CONFIG = "fiftyone_isoclip.dataset.runs.IsoClipRunConfig"
"""The class of our runs, as FiftyOne stores it."""


def erase_run(dataset: fo.Dataset, key: str) -> None:
    """Delete a run and what it wrote.

    What it wrote goes first, and lasts before the run goes: a crash of the database must not keep
    the second and forget the first, for then nothing would own what is left.
    """
    config = dataset.get_run_info(key).config
    with hold_record(dataset):
        insist(dataset, lambda: clear_run(dataset, key, config))
        insist(dataset, lambda: forget_run(dataset, key))


def forget_run(dataset: fo.Dataset, key: str) -> None:
    """Delete what is remembered of a run."""
    if dataset.has_run(key):  # unless an earlier attempt came so far
        document = dataset._doc.runs[key]  # a rename that was killed may have given it another key
        del dataset._doc.runs[key]  # see _unlink_view
        dataset.save()
        document.delete()
    forget_strays(dataset, key)


def change_run(dataset: fo.Dataset, key: str, **changes: Any) -> None:
    """Replace some of what is remembered of a run."""
    config = dataset.get_run_info(key).config
    for name, value in changes.items():
        setattr(config, name, value)
    dataset.update_run_config(key, config)


def rename_parts(
    dataset: fo.Dataset, key: str, new_key: str, names: Mapping[str, str], indexed: Sequence[str]
) -> None:
    """Rename the fields and the key of a run, as far as an earlier attempt did not."""
    there = {old: new for old, new in names.items() if dataset.has_field(old)}
    if there:
        for old in set(indexed) & set(dataset.list_indexes()):
            dataset.drop_index(old)  # it would stay behind under the old name
        dataset.rename_sample_fields(there)
    for old in indexed:
        dataset.create_index(names[old])
    if dataset.has_run(key):
        dataset.rename_run(key, new_key)
    view = dataset.get_run_info(new_key).config.view
    _unlink_view(dataset, view)
    forget_strays(dataset, view)
    change_run(dataset, new_key, view=new_key)


def save_view(dataset: fo.Dataset, key: str, view: Any, method: str) -> None:
    """Save the view of a run."""
    told = f"made by fiftyone-isoclip: {method}"
    with hold_record(dataset):
        dataset.save_view(key, view, description=told, overwrite=True)


def _unlink_view(dataset: fo.Dataset, name: str) -> None:
    # FiftyOne's own deletions end with the link, and killed before it leave a dead one.
    if dataset.has_saved_view(name):
        dataset._get_saved_view_doc(name, pop=True)
        dataset.save()


def forget_strays(dataset: fo.Dataset, key: str, fields: Sequence[str] = ()) -> None:
    """Clear what a killed process left under these names and nothing refers to any more."""
    database, id_ = fo.core.odm.get_db_conn(), dataset._doc.id
    links = database.datasets.find_one({"_id": id_}, {"runs": 1, "saved_views": 1}) or {}
    runs, views = links.get("runs", {}).values(), links.get("saved_views", [])
    ours = {"_dataset_id": id_, "key": key, "config.cls": CONFIG}
    database.runs.delete_many({**ours, "_id": {"$nin": [_linked(run) for run in runs]}})
    ours = {"_dataset_id": id_, "name": key, "_id": {"$nin": [_linked(view) for view in views]}}
    database.views.delete_many(ours)
    if fields:  # values under a name that is not declared would be seen as soon as it is
        strays = {"$or": [{name: {"$exists": True}} for name in fields]}
        dataset._sample_collection.update_many(strays, {"$unset": dict.fromkeys(fields, "")})


def forget_dead(id_: Any) -> None:
    """Clear the runs and views of a dataset that was deleted while one was written."""
    database = fo.core.odm.get_db_conn()
    if database.datasets.find_one({"_id": id_}, {"_id": 1}) is None:
        for documents in (database.runs, database.views):
            documents.delete_many({"_dataset_id": id_})


def _linked(link: Any) -> Any:
    return getattr(link, "id", link)


def renamed(name: str, key: str, new_key: str) -> str:
    """A name that begins with a key, with another one."""
    return new_key + name.removeprefix(key) if name.startswith(key) else name


def replaced(value: Any, names: Mapping[str, str]) -> Any:
    """The stages of a view, with other names for fields, also inside expressions (``$name``)."""
    if isinstance(value, dict):
        return {name: replaced(part, names) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [replaced(part, names) for part in value]
    if not isinstance(value, str):
        return value
    plain = value.lstrip("$")
    return value[: len(value) - len(plain)] + names.get(plain, plain)


def clear_run(dataset: fo.Dataset, key: str, config: Any) -> None:
    """Delete what a run wrote, as its configuration lists it."""
    change_run(dataset, key, complete=False)  # first, because what is left of it is not whole
    drop_pairs(dataset, getattr(config, "details", {}).get("pairs"))
    fields = [name for name in config.fields if dataset.has_field(name)]
    if fields:
        dataset.delete_sample_fields(fields)
    _unlink_view(dataset, config.view)
    # All its names: a crash may have kept that a field is gone, and forgotten that its values are.
    forget_strays(dataset, config.view, config.fields)
