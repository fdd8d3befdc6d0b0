"""``python -m mlship.cli``: the same as ``mlship``, for where the script is not on the path."""

from mlship.cli import main

main.app(prog_name="mlship")
