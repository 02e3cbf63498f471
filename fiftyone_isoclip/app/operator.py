"""An operator that shows its steps in the App and returns its result to Python."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from typing import Any, ClassVar

import fiftyone.operators as foo
import fiftyone.operators.types as types

from fiftyone_isoclip.app.forms import REFUSAL, Context, is_from_app, refuse
from fiftyone_isoclip.app.plan_tokens import is_good, mint_token, redeem_token
from fiftyone_isoclip.app.steps import Steps, finish
from fiftyone_isoclip.app.told import tell_error
from fiftyone_isoclip.app.worker import attend
from fiftyone_isoclip.errors import IsoClipError

logger = logging.getLogger(__name__)

PLUGIN = "@isoclip/isoclip"

PANEL = "isoclip"
"""The name of the panel."""

QUIET = "quiet"
"""A parameter with which the panel asks for the work and not for the form of its result."""

TOKEN = "token"  # noqa: S105 (its name, not its value)
"""The parameter of the form's secret, which only the App's own page can read."""


class SteppedOperator(foo.Operator, ABC):
    """Its ``steps`` return what Python callers get; ``reveal`` is what the App does with it.

    What the App asks for must carry the secret of the form, which is good for one use: any web page
    can post to the App's server, and only the App can read its replies. Python callers need none.

    ``name_``, ``label`` and ``description`` are how the App lists it, ``risk`` warns agents.
    """

    name_: ClassVar[str]
    label: ClassVar[str]
    description: ClassVar[str]
    risk: ClassVar[types.RiskLevel] = types.RiskLevel.MEDIUM
    """What it replaces are values of its own, which can be made again, unless it says otherwise."""
    schedulable: ClassVar[bool] = True
    """Whether it does anything where nobody looks at the App."""

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
            allow_delegated_execution=self.schedulable,
            risk_level=self.risk,
        )

    def run(self, samples: Any, params: dict[str, Any], *, delegate: bool) -> Any:
        """Run it from Python on a dataset or view; -> FiftyOne's ExecutionResult."""
        context = {"view": samples.view()}
        return foo.execute_operator(self.uri, context, params=params, request_delegation=delegate)

    @abstractmethod
    def fill_form(self, ctx: Context, inputs: types.Object) -> None:
        """Put the inputs into the form; an error raised here is said in it."""

    @abstractmethod
    def steps(self, ctx: Context) -> Steps[dict[str, Any]]:
        """Do the work; the result must hold JSON values only."""

    @abstractmethod
    def reveal(self, ctx: Context, result: dict[str, Any]) -> Iterator[Any]:
        """Messages that make the App show the result."""

    @abstractmethod
    def describe(self, result: dict[str, Any]) -> types.Object:
        """The form in which the App shows the result."""

    def resolve_input(self, ctx: Context) -> types.Property:
        """The form."""
        inputs = types.Object()
        try:
            self.fill_form(ctx, inputs)
        except Exception as error:
            # Whatever else is raised here the App would show with the server's whole traceback.
            refuse(inputs, tell_error(error, ctx.params, logger))
        return types.Property(inputs, view=types.View(label=self.label))

    def resolve_type(self, ctx: Context, type: str) -> types.Property:
        """What the App draws: the form with its secret, or the result."""
        drawn = super().resolve_type(ctx, type)
        if type == "inputs" and REFUSAL not in drawn.type.properties:
            purpose, held = purpose_of(self.uri, ctx.dataset), ctx.params.get(TOKEN)
            # A form is drawn at every key that is pressed, and keeps the secret it was given first.
            token = held if is_good(held, purpose) else mint_token(purpose)
            drawn.type.str(TOKEN, default=token, view=_unseen())
        return drawn

    def resolve_run_name(self, ctx: Context) -> str:
        """The name of a scheduled run; FiftyOne asks for it when it is about to queue one."""
        if _is_asked_now(ctx):
            redeem_token(ctx.params.pop(TOKEN, None), purpose_of(self.uri, ctx.dataset))
        return self.label

    def execute(self, ctx: Context) -> Any:
        """Stream steps to the App; do the same work at once for Python and delegated runs."""
        # FiftyOne drops what a generator returns.
        return self._stream(ctx) if _is_asked_now(ctx) else self._finish(ctx)

    def resolve_output(self, ctx: Context) -> types.Property:
        """How the App lists the result of a delegated run."""
        return types.Property(self.describe(ctx.results or {}))

    def _finish(self, ctx: Context) -> dict[str, Any]:
        if ctx._delegated_operation_id is None:
            return finish(self.steps(ctx), lambda _: None)
        with attend(ctx._delegated_operation_id) as tell:
            try:
                return finish(self.steps(ctx), tell)
            except Exception as error:
                # FiftyOne keeps the whole traceback; its last line is what the App can tell.
                told = tell_error(error, ctx.params, logger, "what its worker printed")
                raise IsoClipError(" ".join(told.split())) from None

    def _stream(self, ctx: Context) -> Generator[Any, None, None]:
        try:
            redeem_token(ctx.params.get(TOKEN), purpose_of(self.uri, ctx.dataset))
            result = yield from self._show_steps(ctx)
            yield from self.reveal(ctx, result)
            if not ctx.params.get(QUIET):
                form = types.Property(self.describe(result), view=types.View(label=self.label))
                yield ctx.ops.show_output(form.to_json(), result)
        except Exception as error:
            # Whatever is raised here would only break off the stream: the App shows nothing.
            yield from _show_error(ctx, tell_error(error, ctx.params, logger))

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


def purpose_of(uri: str, dataset: Any) -> str:
    """What the secret of a form is good for: this operator on this dataset, whatever its name."""
    return f"{uri} {dataset and dataset._doc.id}"


def _unseen() -> types.View:
    # Beware: the App sends no default of its own HiddenView.
    return types.TextFieldView(componentsProps={"container": {"sx": {"display": "none"}}})


def _is_asked_now(ctx: Context) -> bool:
    """Whether the App's server was asked just now, and not Python or a delegated run's worker."""
    # Beware: a request can claim to be delegated; only the worker knows the operation's id.
    return is_from_app(ctx) and ctx._delegated_operation_id is None


def _show_error(ctx: Context, sentence: str) -> Iterator[Any]:
    outputs = types.Object()
    outputs.str("error", label="Nothing more was done", view=types.Error(label=sentence))
    yield ctx.ops.notify(sentence, variant="error")
    yield ctx.ops.show_output(types.Property(outputs).to_json(), {"error": sentence})
