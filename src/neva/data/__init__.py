"""Training files -> checked records -> samples -> packed batches. No model code."""

from neva.data.batch import Batch, ImageFolder, Picture, Pictures, Problem, Row
from neva.data.packing import Pack, pack
from neva.data.records import Flaw, Record, read_records, scan_records
from neva.data.samples import Encoding, Sample, encode_record
from neva.data.stream import BatchStream

__all__ = [
    "Batch",
    "BatchStream",
    "Encoding",
    "Flaw",
    "ImageFolder",
    "Pack",
    "Picture",
    "Pictures",
    "Problem",
    "Record",
    "Row",
    "Sample",
    "encode_record",
    "pack",
    "read_records",
    "scan_records",
]
