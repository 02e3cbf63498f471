"""The audit of versions: what it makes of answers, and of none."""

from __future__ import annotations

import json

import pytest

from scripts.audit_versions import Verdict, judge

SOUND = {"name": "a", "version": "1", "vulns": []}
WEAK = {
    "name": "b",
    "version": "2",
    "vulns": [{"id": "CVE-1", "fix_versions": ["2.1"]}, {"id": "CVE-2", "fix_versions": []}],
}
UNKNOWN = {"name": "c", "skip_reason": "it is not known there"}


def test_what_is_known_and_what_is_not() -> None:
    found = judge(json.dumps({"dependencies": [SOUND, WEAK, UNKNOWN], "fixes": []}))
    assert found == Verdict(
        True,
        ("b 2: CVE-1, mended in 2.1", "b 2: CVE-2, mended in no version yet"),
        ("c: it is not known there",),
    )


@pytest.mark.parametrize("answer", ["", "Traceback ...", "[]", "{}", '{"error": 1}'])
def test_no_answer_is_not_taken_for_a_good_one(answer: str) -> None:
    assert judge(answer) == Verdict(False)
