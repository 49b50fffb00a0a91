"""The release: one for the core and every package in this repository."""

__version__ = "0.1.0"
