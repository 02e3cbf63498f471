"""The documents name only files that exist, and every page of the decisions is a decision."""

from __future__ import annotations

import re
import runpy

import pytest

PATH = re.compile(r"`((?:fiftyone_isoclip|tests|scripts|benchmarks|docs)/[\w./-]+|fiftyone\.yml)`")
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/evidence.md",
    "docs/reliability.md",
    "docs/scale.md",
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_a_document_names_only_files_that_exist(repo_root, document):
    page = repo_root / document
    text = page.read_text(encoding="utf-8")
    named = {repo_root / path for path in PATH.findall(text)}
    linked = {page.parent / path for path in LINK.findall(text)}
    assert [str(path) for path in named | linked if not path.exists()] == []


def test_the_architecture_names_many_files(repo_root):
    text = (repo_root / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert len(set(PATH.findall(text))) > 15


def test_every_floor_is_described(repo_root):
    text = (repo_root / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = repo_root / "fiftyone_isoclip"
    floors = [p for p in package.iterdir() if (p / "__init__.py").exists()]
    assert [p.name for p in floors if f"`fiftyone_isoclip/{p.name}/`" not in text] == []


def test_the_table_of_measurements_is_made_from_the_results(repo_root):
    script = runpy.run_path(str(repo_root / "scripts" / "write_benchmark_table.py"))
    text = (repo_root / "README.md").read_text(encoding="utf-8")
    assert script["with_table"](text, repo_root / "benchmarks" / "results") == text
    assert text.count("exact near-duplicates") > 3


def test_the_evidence_is_made_from_the_results(repo_root):
    script = runpy.run_path(str(repo_root / "scripts" / "write_evidence.py"))
    text = (repo_root / "docs" / "evidence.md").read_text(encoding="utf-8")
    assert script["with_parts"](text, repo_root / "benchmarks" / "results") == text
    assert text.count("self-trained demo weights, which say nothing about published") > 5


def test_every_fault_links_to_tests_that_exist(repo_root):
    text = (repo_root / "docs" / "reliability.md").read_text()
    rows = dict(re.findall(r"^\| F(\d\d) \|.*\|(.*)\|$", text, re.MULTILINE))
    assert sorted(rows) == [f"{number:02d}" for number in range(1, 23)]
    for number, proofs in rows.items():
        links = re.findall(r"\[(test_\w+)\]\(\.\./(tests/faults/\w+\.py)\)", proofs)
        assert links
        for test, file in links:
            assert test.startswith(f"test_f{number}_")
            assert f"def {test}(" in (repo_root / file).read_text(), test
