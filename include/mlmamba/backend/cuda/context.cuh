// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The context that CUDA ops run in.
#pragma once

#include <memory>

#include "mlmamba/backend/cuda/cublas.cuh"
#include "mlmamba/backend/cuda/graph.cuh"
#include "mlmamba/core/context.hpp"

namespace mlmamba {

namespace backend::kernels {
/// Counts of blocks that meet inside of a launch, apart from each other: each is asked for often.
inline constexpr index_t arrival_counts = 64, arrival_step = 64;

/// The architecture whose code runs here, 90 for sm_90 and sm_90a. Code for an older one, which the
/// driver translates, has none of what Hopper alone has, launches that begin early among it.
template <class>
__global__ void built_for_kernel() {}
inline int built_for() {
  cudaFuncAttributes a{};
  cuda_check(cudaFuncGetAttributes(&a, built_for_kernel<void>), "asking what the code is for");
  return a.ptxVersion;
}
}  // namespace backend::kernels

struct cuda_options {
  int device = 0;
  std::size_t gemm_workspace = std::size_t{32} << 20;  ///< bytes for cuBLASLt
  /// Products sum in one order, however many rows there are, and sequences are cut without a look
  /// at the batch: a row has the same bits in every batch. Few rows then take much longer.
  bool independent_rows = false;
};

/// A GPU: device, stream, products by cuBLASLt, scratch. Ops are enqueued and return at once;
/// scratch addresses repeat. `synchronize` is the only wait, and where errors of kernels surface.
/// The stream is one that the default stream waits for, and that waits for it: plain copies of
/// memory are ordered with the ops, and still the stream can be captured into a graph.
/// A thread uses one device: the context makes it the current one.
template <>
struct context<backend::cuda> : scratch_space<memory::device> {
  context() : context(cuda_options{}) {}
  explicit context(cuda_options o)
      : device(use(o.device)),
        multiprocessors(number(cudaDevAttrMultiProcessorCount)),
        block_memory(number(cudaDevAttrMaxSharedMemoryPerBlockOptin)),
        overlaps_launches(backend::kernels::built_for() >= 90),
        independent_rows(o.independent_rows),
        owned_stream_(make_stream()),
        stream(owned_stream_.get()) {
    products.open(o.gemm_workspace, o.independent_rows);
  }
  context(const context&) = delete;
  context& operator=(const context&) = delete;

  static constexpr bool asynchronous = true;
  /// A graph of launches. The first call runs the work, which grows the scratch; the next one from
  /// the same place in the scratch records it; then it is one launch. Where the scratch has moved
  /// in between it begins anew. The work must not wait for the device.
  using recording = backend::kernels::graph_recording;
  template <class F>
  bool replay(recording& r, F&& work) {
    const auto here = scratch.here();
    if (r.is_for(here)) {
      r.launch(stream);
      return false;
    }
    if (r.was_at(here)) {
      r.record(stream, scratch, work);
      r.launch(stream);
    } else {
      r.reset();
      work();
      r.note(scratch.here() == here ? here : decltype(here){});
    }
    return true;
  }

  void synchronize() const {
    backend::kernels::cuda_check(cudaStreamSynchronize(stream), "synchronising");
  }

  const int device;
  const int multiprocessors;
  const int block_memory;        ///< bytes of shared memory that a block may ask for
  const bool overlaps_launches;  ///< see backend::kernels::launch_early
  const bool independent_rows;

 private:
  using stream_owner = std::shared_ptr<std::remove_pointer_t<cudaStream_t>>;
  stream_owner owned_stream_;

  static int use(int device) {
    using namespace backend::kernels;
    int count = 0;
    const cudaError_t e = cudaGetDeviceCount(&count);
    if (e != cudaSuccess || count == 0) {
      cudaGetLastError();
      fail<device_error>(
          "cuda: no usable GPU: ", e == cudaSuccess ? "there is none" : cudaGetErrorString(e),
          "; wanted is an NVIDIA GPU and a driver for CUDA ", CUDART_VERSION / 1000, ".",
          CUDART_VERSION % 1000 / 10);
    }
    if (device < 0 || device >= count)
      fail<device_error>("cuda: device ", device, "; wanted is 0 to ", count - 1);
    cuda_check(cudaSetDevice(device), "choosing the device");
    return device;
  }
  int number(cudaDeviceAttr which) const {
    int n = 0;
    backend::kernels::cuda_check(cudaDeviceGetAttribute(&n, which, device), "asking the device");
    return n;
  }
  static stream_owner make_stream() {
    cudaStream_t s = nullptr;
    backend::kernels::cuda_check(cudaStreamCreate(&s), "creating a stream");
    return stream_owner(s, [](cudaStream_t q) { cudaStreamDestroy(q); });
  }

 public:
  const cudaStream_t stream;
  backend::kernels::matrix_products products;
  /// Zeros: a launch leaves them as it found them.
  tensor<int, 1, memory::device> arrivals{
      {backend::kernels::arrival_counts * backend::kernels::arrival_step}};
};

}  // namespace mlmamba
