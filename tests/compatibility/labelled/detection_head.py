import torch
import torch.nn.functional as F


def select(scores, boxes, threshold=0.5):
    keep = torch.nonzero(scores > threshold)
    chosen = boxes[scores > threshold]
    labels = torch.unique(keep)
    first = torch.where(scores > 0)
    same = torch.where(scores > 0, scores, torch.zeros_like(scores))
    flat = torch.masked_select(boxes, boxes > 0)
    return chosen, labels, first, same, flat


def spectrum(signal):
    window = torch.hann_window(400, dtype=torch.double)
    values = torch.fft.rfft(signal.to(torch.complex64))
    return F.relu(values.abs()), window


@torch.compile(dynamic=True)
def head(x):
    return x * 2
