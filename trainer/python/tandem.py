"""Tandem's jobs for a training in Python, and a search's results for a notebook.

    import tandem

    for job in tandem.jobs():                                # one, or one after the other with "keep_alive"
        model = build(job.configuration["width"])
        for epoch in job.remaining({"model": model}):        # from the last checkpoint on, if there is one
            loss = train_and_validate(model, job.configuration["learning_rate"])
            job.report(epoch, loss)                          # learning curve, checkpoint, result, stopping

    tandem.results("DIR")                                    # rows for pandas.DataFrame
    tandem.incumbent("DIR")

One file without dependencies, for Python 3.6 and later. The files behind it are described in docs/any-trainer.md.
"""

import atexit
import calendar
import contextlib
import io
import json
import math
import os
import pickle
import re
import signal
import sys
import threading
import time
import warnings

__all__ = ["Job", "incumbent", "jobs", "results"]

_AGAIN = 75  # the exit code that gives a job back
_WHOLE = ("epochs", "steps")  # units that are counted
_TELL_S = 0.1  # between two writings of progress and result
_MOST_POINTS = 4096  # of a learning curve
_SAVING_SHARE = 0.05  # of the time that checkpoints may take
_CHECKPOINT = "tandem.checkpoint"


# Jobs


def jobs():
    """The jobs that the trainer hands over: one, or with "keep_alive" one after the other.

    A job ends with the body of the loop. In a script without a loop `job = next(tandem.jobs())` is the only one. Where
    no trainer has started the script, it gets one job that is written down nowhere, and for which `arguments` are those
    of the command line.
    """
    place = os.environ.get("TANDEM_JOB")
    if not place:
        yield Job(None, None)
        return
    warning = _Warning()
    if place != "-":
        if sys.argv[-1] == place:
            sys.argv.pop()  # the other arguments are the script's
        yield from _one(place, warning)
        return
    warning.is_idle = True
    for line in iter(sys.stdin.readline, ""):
        path = line.rstrip("\n")
        warning.is_idle = False
        yield from _one(path, warning)
        sys.stdout.flush()
        os.write(1, (path + "\n").encode())
        warning.is_idle = True


def _one(path, warning):
    job = Job(path, warning)
    # Also where the script leaves the loop early.
    atexit.register(job._tell)
    yield job
    job._finish()
    atexit.unregister(job._tell)


