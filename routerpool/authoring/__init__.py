"""For who writes a plugin: a package to begin with, and what is still wrong with it."""
