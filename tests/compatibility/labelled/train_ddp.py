"""Trains a classifier on several cards. Talks of torch.cuda.is_available() and "cuda" in passing."""

import argparse
import os

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader


def setup(rank, world):
    dist.init_process_group("nccl", rank=rank, world_size=world)
    torch.cuda.set_device(rank)
    torch.backends.cudnn.benchmark = True
    torch.cuda.manual_seed_all(0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--backend", default="gloo", choices=["gloo", "nccl"])
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rank = int(os.environ["LOCAL_RANK"])
    setup(rank, int(os.environ["WORLD_SIZE"]))
    model = torch.nn.Linear(8, 2).cuda(rank)
    model = DDP(model, device_ids=[rank])
    loader = DataLoader(range(100), batch_size=8, pin_memory=True, num_workers=4)
    weights = torch.load("last.pt")
    model.load_state_dict(torch.load("best.pt", map_location="cuda:0"))
    model.load_state_dict(torch.load("cpu.pt", map_location="cpu"))
    start = torch.cuda.Event(enable_timing=True)
    for batch in loader:
        batch = batch.to("cuda", non_blocking=True)
        loss = model(batch).sum()
        loss.backward()
        if loss.is_cuda:
            print("cuda memory:", torch.cuda.max_memory_allocated() / 2**20)
    torch.cuda.synchronize()
    os.environ["CUDA_VISIBLE_DEVICES"] = "0"
    print(f"cuda:{rank}", args.device, device, weights, start)


if __name__ == "__main__":
    main()
