// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Small dense products inside caches, for the scans: every size is padded with zeros to the unit.

HWY_BEFORE_NAMESPACE();
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {

/// Scratch memory handed out in order.
template <class A>
struct bump {
  A* at;
  A* take(index_t n) {
    A* p = at;
    at += n;
    return p;
  }
};

/// Rows of a register tile; columns are up to tile_columns vectors. Pads are multiples of both.
inline constexpr index_t tile_rows = 4;
inline constexpr int tile_columns = HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86 ? 4 : 2;

template <class D>
index_t tile_unit(D d) {
  return lanes(d) > tile_rows ? lanes(d) : tile_rows;
}

/// Which k meet row i of a tile: all, k <= i, or k >= i (to the granularity of tile_rows).
enum class band : unsigned char { full, lower, upper };

/// sum_k a(i, k) b(k, j): a with any strides, b with unit stride over j.
template <class A>
struct product {
  const A* a;
  index_t a_row, a_k;
  const A* b;
  index_t b_k;
  index_t k;
  band which = band::full;
};

/// Loads once instead of in each of the instructions that use the value: as memory operands the
/// loads, not the multiplications, would set the pace. GCC only: clang 14 refuses the constraint
/// for a reference ("tied indirect register inputs").
template <class V>
HWY_INLINE void in_register([[maybe_unused]] V& v) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_SCALAR && HWY_COMPILER_GCC_ACTUAL
  asm("" : "+v"(v.raw));
#endif
}

template <int columns, class D, class A>
void multiply_tile(D d, const A* HWY_RESTRICT a, index_t a_row, index_t a_k,
                   const A* HWY_RESTRICT b, index_t b_k, index_t k, const A* row_scale, A keep,
                   A* HWY_RESTRICT c, index_t c_row) {
  const index_t step = lanes(d);
  hn::Vec<D> s0[columns], s1[columns], s2[columns], s3[columns];
  HWY_UNROLL(4) for (int j = 0; j < columns; ++j) s0[j] = s1[j] = s2[j] = s3[j] = hn::Zero(d);
  for (; k > 0; --k) {
    const auto a0 = hn::Set(d, a[0]), a1 = hn::Set(d, a[a_row]);
    const auto a2 = hn::Set(d, a[2 * a_row]), a3 = hn::Set(d, a[3 * a_row]);
    HWY_UNROLL(4) for (int j = 0; j < columns; ++j) {
      auto v = hn::LoadU(d, b + j * step);
      in_register(v);
      s0[j] = hn::MulAdd(a0, v, s0[j]);
      s1[j] = hn::MulAdd(a1, v, s1[j]);
      s2[j] = hn::MulAdd(a2, v, s2[j]);
      s3[j] = hn::MulAdd(a3, v, s3[j]);
    }
    a += a_k, b += b_k;
  }
  if (row_scale) {
    HWY_UNROLL(4) for (int j = 0; j < columns; ++j) {
      s0[j] = hn::Mul(s0[j], hn::Set(d, row_scale[0]));
      s1[j] = hn::Mul(s1[j], hn::Set(d, row_scale[1]));
      s2[j] = hn::Mul(s2[j], hn::Set(d, row_scale[2]));
      s3[j] = hn::Mul(s3[j], hn::Set(d, row_scale[3]));
    }
  }
  if (keep != A(0)) {
    const auto f = hn::Set(d, keep);
    HWY_UNROLL(4) for (int j = 0; j < columns; ++j) {
      A* p = c + j * step;
      s0[j] = hn::MulAdd(f, hn::LoadU(d, p), s0[j]);
      s1[j] = hn::MulAdd(f, hn::LoadU(d, p + c_row), s1[j]);
      s2[j] = hn::MulAdd(f, hn::LoadU(d, p + 2 * c_row), s2[j]);
      s3[j] = hn::MulAdd(f, hn::LoadU(d, p + 3 * c_row), s3[j]);
    }
  }
  HWY_UNROLL(4) for (int j = 0; j < columns; ++j) {
    A* p = c + j * step;
    hn::StoreU(s0[j], d, p);
    hn::StoreU(s1[j], d, p + c_row);
    hn::StoreU(s2[j], d, p + 2 * c_row);
    hn::StoreU(s3[j], d, p + 3 * c_row);
  }
}

