"""The tab Clusters: their sizes and medoids, their members and outliers, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fiftyone_isoclip.app.panel.page import Page
from fiftyone_isoclip.app.panel.stale import STALE_ACTIONS, stale_notice
from fiftyone_isoclip.app.panel.start import START_ACTIONS, show_start
from fiftyone_isoclip.app.panel.tab import Action, Context, Tab, prompt, recall, remember
from fiftyone_isoclip.dataset.cluster_names import label_fields, name_cluster, name_clusters_by
from fiftyone_isoclip.dataset.clusterings import (
    METHOD,
    NOISE,
    ClusterReport,
    SampleCluster,
    clusters_view,
    load_clusters,
    members_view,
    outliers_view,
)
from fiftyone_isoclip.dataset.maps import list_maps
from fiftyone_isoclip.dataset.runs import SavedRun, list_runs

CARDS = 6
CARDS_A_ROW = 3
BARS = 30

_BAR = "#ff6d04"
_NOISE_BAR = "#8a8a8a"


class ClustersTab(Tab):
    """Shows one run at a time; its facts are the run's own, so drawing it reads few samples."""

    name = "clusters"
    label = "Clusters"

    def show(self, ctx: Context, page: Page) -> None:
        """Draw it."""
        runs = _runs(ctx)
        if not runs:
            page.say(
                "**No clusters yet.** Clusters divide the images into groups of like ones: what "
                "is in this dataset, what is rare, and what does not belong."
            )
            show_start(ctx, page, "Cluster images", "cluster")
            return
        key = _key(ctx)
        if len(runs) > 1:
            choices = {run.key: f"{run.key} ({_asked(run)})" for run in runs}
            page.choose("clusters_run", "Run", choices, key)
        run = next(run for run in runs if run.key == key)
        stale_notice(ctx, page, run)
        report = load_clusters(ctx.dataset, key)
        _show_summary(page, run, report)
        if not report.clusters:
            page.button("Cluster again", "cluster", primary=True)
            return
        _show_sizes(page, report)
        _show_cards(ctx, page, report)
        _show_naming(ctx, page, report)

    actions: ClassVar[Mapping[str, Action]] = {}
    looks: ClassVar[Mapping[str, Action]] = {}


def _show_summary(page: Page, run: SavedRun, report: ClusterReport) -> None:
    compared = int(run.counts["compared"])
    told = f"**{_plural(report.n_clusters, 'cluster')}** of {_plural(compared, 'image')}"
    if report.n_noise:
        told += f"; **{report.n_noise}** are like no others (noise)"
    if report.n_skipped:
        told += f"; {report.n_skipped} could not be compared"
    page.say(f"{told}. {_separation(report.silhouette)}")
    row = page.row()
    row.button("Show all in the grid", "show_all")
    row.button("Least typical images", "outliers", title="The least similar to their medoid")
    if report.n_noise:
        row.button("Noise", "members", cluster=NOISE)
    row.button("Map", "map", title="In FiftyOne's Embeddings panel")
    row.button("Cluster again", "cluster")


def _separation(silhouette: float | None) -> str:
    """The silhouette in words; the steps are those that Kaufman and Rousseeuw proposed."""
    if silhouette is None:
        return ""
    steps = {0.7: "are far apart", 0.5: "are well apart", 0.25: "touch each other"}
    told = next((words for least, words in steps.items() if silhouette > least), "run together")
    return f"They {told} (silhouette {silhouette:.2f}; 1 would be far apart, 0 no clusters)."


def _show_sizes(page: Page, report: ClusterReport) -> None:
    bars = [(cluster.name, cluster.size, _BAR) for cluster in report.clusters[:BARS]]
    if report.n_noise:
        bars.append((NOISE, report.n_noise, _NOISE_BAR))
    names, sizes, colours = zip(*bars, strict=True)
    trace = {"type": "bar", "x": names, "y": sizes, "marker": {"color": colours}}
    trace["hovertemplate"] = "%{x}: %{y} images<extra></extra>"
    layout = {
        "xaxis": {"type": "category", "automargin": True},
        "yaxis": {"title": "images"},
        "bargap": 0.25,
    }
    page.plot([trace], layout, "members")
    shown = "Each bar is a cluster" if report.n_clusters <= BARS else f"The {BARS} largest"
    page.say(f"{shown}; click one to see its images in the grid.")


