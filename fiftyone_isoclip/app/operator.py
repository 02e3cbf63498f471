"""An operator that shows its steps in the App and returns its result to Python."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from typing import Any, ClassVar

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_isoclip.app.steps import Step, Steps, finish
from fiftyone_isoclip.errors import IsoClipError

logger = logging.getLogger(__name__)

PANEL = "isoclip"
"""The name of the panel."""

QUIET = "quiet"
"""A parameter with which the panel asks for the work and not for the form of its result."""

Context = Any
"""A fiftyone.operators.ExecutionContext; FiftyOne ships no types."""


class SteppedOperator(foo.Operator, ABC):
    """Its ``steps`` return what Python callers get; ``reveal`` is what the App does with it.

    ``name_``, ``label`` and ``description`` are how the App lists it, ``risk`` warns agents.
    """

    name_: ClassVar[str]
    label: ClassVar[str]
    description: ClassVar[str]
    risk: ClassVar[types.RiskLevel] = types.RiskLevel.MEDIUM
    """What it replaces are values of its own, which can be made again, unless it says otherwise."""

    @property
    def config(self) -> foo.OperatorConfig:
        """How the App lists and runs the operator."""
        return foo.OperatorConfig(
            name=self.name_,
            label=self.label,
            description=self.description,
            icon="/assets/icon-light.svg",
            light_icon="/assets/icon-light.svg",
            dark_icon="/assets/icon-dark.svg",
            dynamic=True,
            execute_as_generator=True,
            allow_delegated_execution=True,
            risk_level=self.risk,
        )

    def run(self, samples: Any, params: dict[str, Any], *, delegate: bool) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        context = {"view": samples.view()}
        return foo.execute_operator(self.uri, context, params=params, request_delegation=delegate)

    @abstractmethod
    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Do the work; the result must hold JSON values only."""

    @abstractmethod
    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Messages that make the App show the result."""

    @abstractmethod
    def describe(self, result: dict[str, Any]) -> types.Object:
        """The form in which the App shows the result."""

    def execute(self, ctx: Context) -> Any:
        """Stream steps to the App; do the same work at once for Python and delegated runs."""
        # FiftyOne drops what a generator returns, and only the App's requests name the operator.
        if "operator_uri" in ctx.request_params and not ctx.delegated:
            return self._stream(ctx)
        return self._finish(ctx)

    def resolve_output(self, ctx: Context) -> types.Property:
        """How the App lists the result of a delegated run."""
        return types.Property(self.describe(ctx.results or {}))

    def _finish(self, ctx: Context) -> dict[str, Any]:
        def tell(step: Step) -> None:
            if ctx.delegated:
                ctx.set_progress(progress=step.share, label=step.label)

        return finish(self.steps(ctx), tell)

    def _stream(self, ctx: Context) -> Generator[Any, None, None]:
        try:
            result = yield from self._show_steps(ctx)
            yield from self.reveal(ctx, result)
            if not ctx.params.get(QUIET):
                form = types.Property(self.describe(result), view=types.View(label=self.label))
                yield ctx.ops.show_output(form.to_json(), result)
        except IsoClipError as error:
            yield from _show_error(ctx, str(error))
        except Exception as error:
            # Whatever else is raised here would only break off the stream: the App shows nothing.
            logger.exception("%s failed", self.uri)
            told = f"{type(error).__name__}: {error} (the App server's log has the details)"
            yield from _show_error(ctx, told)

    def _show_steps(self, ctx: Context) -> Generator[Any, None, dict[str, Any]]:
        steps = self.steps(ctx)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                result: dict[str, Any] = end.value
                return result
            if not ctx.params.get(QUIET):  # its box would stay open until somebody closes it
                yield ctx.ops.set_progress(label=step.label, progress=step.share)


def _show_error(ctx: Context, sentence: str) -> Iterator[Any]:
    outputs = types.Object()
    outputs.str("error", label="Nothing more was done", view=types.Error(label=sentence))
    yield ctx.ops.notify(sentence, variant="error")
    yield ctx.ops.show_output(types.Property(outputs).to_json(), {"error": sentence})
