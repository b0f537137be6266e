import os
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoem.errors import InputError
from cryoem.io.pickles import load_pickle


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_in_containers_come_back_from_every_protocol(tmp_path, protocol):
    arrays = (np.arange(12.0).reshape(3, 4), np.arange(3), np.float64(2.5), [1, {"a": np.int64(3)}])
    path = tmp_path / "pose.pkl"
    path.write_bytes(pickle.dumps(arrays, protocol=protocol))
    first, second, third, fourth = load_pickle(path)
    np.testing.assert_array_equal(first, arrays[0])
    np.testing.assert_array_equal(second, arrays[1])
    assert third == 2.5
    assert fourth == [1, {"a": 3}]


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_both_homes_of_numpys_arrays_are_known(tmp_path, module):
    text = pickle.dumps(np.arange(5), protocol=2)
    for name in (b"numpy.core.multiarray", b"numpy._core.multiarray"):
        text = text.replace(b"c" + name + b"\n", b"c" + module + b"\n")
    path = tmp_path / "ind.pkl"
    path.write_bytes(text)
    np.testing.assert_array_equal(load_pickle(path), np.arange(5))


@pytest.mark.parametrize("dtype", ["f4", ">f8", "<i8", "u2", "bool", "c16", "S7", "U5", "f2", "i1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_type_and_both_memory_orders_come_back(tmp_path, dtype, order):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype, order=order)
    path = tmp_path / "x.pkl"
    for protocol in (2, 4, 5):
        path.write_bytes(pickle.dumps([array, array[:0], array[0, 0, 0]], protocol=protocol))
        whole, empty, scalar = load_pickle(path)
        np.testing.assert_array_equal(whole, array)
        assert (whole.dtype, empty.shape) == (array.dtype, (0, 3, 4))
        assert scalar == array[0, 0, 0]


def test_arrays_of_objects_are_refused(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(np.array([1, "a", None], dtype=object)))
    with pytest.raises(InputError, match="refused to load an array of"):
        load_pickle(path)


class _Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "argument"),
    [(os.system, "touch {}"), (eval, "open({!r}, 'w')"), (exec, "open({!r}, 'w')")],
)
def test_a_pickle_that_would_run_code_is_refused_by_name_and_nothing_runs(
    tmp_path, function, argument
):
    trace = tmp_path / "trace"
    path = tmp_path / "pose.pkl"
    path.write_bytes(pickle.dumps(_Evil(function, argument.format(str(trace)))))
    with pytest.raises(InputError, match=rf"pose\.pkl: refused to load \w+\.{function.__name__}"):
        load_pickle(path)
    assert not trace.exists()


def test_dotted_names_do_not_reach_inside_an_allowed_module(tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.")
    with pytest.raises(InputError, match="refused"):
        load_pickle(path)


@pytest.mark.parametrize("content", [b"", b"abc", b"\x80\x04", b"\x80\x04K\x01"])
def test_garbage_is_an_input_error(tmp_path, content):
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable pickle"):
        load_pickle(path)


@settings(max_examples=400, deadline=None)
@given(position=st.integers(0, 200), value=st.integers(0, 255))
def test_a_flipped_byte_gives_data_or_an_input_error(tmp_path_factory, position, value):
    content = bytearray(pickle.dumps((np.arange(6.0), np.arange(2)), protocol=4))
    content[position % len(content)] = value
    path = tmp_path_factory.mktemp("pickle") / "x.pkl"
    path.write_bytes(content)
    try:
        load_pickle(path)
    except InputError:
        pass
