"""Every error mdiff raises on purpose.

    MdiffError
    ├── UsageError        the request makes no sense: a wrong option, an output that exists      exit code 2
    ├── DataError         an input file or array cannot be used: unreadable, wrong shape or type  exit code 3
    ├── ContractError     a model and its contract disagree, or the contract's version is unknown exit code 4
    ├── UnavailableError  the server cannot answer now; the same call may succeed later           exit code 5
    ├── PermanentError    the server or engine refuses, or training diverged: it will fail again  exit code 6
    └── BusyError         another worker is at work on the same volumes                           exit code 7

The command line prints ``str(error)`` on one line and leaves with the class's exit code. Libraries only raise.
"""


class MdiffError(Exception):
    """Base of all errors raised on purpose; its message says what was wrong and what to do."""

    exit_code = 1


class UsageError(MdiffError):
    """The request itself is wrong."""

    exit_code = 2


class DataError(MdiffError):
    """An input or output file cannot be used."""

    exit_code = 3


class ContractError(MdiffError):
    """A model contract is malformed, of an unknown version, or does not fit its model."""

    exit_code = 4


class UnavailableError(MdiffError):
    """The denoiser cannot be reached or has no capacity; a retry may succeed."""

    exit_code = 5


class PermanentError(MdiffError):
    """The denoiser refuses the call, or training diverged; a retry cannot succeed."""

    exit_code = 6


class BusyError(MdiffError):
    """Another worker is at work on the same volumes of a library."""

    exit_code = 7
