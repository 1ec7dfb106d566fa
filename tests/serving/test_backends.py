"""Every bundled model is served by every backend that computes on a CPU, alone and in batches of several clients."""

import shutil
import threading
import time

import numpy as np
import pytest

from mdiff_client.denoisers.connection import Connection
from mdiff_client.denoisers.embedded import EmbeddedDenoiser
from mdiff_client.denoisers.triton import TritonDenoiser
from mdiff_core.repository import bundled_repository, model_names, onnx_file
from mdiff_export.config import triton_config
from mdiff_export.parity import TOLERANCE
from mdiff_export.wire import random_batch

MAX_BATCH = 64


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def server(request, tmp_path_factory, serve):
    """The bundled models, configured anew for a backend."""
    folder = tmp_path_factory.mktemp(request.param)
    for name in model_names(bundled_repository()):
        graph = onnx_file(bundled_repository(), name)
        contract = EmbeddedDenoiser(bundled_repository(), name).contract
        (folder / name / "1").mkdir(parents=True)
        shutil.copyfile(graph, folder / name / "1" / "model.onnx")
        (folder / name / "config.pbtxt").write_text(triton_config(contract, MAX_BATCH, request.param))
    with serve(folder) as running:
        yield running


@pytest.fixture
def denoiser(server):
    """``denoiser(name)``: the served model."""
    opened = []

    def connect(name):
        opened.append(TritonDenoiser(Connection(server.grpc_address), name))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()


def asked(contract, n, seed):
    """Arguments of ``predict`` for n random images at random steps."""
    rng = np.random.default_rng(seed)
    batch = random_batch(contract, rng.integers(0, contract.schedule.timesteps, n), rng)
    label = batch["label"][:, 0] if "label" in batch else None
    return batch["x"], batch["t"][:, 0], label, batch.get("fractions")


@pytest.mark.parametrize("name", model_names(bundled_repository()))
def test_a_served_model_says_what_the_graph_says_at_every_batch(denoiser, name):
    served, here = denoiser(name), EmbeddedDenoiser(bundled_repository(), name)
    for n in (1, 2, 3, 17, MAX_BATCH):
        arguments = asked(here.contract, n, seed=n)
        assert np.abs(served.predict(*arguments)[0] - here.predict(*arguments)[0]).max() < TOLERANCE


def test_slices_of_sixteen_clients_share_batches_and_each_gets_its_own_back(server, client_of):
    name, n = "spheres64", 4
    here = EmbeddedDenoiser(bundled_repository(), name)
    questions = [asked(here.contract, n, seed) for seed in range(16)]
    answers = [None] * len(questions)
    together = threading.Barrier(len(questions))

    def client(index):
        with TritonDenoiser(Connection(server.grpc_address), name) as served:
            together.wait(30)
            for _ in range(3):
                answers[index] = served.predict(*questions[index])[0]

    watching = client_of(server)

    def counted():
        (statistics,) = watching.get_inference_statistics(name, client_timeout=30).model_stats
        return statistics.inference_count, statistics.execution_count

    before, expected = counted(), 16 * 3 * n
    threads = [threading.Thread(target=client, args=(index,)) for index in range(len(questions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    give_up = time.monotonic() + 10  # a server counts a batch after it has answered
    while counted()[0] - before[0] < expected and time.monotonic() < give_up:
        time.sleep(0.05)
    images, executions = (after - earlier for after, earlier in zip(counted(), before, strict=True))
    assert images == expected
    assert images / executions > 2 * n  # images of more than two clients in a batch, on average
    for question, answer in zip(questions, answers, strict=True):
        assert np.abs(answer - here.predict(*question)[0]).max() < TOLERANCE
