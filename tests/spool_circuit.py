"""Nodes of the bundled model that stand for a circuit, made without a search."""

import torch

from gossamer.circuits.circuit import Circuit
from gossamer.circuits.inputs import Inputs
from gossamer.circuits.nodes import Nodes


def active_circuit(model, dictionaries, task):
    """The two latents that are most active at each of three roles of indirect object identification, of every site."""
    clean, places = task.train.clean, []
    streams = model.capture(clean.tokens, list(dictionaries))
    for index, (site, dictionary) in enumerate(dictionaries.items()):
        latents = dictionary.encode_dense(streams[site])
        for name in ("IO", "S2", "END"):
            role = task.role_names.index(name)
            top = latents[clean.roles == role].sum(dim=0).topk(2).indices
            places += [(index, role, latent) for latent in top.tolist()]
    site, role, latent = torch.tensor(places).unbind(1)
    nodes = Nodes(tuple(dictionaries), task.role_names, site, role, latent)
    inputs = Inputs.of(model, dictionaries, task)
    return Circuit.from_nodes(nodes, torch.arange(len(nodes)), model=model.title, task=task.name, inputs=inputs)
