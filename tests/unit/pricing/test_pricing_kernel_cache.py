from __future__ import annotations

import os

from btcfi.pricing.kernel_cache import drop_stale_kernels


def test_a_cached_kernel_older_than_any_source_is_dropped(tmp_path):
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    for name, at in (("old.nbi", 10), ("new.nbi", 30), ("old.pyc", 10)):
        (cache / name).touch()
        os.utime(cache / name, (at, at))
    for name, at in (("kernels.py", 20), ("premium.py", 5)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (at, at))
    assert drop_stale_kernels(tmp_path) == 1
    assert {path.name for path in cache.iterdir()} == {"new.nbi", "old.pyc"}


def test_a_folder_without_a_cache_is_left_alone(tmp_path):
    assert drop_stale_kernels(tmp_path / "none") == 0
