"""The architectures gossamer knows: one file for each layout."""

from gossamer.errors import UsageError
from gossamer.model.families.gemma2 import GEMMA2
from gossamer.model.families.gemma3 import GEMMA3, GEMMA3_MULTIMODAL
from gossamer.model.families.gpt2 import GPT2
from gossamer.model.families.gpt_neo import GPT_NEO
from gossamer.model.families.gpt_neox import GPT_NEOX
from gossamer.model.families.gptj import GPTJ
from gossamer.model.families.llama import GRANITE, LLAMA, PHI3, STABLELM
from gossamer.model.families.parallel import COHERE2, PHI
from gossamer.model.families.post_norm import GLM4, OLMO2
from gossamer.model.family import Family

FAMILIES = (
    GPT2,
    GPT_NEO,
    GPT_NEOX,
    GPTJ,
    LLAMA,
    PHI3,
    STABLELM,
    GRANITE,
    GEMMA2,
    GEMMA3,
    GEMMA3_MULTIMODAL,
    GLM4,
    OLMO2,
    COHERE2,
    PHI,
)


def rescales(model_name: str | None) -> bool:
    """Whether a model of this name norms or multiplies what its attention and MLP put out before it is added.

    Its modules' outputs are then no sites. Names are compared without punctuation (gemma-2-9b, OLMo-2-1124-7B); Gemma
    3's type names its text model.
    """
    name = "".join(letter for letter in (model_name or "").casefold() if letter.isalnum())
    types = (kind.removesuffix("_text") for family in FAMILIES if family.rescales for kind in family.model_types)
    return any(kind in name for kind in types)


def family_of(model_type: str) -> Family:
    """The family of a configuration's `model_type`.

    Raises:
        UsageError: none of them; the message names those there are and how to add one.
    """
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    known = ", ".join(model_type for family in FAMILIES for model_type in family.model_types)
    raise UsageError(
        f"model type {model_type!r} is unknown: expected one of {known}; to add it, describe its modules in a "
        f"gossamer.model.Family and pass that as family=, or write it into a file and give that as --family"
    )
