// Layer normalisation, forward only, one block for each row.
#include <ATen/ATen.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/extension.h>
#include <cuda.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <device_launch_parameters.h>

#define WARP_SIZE 32
#define FULL_MASK 0xffffffff

template <typename T>
__inline__ __device__ T warp_sum(T value) {
#pragma unroll
  for (int offset = WARP_SIZE / 2; offset > 0; offset /= 2) {
    value += __shfl_down_sync(FULL_MASK, value, offset);
  }
  return value;
}

template <typename T>
__inline__ __device__ T block_sum(T value) {
  static __shared__ T shared[32];
  const int lane = threadIdx.x & 0x1f;
  const int warp = threadIdx.x >> 5;
  value = warp_sum(value);
  if (lane == 0) shared[warp] = value;
  __syncthreads();
  // blockDim.x / 32 warps took part
  value = threadIdx.x < (blockDim.x / 32) ? shared[lane] : T(0);
  return warp == 0 ? warp_sum(value) : value;
}

template <typename scalar_t>
__global__ void layer_norm_kernel(const scalar_t* __restrict__ input, scalar_t* output, int width,
                                  float epsilon) {
  const scalar_t* row = input + static_cast<int64_t>(blockIdx.x) * width;
  float total = 0.f;
  for (int i = threadIdx.x; i < width; i += blockDim.x) total += static_cast<float>(__ldg(row + i));
  __shared__ float mean;
  total = block_sum(total);
  if (threadIdx.x == 0) mean = total / width;
  __syncthreads();
  for (int i = threadIdx.x; i < width; i += blockDim.x)
    output[blockIdx.x * width + i] = static_cast<scalar_t>((static_cast<float>(row[i]) - mean) * rsqrtf(epsilon));
}

torch::Tensor layer_norm_cuda(torch::Tensor input, double epsilon) {
  TORCH_CHECK(input.is_cuda(), "input must be on a cuda device: call tensor.cuda() or cudaMalloc it");
  const at::cuda::OptionalCUDAGuard guard(device_of(input));
  auto output = torch::empty_like(input);
  cudaStream_t stream = at::cuda::getCurrentCUDAStream();
  const int rows = input.size(0);
  AT_DISPATCH_FLOATING_TYPES_AND_HALF(input.scalar_type(), "layer_norm", [&] {
    layer_norm_kernel<scalar_t><<<rows, 256, 0, stream>>>(
        input.data_ptr<scalar_t>(), output.data_ptr<scalar_t>(), input.size(1), epsilon);
  });
  C10_CUDA_CHECK(cudaGetLastError());
  return output;
}
