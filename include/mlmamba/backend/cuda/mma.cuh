// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Tensor cores, warp by warp (sm_80 and later): fragments of tiles in shared
// memory, of bf16 or f16.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "mlmamba/backend/cuda/pieces.cuh"

namespace mlmamba::backend::kernels {

/// Tiles in shared memory are rows of 16-byte pieces (8 elements). The piece of row r that belongs
/// at c lies at c ^ swizzle(r): then the 8 rows that a fragment load touches hit different banks.
/// Rows of an odd number of pieces do so by themselves.
template <int Pieces>
__device__ constexpr int swizzle(int row) {
  return Pieces % 2 == 1 ? 0
         : Pieces >= 8   ? row & 7
         : Pieces == 4   ? (row >> 1) & 3
                         : (row >> 2) & 1;
}
/// The index (in elements) of piece c of row r in a tile with `Pieces` pieces in a row.
template <int Pieces>
__device__ constexpr int piece_at(int row, int piece) {
  return (row * Pieces + (piece ^ swizzle<Pieces>(row))) * 8;
}

__device__ inline unsigned shared_address(const void* p) {
  return unsigned(__cvta_generic_to_shared(p));
}

/// Copies 16 bytes to shared memory in the background, or zeros where there is nothing.
__device__ inline void copy_piece(void* to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)),
               "l"(from), "r"(there ? 16 : 0));
}
/// The same with one word of 4 bytes.
template <class T>
__device__ void copy_word(T* to, const T* from) {
  static_assert(sizeof(T) == 4);
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;\n" ::"r"(shared_address(to)), "l"(from));
}
/// Ends a group of copies; wait_copies<n> waits until at most n groups are under way.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;\n" ::); }
template <int Groups>
__device__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Groups) : "memory");
}

/// Four 8 x 8 matrices; lane 8 i + r gives the address of row r of matrix i.
template <class V>
__device__ void load_matrices(unsigned (&f)[4], const V* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3])
               : "r"(shared_address(row)));
}
template <class V>
__device__ void load_transposed(unsigned (&f)[4], const V* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(f[0]), "=r"(f[1]), "=r"(f[2]), "=r"(f[3])
               : "r"(shared_address(row)));
}

/// The 16 x 16 tile at (row, 8 piece) as left operand.
template <int Pieces, class V>
__device__ void load_left(unsigned (&f)[4], const V* tile, int row, int piece) {
  const int lane = lane_index();
  load_matrices(f, tile + piece_at<Pieces>(row + (lane & 15), piece + (lane >> 4)));
}
/// The transpose of the 16 x 16 tile at (row, 8 piece) as left operand: depth is along rows.
template <int Pieces, class V>
__device__ void load_left_transposed(unsigned (&f)[4], const V* tile, int row, int piece) {
  const int lane = lane_index();
  load_transposed(
      f, tile + piece_at<Pieces>(row + (lane & 7) + ((lane >> 4) << 3), piece + ((lane >> 3) & 1)));
}
/// The transpose of the 16 x 16 tile at (row, 8 piece) as two right operands of 8 columns: depth is
/// along pieces. f[0], f[1]: the first; f[2], f[3]: the second.
template <int Pieces, class V>
__device__ void load_right_transposed(unsigned (&f)[4], const V* tile, int row, int piece) {
  const int lane = lane_index();
  load_matrices(
      f, tile + piece_at<Pieces>(row + (lane & 7) + ((lane >> 4) << 3), piece + ((lane >> 3) & 1)));
}
/// The 16 x 16 tile at (row, 8 piece) as two right operands: depth is along rows.
template <int Pieces, class V>
__device__ void load_right(unsigned (&f)[4], const V* tile, int row, int piece) {
  const int lane = lane_index();
  load_transposed(f, tile + piece_at<Pieces>(row + (lane & 15), piece + (lane >> 4)));
}

/// d += a b, 16 x 8 with depth 16. A lane has d[0], d[1]: row lane / 4, columns 2 (lane % 4) and
/// the next; d[2], d[3]: the same 8 rows below.
template <class V>
__device__ void multiply_tile(float (&d)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  static_assert(is_16_bit<V>);
#define MLMAMBA_MULTIPLY(type)                                                          \
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                   \
               ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n" \
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                         \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
  if constexpr (std::is_same_v<V, f16>) {
    MLMAMBA_MULTIPLY("f16");
  } else {
    MLMAMBA_MULTIPLY("bf16");
  }
#undef MLMAMBA_MULTIPLY
}

/// Two numbers as V, the first in the low half, as fragments have them.
template <class V>
__device__ unsigned pack(float low, float high) {
  static_assert(is_16_bit<V>);
  if constexpr (std::is_same_v<V, f16>) {
    const __half2 v = __floats2half2_rn(low, high);
    return *reinterpret_cast<const unsigned*>(&v);
  } else {
    const __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const unsigned*>(&v);
  }
}

}  // namespace mlmamba::backend::kernels
