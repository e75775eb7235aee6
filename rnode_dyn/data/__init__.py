"""Data sets by name, their batches, and the step from pixels to a density."""

from rnode_dyn.data.bits import bits_per_dim
from rnode_dyn.data.dequantize import UniformDequantization
from rnode_dyn.data.errors import DataError, MissingDataError
from rnode_dyn.data.mapped import MappedSplit
from rnode_dyn.data.module import FlowDataModule
from rnode_dyn.data.pictures import PictureSplit
from rnode_dyn.data.registry import DATA_SETS, DataSource, describe_data, load_data
from rnode_dyn.data.request import DataRequest
from rnode_dyn.data.splits import Event, Split, Splits, TensorSplit

__all__ = [
    "DATA_SETS",
    "DataError",
    "DataRequest",
    "DataSource",
    "Event",
    "FlowDataModule",
    "MappedSplit",
    "MissingDataError",
    "PictureSplit",
    "Split",
    "Splits",
    "TensorSplit",
    "UniformDequantization",
    "bits_per_dim",
    "describe_data",
    "load_data",
]
