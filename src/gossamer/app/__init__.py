"""The workbench: what a run folder holds, in a browser on this machine (`gossamer view RUN`)."""

from gossamer.app.run_folder import RunFolder
from gossamer.app.server import create_app, serve
from gossamer.app.workbench import Workbench

__all__ = ["RunFolder", "Workbench", "create_app", "serve"]
