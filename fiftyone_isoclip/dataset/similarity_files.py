"""Where the inverted file of a similarity index lies, and how it gets there."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import fiftyone as fo

from fiftyone_isoclip.dataset.indexed import Indexed
from fiftyone_isoclip.dataset.places import side_path
from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.search_files import read_inverted, write_inverted

logger = logging.getLogger(__name__)


def inverted_path(dataset: fo.Dataset, brain_key: str) -> Path:
    """Where the inverted file of a brain run lies; it may be deleted at any time."""
    return side_path("search", str(dataset._doc.id), f"{brain_key}.inverted")


def prepare(
    indexed: Indexed, path: Path | None, *, fingerprint: str | None, band: str | None
) -> Indexed:
    """Give an index of many rows an inverted file that fits them: read, extended or made anew.

    A file that is damaged or of other rows is said in the log, and so is one that cannot be
    written: it then has to be made in every session.

    Args:
        indexed: the rows.
        path: where the file is kept; None keeps it in memory.
        fingerprint: of the weights behind what images are compared by, if known.
        band: of what images are compared by, if known.
    """
    if indexed.inverted is None and path is not None:
        try:
            found = read_inverted(path, fingerprint=fingerprint, band=band)
            indexed = replace(indexed, inverted=found)
        except FileNotFoundError:
            pass
        except StoreError as error:
            logger.warning("%s", error)
    if not indexed.search.is_due:
        logger.info("Search index: %s", indexed.search.description)
        return indexed
    logger.info("Making a search index of %s vectors ...", f"{indexed.source.n:,}")
    prepared = replace(indexed, inverted=indexed.search.prepared().inverted)
    if path is not None and prepared.inverted is not None:
        try:
            write_inverted(path, prepared.inverted, fingerprint=fingerprint, band=band)
        except StoreError as error:
            logger.warning("%s", error)
    return prepared
