"""Where a CLIP tower keeps its final linear map, and how to take it out of the tower."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from fiftyone_isoclip.errors import CheckpointError
from fiftyone_isoclip.projector import Head

_IMAGE_PATHS = (
    "visual.proj",
    "visual.attnpool.c_proj",
    "visual.head.proj",
    "visual.head.mlp.fc2",
    "visual.trunk.head.fc",
    "visual.trunk.head",
)
_TEXT_PATHS = ("text_projection", "text.text_projection", "text.proj")
_FUNCTIONAL = "visual.attnpool.c_proj"
"""Attention pooling reads this layer's weight and bias and never calls it: no hook would fire."""


@dataclass(frozen=True, slots=True)
class HeadLocation:
    """Where one tower of an open_clip model keeps its final linear map.

    ``kind`` is how the map is written down:

    - ``"parameter"``: a bare matrix of shape (in, r), applied as ``z @ matrix``;
    - ``"linear"``: a layer with a weight of shape (r, in) and perhaps a bias;
    - ``"functional"``: such a layer whose numbers are read but which is never called;
    - ``"identity"``: the tower ends without a linear map, so that A = I is the exact choice.

    ``path`` is the dotted name inside the model, empty for an identity.
    """

    kind: Literal["parameter", "linear", "functional", "identity"]
    path: str = ""


def locate_image_head(model: nn.Module) -> HeadLocation:
    """Find the last linear map of the image tower.

    Raises:
        CheckpointError: the tower ends in a way this package does not know.
    """
    return _first_map(model, _IMAGE_PATHS) or _identity(model, _ends_in_pooling(model), "image")


def locate_text_head(model: nn.Module) -> HeadLocation:
    """Find the last linear map of the text tower.

    Raises:
        CheckpointError: the tower ends in a way this package does not know.
    """
    return _first_map(model, _TEXT_PATHS) or _identity(model, _text_is_unprojected(model), "text")


def take_head(model: nn.Module, location: HeadLocation) -> Head | None:
    """Copy a head in float64 and take it out: the tower then gives z, the feature before it.

    None for an identity, where the tower gives z already. A bare (in, r) matrix comes back
    transposed, as the (r, in) weight of ``e = weight z``.
    """
    if location.kind == "identity":
        return None
    found = _at(model, location.path)
    parent, _, name = location.path.rpartition(".")
    owner = model.get_submodule(parent)
    if isinstance(found, nn.Parameter):
        setattr(owner, name, None)
        return Head(_numbers(found).T.copy())
    setattr(owner, name, _stand_in(found, location))
    return Head(_numbers(found.weight), None if found.bias is None else _numbers(found.bias))


def _first_map(model: nn.Module, paths: tuple[str, ...]) -> HeadLocation | None:
    for path in paths:
        found = _at(model, path)
        if isinstance(found, nn.Sequential) and len(found) > 0:
            path, found = f"{path}.{len(found) - 1}", found[-1]
        if isinstance(found, nn.Parameter):
            return HeadLocation("parameter", path)
        if isinstance(found, nn.Linear):
            return HeadLocation("functional" if path == _FUNCTIONAL else "linear", path)
    return None


def _at(model: nn.Module, path: str) -> Any:
    found: Any = model
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def _identity(model: nn.Module, is_identity: bool, tower: str) -> HeadLocation:
    if is_identity:
        return HeadLocation("identity")
    raise CheckpointError(
        f"the {tower} tower of this {type(model).__name__} ends in a way that is not known here; "
        "use a model whose last step is a linear map or, as SigLIP's, an attention pool"
    )


def _ends_in_pooling(model: nn.Module) -> bool:
    """Whether a timm tower has neither a projection nor a classifier after its pool (SigLIP)."""
    trunk, after = _at(model, "visual.trunk"), _at(model, "visual.head")
    if trunk is None or after is None or len(after) > 0:
        return False
    return isinstance(trunk.get_classifier(), nn.Identity)


def _text_is_unprojected(model: nn.Module) -> bool:
    tower = getattr(model, "text", model)
    if isinstance(getattr(tower, "proj", None), nn.Identity):
        return True
    return hasattr(tower, "text_projection") and tower.text_projection is None


def _stand_in(layer: nn.Linear, location: HeadLocation) -> nn.Module | None:
    """What changes nothing in a layer's place, in the form its reader accepts."""
    if location.path.endswith("text_projection"):
        return None
    if location.kind == "linear":
        return nn.Identity()
    unit = nn.Linear(layer.in_features, layer.in_features, device=layer.weight.device)
    with torch.no_grad():
        unit.weight.copy_(torch.eye(layer.in_features))
        unit.bias.zero_()
    return unit.to(layer.weight.dtype)


def _numbers(tensor: torch.Tensor) -> Any:
    return tensor.detach().cpu().double().numpy()
