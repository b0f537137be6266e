import subprocess
import sys
from types import ModuleType

import pytest

from cryoem.cli import main as dispatcher
from cryoem.cli.main import VERBS, main
from cryoem.errors import InputError


def verb(run) -> ModuleType:
    module = ModuleType("cryoem.cli.fsc", "A verb.")
    module.add_arguments = lambda parser: parser.add_argument("file")
    module.run = run
    return module


def test_help_lists_every_verb_and_loads_no_torch() -> None:
    code = (
        "import sys; from cryoem.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert all(name in result.stdout for name in VERBS)


@pytest.mark.parametrize("arguments", [["frobnicate"], [], ["fsc", "--frobnicate"], ["fsc"]])
def test_what_is_not_understood_is_one_line_and_status_two(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_explains_itself_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert f"cryoem {name} " in capsys.readouterr().out.split("positional arguments")[0]


def test_bad_input_is_its_message_and_status_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args):
        raise InputError(f"{args.file}: is not what it should be; take another")

    monkeypatch.setattr(dispatcher.importlib, "import_module", lambda name: verb(run))
    assert main(["fsc", "a.mrc"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "cryoem fsc: a.mrc: is not what it should be; take another\n"
    assert captured.out == ""


def test_ctrl_c_ends_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(dispatcher.importlib, "import_module", lambda name: verb(run))
    assert main(["fsc", "a.mrc"]) == 130
    assert capsys.readouterr().err == "cryoem fsc: interrupted\n"
