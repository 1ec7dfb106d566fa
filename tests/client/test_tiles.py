"""Tiles: slices larger than the network's images, cut up and put together again."""

import numpy as np
import pytest

from mdiff_client.sampling.tiles import cover, gather, scatter

LENGTHS = [(64, True), (64, False), (96, True), (96, False), (128, True), (128, False), (131, True), (200, False)]


def places(tile):
    return np.concatenate([np.arange(here.start, here.stop) for here, _ in tile.places])


@pytest.mark.parametrize(("n", "periodic"), LENGTHS)
@pytest.mark.parametrize("offset", [0, 1, 37, 63, 500])
class TestCover:
    def test_every_place_is_counted_once(self, n, periodic, offset):
        total = np.zeros(n)
        for tile in cover(n, 64, offset, periodic=periodic):
            total[places(tile)] += tile.weights
        assert total == pytest.approx(np.ones(n), abs=1e-6)

    def test_a_tile_is_a_stretch_of_the_axis(self, n, periodic, offset):
        for tile in cover(n, 64, offset, periodic=periodic):
            steps = np.diff(places(tile))
            assert len(steps) == 63
            assert set(steps.tolist()) <= ({1, 1 - n} if periodic else {1})

    def test_no_more_tiles_than_one_beyond_need(self, n, periodic, offset):
        assert len(cover(n, 64, offset, periodic=periodic)) <= -(-n // 64) + (not periodic)


def test_seams_move_with_the_offset():
    starts = {places(cover(128, 64, offset, periodic=periodic)[1])[0] for offset in range(9) for periodic in (True,)}
    assert len(starts) == 9
    assert len({places(cover(128, 64, offset, periodic=False)[1])[0] for offset in range(9)}) == 9


def test_the_middle_of_a_tile_outweighs_the_edge_of_another():
    first, second = cover(96, 64, 0, periodic=False)[:2]
    overlap = np.intersect1d(places(first), places(second))
    assert (np.diff(first.weights[np.isin(places(first), overlap)]) < 0).all()


@pytest.mark.parametrize("shape", [(64, 64), (96, 64), (70, 130)])
@pytest.mark.parametrize("periodic", [True, False])
def test_what_is_cut_up_is_put_together_again(shape, periodic):
    slices = np.random.default_rng(0).standard_normal((3, 2, *shape)).astype(np.float32)
    tiles = [cover(n, 64, 11, periodic=periodic) for n in shape]
    images = gather(slices, *tiles)
    assert images.shape == (3 * len(tiles[0]) * len(tiles[1]), 2, 64, 64)
    back = np.empty_like(slices)
    scatter(images, back, *tiles)
    assert np.abs(back - slices).max() < 1e-5


def test_the_first_tile_of_every_slice_comes_first():
    slices = np.arange(2)[:, None, None, None] * np.ones((2, 1, 8, 16), np.float32)
    images = gather(slices, cover(8, 8, 0, periodic=True), cover(16, 8, 0, periodic=True))
    assert images.mean(axis=(1, 2, 3)).tolist() == [0, 1, 0, 1]
