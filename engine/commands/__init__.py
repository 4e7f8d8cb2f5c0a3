"""What the slimscope command can do, one file for each.

A command is a pair of functions: `add` declares its options, `run` returns what it says as JSON-ready data
and as text.
"""

from typing import Any

Said = tuple[Any, str]
