"""How steering vectors are made from texts: ActAdd, CAA, mean difference, PCA; and random ones of the same length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gossamer.activations.stream import BATCH, ActivationStream
from gossamer.activations.text import encode
from gossamer.activations.token_mask import DEFAULT_MASK, TokenMask
from gossamer.dictionary.dictionary import Dictionary
from gossamer.display import plural, short_repr
from gossamer.errors import UsageError
from gossamer.model.language_model import LanguageModel
from gossamer.model.site import Site, SiteLike
from gossamer.seeding import generator
from gossamer.steering.coefficient import Coefficient
from gossamer.steering.intervention import Intervention, act_add, add
from gossamer.tokens import Tokens


@dataclass(frozen=True, eq=False)
class SteeringVector:
    """A direction at a site, or for ActAdd one a position of the prompt.

    Attributes:
        method: how it was made.
        site: where it belongs.
        vector: in the scale of the model's activations.
    """

    method: str
    site: Site
    vector: Float[Tensor, "*prompt d"]

    __repr__ = short_repr

    def _facts(self) -> Iterator[str]:
        yield f"{self.method} at {self.site}"
        yield f"length {self.length:.4g}"

    @property
    def length(self) -> float:
        """Its norm; of several, that of the longest."""
        return float(self.vector.norm(dim=-1).max())

    def normalised(self) -> "SteeringVector":
        """The same direction with length 1."""
        return replace(self, vector=self.vector / self.vector.norm())

    def add(self, c: float | Coefficient) -> Intervention:
        """The intervention that adds it: at every token, or where it has a row a position, at these."""
        made = act_add if self.vector.ndim == 2 else add
        return made(self.site, self.vector, c)


@dataclass(frozen=True, eq=False)
class ContrastStates:
    """What a site has on two sorts of text, token by token.

    Attributes:
        site: the site.
        positive, negative: values of the tokens that count.
        positive_texts, negative_texts: number of each token's text, from 0.
    """

    site: Site
    positive: Float[Tensor, "some d"]
    negative: Float[Tensor, "others d"]
    positive_texts: Int[Tensor, "some"]
    negative_texts: Int[Tensor, "others"]

    __repr__ = short_repr

    @property
    def difference(self) -> Float[Tensor, "d"]:
        """Mean of all positive tokens less that of all negative ones."""
        return self.positive.mean(dim=0) - self.negative.mean(dim=0)

    def first(self, texts: int) -> "ContrastStates":
        """Those of the first texts of each side."""
        ours, theirs = self.positive_texts < texts, self.negative_texts < texts
        sides = (self.positive[ours], self.negative[theirs], self.positive_texts[ours], self.negative_texts[theirs])
        return ContrastStates(self.site, *sides)

    def text_means(self, side: str) -> Float[Tensor, "text d"]:
        """Mean of each text of the side "positive" or "negative"."""
        values, texts = getattr(self, side), getattr(self, f"{side}_texts")
        sums = values.new_zeros(int(texts.max()) + 1, values.shape[1]).index_add_(0, texts, values)
        return sums / torch.bincount(texts)[:, None]


def contrast_states(
    model: LanguageModel,
    positive: Sequence[str],
    negative: Sequence[str],
    site: SiteLike,
    *,
    mask: TokenMask = DEFAULT_MASK,
    batch_size: int = BATCH,
) -> ContrastStates:
    """Read a site on texts with a concept and without it. Memory: the values of all tokens.

    Raises:
        UsageError: no texts on a side, a text longer than the context, or one with no token that counts.
    """
    place = Site.of(site)
    found = []
    for side, texts in (("positive", positive), ("negative", negative)):
        if not texts:
            raise UsageError(f"steering: at least one {side} text expected, found none")
        stream = ActivationStream(model, model.tokenize(texts), [place], mask=mask, batch_size=batch_size)
        if not bool(stream.counted.any(dim=1).all()):
            row = int((~stream.counted.any(dim=1)).nonzero()[0])
            raise UsageError(f"steering: {side} text {row} has no token besides BOS and attention sinks; leave it out")
        found += [stream.collect()[place], stream.counted.nonzero()[:, 0]]
    return ContrastStates(place, found[0].float(), found[2].float(), found[1], found[3])


def diff_mean(states: ContrastStates) -> SteeringVector:
    """Mean of all tokens of positive texts less that of negative ones, of length 1 (AxBench's DiffMean)."""
    return SteeringVector("diff_mean", states.site, states.difference).normalised()


def pca(states: ContrastStates) -> SteeringVector:
    """First singular vector of the differences of paired texts' means and of their negatives, which centres them; its
    sign is that of the mean difference (AxBench's and Zou et al.'s PCA). Of length 1.

    Raises:
        UsageError: other numbers of positive and negative texts.
    """
    ours, theirs = (states.text_means(side) for side in ("positive", "negative"))
    if len(ours) != len(theirs):
        raise UsageError(f"pca: pairs of texts expected, found {len(ours)} positive and {len(theirs)} negative ones")
    pairs = ours - theirs
    first = torch.linalg.svd(torch.cat([pairs, -pairs]), full_matrices=False).Vh[0]
    return SteeringVector("pca", states.site, first * (1.0 if float((pairs @ first).mean()) >= 0 else -1.0))


@torch.no_grad()
def caa(model: LanguageModel, positive: Sequence[str], negative: Sequence[str], site: SiteLike) -> SteeringVector:
    """Mean over pairs of h(positive) - h(negative) at the last token, that of the answer's letter; contrastive
    activation addition, for positions after the prompt (Rimsky et al. 2023, arXiv 2312.06681).

    Raises:
        UsageError: no pairs, or other numbers of texts on both sides.
    """
    if not positive or len(positive) != len(negative):
        raise UsageError(f"caa: pairs of texts expected, found {len(positive)} positive, {len(negative)} negative ones")
    place = Site.of(site)
    ends = []
    for texts in (positive, negative):
        tokens = model.tokenize(texts)
        ends.append(model.capture(tokens, [place])[place][torch.arange(len(tokens)), tokens.last])
    return SteeringVector("caa", place, (ends[0] - ends[1]).mean(dim=0).float())


@torch.no_grad()
def activation_addition(model: LanguageModel, positive: str, negative: str, site: SiteLike) -> SteeringVector:
    """ActAdd's vectors, one a position: h(positive) - h(negative) at a site, the shorter prompt padded by spaces to the
    length of the other (Turner et al. 2023, arXiv 2308.10248: the input of a layer, as resid_pre.6). Where BOS comes
    first, its row is zero.

    Raises:
        UsageError: the same prompts, or a tokenizer without a token for one space.
    """
    rows = [model.tokenize([text]).ids[0].tolist() for text in (positive, negative)]
    longest = max(map(len, rows))
    space = encode(model, " ")
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    if len(rows[0]) != len(rows[1]) and (len(space) != 1 or space[0] == unknown):
        raise UsageError(
            f"act_add: {plural(len(rows[0]), 'token')} and {len(rows[1])}, and this tokenizer has no token for one "
            "space to pad with; give prompts of one length"
        )
    ids = torch.tensor([[*row, *space * (longest - len(row))] for row in rows])
    place = Site.of(site)
    found = model.capture(Tokens.full(ids), [place])[place].float()
    if torch.equal(found[0], found[1]):
        raise UsageError("act_add: two prompts that differ expected, found one")
    return SteeringVector("act_add", place, found[0] - found[1])


def feature_vector(dictionary: Dictionary, latent: int) -> SteeringVector:
    """A feature's decoder row."""
    dictionary.require_reconstruction("steering a feature")
    if dictionary.site is None or not 0 <= latent < dictionary.n_latents:
        raise UsageError(
            f"{dictionary.site}/{latent}: a latent from 0 to {dictionary.n_latents - 1} of a site expected"
        )
    return SteeringVector("feature", dictionary.site, dictionary.W_dec[latent].detach().float())


def random_direction(like: SteeringVector, seed: int) -> SteeringVector:
    """A random direction with the length of another vector: the control of every table."""
    drawn = torch.randn(like.vector.shape, generator=generator(seed, "steering direction"))
    lengths = like.vector.norm(dim=-1, keepdim=True).cpu()
    return SteeringVector("random_direction", like.site, drawn / drawn.norm(dim=-1, keepdim=True) * lengths)
