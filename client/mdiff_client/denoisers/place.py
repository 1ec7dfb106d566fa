"""Where denoisers are found: a Triton server, or a model repository on this machine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from mdiff_client.denoisers import Denoiser
from mdiff_client.denoisers.connection import Connection
from mdiff_core import ContractError, ModelContract, UsageError
from mdiff_core.repository import bundled_repository, model_names


@dataclass(frozen=True)
class Place:
    """A server; without one, ``repository``; without that, the repository that comes with mdiff.

    Raises:
        UsageError: both a server and a repository.
    """

    connection: Connection | None = None
    repository: Path | None = None

    def __post_init__(self) -> None:
        if self.connection and self.repository:
            raise UsageError("a server has its own repository: give --url or --repository, not both")

    @property
    def is_here(self) -> bool:
        """Whether this machine computes the answers."""
        return self.connection is None or self.connection.is_loopback

    def models(self) -> list[str]:
        """Names of the models.

        Raises:
            UnavailableError: no server answers.
            PermanentError: the server refuses this client.
            DataError: no repository.
        """
        if self.connection:
            from mdiff_client.denoisers.triton import models_served

            return models_served(self.connection)
        return model_names(self.folder())

    def contracts(self) -> list[ModelContract]:
        """Contracts of the models; a shared server's models without one are none of mdiff's, and left out."""
        found = []
        for name in self.models():
            with suppress(ContractError):
                found.append(self.contract(name))
        return found

    def denoiser(self, model: str) -> AbstractContextManager[Denoiser]:
        """The model's denoiser, closed with its context."""
        if self.connection:
            from mdiff_client.denoisers.triton import TritonDenoiser

            return TritonDenoiser(self.connection, model)
        from mdiff_client.denoisers.embedded import EmbeddedDenoiser

        return nullcontext(EmbeddedDenoiser(self.folder(), model))

    def contract(self, model: str) -> ModelContract:
        """The model's contract."""
        with self.denoiser(model) as denoiser:
            return denoiser.contract

    def folder(self) -> Path:
        """The model repository on this machine.

        Raises:
            DataError: the one that comes with mdiff is missing.
        """
        return self.repository or bundled_repository()
