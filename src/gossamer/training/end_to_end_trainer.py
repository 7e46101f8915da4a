"""One dictionary of a set that is being fine-tuned, in units in which a learning rate means the same everywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gossamer.dictionary.dictionary import Dictionary
from gossamer.dictionary.training_prompts import finetunings
from gossamer.errors import UsageError
from gossamer.finite import error_context, require_finite
from gossamer.sparse.largest import MARGIN
from gossamer.training.calibration import calibrated
from gossamer.training.chosen import ChosenLatents, choose_batchtopk, choose_topk
from gossamer.training.controls import SOFT, control_of
from gossamer.training.export import assembled
from gossamer.training.older import with_present_names
from gossamer.training.optimiser import Optimiser

_TRAINED = ("W_enc", "W_dec", "b_enc", "b_dec")
# What a record of fine-tuning says of the dictionary's k, where it changed it.
K = "k"
ARCHITECTURES = ("topk", "batchtopk", "jumprelu")


class EndToEndTrainer:
    """Parameters of one dictionary, and how it picks active latents while they change.

    Activations are divided by `scale`. Thresholds that differ between latents are folded into the latents: latent j is
    measured in units of threshold[j] / (mean threshold), so that one threshold holds for all, and BatchTopK can pick
    the k largest of a batch; :meth:`calibrate` finds the threshold that stands for that. Decoder rows keep the norm
    they come with.

    Attributes:
        parameters: W_enc (d, n), W_dec (n, d), b_enc (n), b_dec (d), in these units.
        threshold: the one threshold, in these units; unused by topk.
        k: active latents per token; for batchtopk on average.
    """

    def __init__(self, source: Dictionary, scale: float, clip: float, k: int | None = None) -> None:
        """`k`: in place of what the source was trained for.

        Raises:
            UsageError: none of topk, batchtopk and jumprelu, its input is normalised, it is a transcoder, or k exceeds
                its latents.
        """
        source.require_reconstruction("fine-tuning")
        if source.architecture not in ARCHITECTURES or source.config.normalisation != "none":
            raise UsageError(
                f"dictionary at {source.site}: fine-tuning takes {', '.join(ARCHITECTURES)} on plain activations, "
                f"found {source.architecture} with normalisation {source.config.normalisation}; leave it out"
            )
        self.source, self.scale = source, scale
        # Half precision would lose most of a small step: parameters, moments and sums are in float32 at least.
        given = {name: _precise(source.get_parameter(name).detach(), copy=True) for name in _TRAINED}
        if source.config.subtract_b_dec:
            given["b_enc"] -= given["b_dec"] @ given["W_enc"]
        self.units, mean_threshold = _units(source)
        # Laid out latent by latent, as its sparse gradient comes.
        given["W_enc"] = (given["W_enc"] / self.units).t().contiguous().t()
        given["W_dec"] *= self.units[:, None]
        given["b_enc"] /= self.units * scale
        given["b_dec"] /= scale
        self.parameters = {name: value.requires_grad_() for name, value in given.items()}
        # Rows that had to stay near a start that is not known here stay where they are.
        control = control_of(source)
        self.optimiser = Optimiser(self.parameters, clip, control="frozen-decoder" if control == SOFT else control)
        self.threshold = mean_threshold / scale
        self.smallest = 0.0
        if k is not None and k > source.n_latents:
            raise UsageError(
                f"dictionary at {source.site}: k of the fine-tuning of at most {source.n_latents} expected, found {k}"
            )
        self.k = _intended_k(source) if k is None else k

    def resume(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` returned."""
        self.optimiser.restore(tensors)
        scale, self.threshold, self.smallest, k = tensors["numbers"].tolist()
        assert scale == self.scale
        self.k = int(k)

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint needs, by name."""
        numbers = torch.tensor([self.scale, self.threshold, self.smallest, self.k], dtype=torch.float64)
        return {**self.optimiser.state(), "numbers": numbers}

    def measure_k(self, activations: Float[Tensor, "tokens d"]) -> None:
        """Set k, where nothing tells what was intended, to the mean number of latents that the threshold passes."""
        if self.k == 0:
            active = self._pre(_precise(activations) / self.scale) > self.threshold
            self.k = max(1, round(int(active.sum()) / len(activations)))

    def reconstruct(self, stream: Float[Tensor, "tokens d"]) -> tuple[Float[Tensor, "tokens d"], ChosenLatents]:
        """The reconstruction, differentiable in stream and parameters, and which latents are active.

        The stream may be in half precision; the reconstruction is in the parameters' dtype.
        """
        x = _precise(require_finite(stream, f"spliced stream at {self.source.site}")) / self.scale
        with error_context(f"dictionary at {self.source.site}"):
            chosen = self._choose(x)
        return (chosen.reconstruct(self.parameters, x) + self.parameters["b_dec"]) * self.scale, chosen

    def _pre(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.addmm(self.parameters["b_enc"], x, self.parameters["W_enc"])

    def _choose(self, x: Tensor) -> ChosenLatents:
        if self.source.architecture == "topk":
            return choose_topk(self.parameters, x, self.k)
        chosen = choose_batchtopk(self.parameters, x, self.k, MARGIN * self.smallest)
        assert chosen.smallest is not None
        self.smallest = float(chosen.smallest)
        return chosen

    def calibrate(self, streams: Sequence[Float[Tensor, "_ d"]]) -> None:
        """Set the threshold so that on these streams k latents a token are active on average (topk has none)."""
        if self.source.architecture != "topk":
            read = [_precise(stream) / self.scale for stream in streams]
            self.threshold = float(calibrated(self.parameters, read, self.k, self.smallest))

    def dictionary(self, provenance: dict[str, Any]) -> Dictionary:
        """The dictionary in the model's units. The claims of the one it came from no longer hold: it has none."""
        tensors = {name: value.detach().clone() for name, value in self.parameters.items()}
        tensors["W_enc"] *= self.units
        tensors["W_dec"] /= self.units[:, None]
        tensors["b_enc"] *= self.units * self.scale
        tensors["b_dec"] *= self.scale
        if self.source.config.subtract_b_dec:
            tensors["b_enc"] += tensors["b_dec"] @ tensors["W_enc"]
        if self.source.architecture == "batchtopk":
            tensors["threshold"] = torch.tensor(self.threshold * self.scale).to(self.units)
        elif self.source.architecture == "jumprelu":
            tensors["threshold"] = self.threshold * self.scale * self.units
        config = self.source.config
        return assembled(config if config.k is None else replace(config, k=self.k), tensors, provenance)


