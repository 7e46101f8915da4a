"""Two circuits, or two dictionaries, side by side."""

from pydantic import Field

from gossamer.app.schema.base import Answer, IntervalShape, Number, Shape


class ComparedCircuit(Shape):
    """One of two circuits; what was measured is null where no findings lie beside its file.

    Attributes:
        mark: stands beside its faithfulness if that exceeds its dictionaries' own; else empty.
    """

    id: str
    task: str
    model: str
    nodes: int
    latents: int
    faithfulness: IntervalShape | None
    prompt_error: IntervalShape | None
    accuracy: Number
    kl: Number
    mark: str


class ComparedNode(Shape):
    """A node of either circuit; the effect on a circuit that has no findings, or not this node, is null."""

    node: str
    feature: str
    in_a: bool
    in_b: bool
    effect_a: Number
    effect_b: Number
    label: str


class CircuitComparison(Answer):
    """How much two circuits have in common.

    Attributes:
        jaccard: shared nodes over nodes of either; `jaccard_latents` leaves roles aside.
        contained: shared nodes over nodes of the smaller.
        by_chance: Jaccard index expected of random nodes of these sizes, of all latents of these dictionaries at these
            roles; null where their number is not known.
        warnings: why numbers of latents may mean different things in the two.
    """

    a: ComparedCircuit
    b: ComparedCircuit
    footnote: str | None = Field(description="What the mark of either says; null where neither has it.")
    shared: int
    jaccard: Number
    jaccard_latents: Number
    contained: Number
    by_chance: Number
    warnings: list[str]
    nodes: list[ComparedNode]
    hidden: int = Field(description="Nodes beyond those listed; shared ones are listed first.")
    python: str


class ComparedDictionary(Shape):
    """One of two dictionaries."""

    set: str
    site: str
    n_latents: int
    l0: Number
    explained_variance: Number


class MatchedLatent(Shape):
    """A latent of the first dictionary and the nearest of the second."""

    a: str
    b: str
    decoder: Number
    encoder: Number
    mutual: bool


class CosineHistogram(Shape):
    """Latents by their largest cosine, and the same of the control, in bins of equal width."""

    edges: list[float]
    counts: list[int]
    control: list[int]


class DictionaryComparison(Answer):
    """The latents of one dictionary matched with those of another (see gossamer.features.matching.LatentMatches)."""

    a: ComparedDictionary
    b: ComparedDictionary
    same: float = Field(description="Cosine from which on latents are called the same.")
    shared: Number = Field(description="Share of a's latents with a mutual match of which both cosines are so large.")
    by_chance: Number
    mean: Number = Field(description="Mean of the largest decoder cosines.")
    mean_by_chance: Number
    histogram: CosineHistogram
    rows: list[MatchedLatent]
    hidden: int = Field(description="Latents beyond those listed.")
    python: str
