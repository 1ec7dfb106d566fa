"""The sampler: a pure function of a denoiser, a plan, a seed and a condition."""

from mdiff_client.sampling.condition import UNCONDITIONAL, Condition
from mdiff_client.sampling.images import IMAGES_AT_ONCE, sample_images
from mdiff_client.sampling.plan import IMAGES, PLANS, ImagePlan, SamplingPlan, changed, named_plan
from mdiff_client.sampling.sampler import sample

__all__ = [
    "IMAGES",
    "IMAGES_AT_ONCE",
    "PLANS",
    "UNCONDITIONAL",
    "Condition",
    "ImagePlan",
    "SamplingPlan",
    "changed",
    "named_plan",
    "sample",
    "sample_images",
]
