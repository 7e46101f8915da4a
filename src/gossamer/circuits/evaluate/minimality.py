"""What each node is worth: the circuit without it."""

from jaxtyping import Float
from torch import Tensor

from gossamer.circuits.evaluate.evaluator import Evaluator
from gossamer.circuits.leave_out import each_left_out
from gossamer.circuits.nodes import Nodes
from gossamer.circuits.prompt_metrics import Network


def node_effects(evaluator: Evaluator, circuit: Nodes) -> Float[Tensor, "node"]:
    """Faithfulness of the circuit minus faithfulness without each node alone, on the evaluator's prompts, (nodes,)
    float64.

    Exact: one run of the network from its site on for each node. A node of no effect, or of negative effect, can be
    dropped for free.
    """

    def faithfulness(network: Network) -> float:
        return evaluator.full.kept(network, evaluator.splice.batch_size)

    return evaluator.kept(circuit) - each_left_out(evaluator.splice, circuit, faithfulness, "minimality")
