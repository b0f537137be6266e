"""Where points run: jobs of a cluster, through submitit."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cryoem.errors import InputError
from cryoem.sweeps.workers import last_words, stop_with_parent

_LOST = -1


class Jobs:
    """One job for each training, ``parallel`` in the queue at a time; a point is one machine.

    Jobs of a cluster outlive the sweep that submitted them; the sweep that goes on takes them up
    again by their number.

    Parameters
    ----------
    parallel
        How many at a time.
    folder
        For what the jobs print, and for submitit's own files.
    environment
        Variables for all of them.
    executor
        ``slurm``, or ``local`` for processes of this machine that submitit starts.
    parameters
        Of ``submitit.AutoExecutor.update_parameters``: timeout_min, gpus_per_node, ...
    """

    def __init__(
        self,
        parallel: int,
        folder: Path,
        environment: Mapping[str, str],
        executor: str,
        parameters: Mapping[str, Any],
    ) -> None:
        self.parallel, self.folder = parallel, folder.resolve()
        self.environment = dict(environment)
        self._executor = _executor(self.folder / "submitit", executor, parameters)
        self._jobs: dict[str, Any] = {}

    def start(self, name: str, command: Sequence[str], known_as: str) -> str:
        """Submit, or take up again."""
        if known_as:
            job = self._executor.job_class(self._executor.folder, known_as)
            if not _is_over(job):
                self._jobs[name] = job
                return known_as
        self._executor.update_parameters(name=name)
        log = str(self.folder / f"{name}.txt")
        job = self._executor.submit(run_command, list(command), log, self.environment)
        self._jobs[name] = job
        return str(job.job_id)

    def status(self, name: str) -> int | None:
        """Exit status of the training, -1 if the job was lost."""
        job = self._jobs[name]
        if not _is_over(job):
            return None
        return int(job.result()) if job.paths.result_pickle.exists() else _LOST

    def stop(self, name: str) -> None:
        """Cancel the job: the training gets SIGTERM."""
        self._jobs[name].cancel()

    def stop_all(self) -> None:
        """Cancel all that are not over."""
        for name, job in self._jobs.items():
            if not _is_over(job):
                self.stop(name)

    def last_words(self, name: str) -> str:
        """End of its log."""
        return last_words(self.folder / f"{name}.txt") or "the job ended before the training began"


def run_command(command: list[str], log: str, environment: dict[str, str]) -> int:
    """What a job does: run a command to its end, and tell how it ended.

    The training starts its own ranks; SLURM's variables would have it take the one task of the job
    for one of them.
    """
    ours = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    variables = {**ours, **environment}
    with open(log, "ab") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=variables, preexec_fn=stop_with_parent,
        )  # fmt: skip
        return process.wait()


def _executor(folder: Path, name: str, parameters: Mapping[str, Any]) -> Any:
    try:
        import submitit
    except ImportError:
        raise InputError(
            f"cluster.executor={name} needs submitit.\nInstall it: pip install 'cryoem[sweep]'"
        ) from None
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=name)
        executor.update_parameters(**parameters)
    except (RuntimeError, ValueError, NameError, TypeError) as error:
        raise InputError(f"cluster.executor={name}: {str(error).splitlines()[0]}") from error
    return executor._executor


def _is_over(job: Any) -> bool:
    """Whether a job has ended, also one that another process submitted."""
    if job.paths.result_pickle.exists():
        return True
    if hasattr(job, "_process") and job._process is None:  # local, its number is a process
        return not Path(f"/proc/{job.job_id}").exists()
    return bool(job.done(force_check=False))
