"""Sweeps: every point once, ranked by what matters, and going on where they stopped."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import sweep
from conf.compose import compose
from cryoem.sweeps import run as sweep_run

# Stands in for a training: its objective rises with the epochs, the faster the larger the latent.
STUB = """
import json, os, signal, sys, time
from pathlib import Path
keys = dict(part.split("=", 1) for part in sys.argv[1:])
folder, dim = Path(keys["output_dir"]), float(keys["model.latent_dim"])
folder.mkdir(parents=True, exist_ok=True)
table, stop = folder / "metrics.csv", []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
if dim == 3:
    print("train.py: no memory for 3")
    sys.exit(2)
if not table.exists():
    table.write_text("epoch,held_out_explained_nats\\n")
with (folder / "started").open("a") as file:
    file.write(json.dumps([keys, os.environ["WANDB_RUN_GROUP"]]) + "\\n")
for epoch in range(len(table.read_text().splitlines()) - 1, 5):
    if Path("slow").exists():
        time.sleep(0.4)
    with table.open("a") as file:
        file.write(f"{epoch},{dim * (epoch + 1)}\\n")
    if stop:
        sys.exit(143)
(folder / "metrics.json").write_text(json.dumps(
    {"held_out/explained_nats": 5 * dim, "epochs": 5, "resolution": [1]}))
"""


@pytest.fixture(autouse=True)
def _stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stub = tmp_path / "stub.py"
    stub.write_text(STUB)
    monkeypatch.setattr(sweep, "TRAIN", stub)
    monkeypatch.setattr(sweep_run, "_POLL_S", 0.05)
    previous = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, previous)


def go(*overrides: str) -> int:
    # somebody else's particles: nothing is simulated
    return sweep.main([*overrides, "data.folder=shared"])


def board(name: str) -> list[dict[str, str]]:
    with open(f"sweeps/{name}/leaderboard.csv") as file:
        return list(csv.DictReader(file))


def group(name: str, number: int) -> str:
    """W&B's, as the training was told it."""
    lines = Path(f"sweeps/{name}/point_{number:03d}/started").read_text().splitlines()
    return json.loads(lines[0])[1]


def starts(name: str, number: int) -> list[dict[str, str]]:
    lines = Path(f"sweeps/{name}/point_{number:03d}/started").read_text().splitlines()
    return [json.loads(line)[0] for line in lines]


def test_a_grid_ranks_its_points_and_says_how_to_go_on() -> None:
    assert go("hparams=latent_dim", "seed=3", "name=dims", "cluster.parallel=2") == 0
    rows = board("dims")
    assert [row["model.latent_dim"] for row in rows] == ["8", "4", "2", "1"]
    assert [row["state"] for row in rows] == ["finished"] * 4
    assert "resolution" not in rows[0]
    assert [starts("dims", n)[0]["model.latent_dim"] for n in (1, 2, 3, 4)] == list("1248")
    first, second = starts("dims", 1)[0], starts("dims", 2)[0]
    assert (first["seed"], first["data.held_out"]) == ("3", "0.1")
    assert first["output_dir"] == "sweeps/dims/point_001"
    assert "preflight" not in first
    assert {group("dims", number) for number in (1, 2, 3, 4)} == {"dims"}
    assert second["preflight"] == "false"
    page = Path("sweeps/dims/sweep.html").read_text()
    assert "python train.py --config-dir sweeps/dims --config-name best" in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_best_configuration_is_a_training_on_all_of_the_data() -> None:
    assert go("model.latent_dim=1,2", "name=dims") == 0
    config = compose([], config_name="best", config_dir="sweeps/dims")
    assert config.model.latent_dim == 2
    assert config.data.held_out == 0
    assert config.output_dir == "runs/dims_best"


def test_a_failing_point_is_recorded_and_the_others_run() -> None:
    assert go("model.latent_dim=1,3,2", "name=dims") == 1
    rows = board("dims")
    assert [row["state"] for row in rows] == ["finished", "finished", "failed"]
    assert rows[2]["error"] == "train.py: no memory for 3"
    assert "no memory for 3" in Path("sweeps/dims/sweep.html").read_text()


def test_an_unknown_objective_names_the_metrics() -> None:
    assert go("model.latent_dim=1,2", "objective.metric=beauty") == 1
    assert "epochs, held_out/explained_nats" in board("sweep")[0]["error"]


