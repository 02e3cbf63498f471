"""docs/scale.md says what was measured, and its estimates follow from that."""

from __future__ import annotations

import json
import re
import runpy
import shlex

import pytest
import typer

from fiftyone_isoclip.cli.commands import app

SIZES = (1e6, 1e8, 1e9)
BYTES = {"MB": 1e6, "GB": 1e9, "TB": 1e12}
LAUNCHED = ("cluster.yaml", "own-machines.yaml")


@pytest.fixture(scope="module")
def page(repo_root):
    return (repo_root / "docs" / "scale.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def results(repo_root):
    files = (repo_root / "benchmarks" / "results").glob("*.json")
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}


def rows_of(page, mark):
    """The table between two marks: the first cell of each row -> the others."""
    table = page.split(f"<!-- {mark} -->\n")[1].split(f"<!-- end of {mark} -->")[0]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines()[2:]]
    return {first: rest for first, *rest in lines}


def number(cell):
    """What a cell says, in bytes where it says bytes."""
    figure, _, unit = cell.replace(" (measured)", "").partition(" ")
    return float(figure.replace(",", "")) * BYTES.get(unit, 1)


def test_the_tables_are_made_from_the_results(repo_root, page):
    script = runpy.run_path(str(repo_root / "scripts" / "write_cost_model.py"))
    assert script["with_tables"](page, repo_root / "benchmarks" / "results") == page
    assert len(rows_of(page, "cost-model")) > 15


@pytest.mark.parametrize(
    ("what", "each"),
    [
        ("vectors, 512 float32", 512 * 4),
        ("vectors, 312 float32", 312 * 4),
        ("vectors, 312 float16", 312 * 2),
        ("vectors, PQ 78", 78),
        ("pictures to read", 100_000),
    ],
)
def test_bytes_are_those_of_so_many_numbers(page, what, each):
    told = [number(cell) for cell in rows_of(page, "cost-model")[what][:3]]
    assert told == pytest.approx([n * each for n in SIZES], rel=0.005)


def test_hours_on_a_gpu_are_those_of_its_tower_or_of_the_cores_beside_it(page, results):
    milliseconds = results["embedding"]["results"]["file_to_pixels"]["640x480"]["milliseconds"]
    decoded = 8 * 1000 / milliseconds["exact"]
    for name, operations in results["scale"]["results"]["operations_an_image"].items():
        towered = 0.3 * 121e12 / operations
        told = [number(cell) for cell in rows_of(page, "cost-model")[f"GPU-hours, {name}"][:3]]
        assert told == pytest.approx([n / min(decoded, towered) / 3600 for n in SIZES], rel=0.06)


def test_operations_are_those_of_the_towers(results):
    """Layers of 12 w^2 weights over the tokens, two for a product and a sum; attention is more."""
    shapes = {"ViT-B-32": (12, 768, 50), "ViT-B-16": (12, 768, 197), "ViT-L-14": (24, 1024, 257)}
    for name, (layers, width, tokens) in shapes.items():
        weights = 2 * layers * 12 * width**2 * tokens
        attention = 2 * layers * 2 * tokens**2 * width
        counted = results["scale"]["results"]["operations_an_image"][name]
        assert counted == pytest.approx(weights + attention, rel=0.03)


def test_growth_is_that_of_the_work_from_what_a_million_took(page, results):
    growth, search = results["growth"]["results"], results["search"]["results"]
    hours = growth["1000000"]["exact"]["wall_seconds"] / 3600
    once = search["1000000 vectors"]["ms_a_search"]["faiss_flat"]
    rows = rows_of(page, "cost-model")
    pairs = rows["hours for every pair, 2 cores, 262 numbers"]
    flat = rows["ms a search, every vector scored, 272 numbers"]
    for cells, each in (
        (pairs, [hours, 1e4 * hours, 1e6 * hours]),
        (flat, [once, 1e2 * once, 1e3 * once]),
    ):
        assert cells[0].endswith("(measured)")
        assert [number(cell) for cell in cells[:3]] == pytest.approx(each, rel=0.06)


def test_every_estimate_stands_beside_its_formula(page):
    for row in [*rows_of(page, "cost-model").values(), *rows_of(page, "ends").values()]:
        assert re.fullmatch(r"`[\w\s.*/+(),]+`", row[-1]), row


def test_what_is_said_in_words_was_measured(page, results):
    ends = {what: number(row[1]) for what, row in rows_of(page, "ends").items()}
    assert "one GPU moves that end further\nthan a hundred such machines without one" in page
    assert ends["embedding, ViT-B-32, one GPU"] > 100 * ends["embedding, ViT-B-32, 2 cores"]
    kept = results["compression"]["results"]
    assert "loses\nless than one neighbour in a thousand" in page
    assert kept["312 float16"]["recall_at_10"] > 0.999
    assert "0.30 of the bytes" in page
    assert round(kept["312 float16"]["bytes"] / kept["512 float32"]["bytes"], 2) == 0.30
    assert (
        kept["own codes"]["recall_at_10"]
        < 0.9
        < kept["own codes"]["recall_at_10_scored_again"]["100"]
    )
    found = results["store_duplicates"]["results"]
    assert "faster with every pair" in page
    spent = [way["seconds"] for way in [*found["local_by_cells"], found["ray_chosen"]]]
    assert found["exact_in_memory_seconds"] < min(spent)
    ray = results["shards"]["results"]
    first = ray["seconds_to_the_first_shard"]
    assert "1.04 times the time of an image and ten seconds more" in page
    assert results["shards"]["rows"][0]["measured"] == "1.04 x"
    assert round(first["ray"] - first["local"]) == 10


@pytest.mark.parametrize("file", LAUNCHED)
def test_rays_launcher_takes_the_files(repo_root, file):
    pytest.importorskip("ray", reason="Ray is an extra")
    yaml = pytest.importorskip("yaml")
    from ray.autoscaler._private.util import prepare_config, validate_config

    written = yaml.safe_load((repo_root / "docs" / "scale" / file).read_text(encoding="utf-8"))
    prepared = prepare_config(written)
    validate_config(prepared)
    with pytest.raises(Exception, match="Additional properties"):
        validate_config(prepared | {"max_worker": 4})
    workers = [node["min_workers"] for node in prepared["available_node_types"].values()]
    assert sum(workers) == prepared["max_workers"] > 1  # all there before a run begins


@pytest.mark.parametrize("file", LAUNCHED)
def test_the_files_ask_for_a_token_and_the_ray_that_was_tested(repo_root, file):
    text = (repo_root / "docs" / "scale" / file).read_text(encoding="utf-8")
    assert "~/.ray/auth_token: ~/.ray/auth_token" in text
    assert "RAY_AUTH_MODE=token" in text
    tested = re.search(r"^ray==([\d.]+)", (repo_root / "constraints.txt").read_text(), re.MULTILINE)
    assert f"'ray[default]=={tested[1]}'" in text


def test_the_commands_for_many_machines_are_commands_of_ours(page):
    commands = typer.main.get_command(app).commands
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    found = re.findall(r"(?<=[ '])isoclip ([^'>\n]+)", "".join(blocks))
    assert len(found) >= 3
    for line in found:
        name, *arguments = shlex.split(line)
        commands[name].make_context(name, arguments)  # reads the options and runs nothing
