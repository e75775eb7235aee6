import rnode_dyn  # noqa: F401  # before torchdyn: it lets torchvision be imported