def test_the_same_command_runs_nothing_again_and_another_one_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert go("model.latent_dim=1,2", "name=dims") == 0
    assert go("model.latent_dim=1,2", "name=dims") == 0
    assert len(starts("dims", 1)) == 1
    assert go("model.latent_dim=1,2,4", "name=dims") == 2
    assert "Choose another name=" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_sweep_that_was_killed_goes_on(number: signal.Signals) -> None:
    root = Path(sweep.__file__).parent
    child = (
        f"import sys; sys.path.insert(0, {str(root)!r}); import sweep; from pathlib import Path\n"
        "sweep.TRAIN = Path('stub.py')\n"
        "sweep.sys.exit(sweep.main(sys.argv[1:]))"
    )
    overrides = ["hparams=latent_dim", "name=dims", "cluster.parallel=2"]
    Path("slow").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", child, *overrides, "data.folder=shared"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    until = time.monotonic() + 120
    while not Path("sweeps/dims/point_002/started").exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(number)
    status = process.wait()
    assert status == (130 if number == signal.SIGTERM else -signal.SIGKILL)
    Path("slow").unlink()
    time.sleep(0.6)  # the points finish their step
    assert go(*overrides) == 0
    rows = board("dims")
    assert [row["model.latent_dim"] for row in rows] == ["8", "4", "2", "1"]
    assert len(starts("dims", 2)) == 2
    epochs = Path("sweeps/dims/point_002/metrics.csv").read_text().split()[1:]
    assert [line.split(",")[0] for line in epochs] == list("01234")
    assert Path("sweeps/dims/sweep.html").is_file()


@pytest.mark.filterwarnings("ignore:.*experimental")
def test_points_that_fall_behind_are_stopped_and_trials_can_be_added() -> None:
    Path("slow").touch()
    space = ("model.latent_dim=int(interval(4,64))", "hparams.sampler=tpe", "hparams.prune=true")
    assert go(*space, "name=t", "hparams.trials=7", "cluster.parallel=3") == 0
    states = [row["state"] for row in board("t")]
    assert states.count("finished") >= 4
    assert set(states) <= {"finished", "pruned"}
    Path("slow").unlink()
    assert go(*space, "name=t", "hparams.trials=9", "cluster.parallel=3") == 0
    assert len(board("t")) == 9
    assert Path("sweeps/t/figures/importance.png").is_file()


def test_no_point_runs_if_one_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert go("model.latent_dim=2,two") == 2
    assert "model.latent_dim=two" in capsys.readouterr().err
    assert go("model.latent_dim=interval(1,2)") == 2
    assert "a grid needs single values" in capsys.readouterr().err
    assert go("hparams=latent_dim", "cluster.parallel=0") == 2
    assert not Path("sweeps").exists()


def test_a_decoder_comes_with_its_encoder_unless_the_command_says_another() -> None:
    plan = sweep.SweepPlan(["hparams=decoder", "model.latent_dim=2"])
    values = {"model/decoder": "fourier_mlp_small"}
    assert "model/encoder=mlp" in plan.recipe.of_point(1, values)
    plan = sweep.SweepPlan(["model/decoder=fourier_mlp,fourier_mlp_small", "model/encoder=conv"])
    assert "model/encoder=conv" in plan.recipe.of_point(1, values)


def test_agents_of_wandb_get_the_same_space(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main(["hparams=optuna", "cluster=wandb", "name=w", "data.folder=shared"]) == 0
    assert "wandb sweep sweeps/w/wandb.yaml" in capsys.readouterr().out
    content = yaml.safe_load(Path("sweeps/w/wandb.yaml").read_text())
    assert content["method"] == "bayes"
    assert content["metric"] == {"name": "held_out/explained_nats", "goal": "maximize"}
    assert content["parameters"]["model.latent_dim"] == {
        "distribution": "int_uniform", "min": 1, "max": 10,
    }  # fmt: skip
    assert content["parameters"]["model.beta"]["distribution"] == "log_uniform_values"
    command = content["command"]
    assert command[-1] == "${args_no_hyphens}"
    # what an agent starts: the values replace the space, and it is a sweep of one point
    values = ["model/decoder=fourier_mlp_small", "model.latent_dim=3", "model.beta=1"]
    agent = [part.replace("${oc.env:WANDB_RUN_ID}", "abc") for part in command[3:-1]]
    plan = sweep.SweepPlan([*agent, *values, "model.optimizer.lr=0.001"])
    assert plan.space == {}
    point = plan.recipe.of_point(1, {})
    assert "model/encoder=mlp" in point
    assert "output_dir=sweeps/w/abc/point_001" in point
