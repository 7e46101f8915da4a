"""Where to look: tags put into the plain model and into flax's own attention, without a change to either."""

from gossamer.jax.patching import Patch, tag_assign, tag_expr
from jax_gpt2.model import Block

SITES = Patch(
    {
        Block.__call__: [tag_assign("x", "resid_mid", index=0), tag_assign("x", "resid_post", index=1)],
        "flax.linen.attention:dot_product_attention_weights": [
            tag_expr("jax.nn.softmax(attn_weights).astype(dtype)", "probs")
        ],
    },
    verified={"flax": ["0.12.8"]},
)
