import os

from setuptools import setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

extensions = [CppExtension("plain", ["plain.cpp"])]
if CUDA_HOME is not None and not os.environ.get("NO_CUDA"):
    extensions.append(
        CUDAExtension(
            "fast",
            sources=["fast.cpp", "fast_kernel.cu"],
            extra_compile_args={"nvcc": ["-O3", "-gencode=arch=compute_80,code=sm_80"]},
        )
    )

setup(name="fast", ext_modules=extensions, cmdclass={"build_ext": BuildExtension})
