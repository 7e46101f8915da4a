"""Non-negative least squares of many small problems at once, by the active sets of Lawson & Hanson 1974."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Exchanges for each unknown before a problem is left as it is: they seldom need more than one.
_EXCHANGES = 4


def nonnegative_least_squares(
    pairs: Float[Tensor, "tokens w w"],
    targets: Float[Tensor, "tokens w"],
    support: Bool[Tensor, "tokens w"],
    given: Float[Tensor, "tokens w"],
) -> Float[Tensor, "tokens w"]:
    """Values >= 0 on the supports that minimise ||x - a D||^2, with pairs = D D^T and targets = D x of each token.

    Where plain least squares has no negative value it is the answer. Elsewhere the search begins with the better of
    `given` (>= 0 on the support) and of least squares without what it made negative, so nothing is worse than those.
    """
    values = _without_negative(pairs, targets, support)
    left_out = (support & (values == 0)).any(dim=1)
    if left_out.any():
        pairs, targets, given = pairs[left_out], targets[left_out], given[left_out]
        better = _better(pairs, targets, given, values[left_out])
        values[left_out] = _better(pairs, targets, _exchanged(pairs, targets, better, support[left_out]), better)
    return values


def _without_negative(
    pairs: Float[Tensor, "tokens w w"], targets: Float[Tensor, "tokens w"], support: Bool[Tensor, "tokens w"]
) -> Float[Tensor, "tokens w"]:
    """Least squares, again without what became negative, until nothing does."""
    kept = support.clone()
    for _ in range(support.shape[1]):
        values = _least_squares(pairs, targets, kept)
        if not (values < 0).any():
            return values
        kept &= values >= 0
    return torch.zeros_like(targets)


def _better(
    pairs: Float[Tensor, "tokens w w"],
    targets: Float[Tensor, "tokens w"],
    one: Float[Tensor, "tokens w"],
    other: Float[Tensor, "tokens w"],
) -> Float[Tensor, "tokens w"]:
    """Of each token, that which leaves the smaller residual."""

    def explained(values: Tensor) -> Tensor:
        return (values * (2 * targets - torch.einsum("tvw,tw->tv", pairs, values))).sum(dim=1)

    return torch.where((explained(one) > explained(other))[:, None], one, other)


def _exchanged(
    pairs: Float[Tensor, "tokens w w"],
    targets: Float[Tensor, "tokens w"],
    values: Float[Tensor, "tokens w"],
    support: Bool[Tensor, "tokens w"],
) -> Float[Tensor, "tokens w"]:
    """From feasible values to the best: least squares on the positive ones; what would become negative leaves, and
    when nothing does the slot with the steepest slope enters, until no slope is positive.
    """
    values, positive, open_ = values.clone(), values > 0, support.clone()
    going = torch.arange(len(values), device=values.device)
    for _ in range(_EXCHANGES * values.shape[1]):
        here, among, present = pairs[going], positive[going], values[going]
        wanted = _least_squares(here, targets[going], among)
        blocked = among & (wanted <= 0)
        # The way to `wanted`, as far as nothing becomes negative.
        share = torch.where(blocked, present / (present - wanted).clamp(min=torch.finfo(values.dtype).tiny), 1.0)
        step = share.amin(dim=1, keepdim=True)
        among = among & ~(blocked & (share <= step))
        present = torch.where(among, (present + step * (wanted - present)).clamp(min=0), 0.0)
        # What entered and leaves at once did so by rounding: it stays out.
        open_[going] &= ~(blocked & (share == 0))
        slopes = targets[going] - torch.einsum("tvw,tw->tv", here, present)
        least = 10 * torch.finfo(values.dtype).eps * targets[going].abs().amax(dim=1, keepdim=True)
        may = open_[going] & ~among & (slopes > least) & ~blocked.any(dim=1, keepdim=True)
        steepest = torch.where(may, slopes, -torch.inf).argmax(dim=1, keepdim=True)
        among = among | (torch.zeros_like(among).scatter(1, steepest, True) & may)
        values[going], positive[going] = present, among
        going = going[(blocked | may).any(dim=1)]
        if not len(going):
            break
    return values


def _least_squares(
    pairs: Float[Tensor, "tokens w w"], targets: Float[Tensor, "tokens w"], kept: Bool[Tensor, "tokens w"]
) -> Float[Tensor, "tokens w"]:
    """Values of the kept slots that leave the smallest residual; 0 for the others."""
    both = kept[:, :, None] & kept[:, None, :]
    # The identity where a slot is out keeps every system of one size; a breath of it where rows are nearly parallel.
    breath = 10 * torch.finfo(pairs.dtype).eps
    system = torch.where(both, pairs, 0.0) + torch.diag_embed(torch.where(kept, breath, 1.0).to(pairs))
    return torch.linalg.solve(system, (targets * kept)[:, :, None])[:, :, 0] * kept
