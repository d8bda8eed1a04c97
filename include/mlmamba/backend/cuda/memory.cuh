// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Device memory, and the check of every CUDA call.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "mlmamba/core/tensor.hpp"

namespace mlmamba {

namespace backend::kernels {
/// device_error if a CUDA call failed; `what` says what was wanted.
inline void cuda_check(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  cudaGetLastError();  // so that the next call starts clean, where the error allows it
  fail<device_error>("cuda: ", what, ": ", cudaGetErrorString(e));
}
}  // namespace backend::kernels

/// Copies to and from the host wait for the device. All of this goes through the legacy default
/// stream, whatever a program is compiled with: it is ordered with the ops of every context. Ops
/// never call these: they are for loading, reading results, and arenas that grow.
template <>
struct allocator<memory::device> {
  static bytes_owner allocate(std::size_t bytes) {
    void* p = nullptr;
    const cudaError_t e = cudaMalloc(&p, bytes ? bytes : 1);
    if (e != cudaSuccess) {
      cudaGetLastError();
      std::size_t left = 0, all = 0;
      cudaMemGetInfo(&left, &all);
      cudaGetLastError();
      fail<device_error>("cuda: ", bytes, " bytes on the device: ", cudaGetErrorString(e),
                         all ? "; free are " + std::to_string(left) : std::string());
    }
    return bytes_owner(static_cast<std::byte*>(p), [](std::byte* q) { cudaFree(q); });
  }
  static void fill(void* p, unsigned char value, std::size_t bytes) {
    if (bytes)
      backend::kernels::cuda_check(cudaMemsetAsync(p, value, bytes, cudaStreamLegacy),
                                   "fill of device memory");
  }
  static void copy(void* to, const void* from, std::size_t bytes) {
    move(to, from, bytes, cudaMemcpyDeviceToDevice, "copy on the device");
  }
  static void to_host(void* to, const void* from, std::size_t bytes) {
    move(to, from, bytes, cudaMemcpyDeviceToHost, "copy from the device");
    wait(bytes);
  }
  static void from_host(void* to, const void* from, std::size_t bytes) {
    move(to, from, bytes, cudaMemcpyHostToDevice, "copy to the device");
    wait(bytes);
  }

 private:
  static void move(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                   const char* what) {
    if (bytes)
      backend::kernels::cuda_check(cudaMemcpyAsync(to, from, bytes, kind, cudaStreamLegacy), what);
  }
  static void wait(std::size_t bytes) {
    if (bytes)
      backend::kernels::cuda_check(cudaStreamSynchronize(cudaStreamLegacy),
                                   "waiting for a copy (or for the ops before it)");
  }
};

}  // namespace mlmamba
