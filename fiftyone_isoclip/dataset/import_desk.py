"""Where the pieces of a store are written: new samples, vectors on them or in files, reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import fiftyone as fo
import numpy as np
from bson import ObjectId

from fiftyone_isoclip.dataset.fields import Origin
from fiftyone_isoclip.dataset.import_rows import (
    OTHER_FILE,
    Gift,
    Piece,
    choose_gift,
    documents,
    find_targets,
)
from fiftyone_isoclip.dataset.import_survey import nowhere
from fiftyone_isoclip.dataset.sidestore import append_vectors, store_folder, store_keys, warn_slow
from fiftyone_isoclip.dataset.targets import Fields, Target
from fiftyone_isoclip.dataset.writing import Values, insist, write_all
from fiftyone_isoclip.errors import StoreError
from fiftyone_isoclip.index.store import open_sound
from fiftyone_isoclip.index.stored import Ids


@dataclass
class Desk:
    """The field that an import fills; ``copying`` ends where the copy cannot be written."""

    dataset: fo.Dataset
    fields: Fields
    origin: Origin
    in_files: bool
    copying: bool = True

    def take(self, piece: Piece) -> Counter[str]:
        """Write what a piece holds and the dataset lacks; -> how many are ``added``, ``written``.

        The same piece again writes nothing.
        """
        # Named here, so that what the database forgot in a crash is made again under the same ids.
        new = {path: str(ObjectId()) for path in piece.paths}
        return insist(self.dataset, lambda: self._take(piece, new))

    def count(self, piece: Piece) -> tuple[Counter[str], list[str]]:
        """Ask the database how many images are ``embedded``, ``failed`` and, of these, ``refused``.

        An image has what all its samples have. -> these counts, and the images that have neither.
        """
        found: Counter[str] = Counter()
        missing = []
        for row, owners in enumerate(self._owners(piece)):
            told = {target.error for target in owners if not target.source}
            if owners and not told:
                found["embedded"] += 1
            elif owners and all(told) and (row in piece.reasons or told == {OTHER_FILE}):
                found["failed"] += 1
                found["refused"] += row not in piece.reasons
            else:
                missing.append(piece.paths[row] or piece.ids[row])
        return found, missing

    def _owners(self, piece: Piece) -> list[list[Target]]:
        return find_targets(self.dataset, self.fields, piece.ids, piece.paths)

    def _take(self, piece: Piece, new: Mapping[str | None, str]) -> Counter[str]:
        gifts: dict[str, Gift] = {}
        fresh: dict[str, Gift] = {}
        for row, owners in enumerate(self._owners(piece)):
            path = piece.paths[row]
            if not owners and path is None:
                raise nowhere(piece.ids[row])
            for owner in owners or [Target(new[path], new[path], str(path), None, None, None)]:
                gift = choose_gift(piece, row, self._held(owner), self.origin.fingerprint)
                into = gifts if owners else fresh
                # Two images of one file: the first that has a vector gives it.
                if gift is not None and (owner.id not in into or into[owner.id].vector is None):
                    into[owner.id] = gift
        self._keep([*gifts.values(), *fresh.values()])
        self._insert([*fresh.values()])
        self._update([*gifts.values()])
        written = sum(gift.vector is not None for gift in (*gifts.values(), *fresh.values()))
        return Counter(added=len(fresh), written=written)

    @cached_property
    def _filed(self) -> Ids:
        """What lay in files when the import began, sorted: the only memory that grows with them."""
        place = store_folder(self.dataset, self.fields.embedding)
        stored = open_sound(place, self.origin.fingerprint, self.origin.dim)
        return np.sort(stored.ids) if stored is not None else np.empty(0, "S1")

    def _held(self, target: Target) -> Target:
        """A target, without its source if that vouches for a vector that the files have lost."""
        if not self.in_files or target.source is None:
            return target
        (key,) = store_keys([target.id], [target.source])
        place = int(np.searchsorted(self._filed, np.bytes_(key)))
        found = place < len(self._filed) and self._filed[place] == key
        return target if found else replace(target, source=None)

    def _keep(self, gifts: Sequence[Gift]) -> None:
        """Put vectors into the files: before the sources, which vouch for them, are written."""
        given = [gift for gift in gifts if gift.vector is not None]
        if not given or not (self.in_files or self.copying):
            return
        rows = np.stack([gift.vector for gift in given if gift.vector is not None])
        ids, sources = [gift.target.id for gift in given], [gift.source for gift in given]
        try:
            append_vectors(
                self.dataset, self.fields.embedding, self.origin.fingerprint, rows, ids, sources
            )
        except StoreError as error:
            if self.in_files:
                raise
            self.copying = False
            warn_slow(error)

    def _insert(self, gifts: Sequence[Gift]) -> None:
        """Make the samples of images that the dataset lacks."""
        if gifts:
            if self.dataset.media_type is None:
                self.dataset.media_type = "image"
            made = documents(self.dataset, self.fields, gifts, in_files=self.in_files)
            self.dataset._sample_collection.insert_many(made)

    def _update(self, gifts: Sequence[Gift]) -> None:
        """Give samples that were there what they lack, vectors first."""
        given = [gift for gift in gifts if gift.vector is not None]
        vectors = {} if self.in_files else {gift.target.id: gift.vector for gift in given}
        healed = {gift.target.id: None for gift in given if gift.target.error}
        refused = {
            gift.target.id: gift.reason
            for gift in gifts
            if gift.reason and gift.reason != gift.target.error
        }
        sources = {gift.target.id: gift.source for gift in given}
        write_all(
            self.dataset,
            Values(self.fields.embedding, vectors, fo.VectorField),
            Values(self.fields.source, sources, fo.StringField),
            Values(self.fields.error, healed | refused, fo.StringField),
        )