class Job:
    """A training to be done: what, how long, and where it tells how it goes."""

    def __init__(self, path, warning):
        given = _BY_HAND
        if path is not None:
            with open(path, encoding="utf-8") as file:
                given = json.load(file)
        #: Everything that the job file says.
        self.file = given
        #: The id, such as `c000123-r2`.
        self.id = given["job"]
        #: Every active hyperparameter: name -> value.
        self.configuration = _Configuration(given["configuration"])
        #: What to spend in all, earlier attempts and rungs included: a whole number of epochs or steps, or seconds.
        self.budget = given["budget"]["amount"]
        #: What the budget counts: `epochs`, `steps`, `seconds` or `cpu_seconds`.
        self.unit = given["budget"]["unit"]
        if self.unit in _WHOLE:
            self.budget = max(1, math.floor(self.budget + 0.5))
        #: A number below 2**32, for random generators; the same for all jobs of a configuration.
        self.seed = given["seed"] % 2**32
        #: The number of the trainer on its host, or None.
        self.worker = given.get("worker")
        #: The folder of this job's checkpoints, the same at every attempt.
        self.checkpoints = given["checkpoints"]
        self._amount = given["budget"]["amount"]
        self._warning = warning
        # Of the processes of one training the first one writes.
        self._writes = path is not None and os.environ.get("RANK", "0") == "0"
        self._spent = 0
        self._saved = 0
        self._state = None
        self._curve = []
        self._measures = {}
        # The first losses at or beyond the budgets at which the trainer looks, and those budgets.
        self._checks = []
        self._looks = [check["spent"] for check in given.get("checks", ())]
        self._told_at = None
        self._saved_at = None
        self._save_s = 0.0

    @property
    def should_stop(self):
        """Whether the trainer wants its node back: the next `report` saves and ends the program."""
        return self._warning is not None and self._warning.is_up

    def arguments(self, parser):
        """What an `argparse` parser makes of the command line, with this job's values in place of its defaults.

        Every hyperparameter must have an argument of its name; the budget becomes `epochs`, `steps` or `seconds` and the
        seed `seed`, where the parser has them. What the search's command gives itself, stays.
        """
        if self.file is _BY_HAND:
            arguments = parser.parse_args()
            self.unit = next((unit for unit in (*_WHOLE, "seconds") if hasattr(arguments, unit)), self.unit)
            self.budget = getattr(arguments, self.unit, self.budget)
            return arguments
        values = {name.replace("-", "_"): value for name, value in self.configuration.items()}
        known = {action.dest: action for action in parser._actions}
        unknown = [name for name in values if name not in known]
        if unknown:
            parser.error("no argument for the hyperparameters {}".format(", ".join("--" + name for name in unknown)))
        for name, value in ((self.unit, self.budget), ("seed", self.seed)):
            if name in known:
                values.setdefault(name, value)
        for name in values:
            known[name].required = False
        parser.set_defaults(**values)
        return parser.parse_args()

    def resume(self, state=None):
        """Goes on from the last checkpoint, if there is one: what that had spent, else 0.

        `state` is what to go on from, a dictionary: models, optimizers and everything else that has `state_dict` and
        `load_state_dict`, and values that `pickle` or `torch.save` can write. The former are loaded, the latter replaced
        in it, and every `report` saves it. The random generators of Python, NumPy and PyTorch go on as well.
        """
        self._state = state
        saved = self._read_checkpoint()
        if saved is None:
            return 0
        for name, value in saved["state"].items() if state is not None else ():
            if hasattr(state.get(name), "load_state_dict"):
                state[name].load_state_dict(value)
            else:
                state[name] = value
        _restore_random(saved["random"])
        self._spent = self._saved = saved["spent"]
        self._curve = saved["curve"]
        self._checks = saved.get("checks", [])
        self._measures = saved["measures"]
        print("tandem: going on after {} {}".format(self._spent, self.unit), file=sys.stderr)
        return self._spent

    def remaining(self, state=None):
        """The numbers of the epochs or steps that remain, counted from 1, after `resume(state)`."""
        if self.unit not in _WHOLE:
            raise ValueError("the budget is in seconds: use `spent = job.resume(state)` and a clock")
        return range(self.resume(state) + 1, self.budget + 1)

    def report(self, spent, loss=None, state=None, training_loss=None, **measures):
        """Says how far the training is, and what its loss on the validation data is.

        `spent` counts epochs, steps or seconds from the start, earlier attempts included. The last `loss` is the job's
        result, NaN or infinity end it as diverged. `measures` are other numbers of the result. `state`, by default
        what `resume` was given, is saved now or, where saving takes more than a twentieth of the time, at a later report.
        After a warning it is saved and the program ends, unless the whole budget is spent.
        """
        self._spent = spent
        self._state = self._state if state is None else state
        is_over = spent >= self.budget
        self._measures.update((name, float(value)) for name, value in measures.items())
        if loss is not None and not math.isfinite(float(loss)):
            self.diverged("the loss is {} at {} {}".format(float(loss), spent, self.unit))
        self._add_point(loss, training_loss)
        is_check = self._check(loss)
        is_stopping = self.should_stop and not is_over
        if self._state is not None and self._writes and (is_stopping or is_over or self._is_time_to_save()):
            self._save(is_stopping)
        is_time = self._told_at is None or time.monotonic() - self._told_at >= _TELL_S
        if is_over or is_stopping or is_check or is_time:
            self._tell()
        if is_stopping:
            print("tandem: told to stop at {} {}".format(spent, self.unit), file=sys.stderr)
            sys.exit(_AGAIN)

    def checkpoint(self, name):
        """A path in the folder of this job's checkpoints, for files of your own.

        `with job.checkpoint("last.pt") as path:` writes it as a whole or not at all: it gets its name at the end.
        """
        return _Checkpoint(os.path.join(self.checkpoints, name), self)

    def diverged(self, message):
        """Ends the job, and the program, as worse than every loss."""
        print("tandem: diverged: {}".format(message), file=sys.stderr)
        self._write("result", {"diverged": message, "spent": self._in_budget(self._spent)})
        # `_tell` must not put a loss in its place.
        atexit.unregister(self._tell)
        sys.exit(0)

    def infeasible(self, **measures):
        """Ends the job, and the program, before it is trained: a measure breaks a constraint of the search."""
        self._write("result", {"measures": {name: float(value) for name, value in measures.items()}})
        # `_tell` must not put a loss in its place.
        atexit.unregister(self._tell)
        sys.exit(0)

    def _check(self, loss):
        """Whether this is the first loss at or beyond a budget at which the trainer looks."""
        number = len(self._checks)
        for spent in self._looks[number:] if loss is not None else ():
            if self._spent >= spent:
                self._checks.append({"spent": self._in_budget(self._spent), "loss": float(loss)})
        return len(self._checks) > number

    def _add_point(self, loss, training_loss):
        point = {"spent": self._in_budget(self._spent)}
        for name, value in (("training_loss", training_loss), ("loss", loss)):
            if value is not None and math.isfinite(float(value)):
                point[name] = float(value)
        if len(point) == 1:
            return
        self._curve.append(point)
        if len(self._curve) >= _MOST_POINTS:
            self._curve = self._curve[1::2]

    def _in_budget(self, spent):
        """A budget of 1.85 epochs is two of them here, which the files must not exceed."""
        return min(spent, self._amount)

    def _is_time_to_save(self):
        return self._saved_at is None or (time.monotonic() - self._saved_at) * _SAVING_SHARE >= self._save_s

    def _save(self, is_stopping):
        if is_stopping:
            self._write_progress(saving=True)
        start = time.monotonic()
        content = {
            "spent": self._spent,
            "curve": self._curve,
            "checks": self._checks,
            "measures": self._measures,
            "state": {name: _state_of(value) for name, value in self._state.items()},
            "random": _random_states(),
        }
        with self.checkpoint(_CHECKPOINT) as path:
            _write_checkpoint(path, content)
        self._saved_at = time.monotonic()
        self._save_s = self._saved_at - start

    def _read_checkpoint(self):
        path = self.checkpoint(_CHECKPOINT)
        if self.file is _BY_HAND or not os.path.exists(path):
            return None
        with _machines_fault("cannot read " + path):
            with open(path, "rb") as file:
                is_torchs = file.read(2) == b"PK"
                file.seek(0)
                if not is_torchs:
                    return pickle.load(file)
                import torch

                # What is loaded goes to the device of what it is loaded into.
                return torch.load(file, map_location="cpu", weights_only=False)

    def _finish(self):
        if not self._writes:
            return
        if not any("loss" in point for point in self._curve):
            raise RuntimeError("{} has ended without `job.report(spent, loss)`: it has no loss".format(self.id))
        self._tell()

    def _tell(self):
        """Progress, and the result as it would be if the training ended here."""
        self._write_progress()
        losses = [point["loss"] for point in self._curve if "loss" in point]
        if losses:
            self._write("result", {"loss": losses[-1], "curve": self._curve, "measures": self._measures})
        self._told_at = time.monotonic()

    def _write_progress(self, saving=False):
        spent, saved = self._in_budget(self._spent), self._in_budget(self._saved)
        progress = {"spent": spent, "saved": saved, "saving": saving}
        if self._checks:
            progress["checks"] = self._checks
        self._write("progress", progress)

    def _write(self, name, content):
        if self._writes:
            with _machines_fault("cannot write " + self.file[name]):
                part = self.file[name] + ".part"
                with open(part, "w", encoding="utf-8") as file:
                    json.dump(content, file)
                os.replace(part, self.file[name])


