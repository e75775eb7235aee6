"""The public names of the data floor, each imported when it is first used."""

from .bits import bits_per_dim as bits_per_dim
from .dequantize import UniformDequantization as UniformDequantization
from .errors import DataError as DataError
from .errors import DataWarning as DataWarning
from .errors import MissingDataError as MissingDataError
from .mapped import MappedSplit as MappedSplit
from .module import FlowDataModule as FlowDataModule
from .pictures import PictureSplit as PictureSplit
from .registry import DATA_SETS as DATA_SETS
from .registry import DataSource as DataSource
from .registry import describe_data as describe_data
from .registry import load_data as load_data
from .request import DataRequest as DataRequest
from .scaling import Scaling as Scaling
from .splits import Event as Event
from .splits import Split as Split
from .splits import Splits as Splits
from .splits import TensorSplit as TensorSplit
