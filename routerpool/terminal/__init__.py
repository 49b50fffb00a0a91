"""What people see on a terminal: documents as tables, numbers as people read them, a start, and requests as they pass.

In: the JSON documents that routes and commands answer with, and usage records. Out: lines of text.

`tables` shows documents, `units` are the forms of numbers, `banner` is what a start shows, and `console` what a server
does, one line a request. Nothing here asks anybody anything.
"""

from routerpool.terminal.tables import explained, printable, table
from routerpool.terminal.units import amount, duration, money

__all__ = ["amount", "duration", "explained", "money", "printable", "table"]
