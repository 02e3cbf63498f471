"""`python -m fiftyone_isoclip.cli` is `isoclip`."""

from fiftyone_isoclip.cli import main

main()
