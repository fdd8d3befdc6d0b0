"""The benchmarks are no part of the installed package: they are found from the root of the repository."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[3]))
