"""Dictionaries and circuits for others: uploaded to the Hugging Face hub with a card made of their files."""

from gossamer.hub.upload import Upload, prepare

__all__ = ["Upload", "prepare"]
