/* Tensor-core matrix multiply with nvcuda::wmma, after the programming guide's outline.
   cudaMalloc in this comment is none of anybody's business. */
#include <cuda_fp16.h>
#include <mma.h>

using namespace nvcuda;

__global__ void gemm(const half* a, const half* b, float* c, int m, int n, int k) {
  const int tile_row = (blockIdx.x * blockDim.x + threadIdx.x) / warpSize;
  const int tile_column = blockIdx.y;
  wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> left;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> right;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
  wmma::fill_fragment(sum, 0.0f);
  for (int i = 0; i < k; i += 16) {
    wmma::load_matrix_sync(left, a + tile_row * 16 * k + i, k);
    wmma::load_matrix_sync(right, b + tile_column * 16 * k + i, k);
    wmma::mma_sync(sum, left, right, sum);
  }
  wmma::store_matrix_sync(c + tile_row * 16 * n + tile_column * 16, sum, n, wmma::mem_row_major);
}

int main() {
  half *a, *b;
  float* c;
  cudaMalloc(&a, 1024 * 1024 * sizeof(half));
  cudaMalloc(&b, 1024 * 1024 * sizeof(half));
  cudaMalloc(&c, 1024 * 1024 * sizeof(float));
  cudaEvent_t start, stop;
  cudaEventCreate(&start);
  cudaEventCreate(&stop);
  cudaEventRecord(start);
  gemm<<<dim3(16, 64), 128>>>(a, b, c, 1024, 1024, 1024);
  cudaEventRecord(stop);
  cudaEventSynchronize(stop);
  float ms = 0;
  cudaEventElapsedTime(&ms, start, stop);
  cudaFree(a), cudaFree(b), cudaFree(c);
  return cudaDeviceSynchronize() == cudaSuccess ? 0 : 1;
}
