"""mlship: model serving as a control loop. The public face is the command line, the control API and ``mlship.client``."""

__version__ = "0.1.0"
