"""Where compiled programs are kept between commands."""

from __future__ import annotations

import os

import pytest

from safetrax.cli.program_cache import keep_compiled_programs

WHERE, *MORE = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_COMPILATION_CACHE_MAX_SIZE",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
)


@pytest.fixture
def unset(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in (WHERE, *MORE):
        monkeypatch.setenv(name, "")  # so that what the function sets goes again
        monkeypatch.delenv(name)
    return tmp_path / "safetrax"


def test_a_folder_for_each_kind_of_program(unset, monkeypatch):
    folders = set()
    for flags, threads in (("", "1"), ("--xla_cpu_max_isa=AVX2", "1"), ("", "2"), ("", "1")):
        monkeypatch.setenv("XLA_FLAGS", flags)
        monkeypatch.setenv("NPROC", threads)
        monkeypatch.delenv(WHERE, raising=False)
        keep_compiled_programs()
        folders.add(os.environ[WHERE])
    assert len(folders) == 3
    assert {str(folder) for folder in unset.iterdir()} == folders


def test_what_the_user_says_counts(unset, monkeypatch):
    monkeypatch.setenv(WHERE, "elsewhere")
    keep_compiled_programs()
    assert os.environ[WHERE] == "elsewhere"


def test_where_nothing_can_be_kept_nothing_is(unset, monkeypatch):
    unset.write_text("a file where the folder would be")
    keep_compiled_programs()
    assert WHERE not in os.environ
