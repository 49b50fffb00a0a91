"""The release, one for the core and every package in this repository."""

VERSION = "0.1.0"
