"""What fiftyone.yml promises is what the package registers: FiftyOne drops the rest in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators as foo
import pytest
import yaml

from fiftyone_isoclip import __version__
from fiftyone_isoclip.app import OPERATORS, PANELS
from fiftyone_isoclip.install import PLUGIN_NAME

RISKS = {
    "resolve_duplicates": foo.types.RiskLevel.HIGH,  # takes samples out of the dataset
    "apply_file_removal": foo.types.RiskLevel.HIGH,  # moves files away
    "plan_file_removal": foo.types.RiskLevel.LOW,  # reads files and keeps what it found
    "delete_run": foo.types.RiskLevel.HIGH,  # deletes fields
    "rerun": foo.types.RiskLevel.HIGH,  # replaces a result, and names given to its clusters
    "review_duplicates": foo.types.RiskLevel.LOW,  # opens a panel
}


@pytest.fixture(scope="module")
def metadata(repo_root: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((repo_root / "fiftyone.yml").read_text()))


def test_the_allow_list_is_the_registry(metadata: dict[str, Any]) -> None:
    assert metadata["operators"] == [operator().config.name for operator in OPERATORS]
    assert metadata["panels"] == [panel().config.name for panel in PANELS]


def test_names_and_versions_agree(metadata: dict[str, Any]) -> None:
    assert metadata["name"] == PLUGIN_NAME
    assert metadata["version"] == __version__


def test_the_entry_exists_and_fits_this_fiftyone(metadata: dict[str, Any], repo_root: Path) -> None:
    from packaging.specifiers import SpecifierSet

    assert (repo_root / metadata["py_entry"]).is_file()
    assert fo.__version__ in SpecifierSet(metadata["fiftyone"]["version"])


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: operator.__name__)
def test_each_operator_is_stepped_schedulable_and_honest_about_its_risk(
    operator: type[foo.Operator], repo_root: Path
) -> None:
    config = operator().config
    assert config.label.startswith("IsoCLIP: ")
    assert config.execute_as_generator
    # One only opens a panel, which a worker has not.
    assert config.allow_delegated_execution == (config.name != "review_duplicates")
    # Most add fields and replace their own earlier ones; none deletes a file.
    assert config.risk_level is RISKS.get(config.name, foo.types.RiskLevel.MEDIUM)
    icons = {config.light_icon, config.dark_icon}
    assert len(icons) == 2
    assert all((repo_root / icon.lstrip("/")).is_file() for icon in icons)


def test_plugin_file_needs_no_package_around_it(repo_root: Path) -> None:
    # FiftyOne executes it under a name of its own, where relative imports fail.
    source = (repo_root / "fiftyone_isoclip" / "plugin.py").read_text()
    assert "from ." not in source


class Registrar:
    """Stands where FiftyOne's PluginContext does."""

    def __init__(self, version: str) -> None:
        self.plugin_definition = type("Definition", (), {"version": version})
        self.registered: list[type[Any]] = []

    def register(self, offered: type[Any]) -> None:
        self.registered.append(offered)


def test_registering_offers_all_and_makes_models_and_backend_known() -> None:
    import fiftyone.brain as fob

    from fiftyone_isoclip import plugin

    registrar = Registrar(__version__)
    plugin.register(registrar)
    plugin.register(registrar)
    assert registrar.registered == [*OPERATORS, *PANELS] * 2
    assert sum("fiftyone_isoclip" in path for path in fo.config.model_zoo_manifest_paths) == 1
    assert "faiss" in fob.brain_config.similarity_backends
