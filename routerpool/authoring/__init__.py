"""For who writes a plugin: a package to begin with, and what is still wrong with it. Nothing that serves imports this.

In: a name and a kind, or an installed plugin. Out: a folder made of `templates/`, or reports with their cures.

`package` begins a plugin, `inspection` reads one without running it, `rehearsal` calls each of its hooks with values as
a router would, and `blocking` hears what holds the loop meanwhile.
"""

from routerpool.authoring.inspection import examine_plugin
from routerpool.authoring.package import Package
from routerpool.authoring.rehearsal import rehearse

__all__ = ["Package", "examine_plugin", "rehearse"]
