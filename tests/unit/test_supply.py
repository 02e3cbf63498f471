"""What our sources may not do: unpickle, guess a picture's format, or load what could run code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "fiftyone_isoclip"

UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}

# Opens a picture of any format: only where the formats are named or the bytes are our own.
PICTURES_OPENED_IN = {"encoder/images.py", "encoder/apart.py", "files/edits.py"}

REQUIRED = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
FORBIDDEN = {"yaml.load", "yaml.unsafe_load", "torch.jit.load", "eval", "exec", "os.system"}


def offences(source: str, module: str = "a.py") -> list[str]:
    """What a module does that it may not, as it is written there."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names]
            found += [name for name in names if name.split(".")[0] in UNPICKLING]
        if isinstance(node, ast.Call):
            found += _offences_of_call(node, module)
    return found


def _offences_of_call(call: ast.Call, module: str) -> list[str]:
    called = ast.unparse(call.func)
    given = {word.arg: word.value for word in call.keywords}
    if called in FORBIDDEN:
        return [called]
    if called in ("Image.open", "PIL.Image.open"):
        return [] if module in PICTURES_OPENED_IN and "formats" in given else [called]
    if called in REQUIRED:
        name, value = REQUIRED[called]
        said = given.get(name)
        return [] if isinstance(said, ast.Constant) and said.value is value else [called]
    if any(
        isinstance(v, ast.Constant) and v.value is True for k, v in given.items() if k == "shell"
    ):
        return [f"{called}(shell=True)"]
    return []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_nothing_is_unpickled_and_no_format_guessed(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8"), str(path.relative_to(PACKAGE))) == []


@pytest.mark.parametrize(
    ("source", "offence"),
    [
        ("import pickle", "pickle"),
        ("from joblib import load", "joblib"),
        ("def late():\n    import cloudpickle.cloudpickle", "cloudpickle.cloudpickle"),
        ("torch.load(path)", "torch.load"),
        ("torch.load(path, weights_only=False)", "torch.load"),
        ("np.load(path)", "np.load"),
        ("np.load(path, allow_pickle=allowed)", "np.load"),
        ("with Image.open(path, formats=FORMATS) as image: pass", "Image.open"),
        ("yaml.load(text)", "yaml.load"),
        ("subprocess.run(command, shell=True)", "subprocess.run(shell=True)"),
    ],
)
def test_the_rules_can_bark(source: str, offence: str) -> None:
    assert offences(source) == [offence]


def test_the_rules_let_through_what_is_safe() -> None:
    safe = "torch.load(p, weights_only=True)\nnp.load(p, allow_pickle=False)\nfile.open('rb')"
    assert offences(safe) == []
    assert offences("Image.open(file, formats=FORMATS)", "encoder/images.py") == []
    assert offences("Image.open(file)", "encoder/images.py") == ["Image.open"]
