import torch
from torch.cuda.amp import GradScaler, autocast

scaler = GradScaler(init_scale=2.0**12)
other = torch.amp.GradScaler("cuda")


def step(model, optimizer, x, y, rank):
    with autocast(dtype=torch.float16):
        loss = torch.nn.functional.cross_entropy(model(x), y)
    with torch.cuda.amp.autocast(False):
        loss = loss.double()
    with torch.autocast(device_type="cuda", dtype=torch.bfloat16):
        loss = loss + 0
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    device = f"cuda:{rank}"
    mask = torch.ones(2, device=device, dtype=torch.float64)
    return mask, device


@torch.cuda.amp.custom_fwd
def forward(ctx, x):
    return x.pin_memory()
