"""Denoisers with a closed-form answer, and a network that takes every condition there is, served and embedded."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from mdiff_core import Descriptors, ModelContract, Phase, Provenance, ScheduleSpec
from mdiff_export.model import export_model
from mdiff_training.checkpoint import Checkpoint
from mdiff_training.unet import UNet, UNetConfig


def references(fraction, s2):
    """Descriptors of ``matrix`` and ``sphere``, of which the latter has this fraction and S2."""
    sphere = Descriptors(fraction=fraction, specific_surface=0.1, s2=s2, lineal_path=s2)
    matrix = tuple(1 - 2 * fraction + value for value in s2)
    return {"matrix": Descriptors(1 - fraction, 0.1, matrix, matrix), "sphere": sphere}


class GaussianDenoiser:
    """The exact 2D denoiser of an isotropic Gaussian field with covariance exp(-r²/width²).

    Either periodic on n × n, or of an n × n part of an endless field: then one edge knows nothing of the opposite one.
    What it is asked is kept in ``batches`` and, of the conditions, in ``asked``; the answer does not depend on those.
    """

    calls_at_once = 1

    def __init__(self, n=32, width=4.0, timesteps=1000, *, periodic=True):
        r = np.minimum(np.arange(n), n - np.arange(n))
        self.covariance = np.exp(-(np.arange(n // 2 + 1) ** 2) / width**2)
        self.spectrum = np.fft.fft2(np.exp(-(r[:, None] ** 2 + r**2) / width**2)).real.clip(0)
        s2 = tuple((0.25 + self.covariance / 4).tolist())
        self.contract = ModelContract(
            name="gaussian",
            image_size=(n, n),
            channels=1,
            phases=(Phase("matrix", 0), Phase("sphere", 255)),
            schedule=ScheduleSpec("linear", timesteps),
            prediction="epsilon",
            provenance=Provenance("closed form", "none", "none", "none"),
            references=references(0.5, s2),
        )
        self.alpha_bar = self.contract.schedule.build().alpha_bar
        self.batches, self.asked = [], []
        line = np.exp(-(np.subtract.outer(np.arange(n), np.arange(n)) ** 2) / width**2)
        self.modes = None if periodic else np.linalg.eigh(line)

    def predict(self, x, t, label=None, fractions=None):
        self.batches.append(len(x))
        self.asked.append((label, fractions))
        a = self.alpha_bar[t][:, None, None, None]
        if self.modes:
            # The covariance is a product of one along rows and one along columns, and so are its modes.
            values, vectors = self.modes
            power = np.outer(values, values).clip(0)
            scaled_x0 = vectors @ (vectors.T @ x @ vectors * (a * power / (a * power + 1 - a))) @ vectors.T
            return ((x - scaled_x0) / np.sqrt(1 - a)).astype(np.float32), None
        gain = a * self.spectrum / (a * self.spectrum + 1 - a)
        scaled_x0 = np.fft.ifft2(np.fft.fft2(x) * gain).real
        return ((x - scaled_x0) / np.sqrt(1 - a)).astype(np.float32), None


class PixelDenoiser:
    """The exact denoiser of images of independent pixels N(mean, 0.2²), where the label says the mean.

    Classes ``dark`` and ``light``, of mean -0.5 and 0.5; the null class has mean 0.25, fraction f of ``sphere`` adds f.
    With a learned variance, v is 0.2 for dark, 0.7 for light, 1 for null.
    """

    calls_at_once = 1
    MEANS, V, VARIANCE = np.array([-0.5, 0.5, 0.25]), np.array([0.2, 0.7, 1.0]), 0.04

    def __init__(self, n=8, timesteps=200, learned=False, fractions=()):
        self.contract = ModelContract(
            name="pixels",
            image_size=(n, n),
            channels=1,
            phases=(Phase("matrix", 0), Phase("sphere", 255)),
            schedule=ScheduleSpec("linear", timesteps, beta_last=20 / timesteps),
            prediction="epsilon+variance" if learned else "epsilon",
            classes=("dark", "light"),
            null_class=2,
            fractions=fractions,
            provenance=Provenance("closed form", "none", "none", "none"),
        )
        self.alpha_bar = self.contract.schedule.build().alpha_bar
        self.asked = []

    def predict(self, x, t, label=None, fractions=None):
        self.asked.append((label, fractions))
        mean = self.MEANS[label] + (0 if fractions is None else fractions[:, 0].clip(0))
        a, mean = self.alpha_bar[t][:, None, None, None], mean[:, None, None, None]
        eps = np.sqrt(1 - a) * (x - np.sqrt(a) * mean) / (a * self.VARIANCE + 1 - a)
        v = np.broadcast_to(self.V[label][:, None, None, None], x.shape).astype(np.float32)
        return eps.astype(np.float32), v if self.contract.prediction == "epsilon+variance" else None


@pytest.fixture(scope="session")
def client():
    """The command line as a user meets it: in a process of its own; keywords are added to its environment."""

    def run(*arguments, **environment):
        command = [sys.executable, "-m", "mdiff_client", *map(str, arguments)]
        variables = os.environ | {name: str(value) for name, value in environment.items()}
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=variables)

    return run


@pytest.fixture(scope="session")
def assert_one_line():
    def check(result, code, complaint):
        assert result.returncode == code, result.stderr
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1
        assert complaint in result.stderr

    return check


@pytest.fixture(scope="session")
def s3():
    """A client of a real S3 server with the bucket ``volumes``, and the variables by which others find it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as environment:
        for name, value in variables.items():
            environment.setenv(name, value)
        s3 = boto3.client("s3")
    s3.create_bucket(Bucket="volumes")
    yield s3, variables
    s3.close()
    server.stop()


@pytest.fixture
def two_phase_references():
    return references


@pytest.fixture
def make_gaussian():
    return GaussianDenoiser


@pytest.fixture
def gaussian():
    return GaussianDenoiser()


@pytest.fixture
def make_pixels():
    return PixelDenoiser


@pytest.fixture
def pixels():
    return PixelDenoiser()


@pytest.fixture(scope="session")
def told_repository(tmp_path_factory):
    """A repository of one untrained network, ``told``: 16×16, two classes and none, a fraction, a learned variance."""
    return write_told_repository(tmp_path_factory.mktemp("told") / "repository", "told")


@pytest.fixture(scope="session")
def untrained_repository(tmp_path_factory):
    """``untrained_repository(name)``: the repository of ``told`` under another name."""
    return lambda name: write_told_repository(tmp_path_factory.mktemp(name) / "repository", name)


def write_told_repository(folder, name):
    curve = tuple((0.16 + 0.24 * np.exp(-np.arange(9) / 3)).tolist())
    contract = dataclasses.replace(
        GaussianDenoiser(n=16, timesteps=100).contract,
        name=name,
        prediction="epsilon+variance",
        classes=("fine", "coarse"),
        null_class=2,
        fractions=((0.2, 0.6),),
        references=references(0.4, curve),
    )
    network = UNetConfig(
        base_channels=8,
        multipliers=(1,),
        attention=(False,),
        head_channels=8,
        norm_groups=4,
        labels=3,
        fractions=1,
        learned_variance=True,
    )
    torch.manual_seed(0)
    unet = UNet(network)
    for parameter in unet.parameters():
        if not parameter.any():  # what training starts from: a head that answers nothing
            nn.init.normal_(parameter, std=0.1)
    weights = {f"ema.{name}": value for name, value in unet.state_dict().items()}
    export_model(Checkpoint(contract, network, step=0, losses=(), tensors=weights), folder)
    return folder
