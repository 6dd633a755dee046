"""The other side: PyTorch eager. Takes numbers of steps from its input, and answers as headstart-bench-training does."""

import json
import os
import sys
import time

import networks
import torch
from torch.nn import functional


def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def main():
    name, layout, threads, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)
    start = memory("VmRSS:")
    case = next(case for case in networks.CASES if case.name == name)
    torch.manual_seed(0)
    made = case.make(False)
    made.graph = None
    form = torch.channels_last if layout == "channels-last" else torch.contiguous_format
    module = made.module.to(memory_format=form)
    trained = [value for value in module.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01, fused=True)
    batches = made.inputs(*case.batch)
    shaped = lambda value: value.contiguous(memory_format=form) if value.ndim == 4 else value
    batches = [{name: shaped(value) for name, value in batch.items()} for batch in batches]
    # Making the network is no part of the training's memory.
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    done = 0
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            begin = time.perf_counter()
            *inputs, labels = batches[done % len(batches)].values()
            optimiser.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(module(*inputs), labels)
            loss.backward()
            optimiser.step()
            value = loss.item()
            seconds.append(time.perf_counter() - begin)
            done += 1
        told = {"seconds": seconds, "loss": value, "start": start, "peak": memory("VmHWM:")}
        os.write(1, (json.dumps(told) + "\n").encode())


if __name__ == "__main__":
    main()
