"""One group of duplicates as cards side by side, with what tells its members apart."""

from __future__ import annotations

from pathlib import Path

from fiftyone_isoclip.app.panel.page import Page, cosine_text
from fiftyone_isoclip.dataset.groups import APART
from fiftyone_isoclip.dataset.review import GroupToReview, Member

A_ROW = 3
SHOWN = 9


def show_group(page: Page, group: GroupToReview) -> None:
    """Draw the members, and the buttons that judge them."""
    if group.is_apart:
        page.notice("You said that these are no duplicates; later searches leave them apart.")
    if any(member.role == APART for member in group.members):
        page.button("Judge again", "judge_again", number=group.number)
    row = page.row()
    row.button("Keep all: not duplicates", "keep_all", number=group.number, disabled=group.is_apart)
    row.button("Show in the grid", "show_group", number=group.number)
    if group.size > 2:
        page.say(
            "Each is compared with the keeper; the least similar two are at "
            f"{cosine_text(group.least_similarity)}."
        )
    shown = group.members[:SHOWN]
    for start in range(0, len(shown), A_ROW):
        row = page.row()
        for member in shown[start : start + A_ROW]:
            _show_member(row.card(), member, group)
    if group.size > len(shown):
        page.say(f"and {group.size - len(shown)} more: press Show in the grid")


def _show_member(card: Page, member: Member, group: GroupToReview) -> None:
    card.picture(member.path, f"{member.role} of group {group.number}")
    card.say("  \n".join(_facts(member)))
    if member.role == "keeper":
        card.button("Kept", "keep_this", id=member.id, disabled=True, primary=True)
    elif member.role == "alias":
        card.button("Same file as another sample", "keep_this", id=member.id, disabled=True)
    elif not group.is_apart:
        name = Path(member.path).name
        card.button("Keep this one", "keep_this", title=f"Keep {name}", id=member.id)
        if member.role == "duplicate" and group.size > 2:
            title = f"{name} is no duplicate of the others"
            card.button("Not one of them", "keep_apart", title=title, id=member.id)


def _facts(member: Member) -> list[str]:
    """Lines of Markdown: the role first, then what a person compares."""
    name = member.path.rsplit("/", 1)[-1].replace("_", "\\_")
    role, near = member.kind or member.role, ""
    if member.role in ("keeper", APART):
        role = f"**{member.role}**"
    elif member.similarity is not None:
        near = f", similarity {cosine_text(member.similarity)}"
    lines = [f"{role}{near}", name]
    size = "" if member.size is None else f"{member.size[0]} x {member.size[1]}"
    lines.append(", ".join(filter(None, (size, member.weight))) or "the file is not there")
    if member.written is not None:
        lines.append(f"{member.written:%Y-%m-%d %H:%M}")
    labels = [f"{name}: {told}" for name, told in member.labels.items()]
    if labels or member.tags:
        lines.append(", ".join([*labels, *(f"#{tag}" for tag in member.tags)]))
    if member.reason and member.role == "keeper":
        lines.append(f"*kept because {member.reason}*")
    return lines
