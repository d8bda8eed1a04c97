// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Matrix products by cuBLASLt, with one algorithm per kind of product.
#pragma once

#include <cublasLt.h>

#include <array>
#include <map>
#include <memory>

#include "mlmamba/backend/cuda/cublas_trial.cuh"

namespace mlmamba::backend::kernels {

/// Products y = x w^T of row-major y (M, N).
///
/// The algorithm never splits the sum over K, so that a product has the same bits each time. It is
/// chosen from N, K, types, layouts and alignments, and from M, rounded up to a multiple of 16, or
/// by 3 % at most where that is more (a choice for 1024 rows costs up to 30 % with 734); with
/// `independent_rows` never from M: what a row of y is does not depend on how many rows there are.
/// (M counts only if x is stored transposed, since there it is a stride.) Choices are kept, so that
/// a product of a known kind costs no search. The first product of a kind, if it is of middle size
/// and not captured, tries some algorithms: one with the same bits may be faster.
/// Numerics  sums in f32 (no TF32), rounded once to the type of y
class matrix_products {
 public:
  /// A matrix of R rows and K columns; K is contiguous, or else R is.
  struct operand {
    const void* data;
    cudaDataType_t type;
    bool k_contiguous;
    index_t leading;  // stride between the contiguous runs, in elements
  };
  struct result {
    void* data;
    cudaDataType_t type;
    index_t leading;
  };
  /// Several products of equal sizes side by side: how far apart their matrices are, in elements.
  struct batch {
    index_t count = 1, x = 0, w = 0, y = 0;
  };

  void open(std::size_t workspace_bytes, bool independent_rows) {
    independent_rows_ = independent_rows;
    cublasLtHandle_t h = nullptr;
    cublas_check(cublasLtCreate(&h), "creating a cuBLASLt handle");
    handle_ = handle_owner(h, [](cublasLtHandle_t q) { cublasLtDestroy(q); });
    try {
      workspace_ = allocator<memory::device>::allocate(workspace_bytes);
    } catch (const device_error& e) {
      fail<device_error>(e.what(), " (for cuBLASLt's products)");
    }
    workspace_bytes_ = workspace_bytes;
  }

