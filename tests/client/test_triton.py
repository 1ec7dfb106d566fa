"""The Triton denoiser against real servers, healthy, dead, killed, restarted and frozen."""

import dataclasses
import logging
import signal
import threading
import time

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient

from mdiff_client.denoisers import triton as transport
from mdiff_client.denoisers.connection import Connection
from mdiff_client.denoisers.embedded import EmbeddedDenoiser
from mdiff_client.denoisers.triton import TritonDenoiser, models_served
from mdiff_client.sampling import PLANS, named_plan, sample
from mdiff_core import ContractError, PermanentError, UnavailableError
from mdiff_core.repository import model_names


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((150, 1, 64, 64), dtype=np.float32)


def test_embedded_and_triton_give_the_same_volume(repository, triton):
    """One file, two onnxruntimes of perhaps different versions, which may round sums differently in the last bits.

    Few steps do not amplify that: the fields agree to 1e-3 of their range [-1, 1], and the phases but for voxels that
    lie as near to the threshold.
    """
    plan = named_plan("balanced", steps=5)
    embedded = sample(EmbeddedDenoiser(repository, "spheres64"), plan, seed=11)
    with TritonDenoiser(Connection(triton.grpc_address), "spheres64") as denoiser:
        served = sample(denoiser, plan, seed=11)
    assert np.abs(served - embedded).max() < 2e-3
    assert ((served > 0) == (embedded > 0))[np.abs(embedded) > 2e-3].all()


def test_more_images_than_the_servers_batch_are_split(tiny_triton, images):
    steps = np.arange(150)
    with TritonDenoiser(Connection(tiny_triton.grpc_address), "tiny") as denoiser:
        eps, v = denoiser.predict(images, steps)
    assert np.allclose(eps, 0.1 * images + steps[:, None, None, None] / 1000, atol=1e-6)
    assert v is None


def test_requests_hold_no_more_than_they_may(tiny_triton, images, monkeypatch):
    sizes = []

    def noting(client, model, inputs, **options):
        sizes.append(inputs[0].shape()[0])
        return infer(client, model, inputs, **options)

    infer = InferenceServerClient.infer
    monkeypatch.setattr(InferenceServerClient, "infer", noting)
    with TritonDenoiser(Connection(tiny_triton.grpc_address), "tiny") as denoiser:
        whole = denoiser.predict(images, np.zeros(150, int))[0]
        monkeypatch.setattr(transport, "REQUEST_BYTES", 7 * 64 * 64 * 4 + 1)
        parts = denoiser.predict(images, np.zeros(150, int))[0]
        monkeypatch.setattr(transport, "REQUEST_BYTES", 1)
        assert np.array_equal(denoiser.predict(images[:2], np.zeros(2, int))[0], whole[:2])
    assert sizes == [64, 64, 22, *[7] * 21, 3, 1, 1]
    assert np.array_equal(whole, parts)


def test_a_server_tells_its_models_and_contracts(triton, repository):
    assert models_served(Connection(triton.grpc_address)) == model_names(repository)
    with TritonDenoiser(Connection(triton.grpc_address), "nmc64") as denoiser:
        assert denoiser.contract == EmbeddedDenoiser(repository, "nmc64").contract


def test_a_wrong_model_name_is_refused_for_good(tiny_triton):
    with pytest.raises(PermanentError, match="no model 'spheres'"):
        TritonDenoiser(Connection(tiny_triton.grpc_address), "spheres")


def test_the_port_of_http_is_told_from_that_of_grpc():
    with pytest.raises(UnavailableError, match="gRPC is on port 8001"):
        TritonDenoiser(Connection("127.0.0.1:8000", patience=0), "tiny")


def test_a_dead_port_is_told_at_once(free_port):
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="no server answers"):
        TritonDenoiser(Connection(f"127.0.0.1:{free_port()}", patience=60), "tiny")
    assert time.monotonic() - began < 10


def test_a_contract_of_an_unknown_version_is_refused(tiny_repository, start_triton):
    config = tiny_repository / "tiny" / "config.pbtxt"
    config.write_text(
        config.read_text()
        .replace('\\"version\\": 1', '\\"version\\": 99')
        .replace('\\"version\\":1', '\\"version\\":99')
    )
    server = start_triton(tiny_repository)
    with pytest.raises(ContractError, match="version 99 is unknown"):
        TritonDenoiser(Connection(server.grpc_address), "tiny")


def test_a_call_the_network_cannot_take_is_refused_for_good(tiny_triton, images):
    with (
        TritonDenoiser(Connection(tiny_triton.grpc_address), "tiny") as denoiser,
        pytest.raises(PermanentError, match="refused"),
    ):
        denoiser.predict(images[..., :32], np.zeros(150, int))


def test_a_run_survives_a_server_that_is_killed_and_restarted(tiny_repository, start_triton):
    plan = dataclasses.replace(PLANS["paper"], steps=6, harmonize=2)
    expected = sample(EmbeddedDenoiser(tiny_repository, "tiny"), plan, seed=3)
    server = start_triton(tiny_repository)
    seen = []

    def revive():
        server.stop()
        time.sleep(1)
        server.start()

    def kill_on_the_fourth():
        seen.append(1)
        if len(seen) == 4:
            server.process.kill()
            reviver.start()

    reviver = threading.Thread(target=revive)
    with TritonDenoiser(Connection(server.grpc_address, patience=60), "tiny") as denoiser:
        volume = sample(denoiser, plan, seed=3, on_evaluation=kill_on_the_fourth)
    reviver.join()
    assert np.allclose(volume, expected, rtol=1e-5, atol=1e-5)


def test_a_server_that_stays_away_ends_the_patience_and_every_retry_is_logged(
    tiny_repository, start_triton, images, caplog
):
    caplog.set_level(logging.INFO, "mdiff_client")
    server = start_triton(tiny_repository)
    with TritonDenoiser(Connection(server.grpc_address, patience=1.0), "tiny") as denoiser:
        server.stop()
        with pytest.raises(UnavailableError, match="no server answers"):
            denoiser.predict(images, np.zeros(150, int))
    retries = [record.figures for record in caplog.records if record.getMessage() == "call retried"]
    assert len(retries) >= 2
    assert all("no server answers" in figures["reason"] and figures["waited_seconds"] < 1 for figures in retries)


def test_a_frozen_server_is_told_from_a_dead_one(tiny_repository, start_triton, images):
    server = start_triton(tiny_repository)
    with TritonDenoiser(Connection(server.grpc_address, timeout=1.0, patience=0.0), "tiny") as denoiser:
        server.process.send_signal(signal.SIGSTOP)
        with pytest.raises(UnavailableError, match="did not answer within 1 s"):
            denoiser.predict(images, np.zeros(150, int))
