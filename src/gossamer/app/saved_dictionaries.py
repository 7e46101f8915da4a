"""What a run folder reads of a saved set of dictionaries, or of one dictionary that lies alone."""

from pathlib import Path

from gossamer.dictionary.set import INDEX, DictionarySet


class SavedDictionaries:
    """How `dictionaries.json`, or the `cfg.json` of one dictionary, is read: shapes and facts, no weights."""

    @staticmethod
    def load(path: Path) -> DictionarySet:
        """The set on the device "meta". Errors: those of :meth:`DictionarySet.load`."""
        return DictionarySet.load(path.parent, device="meta")


def dictionary_folder(file: Path, site: object) -> Path:
    """Where the dictionary of a site lies, of the file that lists it or is its own."""
    return file.parent / str(site) if file.name == INDEX else file.parent
