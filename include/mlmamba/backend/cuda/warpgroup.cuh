// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Tensor cores, four warps at a time (Hopper, sm_90a): products of tiles of bf16 or f16 in shared
// memory or registers, that run in the background. Other builds have empty functions and don't
// launch them.
#pragma once

#include <cstdint>

#include "mlmamba/backend/cuda/mma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MLMAMBA_WARPGROUPS 1
#endif

namespace mlmamba::backend::kernels {

/// Has shared memory where the build is for sm_90a, none elsewhere: so the host can ask.
template <class>
__global__ void warpgroup_probe_kernel() {
#if defined(MLMAMBA_WARPGROUPS)
  __shared__ volatile int there;
  there = 1;
#endif
}
/// Was the code that this GPU runs built for sm_90a?
inline bool has_warpgroups() {
  cudaFuncAttributes a{};
  cuda_check(cudaFuncGetAttributes(&a, warpgroup_probe_kernel<void>), "asking for sm_90a code");
  return a.sharedSizeBytes > 0;
}

/// Elements of a tile of 64 rows and 64 columns: what an operand in shared memory is made of.
/// Its 16-byte pieces are swizzled as mma.cuh does it (piece_at<8>), and it begins at a multiple of
/// 1024 bytes.
inline constexpr int operand_tile = 64 * 64;

#if defined(MLMAMBA_WARPGROUPS)

/// The 16 x 16 tile at (row, 8 piece), as a left operand's fragment has it, to shared memory.
/// `place`: stored_at of the row and lane; `piece` is even.
__device__ inline void store_matrices(unsigned place, int piece, unsigned a, unsigned b, unsigned c,
                                      unsigned d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(
                   place ^ unsigned(piece << 4)),
               "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}
/// Where this lane's row of the 16 from `row` on is in a tile of 8 pieces in a row.
template <class V>
__device__ unsigned stored_at(const V* tile, int row) {
  const int lane = lane_index(), r = row + (lane & 15);
  return shared_address(tile) + unsigned(r * 128 + (((lane >> 4) ^ (r & 7)) << 4));
}

/// Describes an operand. Depth along a row: `at` is at the first of 16 columns. Depth along the
/// rows ("transposed"): at the first of 16 rows; wider than 64 goes on `Next` elements further, in
/// the next tile. `further`: that many elements behind `at`, a constant.
template <int Next = operand_tile, class V>
__device__ std::uint64_t operand_at(const V* at, int further = 0) {
  constexpr unsigned next_tile = Next * sizeof(V) / 16, next_rows = 1024 / 16, swizzled_by_128 = 1;
  const unsigned low = (shared_address(at) >> 4 | next_tile << 16) + unsigned(further / 8);
  return std::uint64_t(next_rows | swizzled_by_128 << 30) << 32 | low;
}

/// A thread's registers from here on, all four warps alike; what some give others may take.
template <int Count>
__device__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(Count));
}
template <int Count>
__device__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(Count));
}

/// Before products read what was written: to registers; to shared memory (and a barrier after it).
__device__ inline void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
__device__ inline void show_to_products() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}
/// Ends a group of products; wait_products<n>: until at most n groups run.
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
template <int Groups>
__device__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(Groups) : "memory");
}
/// Keeps the compiler from using results before the wait above this.
template <int N>
__device__ void take_products(float (&d)[N][4]) {
#pragma unroll
  for (int j = 0; j < N; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e) asm volatile("" : "+f"(d[j][e])::"memory");
}

#define MLMAMBA_FOUR(d, j) "+f"(d[j][0]), "+f"(d[j][1]), "+f"(d[j][2]), "+f"(d[j][3])
#define MLMAMBA_32(d)                                                             \
  MLMAMBA_FOUR(d, 0), MLMAMBA_FOUR(d, 1), MLMAMBA_FOUR(d, 2), MLMAMBA_FOUR(d, 3), \
      MLMAMBA_FOUR(d, 4), MLMAMBA_FOUR(d, 5), MLMAMBA_FOUR(d, 6), MLMAMBA_FOUR(d, 7)
