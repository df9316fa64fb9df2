// A kernel as most extensions have it: nothing here needs a hand.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <cub/cub.cuh>
#include <curand_kernel.h>
#include <thrust/device_vector.h>
#include <thrust/sort.h>
#include <torch/extension.h>

#define CUDA_KERNEL_LOOP(i, n) \
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += blockDim.x * gridDim.x)

inline void cudaCheck(cudaError_t status) { TORCH_CHECK(status == cudaSuccess, cudaGetErrorString(status)); }

template <typename T>
__global__ void focal_loss_forward(const int count, const T* input, const int64_t* target, T* output,
                                   const float gamma, const int classes) {
  CUDA_KERNEL_LOOP(index, count) {
    const int row = index / classes;
    const int column = index % classes;
    const T p = T(1) / (T(1) + exp(-input[index]));
    const T hit = -pow(T(1) - p, T(gamma)) * log(max(p, T(FLT_MIN)));
    output[index] = target[row] == column ? hit : T(0);
  }
}

__global__ void jitter(float* values, unsigned long long seed, int count) {
  curandStatePhilox4_32_10_t state;
  curand_init(seed, threadIdx.x, 0, &state);
  CUDA_KERNEL_LOOP(i, count) { values[i] += curand_normal(&state); }
}

torch::Tensor focal_loss_cuda(torch::Tensor input, torch::Tensor target, double gamma) {
  auto output = torch::empty_like(input);
  cudaStream_t cudaStream = at::cuda::getCurrentCUDAStream();
  const int threads = 512;
  AT_DISPATCH_FLOATING_TYPES(input.scalar_type(), "focal_loss_cuda", ([&] {
    focal_loss_forward<scalar_t><<<(input.numel() + threads - 1) / threads, threads, 0, cudaStream>>>(
        input.numel(), input.data_ptr<scalar_t>(), target.data_ptr<int64_t>(),
        output.data_ptr<scalar_t>(), gamma, input.size(1));
  }));
  size_t bytes = 0;
  cub::DeviceReduce::Sum(nullptr, bytes, output.data_ptr<float>(), output.data_ptr<float>(), 32);
  thrust::device_vector<int> order(32);
  thrust::sort(order.begin(), order.end());
  cudaCheck(cudaStreamSynchronize(cudaStream));
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return output;
}
