"""Maps the four top-level folders to the subpackages of one import name (see pyproject.toml for the rest)."""

from setuptools import setup

PACKAGE_DIR = {
    "gemnet": "gemnet",
    "gemnet.search": "search",
    "gemnet.search.spaces": "search/spaces",
    "gemnet.search.strategies": "search/strategies",
    "gemnet.search.evaluators": "search/evaluators",
    "gemnet.export": "export",
    "gemnet.zoo": "zoo",
}

setup(
    packages=list(PACKAGE_DIR),
    package_dir=PACKAGE_DIR,
    package_data={
        "gemnet": ["py.typed", "*.jinja"],
        "gemnet.export": ["*.jinja"],
        "gemnet.zoo": [
            "*.json", "cells/*.json", "presets/*.json", "recipes/*.json", "results/*.json", "weights/*.safetensors",
            "weights/*.json", "data/*.npz", "data/*.LICENSE",
        ],
    },
)
