"""Runs anywhere: no name of a device stands here, except in comments ("cuda") and in strings."""

import torch

HELP = "use cuda where there is one; init_process_group('nccl') is for NVIDIA's cards"


def device() -> torch.device:
    found = torch.accelerator.current_accelerator()
    return found if found is not None else torch.device("cpu")


def train(model, loader, optimizer):
    where = device()
    model.to(where)
    for x, y in loader:
        x, y = x.to(where), y.to(where)
        with torch.autocast(where.type, torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    # torch.cuda.synchronize() is not needed here
    state = torch.load("last.pt", map_location="cpu", weights_only=True)
    cuda = {"name": "cuda"}
    return state, cuda, "cuda" in HELP
