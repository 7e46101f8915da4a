"""What a run folder reads of a saved set of dictionaries."""

from pathlib import Path

from gossamer.dictionary.set import DictionarySet


class SavedDictionaries:
    """How `dictionaries.json` is read: shapes and facts, no weights."""

    @staticmethod
    def load(path: Path) -> DictionarySet:
        """The set on the device "meta". Errors: those of :meth:`DictionarySet.load`."""
        return DictionarySet.load(path.parent, device="meta")