class _Configuration(dict):
    def __missing__(self, name):
        raise KeyError("no active hyperparameter `{}`; there are: {}".format(name, ", ".join(self) or "none"))


#: The job of a script that no trainer has started.
_BY_HAND = {
    "job": "by-hand",
    "configuration": {},
    "budget": {"amount": sys.maxsize, "unit": "steps"},
    "seed": 0,
    "checkpoints": os.curdir,
}


class _Checkpoint(str):
    """The path of a file; as a context, that of the file which will take its place."""

    def __new__(cls, path, job):
        self = super().__new__(cls, path)
        self._job = job
        return self

    def __enter__(self):
        return self + ".part"

    def __exit__(self, kind, error, traceback):
        with _machines_fault("cannot write " + self):
            if kind is None:
                with open(self + ".part", "rb+") as file:
                    os.fsync(file.fileno())
                os.replace(self + ".part", self)
                self._job._saved = self._job._spent
                return
            if os.path.exists(self + ".part"):
                os.remove(self + ".part")
            if issubclass(kind, OSError):
                raise error


@contextlib.contextmanager
def _machines_fault(what):
    """A file that cannot be read or written is this machine's fault: the job is given back."""
    try:
        yield
    except OSError as error:
        print("tandem: {}: {}".format(what, error), file=sys.stderr)
        sys.exit(_AGAIN)


