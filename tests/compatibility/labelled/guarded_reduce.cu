#ifdef USE_ROCM
#include <hip/hip_bf16.h>
#define WARP_SIZE warpSize
typedef unsigned long long lane_mask_t;
#else
#include <cuda_bf16.h>
#include <mma.h>
#define WARP_SIZE 32
typedef unsigned int lane_mask_t;
#endif

#if defined(__HIP_PLATFORM_AMD__) || defined(USE_ROCM)
#define ALL_LANES 0xffffffffffffffffull
#else
#define ALL_LANES 0xffffffffu
#endif

__device__ float reduce(float value) {
  for (int offset = WARP_SIZE / 2; offset > 0; offset >>= 1)
    value += __shfl_down_sync(ALL_LANES, value, offset);
  return value;
}

#ifndef USE_ROCM
__device__ unsigned lane() {
  unsigned result;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(result));
  return result;
}
#else
__device__ unsigned lane() { return __lane_id(); }
#endif

#if 0
void never(cudaArray_t old) { cudaUnknownEntry(old); }
#endif

__global__ void sums(const float* in, float* out) {
  float total = reduce(in[blockIdx.x * blockDim.x + threadIdx.x]);
#if !defined(USE_ROCM) && CUDART_VERSION >= 12000
  __nanosleep(20);
  cudaGridDependencySynchronize();
#endif
  if (lane() == 0) atomicAdd(out, total);
}

void launch(const float* in, float* out, cudaStream_t stream) {
  sums<<<64, 256, 0, stream>>>(in, out);
#if defined(USE_ROCM)
  (void)hipGetLastError();
#elif defined(__CUDACC__)
  cudaGraphExecKernelNodeSetParams_v9(nullptr);
#endif
}
