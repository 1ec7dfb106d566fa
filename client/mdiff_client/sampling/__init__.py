"""The sampler: a pure function of a denoiser, a plan, a seed and a condition."""

from mdiff_client.sampling.anchors import Anchor
from mdiff_client.sampling.condition import UNCONDITIONAL, Condition, NoNumberError
from mdiff_client.sampling.images import IMAGES_AT_ONCE, sample_images
from mdiff_client.sampling.plan import (
    DEFAULT,
    IMAGES,
    PLANS,
    ImagePlan,
    SamplingPlan,
    changed,
    default_plan,
    named_plan,
)
from mdiff_client.sampling.planes import Plane
from mdiff_client.sampling.sampler import planes_of, sample

__all__ = [
    "DEFAULT",
    "IMAGES",
    "IMAGES_AT_ONCE",
    "PLANS",
    "UNCONDITIONAL",
    "Anchor",
    "Condition",
    "ImagePlan",
    "NoNumberError",
    "Plane",
    "SamplingPlan",
    "changed",
    "default_plan",
    "named_plan",
    "planes_of",
    "sample",
    "sample_images",
]
