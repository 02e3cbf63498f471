"""`isoclip duplicates`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

import typer

from fiftyone_isoclip import files
from fiftyone_isoclip.cli.options import (
    BandChoice,
    Device,
    ImagesPath,
    JsonFile,
    ModelName,
    check_output,
    require_engine,
)
from fiftyone_isoclip.cli.screen import (
    STDOUT,
    note,
    note_left,
    progress_bar,
    report,
    say,
    show_table,
)
from fiftyone_isoclip.cli.sources import DATASET_PREFIX, embed_source, require_images
from fiftyone_isoclip.cli.store_duplicates import (
    Engine,
    OutFile,
    Wanted,
    Workers,
    find_in_store,
    is_store,
)
from fiftyone_isoclip.errors import IsoClipError
from fiftyone_isoclip.files import DEFAULT_KEEPER_RULE, FILE_KEEPER_RULES
from fiftyone_isoclip.files.keepers import readable_bytes
from fiftyone_isoclip.index import DEFAULT_SIMILARITY
from fiftyone_isoclip.index.false_matches import AUTO, DEFAULT_FALSE_MATCHES, check_asked, one_in
from fiftyone_isoclip.index.pairs import check_similarity
from fiftyone_isoclip.index.probes import DEFAULT_RECALL


def _check_rule(rule: str) -> str:
    if rule not in FILE_KEEPER_RULES:
        raise typer.BadParameter(f"{rule!r} is none of {', '.join(FILE_KEEPER_RULES)}")
    return rule


def _parse_similarity(text: str) -> float | str:
    if text == AUTO:
        return text
    try:
        similarity = float(text)
        check_similarity(similarity)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is neither a cosine nor {AUTO}") from error
    except IsoClipError as error:
        raise typer.BadParameter(str(error)) from error
    return similarity


def _check_recall(recall: float | None) -> float | None:
    if recall is not None and not 0.0 < recall <= 1.0:
        raise typer.BadParameter(f"{recall:g} is no share of the pairs above 0 and at most 1")
    return recall


Similarity = Annotated[
    Any,  # typer knows no unions
    typer.Option(
        "--similarity",
        metavar=f"COSINE|{AUTO}",
        parser=_parse_similarity,
        help=f"Least cosine to the keeper to count as a duplicate; {AUTO} finds the lowest at "
        "which false matches are as rare as --false-matches says.",
    ),
]
FalseMatches = Annotated[
    float | None,
    typer.Option(
        "--false-matches",
        metavar="SHARE",
        help=f"With --similarity {AUTO}: the share of all pairs of different files that may be "
        f"that similar. {DEFAULT_FALSE_MATCHES:g} (1 in 10,000) by default; near-copies count "
        "among them.",
        show_default=False,
    ),
]
Keep = Annotated[
    str,
    typer.Option(
        "--keep",
        metavar="|".join(FILE_KEEPER_RULES),
        callback=_check_rule,
        help="Which file of a group is the keeper.",
    ),
]

Recall = Annotated[
    float | None,
    typer.Option(
        "--recall",
        metavar="SHARE",
        callback=_check_recall,
        help="Share of the pairs that suffices, for many millions of images; every pair without, "
        f"{DEFAULT_RECALL} of a large store.",
        show_default=False,
    ),
]

PlanFile = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        metavar="FILE",
        callback=check_output,
        help="Write a plan for `isoclip apply` that takes the byte-identical copies away.",
        show_default=False,
    ),
]
Near = Annotated[
    bool, typer.Option("--near", help="With --plan: take near duplicates away as well.")
]


def run_duplicates(
    path: ImagesPath,
    model: ModelName = None,
    similarity: Similarity = DEFAULT_SIMILARITY,
    false_matches: FalseMatches = None,
    band: BandChoice = None,
    keep: Keep = DEFAULT_KEEPER_RULE,
    recall: Recall = None,
    json: JsonFile = None,
    plan: PlanFile = None,
    near: Near = False,
    device: Device = "auto",
    engine: Engine = None,
    workers: Workers = None,
    out: OutFile = None,
) -> None:
    """Find images that show the same picture; nothing is deleted.

    Each group has a keeper, the reason why it is the one to keep, and its members: "exact" ones
    are byte for byte the keeper, "near" ones are as similar to it as asked. Links to one and the
    same file are no duplicates. A plan (--plan) can be carried out by `isoclip apply`, which moves
    files so that `isoclip undo` brings them back.

    PATH may also be a store of `isoclip embed --store`, of any number of images: its embeddings
    are compared, here or by workers of Ray, and the result (--out) is a Parquet file.
    """
    wanted = Wanted(engine, workers, out)
    if is_store(path):
        if model or false_matches or plan or near or device != "auto" or similarity == AUTO:
            raise typer.BadParameter(
                "a store has its own model, and its files may be elsewhere: --model, --device, "
                f"--false-matches, --similarity {AUTO}, --plan and --near are for files"
            )
        require_engine(engine, workers)
        find_in_store(path, similarity, band, recall, keep, wanted, json)
        return
    if any(each is not None for each in wanted):
        raise typer.BadParameter("--engine, --workers and --out are for a store as PATH")
    if plan is not None:
        _check_plan(path, plan)
    elif near:
        raise typer.BadParameter("--near says what a plan takes away; give --plan FILE too")
    check_asked(similarity, false_matches)
    started = perf_counter()
    clip, embedded = embed_source(path, model, device, band)
    with progress_bar("comparing", len(embedded.rows)) as advance:
        found = files.find_file_duplicates(
            embedded,
            clip,
            similarity=similarity,
            false_matches=false_matches,
            band=band,
            prefer=keep,
            recall=recall,
            comparing=_steps(advance),
        )

    def show() -> None:
        rows = [
            (
                group.keeper if not place else "",
                member.path,
                member.kind,
                f"{member.similarity:.3f}",
            )
            for group in found.groups
            for place, member in enumerate(group.members)
        ]
        if rows:
            show_table(("keep", "duplicate", "kind", "similarity"), rows)
        groups = f"{len(found.groups)} group{'s' * (len(found.groups) != 1)}"
        say(f"{len(rows)} of {len(embedded.rows)} images are duplicates, in {groups}")
        if found.false_matches is not None:
            reached = f"{one_in(found.false_matches)} pairs of different files"
            say(
                f"similarity {found.similarity:g}, which {reached} reach; copies count among them, "
                "so that where there are many it is too high: find it by `isoclip thresholds` on "
                "images without copies"
            )
        if recall is not None:
            share = "an unknown share" if found.recall is None else f"{found.recall:.1%}"
            say(f"{share} of all pairs was found, measured on a sample")

    seconds = round(perf_counter() - started, 3)
    report(found.to_json() | {"seconds": seconds}, json, show)
    require_images(path, embedded)
    if plan is not None:
        _write_plan(plan, path, found, near)


def _check_plan(path: str, plan: Path) -> None:
    if plan == STDOUT:
        raise typer.BadParameter("a plan is written to a file; name one")
    if path.startswith(DATASET_PREFIX):
        raise IsoClipError(
            f"a plan for {path} has to know its samples; make it of a run of the dataset, by the "
            "operator IsoCLIP: Plan the removal of files, or by plan_file_removal in Python"
        )


def _write_plan(plan: Path, path: str, found: files.FileDuplicates, near: bool) -> None:
    from fiftyone_isoclip.files.removal import media_roots

    named = [name for group in found.groups for name in (group.keeper, *_paths(group))]
    roots = [path] if Path(path).is_dir() else media_roots(named)
    planned = files.plan_removal(found.groups, roots, near=near)
    files.write_plan(plan, planned)
    note_left(planned.skipped)
    size = readable_bytes(planned.n_bytes)
    note(f"wrote {plan}: `isoclip apply {plan}` takes {len(planned.removals)} files away ({size})")


def _paths(group: files.FileGroup) -> list[str]:
    return [member.path for member in group.members]


def _steps(advance: Callable[[int], None]) -> Callable[[int, int], None]:
    """Turn (done, in all) into steps of a bar."""
    before = 0

    def move(done: int, total: int) -> None:
        nonlocal before
        advance(done - before)
        before = done

    return move
