"""The entry point: help, exit codes, one line per fault, and a quick start."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

import safetrax
from safetrax.cli import doctor
from safetrax.cli.main import VERBS, main
from safetrax.errors import DataError, SafeTraXWarning


def test_help_lists_every_verb_with_one_line_and_an_example(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for verb, line in VERBS.items():
        assert f"  {verb:<13}{line}\n" in out
    assert "safetrax train trac --data demo" in out


def test_no_words_show_the_help(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("usage: safetrax VERB")


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"safetrax {safetrax.__version__}\n"


@pytest.mark.parametrize(("word", "meant"), [("trian", "train"), ("Inspect", "inspect"), ("evaluat", "evaluate")])
def test_an_unknown_verb_names_the_nearest(word, meant, capsys):
    assert main([word]) == 2
    assert capsys.readouterr().err == f"safetrax: there is no verb {word!r}; did you mean {meant}?\n"


def test_an_unknown_flag_names_the_nearest(capsys):
    assert main(["--verison"]) == 2
    assert capsys.readouterr().err == "safetrax: there is no flag '--verison'; did you mean --version?\n"


def test_an_unlike_verb_lists_all(capsys):
    assert main(["qqq"]) == 2
    assert f"choose one of {', '.join(VERBS)}." in capsys.readouterr().err


def _verb(monkeypatch, body):
    """Have `safetrax doctor` do something else."""
    monkeypatch.setattr(doctor, "run", lambda argv: body())


def test_an_error_is_one_line_whatever_its_text(monkeypatch, capsys):
    def body():
        raise DataError("the file\n  is bad.")

    _verb(monkeypatch, body)
    assert main(["doctor"]) == 2
    said = capsys.readouterr()
    assert said.err == "safetrax: the file is bad.\n"
    assert said.out == ""


def test_the_traceback_is_shown_when_asked_for(monkeypatch, capsys):
    def body():
        raise DataError("the file is bad.")

    _verb(monkeypatch, body)
    monkeypatch.setenv("SAFETRAX_TRACEBACK", "1")
    assert main(["doctor"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("safetrax: the file is bad.\n")


def test_a_fault_of_the_code_is_not_hidden(monkeypatch):
    def body():
        raise ZeroDivisionError

    _verb(monkeypatch, body)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_ctrl_c_ends_with_130(monkeypatch, capsys):
    def body():
        raise KeyboardInterrupt

    _verb(monkeypatch, body)
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err == "safetrax: interrupted.\n"


def test_our_warnings_are_one_line_each_time_and_others_are_left_alone(monkeypatch, capsys):
    def body():
        for _ in range(2):
            warnings.warn("the costs\nare odd.", SafeTraXWarning, stacklevel=1)
        return 0

    _verb(monkeypatch, body)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().err == "safetrax: warning: the costs are odd.\n" * 2


def test_help_does_without_jax():
    code = (
        "import sys\n"
        "from safetrax.cli.main import main\n"
        "for argv in (['--help'], ['--version'], ['train', '--help'], ['inspect', '--help'], ['doctor', '--help']):\n"
        "    assert main(argv) == 0, argv\n"
        "    assert 'jax' not in sys.modules, argv\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
