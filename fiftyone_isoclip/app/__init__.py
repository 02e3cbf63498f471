"""What the FiftyOne App offers: the operators, and the panel that plugin.py registers."""

from __future__ import annotations

from typing import Any

from fiftyone_isoclip.app.centres import FitCentre
from fiftyone_isoclip.app.clusters import ClusterImages
from fiftyone_isoclip.app.compare import CompareWithClip
from fiftyone_isoclip.app.duplicates import FindNearDuplicates
from fiftyone_isoclip.app.embed import ComputeEmbeddings
from fiftyone_isoclip.app.evaluate import EvaluateRetrieval
from fiftyone_isoclip.app.exact import FindExactDuplicates
from fiftyone_isoclip.app.index import BuildSimilarityIndex
from fiftyone_isoclip.app.leaks import FindLeaks
from fiftyone_isoclip.app.maps import MapEmbeddings
from fiftyone_isoclip.app.panel import IsoClipPanel
from fiftyone_isoclip.app.removal import ApplyFileRemoval, UndoFileRemoval
from fiftyone_isoclip.app.removal_plan import PlanFileRemoval
from fiftyone_isoclip.app.resolve import ResolveDuplicates, ReviewDuplicates
from fiftyone_isoclip.app.runs import DeleteRun, RenameRun, Rerun
from fiftyone_isoclip.app.thresholds import GuideThreshold
from fiftyone_isoclip.app.tune import TuneBand
from fiftyone_isoclip.app.upgrades import UpgradeEmbeddings

OPERATORS: tuple[type[Any], ...] = (
    ComputeEmbeddings,
    CompareWithClip,
    EvaluateRetrieval,
    GuideThreshold,
    FindNearDuplicates,
    FindExactDuplicates,
    ReviewDuplicates,
    ResolveDuplicates,
    PlanFileRemoval,
    ApplyFileRemoval,
    UndoFileRemoval,
    FindLeaks,
    ClusterImages,
    BuildSimilarityIndex,
    MapEmbeddings,
    FitCentre,
    UpgradeEmbeddings,
    TuneBand,
    DeleteRun,
    RenameRun,
    Rerun,
)
PANELS: tuple[type[Any], ...] = (IsoClipPanel,)

__all__ = [
    "OPERATORS",
    "PANELS",
    "ApplyFileRemoval",
    "BuildSimilarityIndex",
    "ClusterImages",
    "CompareWithClip",
    "ComputeEmbeddings",
    "DeleteRun",
    "EvaluateRetrieval",
    "FindExactDuplicates",
    "FindLeaks",
    "FindNearDuplicates",
    "FitCentre",
    "GuideThreshold",
    "IsoClipPanel",
    "MapEmbeddings",
    "PlanFileRemoval",
    "RenameRun",
    "Rerun",
    "ResolveDuplicates",
    "ReviewDuplicates",
    "TuneBand",
    "UndoFileRemoval",
    "UpgradeEmbeddings",
]
