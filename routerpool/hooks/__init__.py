"""Plugins: found, made, and the one place where their hooks are called."""
