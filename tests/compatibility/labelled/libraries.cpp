#include <cublasLt.h>
#include <cublas_v2.h>
#include <cudnn.h>
#include <cufft.h>
#include <curand.h>
#include <cusolverDn.h>
#include <cusparse.h>
#include <nvjpeg.h>

#include <memory>

struct Handles {
  cublasHandle_t cublasHandle;
  cudnnHandle_t cudnnHandle;
  cufftHandle plan;
  curandGenerator_t generator;
  cusparseHandle_t sparse;
};

void open(Handles& handles, cudaStream_t stream) {
  cublasCreate(&handles.cublasHandle);
  cublasSetStream(handles.cublasHandle, stream);
  cudnnCreate(&handles.cudnnHandle);
  cudnnSetStream(handles.cudnnHandle, stream);
  cufftPlan1d(&handles.plan, 1024, CUFFT_C2C, 1);
  curandCreateGenerator(&handles.generator, CURAND_RNG_PSEUDO_DEFAULT);
  cusparseCreate(&handles.sparse);
}

void convolve(Handles& handles, const float* x, const float* w, float* y, void* space, size_t bytes) {
  const float one = 1.f, zero = 0.f;
  cudnnTensorDescriptor_t input, output;
  cudnnFilterDescriptor_t filter;
  cudnnConvolutionDescriptor_t convolution;
  cudnnCreateTensorDescriptor(&input);
  cudnnCreateTensorDescriptor(&output);
  cudnnCreateFilterDescriptor(&filter);
  cudnnCreateConvolutionDescriptor(&convolution);
  cudnnSetTensor4dDescriptor(input, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 1, 3, 32, 32);
  cudnnConvolutionForward(handles.cudnnHandle, &one, input, x, filter, w, convolution,
                          CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, space, bytes, &zero, output, y);
}

void multiply(Handles& handles, const float* a, const float* b, float* c, int n) {
  const float one = 1.f, zero = 0.f;
  cublasSgemm(handles.cublasHandle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &one, a, n, b, n, &zero, c, n);
  cublasGemmEx(handles.cublasHandle, CUBLAS_OP_N, CUBLAS_OP_T, n, n, n, &one, a, CUDA_R_32F, n, b,
               CUDA_R_32F, n, &zero, c, CUDA_R_32F, n, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
  cublasLtMatmulDesc_t description;
  cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F);
  cublasGemmGroupedBatchedEx(handles.cublasHandle, nullptr);
}
