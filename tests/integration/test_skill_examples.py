"""The skill's examples, run one after the other as an agent would."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from fiftyone_isoclip.dataset import list_runs
from fiftyone_isoclip.install import PLUGIN_NAME, install_plugin
from tests.pictures import draw_many, recompress

SKILL = "skills/curate-with-isoclip/SKILL.md"


@pytest.fixture(autouse=True)
def _plugin() -> Iterator[None]:
    install_plugin(fo.config.plugins_dir)
    yield
    import fiftyone.plugins as fop

    fop.delete_plugin(PLUGIN_NAME)


def test_the_examples_do_what_they_say(
    dataset: fo.Dataset,
    fill: Callable[[Sequence[str]], list[str]],
    pictures: Path,
    repo_root: Path,
) -> None:
    originals = draw_many(pictures, 6)
    (pictures / "same.png").write_bytes(Path(originals[0]).read_bytes())
    near = recompress(originals[1], pictures / "near.jpg", 95)
    ids = fill([*originals, str(pictures / "same.png"), near])
    dataset.select(ids[:6]).tag_samples("train")
    dataset.select(ids[6:]).tag_samples("test")
    dataset.set_values("label", [fo.Classification(label="ab"[n % 2]) for n in range(8)])
    text = (
        (repo_root / SKILL)
        .read_text()
        .replace('load_dataset("photos")', f'load_dataset("{dataset.name}")')
    )
    told: dict[str, Any] = {}
    for block in re.findall(r"^ *```python\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        exec(inspect.cleandoc("\n" + block), told)
    dataset.reload()
    assert (told["made"]["computed"], told["exact"]["duplicates"]) == (8, 1)
    assert told["near"]["duplicates"] >= 2 and told["leaks"]["pairs"] >= 2
    assert dataset.match_tags("duplicate").count() == told["near"]["duplicates"]
    assert len(dataset) == 8 and not fo.dataset_exists(f"{dataset.name}-removed")
    assert sorted(run.key for run in list_runs(dataset)) == [
        "comparison", "duplicates", "evaluation", "exact_duplicates", "leaks",
    ]  # fmt: skip
    assert sorted(dataset.list_brain_runs()) == ["isoclip_map", "isoclip_search"]