def _show_cards(ctx: Context, page: Page, report: ClusterReport) -> None:
    pages = -(-len(report.clusters) // CARDS)
    number = min(int(recall(ctx, "clusters_page", 0)), pages - 1)
    shown = report.clusters[number * CARDS : (number + 1) * CARDS]
    found = ctx.dataset.select([cluster.medoid for cluster in shown])
    paths = dict(zip(*found.values(["id", "filepath"]), strict=True))
    for start in range(0, len(shown), CARDS_A_ROW):
        row = page.row()
        for cluster in shown[start : start + CARDS_A_ROW]:
            _show_card(row.card(), cluster, paths.get(cluster.medoid))
    if pages > 1:
        first, last = number * CARDS + 1, number * CARDS + len(shown)
        row = page.row()
        row.button("Previous", "turn", disabled=number == 0, to=number - 1)
        row.button("Next", "turn", disabled=number == pages - 1, to=number + 1)
        row.say(f"{first} to {last} of {len(report.clusters)}")
    if report.n_clusters > len(report.clusters):
        rest = report.n_clusters - len(report.clusters)
        page.say(f"{rest} smaller clusters are in the grid and in the sidebar only.")


def _show_card(card: Page, cluster: SampleCluster, path: str | None) -> None:
    if path is None:
        card.say("*its medoid was deleted*")
    else:
        card.picture(path, f"The image that stands for cluster {cluster.name}")
    facts = f"{_plural(cluster.size, 'image')}, cohesion {cluster.cohesion:.2f}"
    card.say(f"**{_plain(cluster.name)}**  \n{facts}")
    row = card.row(gap=1)
    row.button("Show", "members", cluster=cluster.name)
    row.button("Outliers", "outliers", cluster=cluster.name)


def _show_naming(ctx: Context, page: Page, report: ClusterReport) -> None:
    page.heading("Names")
    choices = {cluster.name: cluster.name for cluster in report.clusters}
    page.choose("clusters_named", "Cluster", choices, report.clusters[0].name)
    page.text("clusters_name", "New name")
    page.button("Give this name", "name")
    fields = label_fields(ctx.dataset)
    if fields:
        listed = {field: field for field in fields}
        page.choose("clusters_labels", "Or name all by the majority of", listed, fields[0])
        page.button("Name all by label", "name_by", default=fields[0])


def _runs(ctx: Context) -> list[SavedRun]:
    return [run for run in list_runs(ctx.dataset) if run.method == METHOD]


def _key(ctx: Context) -> str:
    """The chosen run, or the latest if there is none of that name any more."""
    keys = [run.key for run in _runs(ctx)]
    chosen = recall(ctx, "clusters_run")
    return str(chosen if chosen in keys else keys[0])


def _asked(run: SavedRun) -> str:
    return f"{run.parameters['method']}, band {run.band}, {int(run.counts['clusters'])} clusters"


def _plural(n: int, noun: str) -> str:
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]()#+-.!|<>~" else letter for letter in text)


def _cluster(ctx: Context) -> None:
    prompt(ctx, "cluster_images")


def _show_all(ctx: Context) -> None:
    ctx.ops.set_view(clusters_view(ctx.dataset, _key(ctx)))


def _show_members(ctx: Context) -> None:
    # A bar tells its name as x, a button as what it was given.
    cluster = ctx.params.get("cluster", ctx.params.get("x"))
    ctx.ops.set_view(members_view(ctx.dataset, _key(ctx), str(cluster)))


def _show_outliers(ctx: Context) -> None:
    ctx.ops.set_view(outliers_view(ctx.dataset, _key(ctx), ctx.params.get("cluster")))


def _open_map(ctx: Context) -> None:
    if list_maps(ctx.dataset):
        ctx.ops.open_panel("Embeddings", layout="horizontal")
    else:
        prompt(ctx, "map_embeddings")


def _turn(ctx: Context) -> None:
    remember(ctx, "clusters_page", int(ctx.params["to"]))


def _name(ctx: Context) -> None:
    key = _key(ctx)
    clusters = [cluster.name for cluster in load_clusters(ctx.dataset, key).clusters]
    chosen = recall(ctx, "clusters_named")
    was = chosen if chosen in clusters else clusters[0]
    name = str(recall(ctx, "clusters_name", ""))
    name_cluster(ctx.dataset, key, was, name)
    remember(ctx, "clusters_named", name.strip())
    remember(ctx, "clusters_name", "")
    _show_renamed(ctx, members_view(ctx.dataset, key, name.strip()))
    ctx.ops.notify(f"Cluster {was} is now called {name.strip()}", variant="success")


def _name_by(ctx: Context) -> None:
    field = recall(ctx, "clusters_labels", ctx.params["default"])
    key = _key(ctx)
    report = name_clusters_by(ctx.dataset, key, field)
    remember(ctx, "clusters_named", None)
    _show_renamed(ctx, clusters_view(ctx.dataset, key))
    ctx.ops.notify(str(report), variant="success")


def _show_renamed(ctx: Context, view: Any) -> None:
    # A grid that shows a cluster by its old name would be empty from now on.
    ctx.ops.reload_dataset()
    ctx.ops.set_view(view)


ClustersTab.actions = {
    "cluster": _cluster,
    "show_all": _show_all,
    "members": _show_members,
    "outliers": _show_outliers,
    "map": _open_map,
    "turn": _turn,
    "name": _name,
    "name_by": _name_by,
    **STALE_ACTIONS,
    **START_ACTIONS,
}
ClustersTab.looks = {"members": _show_members}
