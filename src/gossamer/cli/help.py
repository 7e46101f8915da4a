"""How the help of commands reads: options in panels by what they are about, paragraphs as wide as the terminal."""

from typing import Any

from typer.core import TyperCommand

# A command of fewer options has them in one list.
_FEW = 9
# Parameters of commands by panel, in the order in which panels are shown.
PANELS = {
    "Model and dictionaries": (
        *("model", "dictionaries", "fact", "allow_other_model", "other_model", "family", "device", "dtype"),
    ),
    "Task and prompts": (
        *("task", "tasks", "prompts", "prompt_share", "metric", "bos", "roles", "length", "split_by", "validation"),
        *(
            "minimum_accuracy",
            "unseen_templates",
            "prompt",
            "answer",
            "wrong",
            "latent",
            "position",
            "templates",
            "connectives",
        ),
    ),
    "Text": (
        *("text", "text_key", "held_out", "rows", "text_rows", "context", "include_bos", "leave_out_special"),
        *("leave_out_louder", "positions", "neutral"),
    ),
    "Search": (
        *("faithfulness", "share", "size", "recipe", "loss", "steps", "ablation", "errors", "error_nodes", "masks"),
        *("budget", "searches", "worst_case"),
    ),
    "Tests and report": (
        *("compare", "reruns", "edges", "qk", "families", "control", "control_dictionaries", "other", "store"),
    ),
    "Dictionaries to train": (
        *("layers", "sites", "sites_out", "site", "objective", "n_latents", "k", "penalty", "l0", "seeds"),
        *("encoder_scale", "latents", "coefficients", "variant", "formats"),
    ),
    "Training": (
        *("tokens", "batch", "accumulate", "learning_rate", "autocast", "buffer", "sensitivity"),
        *("sensitivity_rows", "cache", "metrics"),
    ),
    "Fine-tuning": ("finetune_tokens", "end_to_end", "source", "similar_words", "finetune_k", "finetune_learning_rate"),
    "Features": ("feature", "features", "kind", "unit"),
    "Concept": ("words", "positive", "negative", "prefix", "effects", "effects_folder", "act_add", "pairs"),
    "Ways and scores": (
        *("by", "score", "method", "texts", "simulate", "scored", "items", "random_weights", "keep", "neuronpedia"),
    ),
    "Writing": ("samples",),
    "Language model": (
        *("endpoint", "judge", "local", "features_model", "reader", "embedder", "embedding_endpoint"),
        *("structured", "concurrency", "price", "max_cost"),
    ),
    "What counts": (
        *("pair", "absolute", "relative", "top", "least", "measure", "threshold", "thresholds", "null", "ablate"),
        *("skip", "error_rows", "gate_rows", "causal_rows", "per_bin", "words", "neighbours"),
    ),
    "Gates and communities": ("gates", "gate_inputs", "confirm_gates", "communities"),
    "What is asked": (
        *("sql", "relations", "tokens_of", "latents_at", "token", "word", "explanation", "density", "maximum"),
        *("active", "limit"),
    ),
    "What is shown": ("nodes", "check", "picture", "rounds", "page", "name", "board"),
    "The page": ("port", "browser", "allow_host", "player", "export"),
    "What is written": ("format", "view", "model_id", "set_name"),
    "Run": (
        *("only", "block_rows", "batch_size", "repair", "engine", "workers", "seed", "save", "output", "as_json"),
        "help",
    ),
}
# Parameters that mean another thing in one command.
_MEANT = {
    ("adversarial", "held_out"): "Search",
    ("evaluate", "errors"): "Task and prompts",
    ("explain", "by"): "Ways and scores",
    ("explain", "length"): "Text",
    ("explain", "model"): "Language model",
    ("explain", "site"): "Features",
    ("explain", "tokens"): "Text",
    ("explore", "latents"): "What is shown",
    ("explore", "store"): "What is shown",
    ("export", "latents"): "What is written",
    ("export", "prompt"): "What is written",
    ("game", "model"): "Language model",
    ("game", "site"): "Features",
    ("ioi", "layers"): "What counts",
    ("pursuit", "bos"): "Text",
    ("pursuit", "k"): "Ways and scores",
    ("pursuit", "site"): "Model and dictionaries",
    ("query", "feature"): "What is asked",
    ("query", "site"): "What is asked",
    ("relate", "errors"): "What counts",
    ("relate", "other"): "Model and dictionaries",
    ("relate", "store"): "Run",
    ("relations", "store"): "Run",
    ("steer", "coefficients"): "Features",
    ("steer", "prompt"): "Writing",
    ("steer", "site"): "Features",
    ("steer", "tokens"): "Writing",
    ("steer", "words"): "Concept",
    ("view", "endpoint"): "The page",
    ("view", "model"): "The page",
    ("train", "bos"): "Text",
    ("train", "control"): "Training",
    ("train", "prompt_share"): "Fine-tuning",
    ("train", "prompts"): "Fine-tuning",
    ("train", "split_by"): "Fine-tuning",
    ("train", "tasks"): "Fine-tuning",
    ("train", "thresholds"): "Fine-tuning",
    ("build", "bos"): "Text",
}
# Of options that no table names.
_MORE = "More"
_PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names}
EXAMPLE = "Example"


class Command(TyperCommand):
    """A command whose help has its options in panels, where there are many."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.help = "\n\n".join(map(_reflowed, (self.help or "").split("\n\n")))

    def get_params(self, ctx: Any) -> list[Any]:
        found: list[Any] = super().get_params(ctx)
        options = [one for one in found if one.param_type_name == "option"]
        if len(options) <= _FEW:
            return found
        for one in options:
            one.rich_help_panel = _MEANT.get((str(self.name), one.name)) or _PANEL_OF.get(one.name, _MORE)
        order = [*PANELS, _MORE]
        options.sort(key=lambda one: order.index(one.rich_help_panel))
        return [*(one for one in found if one.param_type_name != "option"), *options]


def _reflowed(paragraph: str) -> str:
    """A docstring's paragraph without its line breaks; lines of an example stay."""
    return paragraph if paragraph.strip().startswith(EXAMPLE) else " ".join(paragraph.split())
