"""FiftyOne samples: the zoo model, stored embeddings, the Brain backend, fields, views and runs.

Names are loaded on first use: registering with FiftyOne must not wait for torch.
"""

from __future__ import annotations

import lazy_loader

_HOMES = {
    "centres": ["Centre", "fit_centre"],
    "cluster_names": ["NamingReport", "name_cluster", "name_clusters_by"],
    "clusterings": ["ClusterReport", "load_clusters", "outliers_view"],
    "clusters": ["find_clusters"],
    "comparison_reports": ["ComparisonReport", "load_comparison"],
    "comparisons": ["compare_with_clip"],
    "disagreement_reports": ["DisagreementReport", "load_disagreements"],
    "disagreements": ["compare_spaces"],
    "duplicates": [
        "DEFAULT_KEEPER_RULE",
        "DEFAULT_SIMILARITY",
        "KEEPER_RULES",
        "find_duplicates",
        "find_exact_duplicates",
    ],
    "embeddings": ["EmbedReport", "embed"],
    "evaluation": ["evaluate"],
    "evaluation_reports": ["EvaluationReport", "load_evaluation"],
    "file_removal": ["apply_file_removal", "plan_file_removal", "undo_file_removal"],
    "groups": ["DuplicateReport", "load_duplicates"],
    "imported_groups": ["import_duplicates"],
    "imports": ["ImportReport", "import_store"],
    "maps": ["MapReport", "map_embeddings"],
    "leak_report": ["LeakReport", "load_leaks"],
    "leaks": ["find_leaks"],
    "model": ["IsoClipModel", "load_model"],
    "resolving": ["ResolveReport", "resolve_duplicates", "restore_removed"],
    "reruns": ["RerunReport", "rerun"],
    "runs": ["SavedRun", "delete_run", "list_runs", "load_run", "rename_run"],
    "search": ["SimilarReport", "find_similar"],
    "similarity": ["FaissSimilarityConfig", "FaissSimilarityIndex"],
    "similarity_changes": ["IndexChanges", "find_changes"],
    "similarity_refresh": ["RefreshReport", "refresh_similarity"],
    "similarity_runs": ["build_similarity"],
    "staleness": ["Staleness", "find_staleness"],
    "tuning": ["tune_band"],
    "tuning_reports": ["TuningReport", "load_tuning"],
    "threshold_guide": ["guide_threshold"],
    "threshold_reports": ["ThresholdReport"],
    "upgrades": ["UpgradeReport", "upgrade"],
    "verdicts": ["forget_verdicts", "prefer_keeper", "read_verdicts", "say_not_duplicates"],
    "zoo": ["register"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)
