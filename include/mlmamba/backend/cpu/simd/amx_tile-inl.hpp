// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The tile registers of AMX: 16 rows of 32 bf16 on the left, 16 pairs of each of 16 columns on the
// right, 16 x 16 sums. TDPBF16PS takes denormal numbers for zero. It adds the first and the second
// numbers of a block's 16 pairs apart, and both sums to the one before: not as multiply-adds do.

#if MLMAMBA_SIMD_AMX
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",amx-tile,amx-bf16,amx-int8")
namespace mlmamba::backend::simd {
namespace HWY_NAMESPACE {
namespace amx {

inline constexpr index_t terms = 32, tile_rows = 16;
inline constexpr index_t tile_bytes = 1024, row_bytes = 64;
inline constexpr index_t width = 32;  // rows of w whose sums are held at once

/// Where tiles are: from one block of 32 terms to the next, between the two tiles of a block,
/// between rows of a tile; all in bytes. Each block meets `repeat` blocks of the other operand.
struct operand {
  const std::byte* at;
  index_t block, tile, row, repeat = 1;
};

/// What the tile registers are while it lives: 0 to 3 sums, 4 and 5 left, 6 and 7 right.
class configuration {
 public:
  /// `left` rows and `right` columns, 1 to 32, and the bytes of each in a block. Of 16 or fewer
  /// both registers have that many.
  configuration(index_t left, index_t right, index_t bytes_of_block = row_bytes) {
    alignas(64) std::uint8_t c[64] = {1};
    std::uint8_t* const rows = c + 48;
    auto* const bytes = reinterpret_cast<std::uint16_t*>(c + 16);
    for (int i = 0; i < 2; ++i) {
      const index_t l = part(left, i), r = part(right, i);
      rows[4 + i] = std::uint8_t(l), bytes[4 + i] = std::uint16_t(bytes_of_block);
      rows[6 + i] = std::uint8_t(bytes_of_block / 4), bytes[6 + i] = std::uint16_t(4 * r);
      for (int j = 0; j < 2; ++j) rows[2 * i + j] = std::uint8_t(l);
      for (int j = 0; j < 2; ++j) bytes[2 * j + i] = std::uint16_t(4 * r);
    }
    asm volatile("" ::"r"(c)
                 : "memory");  // GCC 12 takes the instruction for one that reads 8 bytes
    _tile_loadconfig(c);
  }
  ~configuration() { _tile_release(); }
  configuration(const configuration&) = delete;
  configuration& operator=(const configuration&) = delete;

