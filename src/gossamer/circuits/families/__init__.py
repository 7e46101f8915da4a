"""Families of prompts, each with a circuit of its own."""
