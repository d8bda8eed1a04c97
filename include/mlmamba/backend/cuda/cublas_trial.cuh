// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Which of cuBLASLt's algorithms for a product is fastest, found by trying them on noise. The
// library's own first choice takes up to 1.5 times as long, where a product is only a few waves of
// blocks.
#pragma once

#include <cublasLt.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <memory>

#include "mlmamba/backend/cuda/memory.cuh"
#include "mlmamba/core/scalar.hpp"

namespace mlmamba::backend::kernels {

/// device_error if a cuBLASLt call failed; `what` says what was wanted.
inline void cublas_check(cublasStatus_t s, const char* what) {
  if (s != CUBLAS_STATUS_SUCCESS)
    fail<device_error>("cuda: ", what, ": cuBLASLt status ", int(s), " (",
                       cublasLtGetStatusString(s), ")");
}

/// A kind of product, as cublasLtMatmul wants it; the bias, if there is one, is set by the trial.
struct product_kind {
  cublasLtHandle_t handle;
  cublasLtMatmulDescOpaque_t desc;
  cublasLtMatrixLayoutOpaque_t a, b, c;
  cudaDataType_t a_type, b_type, c_type;
  std::size_t a_count, b_count, c_count, bias_count;  // elements of the operands; bias 0: none
  void* workspace;
  std::size_t workspace_bytes;
};

// Templates, so that several files of a program may have these kernels.

/// Uniform in [-1, 1), by a hash of the place.
template <class>
__global__ void noise_kernel(void* to, cudaDataType_t type, std::size_t count) {
  const std::size_t i = std::size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  unsigned h = unsigned(i) * 2654435761u ^ unsigned(i >> 32);
  h ^= h >> 15, h *= 2246822519u, h ^= h >> 13, h *= 3266489917u, h ^= h >> 16;
  const float v = float(int(h)) * 0x1p-31f;
  if (type == CUDA_R_32F) static_cast<float*>(to)[i] = v;
  if (type == CUDA_R_16BF) static_cast<bf16*>(to)[i] = bf16(v);
  if (type == CUDA_R_16F) static_cast<__half*>(to)[i] = __float2half(v);
}
template <class>
__global__ void differ_kernel(const unsigned* a, const unsigned* b, std::size_t count,
                              int* differ) {
  const std::size_t i = std::size_t(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count && a[i] != b[i]) *differ = 1;
}

/// The number of the algorithm that is fastest, warm and cold, by more than 4 % among those that
/// give the bits of the first, or 0. Waits for the stream; takes some milliseconds, and memory for
/// all operands while it runs (none: 0). Must not be called while the stream is captured.
class product_trial {
 public:
  product_trial(const product_kind& kind, cudaStream_t stream) : kind_(kind), stream_(stream) {
    const std::size_t bytes[parts] = {kind.a_count * size_of(kind.a_type),
                                      kind.b_count * size_of(kind.b_type),
                                      kind.c_count * size_of(kind.c_type),
                                      kind.c_count * size_of(kind.c_type),
                                      kind.bias_count * size_of(kind.c_type),
                                      sizeof(int),
                                      flushed};
    std::size_t all = 0;
    for (std::size_t b : bytes) all += (b + 511) / 256 * 256;
    void* memory = nullptr;
    if (cudaMalloc(&memory, all) != cudaSuccess) {
      cudaGetLastError();
      return;
    }
    memory_ = owner(memory, [](void* p) { cudaFree(p); });
    char* at = static_cast<char*>(memory);
    for (int i = 0; i < parts; ++i) {
      parts_[i] = at;
      at += (bytes[i] + 511) / 256 * 256;
    }
    cuda_check(cudaMemsetAsync(memory, 0, all, stream), "trying products");
    noise(parts_[0], kind.a_type, kind.a_count);
    noise(parts_[1], kind.b_type, kind.b_count);
    noise(parts_[4], kind.c_type, kind.bias_count);
    cuda_check(cudaGetLastError(), "trying products");
    if (kind.bias_count > 0)
      cublas_check(cublasLtMatmulDescSetAttribute(&kind_.desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                                                  &parts_[4], sizeof parts_[4]),
                   "trying products");
  }

