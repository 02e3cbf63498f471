"""The operators without a server: the form they show, and what the App is told when they run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
from fiftyone.operators.executor import ExecutionContext, Executor

from fiftyone_isoclip.install import PLUGIN_NAME
from tests.pictures import draw_many, recompress


def add_pictures_with_copies(dataset: fo.Dataset, folder: Path) -> None:
    """Add what every operator has something to do with: five pictures, three copies, two splits."""
    originals = draw_many(folder, 5)
    copies = [recompress(originals[0], folder / f"copy-{n}.jpg", 95 - n) for n in range(2)]
    copies.append(shutil.copy(originals[1], folder / "same.png"))
    dataset.add_samples(
        [
            fo.Sample(
                filepath=path,
                tags=["train" if number % 2 else "test"],
                label=fo.Classification(label="even" if number % 3 else "odd"),
                theirs=np.eye(8, 96, dtype=np.float32)[number],
            )
            for number, path in enumerate([*originals, *copies])
        ],
        progress=False,
    )


class Offered:
    """An operator as the App offers it on a dataset, or on a view of it."""

    def __init__(self, kind: type[Any], samples: Any) -> None:
        self.operator = kind()
        self.operator.plugin_name = PLUGIN_NAME
        self._samples = samples

    def context(self, params: dict[str, Any]) -> ExecutionContext:
        asked = {"dataset_name": self._samples._root_dataset.name, "params": params}
        asked["operator_uri"] = self.operator.uri
        if self._samples is not self._samples._root_dataset:
            asked["view"] = self._samples._serialize()
        return ExecutionContext(request_params=asked, executor=Executor())

    def form(self, **params: Any) -> dict[str, Any]:
        """The inputs, as they are sent to the browser, by name."""
        shown = self.operator.resolve_type(self.context(params), "inputs").to_json()
        json.dumps(shown)
        return dict(shown["type"]["properties"])

    def defaults(self, **params: Any) -> dict[str, Any]:
        """What the form gives if nobody changes it."""
        form = self.form(**params)
        given = {name: part["default"] for name, part in form.items() if part.get("default")}
        return given | params

    def refusals(self, **params: Any) -> list[str]:
        """Why the form cannot be executed as it is; nothing if it can."""
        form = self.form(**params)
        return [part["error_message"] for part in form.values() if part.get("invalid")]

    def run(self, **params: Any) -> dict[str, Any]:
        """Run it as the App does; -> its result, or ``error`` and the sentence."""
        ctx = self.context(params)
        shown = [*_shown(self.operator.execute(ctx)), *ctx.executor._requests]
        told = [each.params for each in shown if each.operator_uri.endswith("show_output")]
        json.dumps([each.params for each in shown])
        assert len(told) == 1, [each.operator_uri for each in shown]
        results: dict[str, Any] = told[0]["results"]
        return results


def _shown(messages: Any) -> Iterator[Any]:
    yield from (each for each in messages if hasattr(each, "operator_uri"))
