"""Training files -> checked records -> samples -> packed batches. No model code."""

from neva.data.batch import Batch, Picture, Pictures, PreparedImages, Problem, Row
from neva.data.datasets import Dataset, find_datasets
from neva.data.mix import Mix
from neva.data.packing import Pack, pack
from neva.data.records import Flaw, Record, read_records, scan_records
from neva.data.samples import Encoding, Sample, encode_record
from neva.data.stores import ImageStore, open_images
from neva.data.stream import BatchStream

__all__ = [
    "Batch",
    "BatchStream",
    "Dataset",
    "Encoding",
    "Flaw",
    "ImageStore",
    "Mix",
    "Pack",
    "Picture",
    "Pictures",
    "PreparedImages",
    "Problem",
    "Record",
    "Row",
    "Sample",
    "encode_record",
    "find_datasets",
    "open_images",
    "pack",
    "read_records",
    "scan_records",
]
