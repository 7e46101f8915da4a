"""GPT-2 in flax with scanned layers, looked into with gossamer.jax: `python -m jax_gpt2.walkthrough`."""
