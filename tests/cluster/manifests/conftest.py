"""Manifests in kube/, rendered by the real kubectl."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from manifests import COMBINATIONS, Combination, Manifests, Render, overlay


@pytest.fixture(scope="session")
def render(tmp_path_factory: pytest.TempPathFactory) -> Render:
    """Render the given components."""

    def render(*chosen: str, image: str | None = None) -> Manifests:
        return overlay(tmp_path_factory.mktemp("overlay"), chosen, image)

    return render


@pytest.fixture(scope="session")
def base(render: Render) -> Manifests:
    """Render kube/ without components."""
    return render()


@pytest.fixture(scope="session")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[Combination, Manifests]:
    """Render all `COMBINATIONS`."""
    parent = tmp_path_factory.mktemp("every")

    def rendered(chosen: Combination) -> Manifests:
        folder: Path = parent / ("+".join(chosen) or "none")
        folder.mkdir()
        return overlay(folder, chosen)

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(COMBINATIONS, pool.map(rendered, COMBINATIONS), strict=True))
