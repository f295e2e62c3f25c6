"""Trained tensors in eight bits and back."""

import ml_dtypes
import numpy as np
import pytest

from neva.nano.narrow import LEAST, SCALE, Widened, narrowed
from neva.nano.sixbit import squeezed, widened


def test_a_matrix_comes_back_within_half_a_level_of_its_row() -> None:
    value = np.random.default_rng(0).normal(size=(96, 64)).astype(np.float32)
    value[3] *= 1000  # one row must not coarsen the others
    value[5] = 0
    stored = narrowed({"layers.0.fc1.weight": value})
    assert stored["layers.0.fc1.weight"].dtype == np.int8
    assert stored["layers.0.fc1.weight" + SCALE].shape == (96, 1)
    back = Widened(stored)["layers.0.fc1.weight"]
    assert back.dtype == ml_dtypes.bfloat16
    most = np.abs(value).max(axis=1, keepdims=True)
    error = np.abs(back.astype(np.float32) - value)
    assert (error <= most * (0.5 / 127 + 2**-8)).all()
    assert error[3].max() > most[0]  # of the large row alone
    assert not back[5].any()


def test_an_adapter_has_a_scale_for_each_component() -> None:
    rng = np.random.default_rng(1)
    down, up = rng.normal(size=(32, 200)), rng.normal(size=(200, 32))
    up[:, 7] *= 100
    stored = narrowed({"q.lora_A": down, "q.lora_B": up})
    assert stored["q.lora_A" + SCALE].shape == (32, 1)
    assert stored["q.lora_B" + SCALE].shape == (1, 32)
    whole = Widened(stored)
    assert sorted(whole) == ["q.lora_A", "q.lora_B"]
    assert len(whole) == 2
    error = np.abs(whole["q.lora_B"].astype(np.float64) - up).max(axis=0)
    assert (error <= np.abs(up).max(axis=0) * (0.5 / 31 + 2**-8)).all()


def test_six_bits_hold_every_number_anywhere() -> None:
    every = np.tile(np.arange(-32, 32, dtype=np.int8), (9, 2))
    numbers = np.random.default_rng(3).permuted(every, axis=1)
    stored = squeezed(numbers)
    assert stored.dtype == np.uint8 and stored.shape == (9, 96)
    assert np.array_equal(widened(stored), numbers)


def test_an_adapter_is_in_six_bits_where_four_fit() -> None:
    value = np.random.default_rng(4).normal(size=(200, 32))
    stored = narrowed({"q.lora_B": value, "v.lora_B": np.repeat(value, 3, 1)[:, :30]})
    assert stored["q.lora_B"].dtype == np.uint8 and stored["q.lora_B"].shape == (200, 24)
    assert stored["v.lora_B"].dtype == np.int8 and stored["v.lora_B"].shape == (200, 30)


@pytest.mark.parametrize("shape", [(LEAST,), (8, 16), (4, 3, 16, 32)])
def test_what_is_small_or_no_matrix_stays_in_bfloat16(shape: tuple[int, ...]) -> None:
    value = np.random.default_rng(2).normal(size=shape)
    stored = narrowed({"x": value})
    assert list(stored) == ["x"]
    assert np.array_equal(stored["x"], value.astype(ml_dtypes.bfloat16))
    assert np.array_equal(Widened(stored)["x"], stored["x"])