  /// y = x w^T (+ y if accumulate) (+ bias, of the type of y), all sizes > 0. False: cuBLASLt has
  /// no kernel for this.
  bool multiply(cudaStream_t stream, const operand& x, const operand& w, const result& y, index_t m,
                index_t n, index_t k, bool accumulate, const void* bias = nullptr) {
    return multiply(stream, x, w, y, m, n, k, accumulate, batch{}, bias);
  }
  bool multiply(cudaStream_t stream, const operand& x, const operand& w, const result& y, index_t m,
                index_t n, index_t k, bool accumulate, const batch& many,
                const void* bias = nullptr) {
    // To cuBLAS, which thinks in columns, a row-major y (M, N) is N x M: its A is our w, its B our
    // x.
    cublasLtMatmulDescOpaque_t desc{};
    cublas_check(cublasLtMatmulDescInit(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "gemm");
    const cublasOperation_t op_a = w.k_contiguous ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t op_b = x.k_contiguous ? CUBLAS_OP_N : CUBLAS_OP_T;
    set(desc, CUBLASLT_MATMUL_DESC_TRANSA, op_a);
    set(desc, CUBLASLT_MATMUL_DESC_TRANSB, op_b);
    if (bias) {
      set(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
      set(desc, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, y.type);
    }

    const cublasLtMatmulAlgo_t* algorithm =
        choose(stream, desc, x, w, y, m, n, k, many, bias != nullptr);
    if (!algorithm) return false;

    layout a = operand_layout(w, n, k, w.leading), b = operand_layout(x, m, k, x.leading);
    layout c = layout_of(y.type, n, m, y.leading);
    repeat(a, many.count, many.w), repeat(b, many.count, many.x), repeat(c, many.count, many.y);
    const float one = 1, beta = accumulate ? 1.0f : 0.0f;
    const cublasStatus_t s =
        cublasLtMatmul(handle_.get(), &desc, &one, w.data, &a, x.data, &b, &beta, y.data, &c,
                       y.data, &c, algorithm, workspace_.get(), workspace_bytes_, stream);
    if (s == CUBLAS_STATUS_NOT_SUPPORTED || s == CUBLAS_STATUS_INVALID_VALUE) return false;
    cublas_check(s, "gemm");
    return true;
  }

 private:
  using layout = cublasLtMatrixLayoutOpaque_t;
  using handle_owner = std::shared_ptr<std::remove_pointer_t<cublasLtHandle_t>>;
  using key = std::array<index_t, 14>;
  struct choice {
    cublasLtMatmulAlgo_t algorithm;
    bool found;
  };

  template <class T>
  static void set(cublasLtMatmulDescOpaque_t& d, cublasLtMatmulDescAttributes_t which,
                  const T& value) {
    cublas_check(cublasLtMatmulDescSetAttribute(&d, which, &value, sizeof value), "gemm");
  }
  template <class T>
  static void set(cublasLtMatmulPreferenceOpaque_t& p, cublasLtMatmulPreferenceAttributes_t which,
                  const T& value) {
    cublas_check(cublasLtMatmulPreferenceSetAttribute(&p, which, &value, sizeof value), "gemm");
  }
  static layout layout_of(cudaDataType_t type, index_t rows, index_t columns, index_t leading) {
    layout l{};
    cublas_check(
        cublasLtMatrixLayoutInit(&l, type, std::uint64_t(rows), std::uint64_t(columns), leading),
        "gemm");
    return l;
  }
  static void repeat(layout& l, index_t count, index_t apart) {
    if (count == 1) return;
    const std::int32_t n = std::int32_t(count);
    cublas_check(
        cublasLtMatrixLayoutSetAttribute(&l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &n, sizeof n),
        "gemm");
    cublas_check(cublasLtMatrixLayoutSetAttribute(&l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                                  &apart, sizeof apart),
                 "gemm");
  }
  static layout operand_layout(const operand& v, index_t rows, index_t k, index_t leading) {
    return v.k_contiguous ? layout_of(v.type, k, rows, leading)
                          : layout_of(v.type, rows, k, leading);
  }
  /// Bytes (a power of two up to 16) that divide the address of every contiguous run. It is the
  /// same for all slices of rows.
  static std::uint32_t alignment(const void* data, cudaDataType_t type, index_t leading) {
    const index_t bytes = type == CUDA_R_32F ? 4 : 2;
    const auto bits = reinterpret_cast<std::uintptr_t>(data) | std::uintptr_t(leading * bytes) | 16;
    return std::uint32_t(bits & (~bits + 1));
  }

  /// The M that algorithms are chosen for: up to 15 or 3 % more rows, so that few choices are kept.
  index_t usual_rows(index_t m) const {
    if (independent_rows_) return 256;
    index_t step = 16;
    while (step * 64 < m) step *= 2;
    return (m + step - 1) / step * step;
  }

  /// Smaller ones take no time, larger ones have so many waves that the choice matters little.
  bool worth_a_trial(cudaStream_t stream, const operand& x, const operand& w, index_t m, index_t n,
                     index_t k) const {
    const double flops = 2.0 * double(m) * double(n) * double(k);
    if (independent_rows_ || !x.k_contiguous || !w.k_contiguous || flops < 1e9 || flops > 3e11 ||
        double(m + n) * double(k) + 2.0 * double(m) * double(n) > 3e8)
      return false;
    cudaStreamCaptureStatus captured;
    return cudaStreamIsCapturing(stream, &captured) == cudaSuccess &&
           captured == cudaStreamCaptureStatusNone;
  }

  const cublasLtMatmulAlgo_t* choose(cudaStream_t stream, cublasLtMatmulDescOpaque_t& desc,
                                     const operand& x, const operand& w, const result& y, index_t m,
                                     index_t n, index_t k, const batch& many, bool with_bias) {
    const index_t rows = x.k_contiguous ? usual_rows(m) : m;
    const std::uint32_t align_x = alignment(x.data, x.type, x.leading),
                        align_w = alignment(w.data, w.type, w.leading),
                        align_y = alignment(y.data, y.type, y.leading);
    const key what{rows,
                   n,
                   k,
                   x.type,
                   w.type,
                   y.type,
                   index_t(align_x),
                   align_w,
                   align_y,
                   x.k_contiguous,
                   w.k_contiguous,
                   w.leading,
                   many.count,
                   with_bias};
    if (const auto known = choices_.find(what); known != choices_.end())
      return known->second.found ? &known->second.algorithm : nullptr;

    cublasLtMatmulPreferenceOpaque_t want{};
    cublas_check(cublasLtMatmulPreferenceInit(&want), "gemm");
    set(want, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes_);
    const std::uint32_t no_split = CUBLASLT_REDUCTION_SCHEME_NONE;
    set(want, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, no_split);
    set(want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, align_w);
    set(want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, align_x);
    set(want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, align_y);
    set(want, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, align_y);

    layout a = operand_layout(w, n, k, w.leading), b = operand_layout(x, rows, k, x.leading);
    layout c = layout_of(y.type, n, rows, y.leading);
    repeat(a, many.count, many.w), repeat(b, many.count, many.x), repeat(c, many.count, many.y);
    constexpr int most = 8;
    cublasLtMatmulHeuristicResult_t some[most]{};
    int found = 0;
    const bool tries = many.count == 1 && worth_a_trial(stream, x, w, rows, n, k);
    const cublasStatus_t s = cublasLtMatmulAlgoGetHeuristic(handle_.get(), &desc, &a, &b, &c, &c,
                                                            &want, tries ? most : 1, some, &found);
    if (s != CUBLAS_STATUS_NOT_SUPPORTED) cublas_check(s, "gemm: choosing an algorithm");
    const bool ok =
        s == CUBLAS_STATUS_SUCCESS && found > 0 && some[0].state == CUBLAS_STATUS_SUCCESS;
    int chosen = 0;
    if (ok && tries) {
      const auto elements = [&](const operand& v, index_t r) {
        return std::size_t(v.leading) * std::size_t(v.k_contiguous ? r : k);
      };
      chosen = product_trial({handle_.get(), desc, a, b, c, w.type, x.type, y.type, elements(w, n),
                              elements(x, rows), std::size_t(y.leading) * std::size_t(rows),
                              std::size_t(with_bias ? n : 0), workspace_.get(), workspace_bytes_},
                             stream)
                   .fastest(some, found);
    }
    const auto at = choices_.insert({what, {some[chosen].algo, ok}}).first;
    return ok ? &at->second.algorithm : nullptr;
  }

  handle_owner handle_;
  bytes_owner workspace_;
  std::size_t workspace_bytes_ = 0;
  bool independent_rows_ = false;
  std::map<key, choice> choices_;
};

}  // namespace mlmamba::backend::kernels
