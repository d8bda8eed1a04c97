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
inline constexpr int tile_rows = 4;
inline constexpr int tile_columns = HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86 ? 4 : 2;
/// As many sums, in fewer columns: for a right factor that is read many times from the first cache.
inline constexpr int tall_rows = HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86 ? 8 : 4;
inline constexpr int tall_columns = 2;

template <class D>
index_t tile_unit(D d) {
  return lanes(d) > tile_rows ? lanes(d) : tile_rows;
}

/// Which k meet row i of a tile: all, k <= i, or k >= i (to the granularity of tile_rows).
enum class band : unsigned char { full, lower, upper };

/// sum_k a(i, k) b(k, j): b with unit stride over j, a with any strides, or in panels of rows: row
/// i is then row i % panel of panel i / panel.
template <class A>
struct product {
  const A* a;
  index_t a_row, a_k;
  const A* b;
  index_t b_k;
  index_t k;
  band which = band::full;
  index_t panel = 0, a_panel = 0;  // rows of a panel (0: all), and how far apart panels are

  HWY_INLINE const A* row(index_t i) const {
    return panel > 0 ? a + i / panel * a_panel + i % panel * a_row : a + i * a_row;
  }
};

/// rows x columns vectors of sums, in registers.
template <int rows, int columns, class D>
struct register_tile {
  using A = hn::TFromD<D>;
  static constexpr D d{};
  hn::Vec<D> s[rows][columns];

  HWY_INLINE void clear() {
    HWY_UNROLL(8) for (int r = 0; r < rows; ++r) {
      HWY_UNROLL(4) for (int j = 0; j < columns; ++j) s[r][j] = hn::Zero(d);
    }
  }
  /// += sum over k of a(row, k) b(k, column)
  HWY_INLINE void add(const A* HWY_RESTRICT a, index_t a_row, index_t a_k, const A* HWY_RESTRICT b,
                      index_t b_k, index_t k) {
    const index_t step = lanes(d);
    for (; k > 0; --k) {
      hn::Vec<D> v[columns];
      HWY_UNROLL(4) for (int j = 0; j < columns; ++j) {
        auto loaded = hn::LoadU(d, b + j * step);
        in_register(loaded);
        v[j] = loaded;
      }
      HWY_UNROLL(8) for (int r = 0; r < rows; ++r) {
        const auto f = hn::Set(d, a[r * a_row]);
        HWY_UNROLL(4) for (int j = 0; j < columns; ++j) s[r][j] = hn::MulAdd(f, v[j], s[r][j]);
      }
      a += a_k, b += b_k;
    }
  }
  /// Row r times by[r]; times 0 is 0 whatever the row is.
  HWY_INLINE void scale(const A* by) {
    HWY_UNROLL(8) for (int r = 0; r < rows; ++r) {
      const auto f = hn::Set(d, by[r]);
      const auto some = hn::Ne(f, hn::Zero(d));
      HWY_UNROLL(4) for (int j = 0; j < columns; ++j) {
        s[r][j] = hn::IfThenElseZero(some, hn::Mul(s[r][j], f));
      }
    }
  }
  HWY_INLINE void add_scaled(A by, const A* c, index_t c_row) {
    const auto f = hn::Set(d, by);
    HWY_UNROLL(8) for (int r = 0; r < rows; ++r) {
      HWY_UNROLL(4) for (int j = 0; j < columns; ++j) {
        s[r][j] = hn::MulAdd(f, hn::LoadU(d, c + r * c_row + j * lanes(d)), s[r][j]);
      }
    }
  }
  /// += column by column: by[j] c(row, j)
  HWY_INLINE void add_product(const A* by, const A* c, index_t c_row) {
    HWY_UNROLL(4) for (int j = 0; j < columns; ++j) {
      const auto f = hn::LoadU(d, by + j * lanes(d));
      HWY_UNROLL(8) for (int r = 0; r < rows; ++r) {
        s[r][j] = hn::MulAdd(f, hn::LoadU(d, c + r * c_row + j * lanes(d)), s[r][j]);
      }
    }
  }
  template <class T>
  HWY_INLINE void store(T* c, index_t c_row) const {
    HWY_UNROLL(8) for (int r = 0; r < rows; ++r) {
      HWY_UNROLL(4) for (int j = 0; j < columns; ++j) {
        HWY_NAMESPACE::store(s[r][j], d, c + r * c_row + j * lanes(d));
      }
    }
  }
};

/// body(columns, j): n columns (a multiple of the lanes) in tiles of up to `most` vectors;
/// `columns` is an integral_constant.
template <int most = tile_columns, class D, class Body>
HWY_INLINE void for_each_tile_column(D d, index_t n, const Body& body) {
  const index_t step = lanes(d);
  for (index_t j = 0; j < n;) {
    const index_t left = (n - j) / step;
    const int columns = int(left < most ? left : most);
    if (columns == 1) {
      body(std::integral_constant<int, 1>{}, j);
    } else if (columns == 2) {
      body(std::integral_constant<int, 2>{}, j);
    } else if constexpr (most == 4) {
      if (columns == 3) {
        body(std::integral_constant<int, 3>{}, j);
      } else {
        body(std::integral_constant<int, 4>{}, j);
      }
    }
    j += columns * step;
  }
}

/// c = keep c + row_scale(i) product, over m rows and n columns (multiples of the unit but for m,
/// which is rounded up to `rows`). keep = 0 does not read c. With lower_output only tiles that
/// meet j <= i are written. Every sum runs over k ascending, so it does not depend on the tiles.
template <int rows = tile_rows, int most_columns = tile_columns, class D, class A>
void multiply(D d, index_t m, index_t n, const product<A>& p, A* c, index_t c_row, A keep = A(0),
              const A* row_scale = nullptr, bool lower_output = false) {
  for_each_tile_column<most_columns>(d, n, [&](auto columns, index_t j) HWY_ATTR {
    for (index_t i = 0; i < m; i += rows) {
      if (lower_output && j >= i + rows) continue;
      const index_t from = p.which == band::upper ? i : 0;
      const index_t to = p.which == band::lower && i + rows < p.k ? i + rows : p.k;
      A* const to_c = c + i * c_row + j;
      register_tile<rows, columns(), D> tile;
      tile.clear();
      tile.add(p.row(i) + from * p.a_k, p.a_row, p.a_k, p.b + from * p.b_k + j, p.b_k, to - from);
      if (row_scale) tile.scale(row_scale + i);
      if (keep != A(0)) tile.add_scaled(keep, to_c, c_row);
      tile.store(to_c, c_row);
    }
  });
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
  } else
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
  asm volatile("");  // GCC drops calls of functions that do nothing but fetch
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
