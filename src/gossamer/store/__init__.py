"""What each latent of some dictionaries did on a corpus: written once in one pass, asked by SQL."""

from gossamer.store.build import build_store
from gossamer.store.feature_store import FeatureStore
from gossamer.store.manifest import StoreManifest, StoreSettings
from gossamer.store.search import Search

__all__ = ["FeatureStore", "Search", "StoreManifest", "StoreSettings", "build_store"]