def _intended_k(source: Dictionary) -> int:
    """Latents per token that it was trained for; 0 where it does not say."""
    if source.k is not None:
        return int(source.k)
    for one in reversed(finetunings(source)):
        if K in one:
            return int(one[K])
    # A batch rule whose thresholds differ between latents is saved as jumprelu, which has no k.
    training = with_present_names(source.provenance.get("training", {}))
    objective = (training.get("plan") or training.get("config") or {}).get("trainer", {}).get("objective", {})
    return int(objective["k"]) if objective.get("name") in ("batchtopk", "matryoshka") else 0


def _units(source: Dictionary) -> tuple[Float[Tensor, "n"], float]:
    """The unit of every latent, and the threshold in them."""
    ones = torch.ones_like(_precise(source.W_dec[:, 0]))
    if source.threshold is None:
        return ones, 0.0
    thresholds = _precise(source.threshold.detach())
    if not bool((thresholds > 0).all()):
        raise UsageError(f"dictionary at {source.site}: fine-tuning needs positive thresholds; leave it out")
    return ones * thresholds / thresholds.mean(), float(thresholds.mean())


def _precise(x: Float[Tensor, "*shape"], *, copy: bool = False) -> Float[Tensor, "*shape"]:
    return x.to(torch.promote_types(x.dtype, torch.float32), copy=copy)
