"""Which combinations there are, and what one of them does when it is tried."""

from __future__ import annotations

import copy
import itertools
import math
import tempfile
import warnings
from contextlib import chdir
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F

import ds_core as ds
from ds_core.errors import DsError, RefusedError
from ds_core.registry import installed
from ds_core.selection import candidates
from ds_core.testing import jobs

KINDS = ("backend", "precision", "pruner", "topology", "observer")
NONE = "none"
STEPS = 60
TOLERANCE = 0.25
"""How far the last losses may be from the plain run's, absolutely; the first are at ln 4 = 1.39."""


@dataclass(frozen=True)
class Combination:
    """One component of each kind, by full name, or none of it."""

    backend: str
    precision: str
    pruner: str
    topology: str
    observer: str

    @property
    def settings(self):
        """As `attach(config=...)` takes them."""
        found = asdict(self)
        observer = found.pop("observer")
        return {**found, "observers": [] if observer == NONE else [observer]}

    @property
    def ranks(self):
        """Processes that it is tried in."""
        return 1 if self.topology == NONE else 2


def combinations():
    """Every combination of what is installed and usable here."""
    usable = {one.record.full_name for one in candidates(installed()) if one.usable}
    choices = {"backend": sorted(usable)}
    for kind in KINDS[1:]:
        names = [r.full_name for r in installed().records(kind) if r.status == "ok"]
        choices[kind] = [NONE, *names]
    return [
        Combination(**dict(zip(KINDS, each, strict=True)))
        for each in itertools.product(*(choices[kind] for kind in KINDS))
    ]


class Net(nn.Module):
    """A small convolutional network with a batch norm."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.body = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        """Scores of a batch."""
        x = torch.relu(self.norm(self.stem(x.reshape(-1, 2, 2, 2))))
        return self.head(torch.relu(self.body(x)).mean((2, 3)))


def job(model=None):
    """The model and its optimizer, the same each time; or an optimizer for a given model."""
    torch.manual_seed(0)
    model = Net() if model is None else model
    return model, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)


def train(model, optimizer, steps, seed, session=None, rank=0, ranks=1):
    """The usual loop; each rank takes its share of every batch."""
    losses = []
    for x, y in jobs.batches(steps, 32, seed):
        x, y = x[rank::ranks], y[rank::ranks]
        if session is not None:
            x, y = session.to_device(x, y)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def plain():
    """What the loop reaches without a session."""
    return settled(train(*job(), STEPS, 1))


def settled(losses):
    """The mean of the last ten."""
    return sum(losses[-10:]) / 10


def attempt(combination, rank=0):
    """Try one combination on this rank.

    Returns:
        `("passed", figures)`, `("refused", sentence)` or `("failed", what was found)`.
    """
    with tempfile.TemporaryDirectory() as folder, chdir(folder):  # where observers leave files
        return _attempt(combination, rank)


def _attempt(combination, rank):
    model, optimizer = job()
    before = jobs.snapshot(model, optimizer)
    ranks = combination.ranks
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with ds.attach(
                model, optimizer, config={**combination.settings, "total_steps": STEPS}
            ) as session:
                losses = train(model, optimizer, STEPS, 1, session, rank, ranks)
                saved = copy.deepcopy(
                    (model.state_dict(), optimizer.state_dict(), session.state_dict())
                )
                expected = train(model, optimizer, 5, 2, session, rank, ranks)
            if jobs.snapshot(model, optimizer) != before:
                return "failed", "detach left something behind"
            # Of the shape that training left: a pruner may have made it smaller.
            model, optimizer = job(copy.deepcopy(model))
            with ds.attach(
                model, optimizer, config={**combination.settings, "total_steps": STEPS}
            ) as session:
                model.load_state_dict(saved[0])
                optimizer.load_state_dict(saved[1])
                session.load_state_dict(saved[2])
                resumed = train(model, optimizer, 5, 2, session, rank, ranks)
    except RefusedError as refusal:
        return "refused", str(refusal)
    except DsError as error:
        return "failed", str(error)
    except Exception as error:
        return "failed", f"{type(error).__name__}: {error}"
    if not all(map(math.isfinite, losses)):
        return "failed", "a loss was not finite"
    if resumed != expected:
        return "failed", f"a resumed run differs: {resumed[0]:.6f} for {expected[0]:.6f}"
    return "passed", f"{settled(losses):.4f}"
