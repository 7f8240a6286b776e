import torch


def assert_as_accurate(ours, trusted, exact, floor=4):
    scale = exact.abs().max().item()
    e = [((v.double() - exact).abs().max() / scale).item() for v in (ours, trusted)]
    print(e)
    assert e[0] <= 2 * e[1] + floor * torch.finfo(torch.float32).eps, e
