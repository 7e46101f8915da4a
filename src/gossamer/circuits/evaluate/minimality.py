"""What each node is worth: the circuit without it."""

from jaxtyping import Float
from torch import Tensor

from gossamer.circuits.evaluate.bench import Bench
from gossamer.circuits.leave_out import each_left_out
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.outcome import Network


def node_effects(bench: Bench, circuit: Nodes) -> Float[Tensor, "node"]:
    """Faithfulness of the circuit minus faithfulness without each node alone, on the bench's prompts, (nodes,) float64.

    Exact: one run of the network from its site on for each node. A node of no effect, or of negative effect, can be
    dropped for free.
    """

    def faithfulness(network: Network) -> float:
        return bench.faithfulness(bench.full.outcome_of(network, bench.splice.batch_size))

    return bench.kept(circuit) - each_left_out(bench.splice, circuit, faithfulness, "minimality")