 private:
  static index_t part(index_t n, int i) {
    const index_t left = n - i * tile_rows;
    return left <= 0 ? n : left < tile_rows ? left : tile_rows;
  }
};

/// The products of left and right registers. Intrinsics want numbers, not constants.
struct bf16_products {
  static HWY_INLINE void p0() { _tile_dpbf16ps(0, 4, 6); }
  static HWY_INLINE void p1() { _tile_dpbf16ps(1, 4, 7); }
  static HWY_INLINE void p2() { _tile_dpbf16ps(2, 5, 6); }
  static HWY_INLINE void p3() { _tile_dpbf16ps(3, 5, 7); }
};
struct int8_products {
  static HWY_INLINE void p0() { _tile_dpbssd(0, 4, 6); }
  static HWY_INLINE void p1() { _tile_dpbssd(1, 4, 7); }
  static HWY_INLINE void p2() { _tile_dpbssd(2, 5, 6); }
  static HWY_INLINE void p3() { _tile_dpbssd(3, 5, 7); }
};

/// What is called with the place of each new block on the right.
struct no_fetch {
  HWY_INLINE void operator()(const std::byte*) const {}
};

/// Sums of L x R tiles in registers.
template <class Products, int L, int R>
struct tiles {
  static HWY_INLINE void zero() {
    _tile_zero(0);
    if constexpr (R > 1) _tile_zero(1);
    if constexpr (L > 1) _tile_zero(2);
    if constexpr (L > 1 && R > 1) _tile_zero(3);
  }
  /// c: rows of `stride` bytes.
  static HWY_INLINE void load(const std::byte* c, index_t stride) {
    asm volatile("" ::: "memory");
    _tile_loadd(0, c, stride);
    if constexpr (R > 1) _tile_loadd(1, c + row_bytes, stride);
    c += tile_rows * stride;
    if constexpr (L > 1) _tile_loadd(2, c, stride);
    if constexpr (L > 1 && R > 1) _tile_loadd(3, c + row_bytes, stride);
  }
  static HWY_INLINE void store(std::byte* c, index_t stride) {
    _tile_stored(0, c, stride);
    if constexpr (R > 1) _tile_stored(1, c + row_bytes, stride);
    c += tile_rows * stride;
    if constexpr (L > 1) _tile_stored(2, c, stride);
    if constexpr (L > 1 && R > 1) _tile_stored(3, c + row_bytes, stride);
    asm volatile("" ::: "memory");
  }
  /// Adds so many blocks. The tiles of the next one are on their way before this one's products
  /// end.
  template <class Fetch = no_fetch>
  static HWY_INLINE void add(const operand& left, const operand& right, index_t blocks,
                             const Fetch& fetch_more = {}) {
    if (blocks == 0) return;
    asm volatile("" ::: "memory");
    const std::byte *l = left.at, *r = right.at;
    index_t l_times = left.repeat, r_times = right.repeat;
    const auto moves = [](const operand& o, const std::byte*& at, index_t& times) HWY_ATTR {
      if (--times > 0) return false;
      at += o.block, times = o.repeat;
      return true;
    };
    _tile_loadd(4, l, left.row);
    _tile_loadd(6, r, right.row);
    if constexpr (R > 1) _tile_loadd(7, r + right.tile, right.row);
    if constexpr (L > 1) _tile_loadd(5, l + left.tile, left.row);
    while (--blocks > 0) {
      const bool new_left = moves(left, l, l_times), new_right = moves(right, r, r_times);
      if (new_right) fetch_more(r);
      Products::p0();
      if constexpr (R > 1) Products::p1();
      if (new_left) _tile_loadd(4, l, left.row);
      if constexpr (L > 1) Products::p2();
      if (new_right) _tile_loadd(6, r, right.row);
      if constexpr (L > 1 && R > 1) Products::p3();
      if constexpr (R > 1)
        if (new_right) _tile_loadd(7, r + right.tile, right.row);
      if constexpr (L > 1)
        if (new_left) _tile_loadd(5, l + left.tile, left.row);
    }
    Products::p0();
    if constexpr (R > 1) Products::p1();
    if constexpr (L > 1) Products::p2();
    if constexpr (L > 1 && R > 1) Products::p3();
  }
};

/// Block i of a right operand; returns its place.
HWY_INLINE const std::byte* load_right(const operand& o, index_t i) {
  const std::byte* const at = o.at + i * o.block;
  _tile_loadd(6, at, o.row);
  _tile_loadd(7, at + o.tile, o.row);
  return at;
}
/// c and d (up to 16 rows of 32) = left first, left second, over so many blocks of these: four sums
/// of which none waits for another.
template <class Products, class FetchFirst, class FetchSecond>
void multiply_two(const operand& left, const operand& first, const operand& second, index_t blocks,
                  float* c, float* d, const FetchFirst& fetch_first,
                  const FetchSecond& fetch_second) {
  constexpr index_t stride = 4 * width;
  tiles<Products, 2, 2>::zero();
  asm volatile("" ::: "memory");
  const std::byte* l = left.at;
  for (index_t i = 0; i < blocks; ++i, l += first.repeat * left.block) {
    fetch_first(load_right(first, i));
    for (index_t part = 0; part < first.repeat; ++part) {
      _tile_loadd(4, l + part * left.block, left.row);
      Products::p0();
      Products::p1();
    }
    fetch_second(load_right(second, i));
    for (index_t part = 0; part < first.repeat; ++part) {
      _tile_loadd(5, l + part * left.block, left.row);
      Products::p2();
      Products::p3();
    }
  }
  _tile_stored(0, c, stride);
  _tile_stored(1, c + tile_rows, stride);
  _tile_stored(2, d, stride);
  _tile_stored(3, d + tile_rows, stride);
  asm volatile("" ::: "memory");
}

/// c (16 L rows of `stride` bytes) = first ? left right : c + left right, over so many blocks.
template <class Products, int L, int R, class Fetch>
void multiply(const operand& left, const operand& right, index_t blocks, std::byte* c,
              index_t stride, bool first, const Fetch& fetch_more) {
  using T = tiles<Products, L, R>;
  first ? T::zero() : T::load(c, stride);
  T::add(left, right, blocks, fetch_more);
  T::store(c, stride);
}

/// The same by as many tiles as there are rows and columns of them.
template <class Products, class Fetch>
void multiply(index_t rows, index_t columns, const operand& left, const operand& right,
              index_t blocks, std::byte* c, index_t stride, bool first, const Fetch& fetch_more) {
  if (rows <= tile_rows) {
    columns <= tile_rows
        ? multiply<Products, 1, 1>(left, right, blocks, c, stride, first, fetch_more)
        : multiply<Products, 1, 2>(left, right, blocks, c, stride, first, fetch_more);
  } else {
    columns <= tile_rows
        ? multiply<Products, 2, 1>(left, right, blocks, c, stride, first, fetch_more)
        : multiply<Products, 2, 2>(left, right, blocks, c, stride, first, fetch_more);
  }
}

/// 16 x 16 words turned; the first `count` of the rows that result.
inline void turn_tile(const std::uint32_t* from, index_t stride, std::uint32_t* to, index_t jump,
                      index_t count) {
  const words d;
  word_block t;
  for (index_t i = 0; i < tile_rows; ++i) t.v[i] = hn::LoadU(d, from + i * stride);
  transpose(t);
  for (index_t i = 0; i < count; ++i) hn::StoreU(t.v[i], d, to + i * jump);
}

/// to (columns, rows) = from (rows, columns) turned.
inline void turn(const float* from, index_t rows, index_t columns, float* to) {
  if (rows % tile_rows == 0 && columns % tile_rows == 0) {
    for (index_t i = 0; i < rows; i += tile_rows)
      for (index_t j = 0; j < columns; j += tile_rows)
        turn_tile(reinterpret_cast<const std::uint32_t*>(from + i * columns + j), columns,
                  reinterpret_cast<std::uint32_t*>(to + j * rows + i), rows, tile_rows);
    return;
  }
  for (index_t i = 0; i < rows; ++i)
    for (index_t j = 0; j < columns; ++j) to[j * rows + i] = from[i * columns + j];
}

}  // namespace amx
}  // namespace HWY_NAMESPACE
}  // namespace mlmamba::backend::simd
HWY_POP_ATTRIBUTES
#endif
