"""What every room shares: the model contract, the noise schedule, the descriptors, the errors. Needs only numpy."""

from mdiff_core.contract import CONTRACT_KEY, CONTRACT_VERSION, ModelContract, Phase, Provenance, ScheduleSpec
from mdiff_core.descriptors import (
    Descriptors,
    error_rate,
    lineal_path,
    reference_descriptors,
    specific_surface,
    two_point_correlation,
)
from mdiff_core.errors import (
    BusyError,
    ContractError,
    DataError,
    MdiffError,
    PermanentError,
    UnavailableError,
    UsageError,
)
from mdiff_core.schedule import NoiseSchedule

__all__ = [
    "CONTRACT_KEY",
    "CONTRACT_VERSION",
    "BusyError",
    "ContractError",
    "DataError",
    "Descriptors",
    "MdiffError",
    "ModelContract",
    "NoiseSchedule",
    "PermanentError",
    "Phase",
    "Provenance",
    "ScheduleSpec",
    "UnavailableError",
    "UsageError",
    "error_rate",
    "lineal_path",
    "reference_descriptors",
    "specific_surface",
    "two_point_correlation",
]
