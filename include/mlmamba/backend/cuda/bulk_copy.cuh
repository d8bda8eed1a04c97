// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Copies of whole runs of bytes into shared memory in the background (Hopper's bulk copies), and
// the barriers that tell when they have arrived.
#pragma once

#include <cstdint>

#include "mlmamba/backend/cuda/mma.cuh"

namespace mlmamba::backend::kernels {

/// In shared memory. Turns of waiting are counted from 0; `odd`: of this one.
struct alignas(8) copy_barrier {
  std::uint64_t state;
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

/// By one thread: a turn ends when so many have arrived (and all copies that were expected).
__device__ inline void open_barrier(copy_barrier& b, unsigned arrivals = 1) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;\n" ::"r"(shared_address(&b)), "r"(arrivals)
               : "memory");
}
__device__ inline void arrive(copy_barrier& b, unsigned arrivals = 1) {
  asm volatile("mbarrier.arrive.shared.b64 _, [%0], %1;\n" ::"r"(shared_address(&b)), "r"(arrivals)
               : "memory");
}
/// By all threads, before __syncthreads.
__device__ inline void barriers_are_open() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}
/// By one thread, before it copies so many bytes.
__device__ inline void expect_copies(copy_barrier& b, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;\n" ::"r"(shared_address(&b)),
               "r"(bytes)
               : "memory");
}
/// Addresses and bytes are multiples of 16.
__device__ inline void copy_bulk(void* to, const void* from, unsigned bytes, copy_barrier& b) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::
          "r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(&b))
      : "memory");
}
/// Copies out: by one thread, after those that wrote the bytes have called show_to_copies and met;
/// those since the last commit are a group.
__device__ inline void show_to_copies() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}
__device__ inline void copy_bulk_out(void* to, const void* from, unsigned bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\n" ::"l"(to),
               "r"(shared_address(from)), "r"(bytes)
               : "memory");
}
__device__ inline void commit_copies_out() {
  asm volatile("cp.async.bulk.commit_group;\n" ::: "memory");
}
/// By that thread: until all groups but the last `Groups` have read what they copy.
template <int Groups = 0>
__device__ void wait_until_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;\n" ::"n"(Groups) : "memory");
}
__device__ inline void wait_for_copies(copy_barrier& b, unsigned odd) {
  unsigned there;
  do {
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}\n"
        : "=r"(there)
        : "r"(shared_address(&b)), "r"(odd)
        : "memory");
  } while (!there);
}

#endif

}  // namespace mlmamba::backend::kernels
