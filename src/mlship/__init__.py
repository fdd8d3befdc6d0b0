"""mlship: model serving as a control loop. Public: the command line, the control API and ``mlship.client``."""

__version__ = "0.1.0"
