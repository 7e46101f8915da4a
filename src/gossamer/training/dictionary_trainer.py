r"""One sparse dictionary in training, whatever its objective.

It works in units fixed at the start (:mod:`gossamer.training.units`), in which

    pre = x @ W_enc + b_enc      a = what the objective lets through      y_hat = a @ W_dec + b_dec

with x the input and y the target; they are the same unless the dictionary is a transcoder. W_enc starts as W_dec
transposed, times a setting, and b_dec at 0. `into` is the root of the metric in which errors are counted:
(1 - s) * identity + s * G, where G says how much the model's output minds an error in each direction
(:mod:`gossamer.training.sensitivity`) and s is a setting. Afterwards the units are folded into the weights.

A step has two halves. :meth:`DictionaryTrainer.gradients` changes nothing, so that its results can be averaged over the
parts of a batch or over processes; :meth:`DictionaryTrainer.update` changes everything that changes. Neither makes the
host wait for the device.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gossamer.dictionary.config import DictionaryConfig
from gossamer.dictionary.dictionary import Dictionary
from gossamer.errors import UsageError
from gossamer.finite import error_context, require_finite
from gossamer.seeding import generator
from gossamer.sparse.largest import MARGIN
from gossamer.training.calibration import calibrated
from gossamer.training.config import DictionarySpec, learning_rate
from gossamer.training.dead_latents import Ghost, Resampling
from gossamer.training.dead_latents.resampling import InputDraw
from gossamer.training.export import assembled, folded, latent_norms
from gossamer.training.gradients import Gradients
from gossamer.training.objectives import BatchTopK, ObjectiveOutput, StepContext
from gossamer.training.optimiser import Optimiser
from gossamer.training.parallel import Processes
from gossamer.training.units import Units, metric_root


class DictionaryTrainer:
    """One dictionary in training.

    Memory: parameters 2 * d * n, twice that in moments, and batch * n pre-activations; with TopK rules on a CPU a few
    million of these.

    Attributes:
        parameters: W_enc (d, n), W_dec (n, d), the vectors of the objective (n), b_dec (d), in the units of training.
        threshold: what :meth:`calibrate` set; until then a moving average of the smallest activation kept, negative
            before the first step.
        tokens_since_fired: tokens since each latent last fired.
        processes: those that have the rest of every batch.
        seen: tokens learned from.
    """

    def __init__(self, plan: DictionarySpec, steps: int, read: Units, written: Units) -> None:
        self.processes = Processes()
        self.plan, self.config, self.steps, self.read, self.written = plan, plan.trainer, steps, read, written
        settings = self.config.optimiser
        self.parameters = {name: value.requires_grad_() for name, value in self._initial().items()}
        betas, control = (settings.beta1, settings.beta2), self.config.control
        self.optimiser = Optimiser(
            self.parameters, settings.clip, betas=betas, decoder_norm=settings.decoder_norm, control=control
        )
        device = read.mean.device
        self.threshold = torch.tensor(-1.0, dtype=torch.float64, device=device)
        self.smallest = torch.tensor(0.0, dtype=torch.float64, device=device)
        self.tokens_since_fired = torch.zeros(self.config.n_latents, dtype=torch.long, device=device)
        self.seen = 0

    def _initial(self) -> dict[str, Tensor]:
        plan, n, mean = self.plan, self.config.n_latents, self.read.mean
        rows = torch.randn(n, len(mean), generator=generator(plan.seed, "decoder", str(plan.site))).to(mean)
        rows /= rows.norm(dim=1, keepdim=True)
        if self.config.initial_norm != 1:
            rows *= self.config.initial_norm
        # Laid out latent by latent, as its sparse gradient comes.
        encoder = (rows * self.config.encoder_scale).t()
        vectors = {name: mean.new_full((n,), value) for name, value in self.config.objective.vectors.items()}
        return {"W_enc": encoder, "W_dec": rows, **vectors, "b_dec": torch.zeros_like(mean)}

    @classmethod
    def begin(
        cls,
        plan: DictionarySpec,
        steps: int,
        first_inputs: Float[Tensor, "tokens d"],
        first_targets: Float[Tensor, "targets d_out"] | None = None,
        metric: Float[Tensor, "d_out d_out"] | None = None,
    ) -> "DictionaryTrainer":
        """A new trainer that is to do `steps` steps.

        Args:
            first_inputs: some activations, whose mean and scale are kept.
            first_targets: the same of a transcoder's target; None for any other dictionary.
            metric: G at the target; None if the sensitivity is 0.

        Raises:
            UsageError: the activations do not vary, a transcoder has no targets or of another width.
            NotFiniteError: an activation is not finite (the site is named).
        """
        _require_targets(plan, first_inputs, first_targets)
        root = None if metric is None else metric_root(metric.to(first_inputs), plan.trainer.sensitivity)
        scaling = plan.trainer.scaling
        if first_targets is None:
            units = Units.of(first_inputs, scaling, root, f"activations at {plan.site}")
            return cls(plan, steps, units, units)
        read = Units.of(first_inputs, scaling, None, f"activations at {plan.site}")
        return cls(plan, steps, read, Units.of(first_targets, scaling, root, f"activations at {plan.target}"))

    @classmethod
    def resume(
        cls, plan: DictionarySpec, steps: int, tensors: Mapping[str, Tensor], device: torch.device | str
    ) -> "DictionaryTrainer":
        """The trainer whose :meth:`state` the tensors are."""
        units = [
            Units(tensors[f"mean{end}"].to(device), tensors[f"into{end}"].to(device))
            for end in ("", "_out")
            if f"mean{end}" in tensors
        ]
        trainer = cls(plan, steps, units[0], units[-1])
        trainer.optimiser.restore(tensors)
        trainer.tokens_since_fired = tensors["idle"].to(device, copy=True)
        trainer.threshold, trainer.smallest = tensors["numbers"].to(device, copy=True).unbind()
        trainer.seen = int(tensors["seen"])
        return trainer

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint needs, by name.

        Raises:
            NotFiniteError: a parameter is not finite: such a state must not replace a good one.
        """
        for name, parameter in self.parameters.items():
            require_finite(parameter, f"{name} of {self.plan.name}")
        fixed = {"mean": self.read.mean, "into": self.read.into}
        if self.plan.site_out is not None:
            fixed |= {"mean_out": self.written.mean, "into_out": self.written.into}
        numbers = torch.stack([self.threshold, self.smallest])
        return {
            **self.optimiser.state(),
            **fixed,
            "idle": self.tokens_since_fired,
            "numbers": numbers,
            "seen": torch.tensor(self.seen),
        }

    def step(
        self, inputs: Float[Tensor, "tokens d"], targets: Float[Tensor, "targets d_out"] | None, step: int
    ) -> dict[str, Float[Tensor, ""]]:
        """Step number `step` on raw activations; returns `averaged` of :class:`Gradients`.

        Raises:
            NotFiniteError: the activations or the loss are not finite (found at once on the CPU, elsewhere when
                somebody looks: here or in :meth:`state`).
        """
        gradients = self.gradients(inputs, targets, step)
        self.update(gradients, step)
        return gradients.averaged

    def gradients(
        self,
        inputs: Float[Tensor, "tokens d"],
        targets: Float[Tensor, "targets d_out"] | None,
        step: int,
        tokens: int | None = None,
    ) -> Gradients:
        """What a batch of raw activations says at step number `step`; changes nothing. Errors as :meth:`step`.

        `tokens` is the size of the batch that these are a part of, if there is more of it.
        """
        _require_targets(self.plan, inputs, targets)
        x, y = self._ends(inputs, targets)
        dead_unless_fired = self.tokens_since_fired + (len(x) if tokens is None else tokens) > self.config.dead_after
        context = self._moment(dead_unless_fired, step)
        with error_context(f"dictionary {self.plan.name} at {self.plan.site}"):
            outcome = self.config.objective.outcome(self.parameters, x, y, context)
        dead = context.dead(outcome.fired)
        auxiliary_loss = self._auxiliary_loss(outcome, x, dead)
        total = self._finite(outcome.loss + auxiliary_loss, "training loss")
        found = torch.autograd.grad(total, list(self.parameters.values()))
        gradients = dict(zip(self.parameters, found, strict=True))
        measured = self._measured(outcome, auxiliary_loss, dead, y)
        return Gradients(gradients, measured, outcome.fired, len(x))

    def _ends(self, inputs: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor]:
        """What the encoder reads and what is to come out, in the units of training."""
        x = self._units(inputs, self.read, self.plan.site)
        y = x if targets is None else self._units(targets, self.written, self.plan.target)
        return x - self.parameters["b_dec"] if self.config.pre_bias else x, y

    def _units(self, raw: Tensor, units: Units, site: object) -> Tensor:
        return units.inward(self._finite(raw, f"activations at {site}", named=True))

    def _finite(self, value: Tensor, what: str, *, named: bool = False) -> Tensor:
        # Only where looking is free: a GPU would have to finish first.
        if value.device.type != "cpu":
            return value
        return require_finite(value, what if named else f"{what} at {self.plan.site}")

    def _moment(self, dead_unless_fired: Bool[Tensor, "n"], step: int) -> StepContext:
        floor = MARGIN * float(self.smallest) if self.smallest.device.type == "cpu" else 0.0
        return StepContext(step / self.steps, dead_unless_fired, floor, self.processes)

    def _auxiliary_loss(self, outcome: ObjectiveOutput, x: Tensor, dead: Bool[Tensor, "n"]) -> Tensor:
        """What is added to the loss for dead latents, by the objective and by the strategy."""
        auxiliary_loss = x.new_zeros(()) if outcome.auxiliary_loss is None else outcome.auxiliary_loss
        strategy = self.config.dead_latents
        if not isinstance(strategy, Ghost):
            return auxiliary_loss
        if strategy.all_at_start and self.seen < self.config.dead_after:
            dead = torch.ones_like(dead)
        return auxiliary_loss + strategy.loss(self.parameters, self._bias, x, outcome.error, dead)

    @property
    def _bias(self) -> str:
        """The name of the bias that belongs to W_enc."""
        return next(iter(self.config.objective.vectors))

    def _measured(
        self, outcome: ObjectiveOutput, auxiliary_loss: Tensor, dead: Bool[Tensor, "n"], y: Float[Tensor, "tokens d"]
    ) -> dict[str, Float[Tensor, ""]]:
        missed, spread = (torch.linalg.vector_norm(one) for one in (outcome.error.detach(), y - y.mean(dim=0)))
        measured = {
            "loss": outcome.loss.detach(),
            "auxiliary_loss": auxiliary_loss.detach(),
            "explained_variance": 1 - (missed / spread).square(),
            "l0": outcome.fired.sum() / len(y),
            "dead": dead.float().mean(),
        }
        return measured if outcome.smallest is None else {**measured, "smallest": outcome.smallest}

    def update(self, gradients: Gradients, step: int) -> None:
        """Take step number `step` with these gradients: clip, descend, project, count."""
        self.optimiser.step(gradients.parameters, self._rate(step))
        with torch.no_grad():
            self.config.objective.project(self.parameters)
        if "smallest" in gradients.averaged:
            self.smallest = gradients.averaged["smallest"].double()
            self.threshold = self.config.objective.next_threshold(self.threshold, self.smallest)
        self.tokens_since_fired = torch.where(gradients.fired > 0, 0, self.tokens_since_fired + gradients.tokens)
        self.seen += gradients.tokens

    def calibrate(self, inputs: Sequence[Float[Tensor, "_ d"]]) -> None:
        """Set the threshold of a batch rule so that on these raw activations k latents a token are active on average.

        Other objectives have nothing to calibrate. Of several processes each gives its own activations.
        """
        objective = self.config.objective
        if not isinstance(objective, BatchTopK):
            return
        read = [self._units(one, self.read, self.plan.site) for one in inputs]
        read = [x - self.parameters["b_dec"].detach() for x in read] if self.config.pre_bias else read
        self.threshold = calibrated(self.parameters, read, objective.k, float(self.smallest), self.processes)

    def restart_draw(self, step: int) -> InputDraw | None:
        """What draws the inputs that dead latents restart from after step number `step`; None: no event, or none dead.

        Where an event is due the host waits for the device.
        """
        strategy = self.config.dead_latents
        if not isinstance(strategy, Resampling) or not strategy.due(step, self.steps):
            return None
        draw = generator(self.plan.seed, "resampling", self.plan.name, step)
        wanted = int(self._dead.sum())
        return InputDraw(wanted, strategy.sample, draw) if wanted else None

    @property
    def _dead(self) -> Bool[Tensor, "n"]:
        return self.tokens_since_fired > self.config.dead_after

    @torch.no_grad()
    def offer(
        self,
        draw: InputDraw,
        inputs: Float[Tensor, "tokens d"],
        targets: Float[Tensor, "targets d_out"] | None,
        step: int,
    ) -> None:
        """Draw from a block of raw activations. Of several processes each gives its own part of the block."""
        x, y = self._ends(inputs, targets)
        outcome = self.config.objective.outcome(self.parameters, x, y, self._moment(self._dead, step))
        wanted = y - self.parameters["b_dec"]
        # An autoencoder's latent reads what it writes; a transcoder's reads the input of what it is to write.
        read = wanted if self.plan.site_out is None else x
        draw.add(*map(self.processes.gathered, (read, wanted, outcome.error.square().sum(dim=1))))

    @torch.no_grad()
    def restart(self, draw: InputDraw) -> None:
        """Start the dead latents anew from the inputs drawn."""
        strategy, dead = self.config.dead_latents, self._dead
        assert isinstance(strategy, Resampling)
        norms = self.parameters["W_dec"].norm(dim=1)
        # Living rows' norm where norms are free, so that a newcomer writes about as much as they do.
        free = self.config.optimiser.decoder_norm == "free" and not bool(dead.all())
        norm = norms[~dead].mean() if free else torch.ones_like(norms[0])
        latents = strategy.restart(self.parameters, self.config.objective.vectors, draw, dead, norm)
        self.optimiser.forget(latents)
        self.tokens_since_fired[latents] = 0

    def _rate(self, step: int) -> float:
        settings, strategy = self.config.optimiser, self.config.dead_latents
        rate = learning_rate(settings.learning_rate, settings.warm_up, settings.decay, step, self.steps)
        return rate * strategy.rate(step, self.steps) if isinstance(strategy, Resampling) else rate

    def dictionary(self, model_name: str | None, provenance: dict[str, Any]) -> Dictionary:
        """The dictionary as it works on raw activations, with decoder rows of norm 1 where the architecture allows it.

        TopK, and BatchTopK with errors counted evenly, get one unit for all latents, since their rule compares latents
        with one another or with one threshold. BatchTopK with a metric gets a threshold for each latent (jumprelu).
        """
        p = {name: value.detach() for name, value in self.parameters.items()}
        objective, k = self.config.objective, getattr(self.config.objective, "k", None)
        architecture, by_threshold = self.config.architecture, objective.architecture == "batchtopk"
        k = None if architecture == "jumprelu" else k
        norms = latent_norms(p, self.written, one=architecture in ("topk", "batchtopk"))
        tensors = folded(p, self.read, self.written, norms, pre_bias=self.config.pre_bias)
        if by_threshold:
            tensors["threshold"] = self.threshold.to(norms) * (norms[0] if architecture == "batchtopk" else norms)
        d, n = tensors["W_enc"].shape
        plan = self.plan
        config = DictionaryConfig(
            architecture, d, n, site=plan.site, model_name=model_name, k=k, site_out=plan.site_out
        )
        return assembled(config, tensors, provenance)


def _require_targets(plan: DictionarySpec, inputs: Tensor, targets: Tensor | None) -> None:
    if (targets is None) != (plan.site_out is None):
        raise UsageError(f"dictionary {plan.name}: targets belong to a transcoder (site_out {plan.site_out})")
    if targets is not None and targets.shape != inputs.shape:
        raise UsageError(
            f"transcoder {plan.name}: expected targets of shape {tuple(inputs.shape)} as its inputs, "
            f"found {tuple(targets.shape)}; its sites must have one width"
        )
