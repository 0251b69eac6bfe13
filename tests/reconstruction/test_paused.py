import threading

import pytest

from torchcompress.reconstruction.paused import Paused


def test_a_function_and_its_caller_take_turns() -> None:
    said: list[str] = []

    def count(run: Paused) -> None:
        for number in range(2):
            said.append(f"function {number}")
            assert run.is_here
            run.pause(number)

    run = Paused(count)
    assert said == []
    for number in range(2):
        assert run.advance() == number
        said.append(f"caller {number}")
        assert not run.is_here
    assert run.advance() is None
    assert run.advance() is None
    assert said == ["function 0", "caller 0", "function 1", "caller 1"]
    run.close()


def test_an_error_is_raised_where_the_function_was_waited_for() -> None:
    def fail(run: Paused) -> None:
        run.pause("first")
        raise ValueError("second")

    run = Paused(fail)
    assert run.advance() == "first"
    with pytest.raises(ValueError, match="second"):
        run.advance()
    assert run.advance() is None


def test_what_is_closed_ends_where_it_stands_and_leaves_no_thread() -> None:
    said: list[str] = []
    before = threading.active_count()

    def work(run: Paused) -> None:
        try:
            run.pause("here")
            said.append("went on")
        finally:
            said.append("cleaned up")

    stopped, unstarted = Paused(work), Paused(work)
    stopped.advance()
    stopped.close()
    unstarted.close()
    assert said == ["cleaned up"]
    assert threading.active_count() == before
