"""Groups of a circuit's nodes that work alike (supernodes): found from what they read and do, tested as one.

:mod:`.profiles` says what each node reads, writes and does on each prompt; :mod:`.clusters` merges nodes whose profiles
agree, or of which one number says most; :mod:`.tied` is the circuit whose groups each move as one; :mod:`.find` chooses
how nodes are merged and how many boxes that takes.
"""

from gossamer.circuits.group import GroupPoint, GroupTest, NodeGroup
from gossamer.circuits.groups.clusters import Merges, merges, merges_by_loss
from gossamer.circuits.groups.find import (
    CircuitGroups,
    circuit_groups,
    group_effect,
    group_label,
    group_test,
    node_groups,
)
from gossamer.circuits.groups.profiles import PromptProfiles, prompt_profiles, similarity
from gossamer.circuits.groups.tied import Ties, tied, ties, worth

__all__ = [
    "CircuitGroups",
    "GroupPoint",
    "GroupTest",
    "Merges",
    "NodeGroup",
    "PromptProfiles",
    "Ties",
    "circuit_groups",
    "group_effect",
    "group_label",
    "group_test",
    "merges",
    "merges_by_loss",
    "node_groups",
    "prompt_profiles",
    "similarity",
    "tied",
    "ties",
    "worth",
]