#define MLMAMBA_64(d)                                                                              \
  MLMAMBA_32(d), MLMAMBA_FOUR(d, 8), MLMAMBA_FOUR(d, 9), MLMAMBA_FOUR(d, 10), MLMAMBA_FOUR(d, 11), \
      MLMAMBA_FOUR(d, 12), MLMAMBA_FOUR(d, 13), MLMAMBA_FOUR(d, 14), MLMAMBA_FOUR(d, 15)
// The numbers of these operands, for results of 64, 80 and 128 columns.
#define MLMAMBA_TO_64                                                                      \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, " \
  "%19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define MLMAMBA_TO_80 MLMAMBA_TO_64 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define MLMAMBA_TO_128                                                                      \
  MLMAMBA_TO_80                                                                             \
  ", %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, " \
  "%57, %58, %59, %60, %61, %62, %63"
// The product as V has it. `before` and `after` are around the instruction, then come operands.
#define MLMAMBA_MULTIPLY(V, before, size, after, ...)                                              \
  static_assert(is_16_bit<V>);                                                                     \
  if constexpr (std::is_same_v<V, f16>) {                                                          \
    asm volatile(before "wgmma.mma_async.sync.aligned." size ".f32.f16.f16 " after __VA_ARGS__);   \
  } else {                                                                                         \
    asm volatile(before "wgmma.mma_async.sync.aligned." size ".f32.bf16.bf16 " after __VA_ARGS__); \
  }

/// d (64 x 64) = a b, or += if `add`; both operands in shared memory, depth 16 along their rows.
/// The fragment d[j] is that of multiply_tile for rows 16 w + .. of warp w and columns 8 j + ..
template <class V>
__device__ void multiply_shared(float (&d)[8][4], std::uint64_t a, std::uint64_t b, bool add) {
  MLMAMBA_MULTIPLY(V, "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n", "m64n64k16",
                   MLMAMBA_TO_64 "}, %32, %33, p, 1, 1, 0, 0;\n}\n",
                   : MLMAMBA_32(d)
                   : "l"(a), "l"(b), "r"(int(add)))
}
/// d (64 x 64) += a b; a as of multiply_tile, b's depth along the rows of its tile.
template <class V>
__device__ void multiply_add_right(float (&d)[8][4], const unsigned (&a)[4], std::uint64_t b) {
  MLMAMBA_MULTIPLY(V, "", "m64n64k16", MLMAMBA_TO_64 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;\n",
                   : MLMAMBA_32(d)
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
}
/// The same, 64 x 80.
template <class V>
__device__ void multiply_add_right(float (&d)[10][4], const unsigned (&a)[4], std::uint64_t b) {
  MLMAMBA_MULTIPLY(V, "", "m64n80k16", MLMAMBA_TO_80 "}, {%40, %41, %42, %43}, %44, 1, 1, 1, 1;\n",
                   : MLMAMBA_32(d), MLMAMBA_FOUR(d, 8), MLMAMBA_FOUR(d, 9)
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
}
/// The same, 64 x 128.
template <class V>
__device__ void multiply_add_right(float (&d)[16][4], const unsigned (&a)[4], std::uint64_t b) {
  MLMAMBA_MULTIPLY(V, "", "m64n128k16",
                   MLMAMBA_TO_128 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;\n",
                   : MLMAMBA_64(d)
                   : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b))
}

/// d (64 x 128) = a b, or += if `add`; a in shared memory, b's depth along the rows of its tiles.
template <class V>
__device__ void multiply_shared_right(float (&d)[16][4], std::uint64_t a, std::uint64_t b,
                                      bool add) {
  MLMAMBA_MULTIPLY(V, "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n", "m64n128k16",
                   MLMAMBA_TO_128 "}, %64, %65, p, 1, 1, 0, 1;\n}\n",
                   : MLMAMBA_64(d)
                   : "l"(a), "l"(b), "r"(int(add)))
}

#undef MLMAMBA_MULTIPLY
#undef MLMAMBA_TO_128
#undef MLMAMBA_TO_80
#undef MLMAMBA_TO_64
#undef MLMAMBA_64
#undef MLMAMBA_32
#undef MLMAMBA_FOUR

#endif

}  // namespace mlmamba::backend::kernels