/// c = keep c + row_scale(i) product, over m rows and n columns (multiples of the unit but for m,
/// which is rounded up to tile_rows). keep = 0 does not read c. With lower_output only tiles that
/// meet j <= i are written. Every sum runs over k ascending, so it does not depend on the tiles.
template <class D, class A>
void multiply(D d, index_t m, index_t n, const product<A>& p, A* c, index_t c_row, A keep = A(0),
              const A* row_scale = nullptr, bool lower_output = false) {
  const index_t step = lanes(d);
  for (index_t j = 0; j < n;) {
    const index_t left = (n - j) / step;
    const int columns = int(left < tile_columns ? left : tile_columns);
    for (index_t i = 0; i < m; i += tile_rows) {
      if (lower_output && j >= i + tile_rows) continue;
      const index_t from = p.which == band::upper ? i : 0;
      const index_t to = p.which == band::lower && i + tile_rows < p.k ? i + tile_rows : p.k;
      const A* a = p.a + i * p.a_row + from * p.a_k;
      const A* b = p.b + from * p.b_k + j;
      const A* scale = row_scale ? row_scale + i : nullptr;
      A* to_c = c + i * c_row + j;
      const auto call = [&](auto n_columns) HWY_ATTR {
        multiply_tile<n_columns()>(d, a, p.a_row, p.a_k, b, p.b_k, to - from, scale, keep, to_c,
                                   c_row);
      };
      if (columns == 1) {
        call(std::integral_constant<int, 1>{});
      } else if (columns == 2) {
        call(std::integral_constant<int, 2>{});
      } else if constexpr (tile_columns == 4) {
        if (columns == 3) {
          call(std::integral_constant<int, 3>{});
        } else {
          call(std::integral_constant<int, 4>{});
        }
      }
    }
    j += columns * step;
  }
}

/// to[j][i] = from[i][j]; sizes are multiples of tile_rows.
template <class A>
void transpose(const A* HWY_RESTRICT from, index_t from_row, index_t rows, index_t columns,
               A* HWY_RESTRICT to, index_t to_row) {
#if HWY_TARGET != HWY_SCALAR
  if constexpr (sizeof(A) == 4) {
    const hn::Full128<A> d;
    const hn::RepartitionToWide<hn::RebindToUnsigned<decltype(d)>> dw;
    for (index_t i = 0; i < rows; i += 4)
      for (index_t j = 0; j < columns; j += 4) {
        const A* p = from + i * from_row + j;
        A* q = to + j * to_row + i;
        const auto a = hn::LoadU(d, p), b = hn::LoadU(d, p + from_row);
        const auto c = hn::LoadU(d, p + 2 * from_row), e = hn::LoadU(d, p + 3 * from_row);
        const auto ab0 = hn::BitCast(dw, hn::InterleaveLower(d, a, b));  // a0 b0 a1 b1
        const auto ab2 = hn::BitCast(dw, hn::InterleaveUpper(d, a, b));
        const auto ce0 = hn::BitCast(dw, hn::InterleaveLower(d, c, e));
        const auto ce2 = hn::BitCast(dw, hn::InterleaveUpper(d, c, e));
        hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, ab0, ce0)), d, q);
        hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, ab0, ce0)), d, q + to_row);
        hn::StoreU(hn::BitCast(d, hn::InterleaveLower(dw, ab2, ce2)), d, q + 2 * to_row);
        hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(dw, ab2, ce2)), d, q + 3 * to_row);
      }
    return;
  }
#endif
  for (index_t i = 0; i < rows; ++i)
    for (index_t j = 0; j < columns; ++j) to[j * to_row + i] = from[i * from_row + j];
}

/// Asks for a row that is soon read (or written) to be brought into the second cache.
template <bool write = false, class T>
HWY_INLINE void expect_row(const T* p, index_t columns) {
#if HWY_COMPILER_GCC || HWY_COMPILER_CLANG
  for (index_t k = 0; k < columns; k += index_t(64 / sizeof(T)))
    __builtin_prefetch(p + k, write, 2);
#endif
}

/// rows x columns of `from`, widened, into rows of `width` (a multiple of the lanes), zeros after.
template <class D, class T, class A>
void pack_rows(D d, const T* from, index_t from_row, index_t rows, index_t columns, A* to,
               index_t width, index_t padded_rows) {
  const index_t step = lanes(d);
  for (index_t i = 0; i < padded_rows; ++i, to += width) {
    index_t j = 0;
    if (i < rows) {
      const T* p = from + i * from_row;
      // rows of one head lie far apart: no hardware prefetcher follows them
      if (i + 8 < rows) expect_row(p + 8 * from_row, columns);
      for (; j + step <= columns; j += step) hn::StoreU(load(d, p + j), d, to + j);
      if (j < columns) hn::StoreU(load_n(d, p + j, columns - j), d, to + j), j += step;
    }
    for (; j < width; j += step) hn::StoreU(hn::Zero(d), d, to + j);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_AFTER_NAMESPACE();
