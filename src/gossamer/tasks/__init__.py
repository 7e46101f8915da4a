"""Prompts with answers, counterfactuals and roles."""
