"""Orientations and shifts of particles: given, refined or found."""

from cryoem.poses.base import PoseProvider as PoseProvider
from cryoem.poses.known import KnownPoses as KnownPoses
from cryoem.poses.refine import RefinedPoses as RefinedPoses
from cryoem.poses.searched import SearchedPoses as SearchedPoses
