#include <torch/all.h>
#include "cutlass/cutlass.h"
#include "cutlass/gemm/device/gemm.h"
#include "cute/tensor.hpp"

using Gemm = cutlass::gemm::device::Gemm<cutlass::half_t, cutlass::layout::RowMajor, cutlass::half_t,
                                         cutlass::layout::ColumnMajor, float, cutlass::layout::RowMajor>;

torch::Tensor matmul(const torch::Tensor& a, const torch::Tensor& b) {
  auto c = torch::empty({a.size(0), b.size(1)}, a.options().dtype(torch::kFloat));
  Gemm gemm;
  auto status = gemm({{int(a.size(0)), int(b.size(1)), int(a.size(1))},
                      {reinterpret_cast<cutlass::half_t*>(a.data_ptr()), a.stride(0)},
                      {reinterpret_cast<cutlass::half_t*>(b.data_ptr()), b.stride(1)},
                      {c.data_ptr<float>(), c.stride(0)},
                      {c.data_ptr<float>(), c.stride(0)},
                      {1.f, 0.f}});
  TORCH_CHECK(status == cutlass::Status::kSuccess);
  return c;
}
