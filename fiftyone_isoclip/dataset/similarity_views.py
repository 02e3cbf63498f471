"""The view in which an index is searched: each thread has its own.

To search a view, FiftyOne sets it on the index, searches, and sets back the one before. The index
is shared by all threads of the App's server, which would search in each other's views.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import fiftyone.brain.internal.core.utils as fbu
import numpy as np
from fiftyone.brain.similarity import SimilarityIndex

if TYPE_CHECKING:
    from fiftyone_isoclip.dataset.indexed import Indexed


class _View(threading.local):
    """What FiftyOne notes of the view in use; made anew in each thread that asks."""

    def __init__(self, samples: Any) -> None:
        self._last_view: Any = None
        self._last_views: list[Any] = []
        self._curr_view = samples
        self._curr_view_allow_missing: bool | None = None
        self._curr_view_warn_missing: bool | None = None
        self._curr_sample_ids: Any = None
        self._curr_label_ids: Any = None
        self._curr_keep_inds: Any = None
        self._curr_missing_size: int | None = None
        self._applied_to: Any = None


def _of_thread(name: str) -> Any:
    def get(index: ThreadViews) -> Any:
        return getattr(index._view_in_use, name)

    def put(index: ThreadViews, value: Any) -> None:
        setattr(index._view_in_use, name, value)

    return property(get, put)


class ThreadViews(SimilarityIndex):
    """An index whose view is that of the thread that asks, at first all of its samples."""

    _last_view = _of_thread("_last_view")
    _last_views = _of_thread("_last_views")
    _curr_view = _of_thread("_curr_view")
    _curr_view_allow_missing = _of_thread("_curr_view_allow_missing")
    _curr_view_warn_missing = _of_thread("_curr_view_warn_missing")
    _curr_sample_ids = _of_thread("_curr_sample_ids")
    _curr_label_ids = _of_thread("_curr_label_ids")
    _curr_keep_inds = _of_thread("_curr_keep_inds")
    _curr_missing_size = _of_thread("_curr_missing_size")
    _applied_to = _of_thread("_applied_to")

    def __init__(self, samples: Any, config: Any, brain_key: str | None, *, backend: Any) -> None:
        self._view_in_use = _View(samples)
        super().__init__(samples, config, brain_key, backend=backend)

    def _apply_view_to(self, indexed: Indexed) -> None:
        """Find the view in these rows, whatever other threads have put in their place meanwhile."""
        if self._curr_sample_ids is not None and self._applied_to is indexed:
            return
        samples, labels, kept, is_found = indexed.sample_ids, indexed.label_ids, None, None
        if self.has_view:
            samples, labels, kept, is_found = fbu.filter_ids(
                self._curr_view,
                samples,
                labels,
                patches_field=self.config.patches_field,
                allow_missing=self._curr_view_allow_missing,
                warn_missing=self._curr_view_warn_missing,
            )
        self._curr_sample_ids, self._curr_label_ids, self._curr_keep_inds = samples, labels, kept
        missing = None if is_found is None else int(np.count_nonzero(~is_found))
        self._curr_missing_size, self._applied_to = missing, indexed
