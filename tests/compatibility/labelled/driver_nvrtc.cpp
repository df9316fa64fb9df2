#include <cuda.h>
#include <nvrtc.h>
#include <nvml.h>

#include <string>

// The kernel is text here: what it calls is the device compiler's business.
static const char* kSource = R"kernel(
extern "C" __global__ void fill(float* out) {
  // cudaNoSuchCall();
  out[threadIdx.x] = __cosf(1.0f);
  asm volatile("mov.u32 %0, %laneid;");
}
)kernel";

#define CHECK_DRIVER(call) \
  if ((call) != CUDA_SUCCESS) \
    throw std::string("driver call failed: " #call)

CUfunction build(CUmodule* module_) {
  nvrtcProgram program;
  nvrtcCreateProgram(&program, kSource, "fill.cu", 0, nullptr, nullptr);
  const char* options[] = {"--gpu-architecture=compute_80", "--use_fast_math"};
  nvrtcCompileProgram(program, 2, options);
  size_t size = 0;
  nvrtcGetPTXSize(program, &size);
  std::string ptx(size, '\0');
  nvrtcGetPTX(program, &ptx[0]);
  nvrtcGetCUBINSize(program, &size);
  CHECK_DRIVER(cuModuleLoadDataEx(module_, ptx.data(), 0, nullptr, nullptr));
  CUfunction function;
  CHECK_DRIVER(cuModuleGetFunction(&function, *module_, "fill"));
  return function;
}

int main() {
  CHECK_DRIVER(cuInit(0));
  CUdevice device;
  CHECK_DRIVER(cuDeviceGet(&device, 0));
  CUcontext context;
  CHECK_DRIVER(cuCtxCreate(&context, 0, device));
  CUgreenCtx green;
  CUdeviceptr memory;
  CHECK_DRIVER(cuMemAlloc(&memory, 1024));
  CUmodule module_;
  CUfunction fill = build(&module_);
  void* arguments[] = {&memory};
  CHECK_DRIVER(cuLaunchKernel(fill, 1, 1, 1, 256, 1, 1, 0, nullptr, arguments, nullptr));
  CHECK_DRIVER(cuCtxSynchronize());
  nvmlInit();
  nvmlDevice_t card;
  nvmlDeviceGetHandleByIndex(0, &card);
  return (int)green;
}
