"""Exit codes, and the kind of every error."""

import pytest

from hello_mesh.base import errors


def test_exit_codes_are_those_that_scripts_rely_on() -> None:
    codes = (errors.EXIT_FAILED, errors.EXIT_USAGE, errors.EXIT_ENVIRONMENT, errors.EXIT_INTERRUPTED)
    assert codes == (1, 2, 3, 130)


def test_a_grpc_status_and_a_signal_have_exit_codes_of_their_own() -> None:
    assert errors.exit_code_of_status(14) == 78
    assert errors.exit_code_of_signal(15) == 143


@pytest.mark.parametrize(
    ("error", "base"),
    [
        (errors.UsageError, errors.HelloError),
        (errors.StoreError, errors.RuntimeEnvironmentError),
        (errors.SpanError, errors.PayloadError),
        (errors.UnknownIndexError, errors.GreetingError),
        (errors.TooManyGreetingsError, errors.GreetingError),
    ],
)
def test_a_special_error_is_also_its_general_error(error: type[Exception], base: type[Exception]) -> None:
    assert issubclass(error, base)
    assert issubclass(error, errors.HelloError)
