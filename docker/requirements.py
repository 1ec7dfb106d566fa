"""Print what mdiff depends on, and what its extras named as arguments do, one requirement a line, without mdiff itself.

An image installs these before it copies the sources, so that their layer lasts until pyproject.toml changes.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
groups = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in sys.argv[1:])]
print(*(line for group in groups for line in group if not line.startswith(f"{project['name']}[")), sep="\n")
