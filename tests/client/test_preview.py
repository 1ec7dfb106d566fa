"""The picture of a volume: sections, block, bodies."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation, gaussian_filter, label, map_coordinates

from mdiff_client.pictures.drawing import INK, text_width, write
from mdiff_client.pictures.preview import COLOURS, preview
from mdiff_client.pictures.raycast import DOWN, FORWARD, LIGHT, RIGHT, Camera, Rays, block, render
from mdiff_client.pictures.solids import Solid, bodies
from mdiff_core import DataError, Phase, UsageError
from mdiff_training.data.spheres import spheres

TWO = (Phase("matrix", 0), Phase("spheres", 255))
BLUE = (0, 60, 200)


def materials(count):
    return [Phase(f"phase {i}", 30 * i) for i in range(count)]


def random_labels(shape, count, seed=0):
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return np.digitize(field, np.quantile(field, np.arange(1, count) / count)).astype(np.uint8)


def random_grey(shape, seed=0):
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return (field / np.abs(field).max()).astype(np.float32)


def place_of(part, picture):
    """Left and top of the RGB array ``part`` in the picture; None where it does not occur."""
    page = np.asarray(picture)
    height, width, _ = part.shape
    for top in range(page.shape[0] - height + 1):
        at = page[top].tobytes().find(part[0].tobytes())
        if at >= 0 and at % 3 == 0:
            left = at // 3
            if np.array_equal(page[top : top + height, left : left + width], part):
                return left, top
    return None


def enlarged(section, pixels):
    return np.repeat(np.repeat(section, pixels, axis=0), pixels, axis=1)


def ball(shape, centre, radius):
    grid = np.indices(shape) + 0.5 - np.array(centre)[:, None, None, None]
    return (grid**2).sum(axis=0) <= radius**2


def is_blue(picture):
    """Pixels of the bodies rather than of the grey walls."""
    return picture[..., 2].astype(int) - picture[..., 0] > 30


@pytest.fixture(scope="module")
def labels():
    return random_labels((64, 64, 64), 3)


@pytest.fixture(scope="module")
def picture(labels):
    return preview(labels, phases=materials(3), voxel_size=0.36, voxel_unit="µm")


class TestSections:
    def test_are_the_middle_planes_of_the_volume_at_four_pixels_to_the_voxel(self, labels, picture):
        for plane in (labels[32], labels[:, 32], labels[:, :, 32].T):
            assert place_of(enlarged(COLOURS[plane], 4), picture) is not None

    def test_lie_as_in_a_drawing(self, labels, picture):
        xy = place_of(enlarged(COLOURS[labels[32]], 4), picture)
        xz = place_of(enlarged(COLOURS[labels[:, 32]], 4), picture)
        yz = place_of(enlarged(COLOURS[labels[:, :, 32].T], 4), picture)
        assert xz[0] == xy[0] and xz[1] > xy[1] + 256  # below, sharing x
        assert yz[1] == xy[1] and yz[0] > xy[0] + 256  # to the right, sharing y

    def test_scale_bar_is_as_long_as_it_says(self, picture):
        dark = (np.asarray(picture) == INK).all(axis=2)
        longest = max(len(run) for row in dark for run in "".join("#" if d else " " for d in row).split())
        assert longest == round(5 / 0.36 * 4)  # 5 µm: the round length within a third of 64 voxels

    def test_of_a_long_volume_keep_its_proportions(self):
        labels = random_labels((12, 24, 48), 2)
        page = np.asarray(preview(labels, phases=TWO))
        scale = (640 - 24) / (48 + 12)  # the width of x and z side by side
        xy = Image.fromarray(COLOURS[labels[6]]).resize(
            (round(48 * scale), round(24 * scale)), Image.Resampling.NEAREST
        )
        at_top = page[98:, page.shape[1] // 2 :]
        shown = [
            np.abs(at_top[: xy.height, left : left + xy.width].astype(int) - np.asarray(xy)).mean()
            for left in range(at_top.shape[1] - xy.width)
        ]
        assert min(shown) < 4  # grey levels: only pixels on the edges of voxels are mixed


class TestPreview:
    def test_shows_every_phase_in_its_colour(self):
        picture = np.asarray(preview(random_labels((16, 16, 16), 8), phases=materials(8)))
        for colour in COLOURS:
            assert (picture == colour).all(axis=2).sum() > 20 * 20

    def test_highlights_the_last_phase_unless_told_otherwise(self, labels, picture):
        told = preview(labels, phases=materials(3), voxel_size=0.36, voxel_unit="µm", highlight=2)
        assert told.tobytes() == picture.tobytes()  # and the same volume gives the same picture
        other = preview(labels, phases=materials(3), voxel_size=0.36, voxel_unit="µm", highlight=0)
        assert other.tobytes() != picture.tobytes()

    def test_grey_levels_are_shown_as_block_and_sections(self, picture):
        with_bodies = picture.width
        grey = random_grey((64, 64, 64))
        picture = preview(grey)
        for plane in (grey[32], grey[:, 32], grey[:, :, 32].T):
            shade = np.rint((plane + 1) * 127.5).astype(np.uint8)
            assert place_of(enlarged(np.repeat(shade[..., None], 3, axis=2), 4), picture) is not None
        assert picture.width < with_bodies - 500

    def test_grey_levels_beyond_the_range_are_clipped(self):
        assert preview(np.full((4, 4, 4), 3.0)).tobytes() == preview(np.ones((4, 4, 4))).tobytes()

    def test_more_voxels_than_the_3d_views_hold(self):
        grey = np.broadcast_to(np.linspace(-1, 1, 260, dtype=np.float32)[:, None, None], (260, 260, 260))
        picture = preview(grey)
        down_the_left_face = np.asarray(picture)[260:560, 100, 0].astype(int)  # z grows, and with it the level
        assert (np.diff(down_the_left_face) >= 0).all() and np.ptp(down_the_left_face) > 100
        assert place_of(np.full((100, 100, 3), np.rint((grey[130, 0, 0] + 1) * 127.5), np.uint8), picture)

    @pytest.mark.parametrize("shape", [(1, 1, 1), (40, 8, 8), (8, 40, 8), (8, 8, 40), (2, 30, 30)])
    def test_any_box_stays_within_white_margins(self, shape):
        page = np.asarray(preview(random_labels(shape, 2), phases=TWO, title="A rather long headline, " * 2))
        inner = np.zeros(page.shape[:2], bool)
        inner[12:-12, 12:-12] = True
        assert (page[~inner] == 255).all()
        assert (page[inner] < 250).any()

    @pytest.mark.parametrize(
        ("volume", "phases", "said"),
        [
            (np.zeros((4, 4), np.uint8), TWO, "three axes"),
            (np.zeros((4, 0, 4), np.uint8), TWO, "three axes"),
            (np.full((4, 4, 4), 2, np.uint8), TWO, "labels 2 to 2"),
            (np.full((4, 4, 4), -1), TWO, "labels -1 to -1"),
            (np.zeros((4, 4, 4), np.float32), TWO, "integers"),
            (np.zeros((4, 4, 4), np.uint8), (), "floating-point"),
            (np.full((4, 4, 4), np.nan), (), "finite"),
            (np.zeros((4, 4, 4), np.uint8), materials(9), "9"),
        ],
    )
    def test_refuses_what_it_cannot_draw(self, volume, phases, said):
        with pytest.raises(DataError, match=said):
            preview(volume, phases=phases)

    def test_refuses_a_highlight_that_is_no_phase(self):
        with pytest.raises(UsageError, match="label 2"):
            preview(np.zeros((4, 4, 4), np.uint8), phases=TWO, highlight=2)
        with pytest.raises(UsageError, match="label 0"):
            preview(np.zeros((4, 4, 4)), highlight=0)

    def test_refuses_a_voxel_without_size(self):
        with pytest.raises(UsageError, match="not positive"):
            preview(np.zeros((4, 4, 4)), voxel_size=0)


class TestCamera:
    def test_looks_at_the_corner_where_x_and_y_end_and_z_begins(self):
        assert np.sign(FORWARD).tolist() == [1, -1, -1]

    def test_frame_is_orthonormal(self):
        frame = np.stack([RIGHT, DOWN, FORWARD])
        np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-6)

    def test_x_runs_right_y_left_and_z_straight_down(self):
        origin, x, y, z = Camera((8, 8, 8), 10).project([(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)])
        assert x[0] > origin[0] and y[0] < origin[0] and z[0] == pytest.approx(origin[0])
        assert x[1] > origin[1] and y[1] > origin[1] and z[1] > origin[1]

    @pytest.mark.parametrize("shape", [(8, 8, 8), (30, 4, 4), (4, 30, 4), (3, 7, 40)])
    def test_fills_the_frame_it_is_given(self, shape):
        width, height = Camera.fit(shape, 300, 200).size
        assert width <= 300 and height <= 200 and (width >= 299 or height >= 199)


class TestBlock:
    def test_shows_the_faces_where_z_begins_and_x_and_y_end(self):
        labels = np.zeros((10, 12, 14), np.uint8)
        labels[0], labels[1:, -1], labels[1:, :-1, -1] = 1, 2, 3
        colours = np.array([(255, 255, 0), (200, 0, 0), (0, 200, 0), (0, 0, 200)], np.uint8)
        camera = Camera.fit(labels.shape, 200, 200)
        picture = block(labels, colours, camera)
        centres = [(0, 6, 7), (5, 12, 7), (5, 6, 14)]
        shown = [picture[int(v), int(u)] for u, v in camera.project(centres)]
        assert [int(np.argmax(pixel)) for pixel in shown] == [0, 1, 2]  # red on top, green left, blue right
        assert shown[0].max() > shown[1].max() > shown[2].max() > 100  # lit from above and the left

    def test_draws_each_voxel_where_it_is(self):
        labels = np.zeros((8, 8, 8), np.uint8)
        labels[0, 2, 5], labels[6, 7, 1], labels[3, 4, 7] = 1, 1, 1
        camera = Camera.fit(labels.shape, 400, 400)
        picture = block(labels, np.array([(255, 255, 255), (255, 0, 0)], np.uint8), camera)
        red = picture[..., 0].astype(int) - picture[..., 1] > 60
        spots, count = label(red)
        assert count == 3
        for u, v in camera.project([(0, 2.5, 5.5), (6.5, 8, 1.5), (3.5, 4.5, 8)]):  # centres of the voxels' faces
            down, right = np.argwhere(spots == spots[int(v), int(u)]).mean(axis=0)
            assert (right + 0.5, down + 0.5) == pytest.approx((u, v), abs=0.6)

    def test_fills_the_hexagon_of_the_box(self):
        camera = Camera((10, 20, 30), 8)
        picture = block(np.zeros((10, 20, 30), np.uint8), np.zeros((1, 3), np.uint8), camera)
        faces = np.abs(FORWARD) @ np.array([20 * 30, 10 * 30, 10 * 20])  # projected areas
        assert (255 - picture[..., 0].astype(float)).sum() / 255 == pytest.approx(faces * 8**2, rel=0.005)


class TestSphere:
    centre, radius = (22.3, 25.1, 23.4), 15.0

    @pytest.fixture
    def sphere(self):
        return ball((48, 48, 48), self.centre, self.radius)

    @pytest.fixture
    def camera(self):
        return Camera((48, 48, 48), 4.0)

    @pytest.fixture
    def picture(self, sphere, camera):
        return bodies(sphere, BLUE, camera)

    def test_covers_its_projected_area(self, picture):
        assert np.sqrt(is_blue(picture).sum() / np.pi) / 4 == pytest.approx(self.radius, abs=0.2)  # voxels

    def test_lies_where_it_is(self, picture, camera):
        down, right = np.argwhere(is_blue(picture)).mean(axis=0) + 0.5
        assert (right, down) == pytest.approx(camera.project([self.centre])[0], abs=0.5)

    def test_is_lit_from_the_stated_direction(self, picture, camera):
        assert np.linalg.norm(LIGHT) == pytest.approx(1)
        assert LIGHT @ RIGHT < 0 and LIGHT @ DOWN < 0 and LIGHT @ FORWARD < 0  # left, above, behind the eye
        v, u = np.indices(picture.shape[:2]) + 0.5
        right, down = np.stack([u, v]) - camera.project([self.centre])[0][:, None, None]
        right, down = right / (4 * self.radius), down / (4 * self.radius)
        disc = right**2 + down**2 < 0.9**2
        right, down = right[disc], down[disc]
        towards = np.sqrt(1 - right**2 - down**2)
        normals = np.outer(right, RIGHT) + np.outer(down, DOWN) - np.outer(towards, FORWARD)
        shade = picture[disc][:, 2].astype(float) - picture[disc][:, 0]  # white gloss cancels
        assert np.corrcoef(shade, normals @ LIGHT)[0, 1] > 0.99
        slope = np.linalg.lstsq(np.column_stack([normals, np.ones(len(shade))]), shade, rcond=None)[0][:3]
        assert slope @ LIGHT / np.linalg.norm(slope) > np.cos(np.radians(6))

    def test_is_met_where_geometry_says(self, sphere, camera):
        solid = Solid.of(sphere)
        errors: list[np.ndarray] = []

        def compare(rays: Rays):
            distance, hit = solid.march(rays)
            offset = rays.origin - np.array(self.centre)[:, None]
            half = FORWARD @ offset
            root = half**2 - (offset**2).sum(axis=0) + self.radius**2
            clear = np.abs(root) > 2 * self.radius * 0.6  # beyond half a voxel or so of the outline
            assert np.array_equal(hit[clear], root[clear] > 0)
            both = hit & clear
            errors.append(distance[both] - (-half - np.sqrt(root, where=root > 0, out=np.zeros_like(root)))[both])
            return np.zeros((len(hit), 3), np.float32)

        render(camera, compare)
        error = np.abs(np.concatenate(errors))
        assert np.median(error) < 0.25 and error.max() < 1.5  # voxels; the sphere is a stack of voxels


class TestBodies:
    def test_rays_jump_over_empty_space_without_missing_anything(self):
        phase = spheres((18, 20, 24), fraction=0.05, diameter_mean=5, diameter_std=1).astype(bool)
        solid, camera = Solid.of(phase), Camera(phase.shape, 2.0)
        disagree = total = 0

        def compare(rays: Rays):
            nonlocal disagree, total
            _, hit = solid.march(rays)
            steps = np.arange(0, (rays.leave - rays.enter).max(), 0.15)
            points = rays.at(rays.enter)[:, None] + FORWARD[:, None, None] * steps[:, None]
            field = map_coordinates(solid.surface, points - 0.5, order=1, mode="nearest")
            field[steps[:, None] > rays.leave - rays.enter] = 0
            thorough = (field >= 0.5).any(axis=0)
            disagree, total = disagree + int((hit != thorough).sum()), total + int(thorough.sum())
            return np.zeros((len(hit), 3), np.float32)

        render(camera, compare)
        assert total > 1000 and disagree < 0.03 * total  # rays that graze a surface

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_a_line_one_voxel_thin_stays_whole(self, axis):
        phase = np.zeros((20, 20, 20), bool)
        line = [10, 10, 10]
        line[axis] = slice(4, 16)
        phase[tuple(line)] = True
        _, count = label(is_blue(bodies(phase, BLUE, Camera(phase.shape, 8.0))), np.ones((3, 3)))
        assert count == 1

    def test_a_lone_voxel_is_not_lost(self):
        phase = np.zeros((20, 20, 20), bool)
        phase[9, 11, 10] = True
        assert is_blue(bodies(phase, BLUE, Camera(phase.shape, 20.0))).sum() > 0.15 * 20**2  # pixels; its face has 20²

    def test_cut_faces_are_flat_and_paler_than_the_bodies(self):
        camera = Camera((12, 12, 12), 10.0)
        picture = bodies(np.ones((12, 12, 12), bool), BLUE, camera)
        shown = [picture[int(v), int(u)].astype(int) for u, v in camera.project([(0, 6, 6), (6, 12, 6), (6, 6, 12)])]
        assert shown[0].sum() > shown[1].sum() > shown[2].sum() and shown[0].min() > min(BLUE) + 40
        inner = (picture != 255).any(axis=2)
        flat = sum((picture[inner] == face).all(axis=1).sum() for face in shown)
        assert flat > 0.97 * inner.sum()  # three colours; the rest are mixed pixels on edges

    def test_nothing_to_show_leaves_an_empty_box(self):
        picture = bodies(np.zeros((12, 12, 12), bool), BLUE, Camera((12, 12, 12), 10.0))
        assert not is_blue(picture).any() and (picture != 255).any()

    def test_bodies_darken_the_wall_behind_them(self):
        camera, near_wall = Camera((48, 48, 48), 3.0), ball((48, 48, 48), (24, 10, 24), 9)
        empty = bodies(np.zeros((48, 48, 48), bool), BLUE, camera)
        with_ball = bodies(near_wall, BLUE, camera)
        beside = ~binary_dilation(is_blue(with_ball), iterations=3)
        darker = empty[beside].astype(int).sum(axis=1) - with_ball[beside].astype(int).sum(axis=1)
        assert darker.max() > 15 and np.percentile(darker, 1) >= -2


class TestText:
    @staticmethod
    def written(text):
        image = Image.new("RGB", (300, 60), "white")
        write(image, (10, 10), text)
        return np.asarray(image)

    def test_mu_is_a_u_with_a_descender(self):
        u, mu = self.written("um"), self.written("µm")
        differs = np.argwhere((u != mu).any(axis=2))
        assert len(differs) and text_width("µm") == text_width("um")
        baseline = np.argwhere((u < 128).all(axis=2))[:, 0].max()
        assert (differs[:, 0] > baseline).sum() > 4
        assert np.array_equal(mu, self.written("μm"))  # the Greek letter and the micro sign look alike

    @pytest.mark.parametrize(
        ("text", "as_ascii"),
        [("β phase", "beta phase"), ("3 × 4", "3 x 4"), ("Kärcher", "Karcher"), ("Li₂", "Li2"), ("漢", "?")],
    )
    def test_what_the_typeface_lacks_is_spelled_in_ascii(self, text, as_ascii):
        assert np.array_equal(self.written(text), self.written(as_ascii))
