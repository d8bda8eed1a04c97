// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Entries of the table for matrix products y = x w^T: packing, tiles of columns, results.
//
// x is packed once into panels of `height` rows, [panel][k][row]; w is packed block by block, or
// transposed on the fly if x has few rows. What is multiplied at once is a unit: one k, or two
// neighbouring k of bf16 where the processor multiplies such pairs, or 32 where it multiplies
// tiles. Each y[m,n] is one chain of fused multiply-adds (of tiles: of sums of units) over
// ascending units, with outputs across lanes, so its bits depend neither on the blocking nor on the
// other rows and columns.
#pragma once

#include "mlmamba/core/packed_matrix.hpp"

namespace mlmamba::backend::simd {

/// One product, with erased types: a path knows those of x and w, results that of y.
struct gemm_job {
  const void* x = nullptr;
  const void* w = nullptr;
  index_t x_stride = 0, w_stride = 0;  // of the axis that is not contiguous
  bool x_rows = true, w_rows = true;   // rows (k) are contiguous; else columns
  bool w_packed = false;               // w is the data of packed_rows of type W instead
  index_t w_strip_bytes = 0;           // of one of its strips
  index_t w_soon = 0;                  // rows of it before this one will be read soon
  index_t m = 0, n = 0, k = 0;
  index_t height = 0;          // rows per panel of packed x
  void* packed = nullptr;      // panels of x
  const void* bias = nullptr;  // or null
  void* y = nullptr;
  void* pre_activation = nullptr;  // or null
  index_t y_stride = 0, pre_stride = 0;
  mlmamba::activation activation = mlmamba::activation::none;
  bool accumulate = false;
  const struct gemm_results* results = nullptr;
};

/// How sums become results: typed by y.
struct gemm_results {
  // gets the lines of y that will be written
  void (*fetch)(const gemm_job&, index_t m0, index_t rows, index_t n0, index_t columns);
  // sums (rows, width) of y[m0.., n0..]: read y before, or write it after
  void (*start)(const gemm_job&, index_t m0, index_t rows, index_t n0, index_t columns, void* sums,
                index_t width);
  void (*finish)(const gemm_job&, index_t m0, index_t rows, index_t n0, index_t columns, void* sums,
                 index_t width);
};

/// One way to multiply, for one type of x and one of w.
struct gemm_path {
  index_t max_height = 1, width = 1;  // tiles of height x width sums are held in registers
  index_t k_per_unit = 1, unit_bytes = 4, sum_bytes = 4;
  index_t stream_unit_bytes = 4;           // of a row of x that pack_stream packs
  index_t block = 1;                       // units that are packed and multiplied at a time
  index_t max_stream = 0;                  // most rows of x that `stream` takes
  index_t max_stream_packed = 0;           // ... and `stream_packed`
  index_t max_passes = 1;                  // of stream_packed over a strip, for more rows
  index_t (*height)(index_t m) = nullptr;  // of the panels, for m rows
  index_t (*stream_height)(index_t m) = nullptr;
  void (*pack_x)(const gemm_job&, index_t panel) = nullptr;
  void (*pack_stream)(const gemm_job&) = nullptr;  // x for the two below, if not by pack_x
  // columns [n0, n1) of the rows of panels [p0, p1); scratch: see scratch_bytes
  void (*columns)(const gemm_job&, index_t p0, index_t p1, index_t n0, index_t n1,
                  void* scratch) = nullptr;
  // the same for one panel of few rows and contiguous rows of w, read once and never packed
  void (*stream)(const gemm_job&, index_t n0, index_t n1) = nullptr;
  // the same of packed w, n0 being the first row of a strip
  void (*stream_packed)(const gemm_job&, index_t n0, index_t n1) = nullptr;

  index_t units(index_t k) const { return (k + k_per_unit - 1) / k_per_unit; }
  index_t packed_bytes(index_t m, index_t k, index_t h) const {
    return (m + h - 1) / h * h * units(k) * unit_bytes;
  }
  index_t packed_w_bytes(index_t n) const {
    return (n + width - 1) / width * width * block * unit_bytes;
  }
  index_t sums_bytes(index_t m, index_t h, index_t n) const {
    return (m + h - 1) / h * h * ((n + width - 1) / width * width) * sum_bytes;
  }
};

/// x of type X, w of type W: float and bf16 in any combination, or both double.
template <class X, class W>
struct gemm_path_of : gemm_path {};
template <class Y>
struct gemm_results_of : gemm_results {};

}  // namespace mlmamba::backend::simd
