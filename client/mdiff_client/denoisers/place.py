"""Where denoisers are found: a Triton server, or a model repository on this machine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from mdiff_client.denoisers import Denoiser
from mdiff_core import ContractError, ModelContract, UsageError
from mdiff_core.repository import bundled_repository, model_names


@dataclass(frozen=True)
class Place:
    """A server at ``url``; without one, ``repository``; without that, the repository that comes with mdiff.

    ``timeout``: seconds that one call to the server may take.

    Raises:
        UsageError: both a server and a repository.
    """

    url: str | None
    repository: Path | None
    timeout: float

    def __post_init__(self) -> None:
        if self.url and self.repository:
            raise UsageError("a server has its own repository: give --url or --repository, not both")

    def models(self) -> list[str]:
        """Names of the models.

        Raises:
            UnavailableError: no server answers.
            DataError: no repository.
        """
        if self.url:
            from mdiff_client.denoisers.triton import models_served

            return models_served(self.url, self.timeout)
        return model_names(self.folder())

    def contracts(self) -> list[ModelContract]:
        """Contracts of the models; a shared server's models without one are none of mdiff's, and left out."""
        found = []
        for name in self.models():
            with suppress(ContractError):
                found.append(self.contract(name))
        return found

    def denoiser(self, model: str, patience: float) -> AbstractContextManager[Denoiser]:
        """The model's denoiser, closed with its context; ``patience`` as for ``TritonDenoiser``."""
        if self.url:
            from mdiff_client.denoisers.triton import TritonDenoiser

            return TritonDenoiser(self.url, model, timeout=self.timeout, patience=patience)
        from mdiff_client.denoisers.embedded import EmbeddedDenoiser

        return nullcontext(EmbeddedDenoiser(self.folder(), model))

    def contract(self, model: str) -> ModelContract:
        """The model's contract."""
        with self.denoiser(model, patience=0.0) as denoiser:
            return denoiser.contract

    def folder(self) -> Path:
        """The model repository on this machine.

        Raises:
            DataError: the one that comes with mdiff is missing.
        """
        return self.repository or bundled_repository()