class _Warning:
    """Whether the trainer has told this program to stop."""

    def __init__(self):
        self.is_up = False
        self.is_idle = False
        self._process = os.getpid()
        if threading.current_thread() is not threading.main_thread():
            return
        self._before = signal.signal(signal.SIGTERM, self._hear)
        # A warning must not kill Python while it shuts down, when all is done.
        atexit.register(self._ignore)

    def _hear(self, number, frame):
        if os.getpid() != self._process:
            # Processes that load data are ended as if nobody listened.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.is_up = True
        if callable(self._before):
            self._before(number, frame)
        if self.is_idle:
            sys.exit(_AGAIN)

    def _ignore(self):
        if os.getpid() == self._process:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _state_of(value):
    return value.state_dict() if hasattr(value, "state_dict") else value


class _Writer(io.FileIO):
    """Remembers why it failed: PyTorch makes other errors of it."""

    error = None

    def write(self, data):
        try:
            left = memoryview(data).cast("B")
            size = len(left)
            while left:
                left = left[super().write(left) :]
            return size
        except OSError as error:
            self.error = error
            raise


def _write_checkpoint(path, content):
    torch = sys.modules.get("torch")
    with _Writer(path, "wb") as file:
        try:
            if torch is None:
                pickle.dump(content, file, protocol=4)
            else:
                torch.save(content, file)
        except Exception:
            if file.error is not None:
                raise file.error
            raise


def _random_states():
    states = {}
    if "random" in sys.modules:
        states["random"] = sys.modules["random"].getstate()
    if "numpy" in sys.modules:
        states["numpy"] = sys.modules["numpy"].random.get_state()
    torch = sys.modules.get("torch")
    if torch is not None:
        states["torch"] = torch.get_rng_state()
        if torch.cuda.is_initialized():
            states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def _restore_random(states):
    if "random" in states:
        import random

        random.setstate(states["random"])
    if "numpy" in states and "numpy" in sys.modules:
        sys.modules["numpy"].random.set_state(states["numpy"])
    torch = sys.modules.get("torch")
    if torch is not None and "torch" in states:
        torch.set_rng_state(states["torch"])
        # On a node with other GPUs than before they begin anew.
        if "cuda" in states and torch.cuda.device_count() == len(states["cuda"]):
            torch.cuda.set_rng_state_all(states["cuda"])


# Results


def results(directory):
    """Every result of a search as a row: a dictionary with the columns of `analyzer export csv`.

    `pandas.DataFrame(tandem.results(DIR))` is a table of them. Rows have `job`, `configuration`, `bracket`, `rung`,
    `budget`, `unit`, `outcome`, `loss` (None without one), `started_s`, `finished_s` (seconds since 1970), `elapsed_s`,
    `owner`, `message`, and `values.NAME` and `measures.NAME` as far as the job has them. The search may be running.
    """
    return [_row(record) for record in _records(directory)]


