// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Matrix products on a GPU: a kernel of our own for few rows; cuBLASLt, then bias and activation; a
// plain kernel for the rest.
#pragma once

#include <algorithm>

#include "mlmamba/backend/cuda/gemm_few_rows.cuh"
#include "mlmamba/backend/cuda/elementwise.cuh"
#include "mlmamba/ops/gemm.hpp"

namespace mlmamba::backend {

namespace kernels {

/// Any types, strides and sizes; each sum runs over k ascending. Blocks of 16 x 16 elements of y.
template <class E, class Y, class W, class X>
__global__ void gemm_kernel(const ops::gemm<E, Y, W, X> op) {
  using A = typename E::accum;
  constexpr int side = 16;
  __shared__ A xs[side][side + 1], ws[side][side + 1];  // [k][m], [k][n]
  index_t tile_m = blockIdx.x;
  const index_t tile_n = take_index(tile_m, (op.w.size[0] + side - 1) / side);
  const int i = int(threadIdx.x) / side, j = int(threadIdx.x) % side;
  const index_t depth = op.x.size[1], rows = op.x.size[0], columns = op.w.size[0];
  const index_t m = tile_m * side + i, n = tile_n * side + j;
  const index_t loaded_n = tile_n * side + i;
  A sum = 0;
  for (index_t k0 = 0; k0 < depth; k0 += side) {
    const index_t k = k0 + j;
    xs[j][i] = m < rows && k < depth ? A(op.x(m, k)) : A(0);
    ws[j][i] = loaded_n < columns && k < depth ? A(op.w(loaded_n, k)) : A(0);
    __syncthreads();
    const int deep = int(depth - k0 < side ? depth - k0 : side);
    for (int kk = 0; kk < deep; ++kk) sum = multiply_add(xs[kk][i], ws[kk][j], sum);
    __syncthreads();
  }
  if (m >= rows || n >= columns) return;
  A v = op.accumulate ? A(op.y(m, n)) + sum : sum;
  if (op.bias) v += op.bias(n);
  if (op.pre_activation) op.pre_activation(m, n) = Y(v);
  op.y(m, n) = Y(apply_activation(op.activation, v));
}

template <class Op, class A>
struct gemm_epilogue {
  static constexpr const char* name = Op::name;
  Op op;
  view<A, 2, memory::device> sums;  // (M, N); may be y
  bool accumulate;                  // y is not in the sums yet
};

/// A thread has Width::value neighbouring columns, which are read and written as one.
template <class Width, class E, class Y, class W, class X>
__global__ void gemm_epilogue_kernel(
    const gemm_epilogue<ops::gemm<E, Y, W, X>, typename E::accum> e) {
  using A = typename E::accum;
  constexpr int width = Width::value;
  struct alignas(width * sizeof(A)) sums_type {
    A at[width];
  };
  struct alignas(width * sizeof(Y)) values_type {
    Y at[width];
  };
  index_t m = thread_index() * width;
  if (m >= e.sums.count()) return;
  const index_t n = take_index(m, e.sums.size[1]);
  const auto& op = e.op;
  sums_type v = *reinterpret_cast<const sums_type*>(&e.sums(m, n));
  values_type before;
  if (e.accumulate) {
    before = *reinterpret_cast<const values_type*>(&op.y(m, n));
    for (int i = 0; i < width; ++i) v.at[i] += A(before.at[i]);
  }
  if (op.bias)
    for (int i = 0; i < width; ++i) v.at[i] += op.bias(n + i);
  if (op.pre_activation) {
    for (int i = 0; i < width; ++i) before.at[i] = Y(v.at[i]);
    *reinterpret_cast<values_type*>(&op.pre_activation(m, n)) = before;
  }
  for (int i = 0; i < width; ++i) before.at[i] = Y(apply_activation(op.activation, v.at[i]));
  *reinterpret_cast<values_type*>(&op.y(m, n)) = before;
}

template <class E, class Y, class W, class X>
void launch_gemm_epilogue(context<cuda>& ctx,
                          const gemm_epilogue<ops::gemm<E, Y, W, X>, typename E::accum>& e) {
  constexpr int width = 4;
  const auto wide = [&](const view<Y, 2, memory::device>& v) {
    return !v || (v.stride[0] % width == 0 &&
                  reinterpret_cast<std::uintptr_t>(v.data) % (width * sizeof(Y)) == 0);
  };
  const bool sums = e.sums.stride[0] % width == 0 &&
                    reinterpret_cast<std::uintptr_t>(e.sums.data) % (width * 4) == 0;
  if (e.sums.size[1] % width == 0 && sums && wide(e.op.y) && wide(e.op.pre_activation)) {
    launch_elements(ctx, gemm_epilogue_kernel<constant<width>, E, Y, W, X>, e.sums.count() / width,
                    e);
  } else {
    launch_elements(ctx, gemm_epilogue_kernel<constant<1>, E, Y, W, X>, e.sums.count(), e);
  }
}

template <class T>
inline constexpr bool cublas_knows =
    std::is_same_v<T, float> || std::is_same_v<T, bf16> || std::is_same_v<T, f16>;
template <class T>
inline constexpr cudaDataType_t cublas_type = std::is_same_v<T, float>  ? CUDA_R_32F
                                              : std::is_same_v<T, bf16> ? CUDA_R_16BF
                                                                        : CUDA_R_16F;

/// How cuBLAS sees a matrix; false if it can't.
template <class T>
bool cublas_operand(const view<const T, 2, memory::device>& v, matrix_products::operand& o) {
  const index_t r = v.size[0], k = v.size[1];
  o = {v.data, cublas_type<T>, true, 0};
  if (v.stride[1] == 1 || k <= 1) {
    o.leading = r > 1 ? v.stride[0] : k;
    return o.leading >= k;
  }
  o.k_contiguous = false;
  o.leading = v.stride[1];
  return (v.stride[0] == 1 || r <= 1) && o.leading >= r;
}

template <class T>
matrix_products::result cublas_result(const view<T, 2, memory::device>& v) {
  return {v.data, cublas_type<T>, v.size[0] > 1 ? v.stride[0] : v.size[1]};
}

template <class E, class Y, class W, class X>
void launch_gemm(context<cuda>& ctx, const ops::gemm<E, Y, W, X>& op) {
  constexpr index_t side = 16;
  const index_t tiles = (op.x.size[0] + side - 1) / side * ((op.w.size[0] + side - 1) / side);
  gemm_kernel<E, Y, W, X><<<blocks_for(tiles, 1), side * side, 0, ctx.stream>>>(op);
  launched(op.name);
}

/// Sums over many rows, as gradients of weights are, have few elements and long sums: where y has
/// too few tiles to keep a GPU busy, slices of the sums are made side by side by cuBLAS, then added
/// one after the other. How many; each has 128 terms at least.
inline index_t gemm_slices_for(index_t m, index_t n, index_t k) {
  const index_t tiles = ((m + 127) / 128) * ((n + 255) / 256);
  constexpr index_t busy = 256, most = 16;  // tiles of two waves of blocks
  return std::clamp<index_t>(std::min((busy + tiles - 1) / tiles, k / 128), 1, most);
}

template <class Op>
struct gemm_slices {
  static constexpr const char* name = Op::name;
  view<float, 2, memory::device> y;      // (M, N)
  view<float, 3, memory::device> parts;  // (slices, M, N)
  bool accumulate;
};

/// A thread has Count::value neighbouring elements.
template <class Count, class Op>
__global__ void gemm_slices_kernel(const gemm_slices<Op> s) {
  constexpr int count = Count::value;
  index_t m = thread_index() * count;
  if (m >= s.y.count()) return;
  const index_t n = take_index(m, s.y.size[1]);
  float sum[count] = {};
  if (s.accumulate) read_piece(sum, &s.y(m, n));
#pragma unroll 4
  for (index_t k = 0; k < s.parts.size[0]; ++k) {
    float part[count];
    read_piece(part, &s.parts(k, m, n));
#pragma unroll
    for (int i = 0; i < count; ++i) sum[i] += part[i];
  }
  write_piece(&s.y(m, n), sum);
}

/// Sliced product into y. False: nothing but scratch was written.
template <class E, class W, class X>
bool gemm_by_slices(context<cuda>& ctx, const ops::gemm<E, float, W, X>& op,
                    matrix_products::operand x, matrix_products::operand w) {
  using Op = ops::gemm<E, float, W, X>;
  const index_t m = op.x.size[0], n = op.w.size[0], k = op.x.size[1];
  const index_t wanted = gemm_slices_for(m, n, k);
  if (wanted == 1) return false;
  const index_t slice = ((k + wanted - 1) / wanted + 63) / 64 * 64, slices = k / slice;
  auto frame = ctx.scratch.make_frame();
  const auto parts = ctx.scratch.template make<float>(shape<3>{{slices, m, n}});
  const matrix_products::result y{parts.data, CUDA_R_32F, n};
  const auto step = [&](const matrix_products::operand& o) {
    return slice * (o.k_contiguous ? 1 : o.leading);
  };
  if (!ctx.products.multiply(ctx.stream, x, w, y, m, n, slice, false,
                             {slices, step(x), step(w), m * n}))
    return false;
  const gemm_slices<Op> sum{op.y, parts, op.accumulate};
  if (in_pieces(op.y, 4) && in_pieces(parts, 4)) {
    launch_elements(ctx, gemm_slices_kernel<constant<4>, Op>, m * n / 4, sum);
  } else {
    launch_elements(ctx, gemm_slices_kernel<constant<1>, Op>, m * n, sum);
  }
  const index_t done = slices * slice;
  if (done == k) return true;
  Op rest = op;
  rest.x = op.x.slice(1, done, k - done), rest.w = op.w.slice(1, done, k - done);
  rest.accumulate = true;
  const auto after = [&](matrix_products::operand o) {
    const index_t bytes = o.type == CUDA_R_32F ? 4 : 2;
    o.data = static_cast<const char*>(o.data) + slices * step(o) * bytes;
    return o;
  };
  if (!ctx.products.multiply(ctx.stream, after(x), after(w), cublas_result(op.y), m, n, k - done,
                             true))
    launch_gemm(ctx, rest);
  return true;
}

template <class Y>
struct rounded_bias {
  static constexpr const char* name = "gemm";
  const float* from;
  Y* to;
  index_t count;
};
template <class Y>
__global__ void rounded_bias_kernel(const rounded_bias<Y> b) {
  const index_t i = thread_index();
  if (i < b.count) b.to[i] = Y(b.from[i]);
}

/// Elements of y from which a pass over sums in float, for an exact bias, is no longer for free.
inline constexpr index_t gemm_rounds_bias = index_t(1) << 18;

/// Bias inside the product, which takes one of the type of y only, so that it is rounded to that;
/// then the activation, of what is in y or in pre_activation. False: nothing but scratch was
/// written.
template <class E, class Y, class W, class X>
bool gemm_with_bias(context<cuda>& ctx, const ops::gemm<E, Y, W, X>& op,
                    const matrix_products::operand& x, const matrix_products::operand& w) {
  const index_t m = op.x.size[0], n = op.w.size[0], k = op.x.size[1];
  auto frame = ctx.scratch.make_frame();
  const void* bias = op.bias.data;
  if constexpr (!std::is_same_v<Y, float>) {
    if (bias) {
      const auto rounded = ctx.scratch.template make<Y>(shape<1>{{n}});
      launch_elements(ctx, rounded_bias_kernel<Y>, n,
                      rounded_bias<Y>{op.bias.data, rounded.data, n});
      bias = rounded.data;
    }
  }
  const auto v = op.pre_activation ? op.pre_activation : op.y;
  const matrix_products::result to = cublas_result(v);
  if (to.leading < n || !ctx.products.multiply(ctx.stream, x, w, to, m, n, k, false, bias))
    return false;
  if (op.activation != activation::none || op.pre_activation)
    run(ctx, ops::activate<on<cuda, Y>>{.x = v, .y = op.y, .activation = op.activation});
  return true;
}

/// Tries cuBLAS. False: nothing but scratch was written.
template <class E, class Y, class W, class X>
bool gemm_by_cublas(context<cuda>& ctx, const ops::gemm<E, Y, W, X>& op) {
  const index_t m = op.x.size[0], n = op.w.size[0], k = op.x.size[1];
  matrix_products::operand x, w;
  if (k == 0 || !cublas_operand(op.x, x) || !cublas_operand(op.w, w)) return false;
  const matrix_products::result y = cublas_result(op.y);
  if (y.leading < n) return false;

  const bool plain = !op.bias && !op.pre_activation && op.activation == activation::none;
  if constexpr (std::is_same_v<Y, float>)
    if (plain && !x.k_contiguous && k >= 512 && gemm_by_slices(ctx, op, x, w)) return true;
  if (plain) return ctx.products.multiply(ctx.stream, x, w, y, m, n, k, op.accumulate);
  const bool exact_bias = !op.bias || std::is_same_v<Y, float>;
  if (!op.accumulate && (exact_bias || m * n >= gemm_rounds_bias) && gemm_with_bias(ctx, op, x, w))
    return true;

  // The epilogue adds the bias to sums that were not rounded yet.
  auto frame = ctx.scratch.make_frame();
  gemm_epilogue<ops::gemm<E, Y, W, X>, float> e{op, {}, false};
  if constexpr (std::is_same_v<Y, float>) {
    e.sums = op.y;
    if (!ctx.products.multiply(ctx.stream, x, w, y, m, n, k, op.accumulate)) return false;
  } else {
    e.sums = ctx.scratch.make<float>(shape<2>{{m, n}});
    e.accumulate = op.accumulate;
    if (!ctx.products.multiply(ctx.stream, x, w, cublas_result(e.sums), m, n, k, false))
      return false;
  }
  launch_gemm_epilogue(ctx, e);
  return true;
}

}  // namespace kernels

template <class E, class Y, class W, class X>
void execute(context<cuda>& ctx, const ops::gemm<E, Y, W, X>& op) {
  const index_t m = op.x.size[0], n = op.w.size[0];
  if (m == 0 || n == 0) return;
  if constexpr (std::is_same_v<X, W> && kernels::cublas_knows<X> &&
                (std::is_same_v<Y, X> ||
                 std::is_same_v<Y, float>)&&std::is_same_v<typename E::accum, float>) {
    if (!ctx.independent_rows && kernels::gemm_of_few_rows(ctx, op)) return;
    if (kernels::gemm_by_cublas(ctx, op)) return;
  }
  kernels::launch_gemm(ctx, op);
}

}  // namespace mlmamba::backend
