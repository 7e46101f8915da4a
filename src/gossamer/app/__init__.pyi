from .exported_page import export_page
from .notebook import AttentionWidget, CircuitWidget, LatentWidget, PromptWidget, RunWidget
from .run_folder import RunFolder
from .server import create_app, serve
from .workbench import Workbench

__all__ = [
    "AttentionWidget",
    "CircuitWidget",
    "LatentWidget",
    "PromptWidget",
    "RunFolder",
    "RunWidget",
    "Workbench",
    "create_app",
    "export_page",
    "serve",
]
