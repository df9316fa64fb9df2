"""Manners of writing models, each as small as it can be."""

from idiom import Idiom
from idioms_attention import ATTENTION
from idioms_convolution import CONVOLUTION
from idioms_data import DATA
from idioms_normalisation import NORMALISATION
from idioms_other import OTHER
from idioms_shape import SHAPE

IDIOMS: tuple[Idiom, ...] = (*CONVOLUTION, *NORMALISATION, *SHAPE, *ATTENTION, *DATA, *OTHER)
