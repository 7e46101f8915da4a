"""The schema of the routes as a file, of which the page's TypeScript types are made.

`python -m gossamer.app.openapi` writes it again after a route has changed; a test compares the two.
"""

from pathlib import Path
from typing import Any

from gossamer.app.live import LiveModels
from gossamer.app.page import SOURCES
from gossamer.app.run_folder import RunFolder
from gossamer.app.server import api
from gossamer.app.workbench import Workbench
from gossamer.files import write_json

SCHEMA = SOURCES / "openapi.json"


def openapi() -> dict[str, Any]:
    """The schema as the application has it."""
    # Routes are the same whatever the run holds.
    found = api(Workbench(RunFolder(Path(__file__).parent), LiveModels())).openapi()
    found["info"]["version"] = "1"
    return found


if __name__ == "__main__":
    write_json(SCHEMA, openapi())
