"""Compiling a loaded model and proving that nobody can tell: ``attempt`` is the way in."""
