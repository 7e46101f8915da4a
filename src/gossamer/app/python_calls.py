"""Calls that give in Python what a page shows, and the command that makes what it lacks."""

import shlex

from gossamer.app.latent_list import Asked
from gossamer.app.run_folder import Part
from gossamer.app.schema.latents import SourceRequest
from gossamer.app.sets import FoundSet, dictionary_source
from gossamer.app.workbench import Workbench
from gossamer.errors import GossamerError


def loading(bench: Workbench, found: FoundSet) -> str:
    """Lines of Python that load `model` and `dictionaries` as the page has them, and say how texts begin (`bos`)."""
    if found.circuit is not None:
        return (
            "from gossamer.circuits.evaluate.rerun import restore_circuit\n\n"
            f"study = restore_circuit({str(found.part.path)!r}).study\n"
            "model, dictionaries, bos = study.model, study.dictionaries, study.task.bos or None"
        )
    try:
        inputs = bench.inputs(found.part.id)
    except GossamerError:  # it names no model: the page says so
        return (
            f"from gossamer import DictionarySet\n\ndictionaries = DictionarySet.load({str(found.part.path.parent)!r})"
        )
    dtype = f", dtype=torch.{inputs.model.dtype}" if inputs.model.dtype else ""
    return (
        f"{'import torch' + chr(10) if dtype else ''}from gossamer import DictionarySet, LanguageModel\n\n"
        f"model = LanguageModel.load({inputs.source!r}{dtype})\n"
        f"dictionaries, bos = DictionarySet.load({str(found.part.path.parent)!r}), {inputs.bos!r}"
    )


def store_command(bench: Workbench, found: FoundSet) -> str:
    """The command that builds a feature store of a set in the folder of the run; TEXT is the reader's to fill in."""
    try:
        model = bench.inputs(found.part.id).source
    except GossamerError:
        model = "MODEL"
    if found.circuit is None:
        sources = [str(found.part.path.parent)]
    else:
        sources = [dictionary_source(found, str(site)) or "DICTIONARY" for site in found.shapes]
    words = ["gossamer", "store", "build", model, str(bench.run.path / "store")]
    for source in sources:
        words += ["-d", source]
    return shlex.join([*words, "--text", "TEXT"])


def listing(bench: Workbench, found: FoundSet, asked: Asked, store: Part | None) -> str:
    """The call that gives a list of latents: of a store its table, else the words of the weights."""
    if store is not None:
        order = {"density": "density DESC", "max": "maximum DESC", "name": "latent"}[asked.sort]
        where = f"site = '{asked.site}' AND density >= {asked.min_density}"
        query = f"SELECT latent, density, active, maximum FROM statistics WHERE {where} ORDER BY {order}"
        return (
            "from gossamer.store import FeatureStore\n\n"
            f"with FeatureStore({str(store.path.parent)!r}) as store:\n"
            f"    print(store.sql({query!r}, limit=None).slice({asked.cursor}, {asked.limit}).to_pandas())"
        )
    latents = f"range({asked.cursor}, min({asked.cursor + asked.limit}, dictionary.n_latents))"
    return (
        f"{loading(bench, found)}\nfrom gossamer.features import logit_lens\n\n"
        f"dictionary = dictionaries[{asked.site!r}]\n"
        f"for latent, words in zip({latents}, logit_lens(model, dictionary, {latents}, words=1)):\n"
        "    print(latent, words)"
    )


def matching(one: tuple[FoundSet, str], other: tuple[FoundSet, str]) -> str:
    """The call that matches the latents of two dictionaries, each a set and a site."""
    sources = ", ".join(
        f"Dictionary.load({dictionary_source(found, site)!r}, site={site!r})" for found, site in (one, other)
    )
    return (
        "from gossamer import Dictionary\nfrom gossamer.features.matching import match_latents\n\n"
        f"print(match_latents({sources}))"
    )


def overlapping(one: Part, other: Part) -> str:
    """The calls that say how much two circuits have in common."""
    paths = (str(one.path), str(other.path))
    return (
        "from gossamer.circuits.circuit import Circuit\n"
        "from gossamer.circuits.evaluate.stability import containment, jaccard\n\n"
        f"a, b = ({{node.node for node in Circuit.load(path).nodes}} for path in {paths!r})\n"
        "print(len(a & b), jaccard(a, b), containment(a, b))"
    )


def sources_call(bench: Workbench, found: FoundSet, asked: SourceRequest, position: int) -> str:
    """The call that takes an attention latent apart by heads and tokens."""
    return (
        f"{loading(bench, found)}\nimport torch\n\nfrom gossamer import Feature\n"
        "from gossamer.attention.direct import direct_attribution\nfrom gossamer.attention.frozen import FrozenPass\n\n"
        f"site, latent = Feature.parse({asked.feature!r})\n"
        f"frozen = FrozenPass.of(model, {{site: dictionaries[site]}}, model.tokenize([{asked.text!r}], bos=bos))\n"
        f"found = direct_attribution(frozen, site, position={position}, latents=torch.tensor([latent]))\n"
        "print(found.by_source, found.by_head, found.pre_activations)\n"
        "print(found.pre_activations - found.by_source.sum(dim=1))"
    )
