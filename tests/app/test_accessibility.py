"""Every view by the rules of axe (WCAG 2 A and AA, best practices): nothing that it calls serious or worse."""

import pytest
from workbench_run import grave_findings

# Where each view of the run is, and what says that it is there.
VIEWS = {
    "overview": ("/", "h1:has-text('run')"),
    "map": ("/circuit/circuit", ".map-host button.box"),
    "nodes": ("/circuit/circuit/nodes", "table tbody tr"),
    "edges": ("/circuit/circuit/edges", "table tbody tr"),
    "how it was tested": ("/circuit/circuit/evaluation", "table tbody tr"),
    "text": ("/prompt/circuit?text=The%20manager%20that%20the%20drivers%20like", ".sites table"),
    "text taken apart": ("/explore/circuit?text=The%20boys&answer=%20are&wrong=%20is", "#terms tbody tr"),
    "latent": ("/latent/circuit/resid_post.2%2F5", "h1"),
    "none": ("/nowhere", ".failed"),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing_grave(visit, view, scheme):
    where, there = VIEWS[view]
    page = visit(where, 1400, scheme)
    page.wait_for_selector(there)
    assert grave_findings(page) == {}
    assert page.evaluate("axe.version")
