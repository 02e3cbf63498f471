"""The command line: `isoclip` and its sub-commands."""

from __future__ import annotations


def main() -> None:
    """Run `isoclip`: exit code 0 is success, 1 a mistake or nothing done, 2 wrong usage.

    Ctrl-C ends it quietly with 130.
    """
    try:
        # Imported here so that Ctrl-C is as quiet while Python still loads the sub-commands.
        from fiftyone_isoclip.cli.commands import app
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    app(prog_name="isoclip")
