"""The bundled model with nodes that stand for a circuit, made without a search."""

import pytest
from spool_circuit import active_circuit

from gossamer import DictionarySet, LanguageModel, bundled
from gossamer.tasks import get


@pytest.fixture(scope="session")
def spool():
    return LanguageModel.load("bundled:spool")


@pytest.fixture(scope="session")
def spool_dictionaries():
    found = DictionarySet.load(bundled.path("spool") / "dictionaries")
    return DictionarySet([found[site] for site in list(found)[:2]])


@pytest.fixture(scope="session")
def ioi_task(spool):
    return get("ioi").generate(spool.tokenizer, n=64, bos=True)


@pytest.fixture(scope="session")
def ioi_circuit(spool, spool_dictionaries, ioi_task):
    return active_circuit(spool, spool_dictionaries, ioi_task)