def incumbent(directory):
    """The best configuration so far, or None: the one with the lowest loss at the largest budget that has one.

    A dictionary with `configuration`, `job`, `budget`, `unit`, `loss`, `bracket`, `values`, `measures`, `curve`, and
    `checkpoint`: the folder in which a program has left its checkpoints, or None.
    """
    found = [record for record in _records(directory) if _loss(record["outcome"]) is not None]
    if not found:
        return None

    def rank(record):
        return (-record["budget"]["amount"], record["outcome"]["loss"], _key(_job_of(record)))

    best = min(found, key=rank)
    job = _job_of(best)
    configuration, rung = job.split("-r")
    folder = os.path.join(directory, "checkpoints", _shard(configuration), configuration)
    places = [os.path.join(folder, name) for name in ("program-r" + rung, "program")]
    return {
        "configuration": configuration,
        "job": job,
        "budget": best["budget"]["amount"],
        "unit": best["budget"]["unit"],
        "loss": best["outcome"]["loss"],
        "bracket": best["bracket"],
        "values": best["configuration"],
        "measures": best.get("measures", {}),
        "curve": best.get("curve", []),
        "checkpoint": next((place for place in places if os.path.isdir(place)), None),
    }


def _records(directory):
    """The result of every job; of one that was done again, the last."""
    if not any(os.path.isfile(os.path.join(directory, name)) for name in ("search.json", "imported.json")):
        raise FileNotFoundError("`{}` is no search directory: it has no search.json".format(directory))
    root = os.path.join(directory, "results")
    last = {}
    for shard in sorted(os.listdir(root)) if os.path.isdir(root) else []:
        folder = os.path.join(root, shard)
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            match = re.match(r"^(c\d{6,}-r\d+)(?:-a(\d+))?\.json$", name)
            if match:
                job, attempt = match.group(1), int(match.group(2) or 0)
                last[job] = max(last.get(job, (-1, "")), (attempt, os.path.join(folder, name)))
    read = (_read(last[job][1]) for job in sorted(last, key=_key))
    return [record for record in read if record is not None]


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        is_newer = record["format"] == "result" and record["version"][0] > 3
        if not is_newer:
            _row(record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warnings.warn("`{}` is left out: it is no result ({!r})".format(path, error), stacklevel=4)
        return None
    if is_newer:
        raise ValueError("`{}` was written by a newer version of Tandem".format(path))
    return record


def _row(record):
    outcome, job = record["outcome"], _job_of(record)
    row = {
        "job": job,
        "configuration": job.split("-r")[0],
        "bracket": record["bracket"],
        "rung": int(job.split("-r")[1]),
        "budget": record["budget"]["amount"],
        "unit": record["budget"]["unit"],
        "outcome": outcome["kind"],
        "loss": _loss(outcome),
        "started_s": _seconds(record["started_at"]),
        "finished_s": _seconds(record["finished_at"]),
        "elapsed_s": record["elapsed_s"],
        "owner": record["owner"],
        "message": outcome.get("message") or _broken(outcome) or _stopped(outcome),
    }
    row.update(("values." + name, value) for name, value in record["configuration"].items())
    row.update(("measures." + name, value) for name, value in sorted(record.get("measures", {}).items()))
    return row


def _loss(outcome):
    """The loss at the end; that of one which was stopped is of an earlier moment."""
    return outcome.get("loss") if outcome["kind"] == "evaluated" else None


def _stopped(outcome):
    """By what a training was stopped, in words."""
    if outcome["kind"] != "stopped":
        return None
    return "stopped after {spent}: loss {loss}, at most {limit} goes on".format(**outcome)


def _broken(outcome):
    """What an infeasible configuration breaks, in words."""
    words = ["{} is {}".format(broken["measure"], broken["value"]) for broken in outcome.get("violations", [])]
    return "; ".join(words) or None


def _job_of(record):
    return record["attempt"].rsplit("-a", 1)[0]


def _key(job):
    configuration, rung = job[1:].split("-r")
    return int(configuration), int(rung)


def _shard(configuration):
    return "{:03}".format(int(configuration[1:]) // 1000)


def _seconds(text):
    """2026-11-24T04:11:06.663Z as seconds since 1970."""
    whole, _, fraction = text.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float("0." + (fraction or "0"))
