"""The head survey: kinds of sources by hand, and a head whose latents all read one kind of source."""

import pytest
import torch
from ioi_lab import spool, z_dictionaries

from gossamer.attention import FrozenPass, direct_attribution, head_shares
from gossamer.attention.ioi.survey import HALF, KINDS, LEAST, PURE, source_kinds, survey_heads
from gossamer.model import Site
from gossamer.tokens import Tokens

TEXT = ["Then, Tom and Mary went to the park. Tom gave a ball to Mary. Mary said hello to Tom. Then Tom went home."] * 2


def test_kinds_of_sources():
    kinds = source_kinds(Tokens.full(torch.tensor([[7, 5, 6, 9, 5, 6]])))[0]
    names = [KINDS[kind] for kind in kinds[4, :5].tolist()]
    assert names == ["first token", "same token before", "token after the same one", "previous token", "current token"]
    assert KINDS[kinds[5, 1]] == "other"
    assert KINDS[kinds[5, 4]] == "previous token"
    # A token both after the same one and before this one is of the earlier kind.
    assert KINDS[source_kinds(Tokens.full(torch.tensor([[1, 8, 4, 8]])))[0][3, 2]] == "token after the same one"


def test_a_head_is_judged_by_where_its_part_of_latents_comes_from():
    model, _ = spool()
    tokens = model.tokenize(TEXT)
    dictionaries = z_dictionaries(model, tokens, (1, 3), n=60)
    found = survey_heads(model, dictionaries, tokens)
    assert [one.head for one in found] == [(layer, head) for layer in (1, 3) for head in range(model.n_heads)]
    for site, head in ((Site("z", 1), 2), (Site("z", 3), 0)):
        one = next(row for row in found if row.head == (site.layer, head))
        frozen = FrozenPass.of(model, dictionaries.values(), tokens)
        attributed, kinds = direct_attribution(frozen, site), source_kinds(tokens)
        masses, counts = torch.zeros(60, len(KINDS)), torch.zeros(60)
        for entry in range(len(attributed)):
            latent, row, query = (int(x[entry]) for x in (attributed.latents, attributed.rows, attributed.positions))
            counts[latent] += 1
            for source, value in enumerate(attributed.contributions[entry, head].tolist()):
                masses[latent, kinds[row, query, source]] += abs(value)
        shares = head_shares(model, dictionaries[site]).output[:, head]
        live = [latent for latent in range(60) if counts[latent] >= LEAST]
        top = sorted(live, key=lambda latent: -float(shares[latent]))[:10]
        assert list(one.latents) == top
        parts = masses / masses.sum(dim=1, keepdim=True)
        own = [next((kind for kind in range(len(KINDS) - 1) if parts[latent, kind] >= HALF), None) for latent in top]
        most = max(range(len(KINDS) - 1), key=own.count)
        assert one.purity[0] == pytest.approx(own.count(most) / len(top))
        assert one.kind == (KINDS[most] if own.count(most) else "")
        assert one.share[0] == pytest.approx(float(shares[top].mean()), rel=1e-4)
        assert one.monosemantic == (len(top) == 10 and own.count(most) >= PURE * 10, one.monosemantic[1])