  int fastest(const cublasLtMatmulHeuristicResult_t* some, int count) {
    if (!memory_ || count < 2 || !multiply(some[0], parts_[2])) return 0;
    const float cold = milliseconds(some[0], true), warm = milliseconds(some[0], false);
    float best = 0.96f;
    int chosen = 0;
    for (int i = 1; i < count; ++i) {
      if (some[i].state != CUBLAS_STATUS_SUCCESS || !multiply(some[i], parts_[3])) continue;
      const bool equal = same();
      const float t =
          std::max(milliseconds(some[i], true) / cold, milliseconds(some[i], false) / warm);
      if (t < best && equal) best = t, chosen = i;
    }
    cudaGetLastError();  // of an algorithm that could not be launched
    return chosen;
  }

 private:
  using owner = std::shared_ptr<void>;
  using event = std::shared_ptr<std::remove_pointer_t<cudaEvent_t>>;
  static constexpr int parts = 7;
  static constexpr std::size_t flushed = std::size_t{96} << 20;

  static event make_event() {
    cudaEvent_t e = nullptr;
    cuda_check(cudaEventCreate(&e), "trying products");
    return event(e, [](cudaEvent_t q) { cudaEventDestroy(q); });
  }
  static std::size_t size_of(cudaDataType_t t) { return t == CUDA_R_32F ? 4 : 2; }
  void noise(void* to, cudaDataType_t type, std::size_t count) {
    if (count > 0)
      noise_kernel<void><<<unsigned((count + 255) / 256), 256, 0, stream_>>>(to, type, count);
  }
  bool multiply(const cublasLtMatmulHeuristicResult_t& algorithm, void* c) {
    const float one = 1, zero = 0;
    return cublasLtMatmul(kind_.handle, &kind_.desc, &one, parts_[0], &kind_.a, parts_[1], &kind_.b,
                          &zero, c, &kind_.c, c, &kind_.c, &algorithm.algo, kind_.workspace,
                          kind_.workspace_bytes, stream_) == CUBLAS_STATUS_SUCCESS;
  }
  /// Of one product, the median of some turns: cold, with weights in memory and rows that have just
  /// been written, or warm, one after the other.
  float milliseconds(const cublasLtMatmulHeuristicResult_t& algorithm, bool cold) {
    constexpr int turns = 5;
    const int calls = cold ? 1 : 4;
    const event begin = make_event(), end = make_event();
    float t[turns];
    for (float& v : t) {
      if (cold) {
        cuda_check(cudaMemsetAsync(parts_[6], 0, flushed, stream_), "trying products");
        noise(parts_[1], kind_.b_type, kind_.b_count);
      }
      cuda_check(cudaEventRecord(begin.get(), stream_), "trying products");
      for (int k = 0; k < calls; ++k) multiply(algorithm, parts_[3]);
      cuda_check(cudaEventRecord(end.get(), stream_), "trying products");
      cuda_check(cudaEventSynchronize(end.get()), "trying products");
      cuda_check(cudaEventElapsedTime(&v, begin.get(), end.get()), "trying products");
    }
    std::sort(t, t + turns);
    return t[turns / 2];
  }
  bool same() {
    const std::size_t words = (kind_.c_count * size_of(kind_.c_type) + 3) / 4;  // padded by zeros
    int differ = 0;
    cuda_check(cudaMemsetAsync(parts_[5], 0, sizeof differ, stream_), "trying products");
    differ_kernel<void><<<unsigned((words + 255) / 256), 256, 0, stream_>>>(
        static_cast<const unsigned*>(parts_[2]), static_cast<const unsigned*>(parts_[3]), words,
        static_cast<int*>(parts_[5]));
    cuda_check(cudaMemcpyAsync(&differ, parts_[5], sizeof differ, cudaMemcpyDeviceToHost, stream_),
               "trying products");
    cuda_check(cudaStreamSynchronize(stream_), "trying products");
    return differ == 0;
  }

  product_kind kind_;
  cudaStream_t stream_;
  owner memory_;
  // a, b, c, another c, bias, a flag, what drives the rest out of the cache
  void* parts_[parts]{};
};

}  // namespace mlmamba::backend::kernels
