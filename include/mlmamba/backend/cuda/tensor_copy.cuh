// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Copies of tiles of a strided array to shared memory and back in the background (Hopper's tensor
// copies): one thread asks, no address is computed for an element.
#pragma once

#include <cuda.h>  // types only: the one function of the driver is found at run time

#include "mlmamba/backend/cuda/bulk_copy.cuh"

namespace mlmamba::backend::kernels {

/// Can copies find tiles of it? v is (B, L, H, P), in pieces of 16 bytes (in_pieces).
template <class T>
bool copied_as_tiles(const view<T, 4, memory::device>& v) {
  for (int i = 0; i < 4; ++i)
    if (v.size[i] >= index_t(1) << 31 ||
        (i < 3 && v.size[i] > 1 && (v.stride[i] <= 0 || v.stride[i] >= index_t(1) << 38)))
      return false;
  return true;
}

/// What copies want to know of v (B, L, H, P) of 16-bit numbers, whose tiles are 64 of P wide and
/// have `rows` of L, swizzled as piece_at<8> has them. What is outside of v is read as zeros and
/// not written.
template <class T>
CUtensorMap map_tiles(const view<T, 4, memory::device>& v, unsigned rows, const char* name) {
  using encode_t =
      CUresult(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
               const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
               CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  static encode_t* const encode = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult how;
#if CUDART_VERSION >= 12050
    const auto e = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                    cudaEnableDefault, &how);
#else
    const auto e =
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &how);
#endif
    return e == cudaSuccess ? reinterpret_cast<encode_t*>(found) : nullptr;
  }();
  const cuuint64_t sizes[4] = {cuuint64_t(v.size[3]), cuuint64_t(v.size[2]), cuuint64_t(v.size[1]),
                               cuuint64_t(v.size[0])};
  cuuint64_t strides[3];
  for (int i = 0; i < 3; ++i)  // of an axis of one element nobody reads the stride
    strides[i] = v.size[2 - i] > 1 ? cuuint64_t(v.stride[2 - i]) * sizeof(T) : 16;
  const cuuint32_t box[4] = {64, 1, rows, 1}, steps[4] = {1, 1, 1, 1};
  CUtensorMap map;
  void* const data = const_cast<void*>(static_cast<const void*>(v.data));
  if (!encode ||
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, 4, data, sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) != CUDA_SUCCESS)
    fail<device_error>(name, ": the driver can't describe tiles of ", to_string(v),
                       "; wanted is a driver for CUDA 12");
  return map;
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

/// The tile at (b, t, h, p) of what `map` describes; b was told to expect its bytes.
__device__ inline void copy_tile_in(void* to, const CUtensorMap& map, int p, int h, int t, int b,
                                    copy_barrier& barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4, %5, %6}], [%2];\n" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(&barrier)), "r"(p), "r"(h), "r"(t), "r"(b)
      : "memory");
}
/// By one thread, after those that wrote the tile have called show_to_copies and met.
__device__ inline void copy_tile_out(const CUtensorMap& map, const void* from, int p, int h, int t,
                                     int b) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];\n"
      "cp.async.bulk.commit_group;\n" ::"l"(&map),
      "r"(shared_address(from)), "r"(p), "r"(h), "r"(t), "r"(b)
      : "memory");
}

#endif

}  // namespace mlmamba::backend::kernels
