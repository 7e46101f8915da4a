"""The bundled model with nodes that stand for a circuit, made without a search."""

import pytest
import torch

from gossamer import DictionarySet, LanguageModel, bundled
from gossamer.circuits.circuit import Circuit
from gossamer.circuits.inputs import Inputs
from gossamer.circuits.nodes import Nodes
from gossamer.tasks import get


@pytest.fixture(scope="session")
def spool():
    return LanguageModel.load("bundled:spool")


@pytest.fixture(scope="session")
def spool_dictionaries():
    found = DictionarySet.load(bundled.path("spool") / "dictionaries")
    return DictionarySet([found[site] for site in list(found)[:2]])


@pytest.fixture(scope="session")
def ioi_task(spool):
    return get("ioi").generate(spool.tokenizer, n=64, bos=True)


@pytest.fixture(scope="session")
def ioi_circuit(spool, spool_dictionaries, ioi_task):
    """The two latents that are most active at each of three roles of each site."""
    clean, places = ioi_task.train.clean, []
    streams = spool.capture(clean.tokens, list(spool_dictionaries))
    for index, (site, dictionary) in enumerate(spool_dictionaries.items()):
        latents = dictionary.encode_dense(streams[site])
        for name in ("IO", "S2", "END"):
            role = ioi_task.role_names.index(name)
            top = latents[clean.roles == role].sum(dim=0).topk(2).indices
            places += [(index, role, latent) for latent in top.tolist()]
    site, role, latent = torch.tensor(places).unbind(1)
    nodes = Nodes(tuple(spool_dictionaries), ioi_task.role_names, site, role, latent)
    return Circuit.from_nodes(
        nodes,
        torch.arange(len(nodes)),
        model=spool.title,
        task="ioi",
        inputs=Inputs.of(spool, spool_dictionaries, ioi_task),
    )
