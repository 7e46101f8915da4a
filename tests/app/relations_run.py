"""A folder of relations with everything planted: counts, graph, gates, ablations and a page's data."""

import numpy as np
from planted_relations import given, planted
from scipy import sparse

from gossamer.features.feature_card import FeatureExample
from gossamer.relations import (
    AblationCheck,
    CommunitySettings,
    GateSettings,
    LatentFacts,
    PromptActivations,
    RelationGraph,
    SitePair,
    adjacent,
    find_communities,
    find_gates,
    lifecycles_of,
    relate_in_folder,
    relations_data,
    write_node_link,
)

NAMES = ("resid_post.0", "resid_post.1", "resid_post.2")
THRESHOLD = 0.3


def write_relations(folder):
    """The relations, graph.json with communities and page.json; returns the relations, the graph and the data."""
    up, down = planted()
    stream = given(dict(zip(NAMES, (up, down, down[..., ::-1].copy()), strict=True)))
    relations = relate_in_folder(stream, adjacent(NAMES), folder)
    graph = RelationGraph.of(list(relations.values()), "jaccard", THRESHOLD)
    found = find_communities(graph, CommunitySettings("components"))
    write_node_link(graph, folder / "graph.json", communities=found.labels)
    pair = SitePair(*NAMES[:2])
    kept = relations[pair].kept[np.arange(8)]
    effects = np.linspace(0.0, 0.7, 8)
    check = AblationCheck(kept, effects, 2 * effects, np.full(8, 5), {"jaccard": np.arange(8)})
    data = relations_data(
        list(relations.values()),
        model="planted",
        text="made up",
        lifecycles=lifecycles_of(list(relations.values()), measures=["jaccard"], thresholds=(0.5, 0.9)),
        gates={pair: find_gates(stream, relations[pair], settings=GateSettings(support=5))},
        graph=graph,
        communities=[found],
        checks={pair: check},
        prompts=[prompt(up, down)],
        describe=described,
    )
    data.save(folder / "page.json")
    return relations, graph, data


def prompt(up, down):
    """A row in which latent 0 of both dictionaries is active; its words are its positions."""
    row = first_row(up)
    dense = (up[row], down[row], down[row][:, ::-1])
    latents = {name: sparse.csr_matrix(one) for name, one in zip(NAMES, dense, strict=True)}
    words = tuple(f" t{position}" for position in range(10))
    return PromptActivations("".join(words), words, (True,) * 10, latents)


def first_row(up):
    """The first row in which upstream latent 0 is active."""
    return int((up[..., 0] > 0).any(axis=1).argmax())


def described(name, latents):
    """A word that names the latent, one that bends the line, and an example."""
    example = FeatureExample(("A", " dog", "\u202e."), (0.0, 2.0, 0.5), 1, 0)
    return {one: LatentFacts((f" w{one}", "\u202e"), f"number {one}", None, (example,)) for one in latents}
