from .run_folder import RunFolder
from .server import create_app, serve
from .workbench import Workbench

__all__ = ["RunFolder", "Workbench", "create_app", "serve"]
