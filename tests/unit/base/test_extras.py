"""Imports that need an optional extra of the package."""

import pytest

from hello_mesh.base.errors import RuntimeEnvironmentError
from hello_mesh.base.extras import extra


def test_a_missing_extra_is_reported_with_its_module_and_a_fix() -> None:
    with pytest.raises(RuntimeEnvironmentError) as raised, extra("mesh"):
        raise ImportError("no module", name="missing.module")
    assert str(raised.value) == (
        "the extra 'mesh' is not installed (missing is missing):"
        " run scripts/setup, or pip install 'hello-servicemesh-grpc[mesh]'"
    )


def test_other_errors_pass_the_guard_unchanged() -> None:
    with pytest.raises(ValueError, match="unrelated"), extra("mesh"):
        raise ValueError("unrelated")
