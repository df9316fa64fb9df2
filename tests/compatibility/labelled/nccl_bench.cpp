// Measures an all-reduce; compile with -lnccl -lcudart.
#include <cuda_runtime.h>
#include <nccl.h>
#include <nvToolsExt.h>

#include <cstdio>
#include <vector>

#define CUDACHECK(call)                                                        \
  do {                                                                         \
    cudaError_t error = (call);                                                \
    if (error != cudaSuccess) {                                                \
      std::printf("cudaMalloc or another: %s\n", cudaGetErrorString(error));   \
      std::exit(1);                                                            \
    }                                                                          \
  } while (0)

#define NCCLCHECK(call)                                                        \
  do {                                                                         \
    ncclResult_t result = (call);                                              \
    if (result != ncclSuccess) std::exit(1);                                   \
  } while (0)

int main(int argc, char** argv) {
  int devices = 0;
  CUDACHECK(cudaGetDeviceCount(&devices));
  std::vector<ncclComm_t> comms(devices);
  std::vector<cudaStream_t> streams(devices);
  std::vector<float*> buffers(devices);
  NCCLCHECK(ncclCommInitAll(comms.data(), devices, nullptr));
  const size_t count = 1 << 24;
  for (int i = 0; i < devices; ++i) {
    CUDACHECK(cudaSetDevice(i));
    CUDACHECK(cudaMalloc(&buffers[i], count * sizeof(float)));
    CUDACHECK(cudaMemset(buffers[i], 0, count * sizeof(float)));
    CUDACHECK(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking));
  }
  nvtxRangePushA("all-reduce");
  NCCLCHECK(ncclGroupStart());
  for (int i = 0; i < devices; ++i)
    NCCLCHECK(ncclAllReduce(buffers[i], buffers[i], count, ncclFloat, ncclSum, comms[i], streams[i]));
  NCCLCHECK(ncclGroupEnd());
  nvtxRangePop();
  for (int i = 0; i < devices; ++i) {
    CUDACHECK(cudaSetDevice(i));
    CUDACHECK(cudaStreamSynchronize(streams[i]));
    CUDACHECK(cudaFree(buffers[i]));
    NCCLCHECK(ncclCommDestroy(comms[i]));
  }
  return 0;
}
