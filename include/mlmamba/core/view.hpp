// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Views: borrowed strided arrays of static rank, trivially copyable, host or device in the type.
#pragma once

#include <cassert>
#include <cstddef>
#include <string>
#include <type_traits>

#include "mlmamba/core/engine.hpp"
#include "mlmamba/core/error.hpp"

namespace mlmamba {

template <int R>
struct shape {
  index_t n[R];

  friend MLMAMBA_HD bool operator==(const shape& a, const shape& b) {
    for (int i = 0; i < R; ++i)
      if (a.n[i] != b.n[i]) return false;
    return true;
  }
  MLMAMBA_HD index_t count() const {
    index_t c = 1;
    for (int i = 0; i < R; ++i) c *= n[i];
    return c;
  }
};

/// A borrowed array of rank R. Strides are in elements and may be anything, zero (broadcast)
/// included.
template <class T, int R, class Memory = memory::host>
struct view {
  using element = T;
  using value_type = std::remove_const_t<T>;
  using memory = Memory;
  static constexpr int rank = R;

  T* data = nullptr;
  index_t size[R] = {};
  index_t stride[R] = {};

  view() = default;
  /// A contiguous array, last index fastest.
  MLMAMBA_HD view(T* p, shape<R> n) : data(p) {
    index_t s = 1;
    for (int i = R - 1; i >= 0; --i) {
      size[i] = n.n[i];
      stride[i] = s;
      s *= n.n[i];
    }
  }
  MLMAMBA_HD view(T* p, shape<R> n, shape<R> strides) : data(p) {
    for (int i = 0; i < R; ++i) {
      size[i] = n.n[i];
      stride[i] = strides.n[i];
    }
  }
  template <class U>
  requires(std::is_same_v<const U, T> && !std::is_const_v<U>) MLMAMBA_HD
      view(const view<U, R, Memory>& v)
      : data(v.data) {
    for (int i = 0; i < R; ++i) {
      size[i] = v.size[i];
      stride[i] = v.stride[i];
    }
  }

  /// Element access; on the host for host memory, in kernels for device memory.
  template <class... I>
  requires(sizeof...(I) == R) MLMAMBA_HD T& operator()(I... i) const {
    index_t at = 0;
    int k = 0;
#if !defined(NDEBUG) && !defined(__CUDA_ARCH__)
    int c = 0;
    assert(((index_t(i) >= 0 && index_t(i) < size[c++]) && ...) && "view: index out of range");
#endif
    ((at += index_t(i) * stride[k++]), ...);
    return data[at];
  }

  MLMAMBA_HD index_t count() const {
    index_t n = 1;
    for (int i = 0; i < R; ++i) n *= size[i];
    return n;
  }
  MLMAMBA_HD mlmamba::shape<R> shape() const {
    mlmamba::shape<R> n{};
    for (int i = 0; i < R; ++i) n.n[i] = size[i];
    return n;
  }
  MLMAMBA_HD bool contiguous() const {
    index_t s = 1;
    for (int i = R - 1; i >= 0; --i) {
      if (size[i] != 1 && stride[i] != s) return false;
      s *= size[i];
    }
    return true;
  }
  /// Is the operand there? (An absent operand has no data.) An empty array that was given has data.
  explicit MLMAMBA_HD operator bool() const { return data != nullptr; }

  /// Elements [from, from + n) along `axis`.
  MLMAMBA_HD view slice(int axis, index_t from, index_t n) const {
    assert(from >= 0 && n >= 0 && from + n <= size[axis]);
    view v = *this;
    if (v.data) v.data += from * stride[axis];
    v.size[axis] = n;
    return v;
  }
  /// The array at index `i` of `axis`; one rank less.
  MLMAMBA_HD view<T, R - 1, Memory> select(int axis, index_t i) const requires(R > 1) {
    view<T, R - 1, Memory> v;
    v.data = data ? data + i * stride[axis] : nullptr;
    for (int k = 0, to = 0; k < R; ++k)
      if (k != axis) v.size[to] = size[k], v.stride[to++] = stride[k];
    return v;
  }
  MLMAMBA_HD view transposed(int a = R - 2, int b = R - 1) const requires(R > 1) {
    view v = *this;
    v.size[a] = size[b], v.size[b] = size[a];
    v.stride[a] = stride[b], v.stride[b] = stride[a];
    return v;
  }
  /// All elements in a row; the view must be contiguous.
  view<T, 1, Memory> flat() const { return reshape(mlmamba::shape<1>{{count()}}); }
  /// The same elements with other sizes; the view must be contiguous.
  template <int S>
  view<T, S, Memory> reshape(mlmamba::shape<S> n) const {
    if (n.count() != count() || !contiguous())
      fail<shape_error>("view: cannot reshape a view of ", count(),
                        contiguous() ? " elements" : " strided elements", " to ", n.count());
    return view<T, S, Memory>(data, n);
  }
  /// Splits `axis` into (size / inner, inner); works on any stride.
  MLMAMBA_HD view<T, R + 1, Memory> split(int axis, index_t inner) const {
    view<T, R + 1, Memory> v;
    v.data = data;
    for (int k = 0, to = 0; k < R; ++k) {
      if (k == axis) {
        v.size[to] = inner ? size[k] / inner : 0, v.stride[to++] = stride[k] * inner;
        v.size[to] = inner, v.stride[to++] = stride[k];
      } else {
        v.size[to] = size[k], v.stride[to++] = stride[k];
      }
    }
    return v;
  }
};

namespace detail {
/// "(2, 3)". Not a template of the rank: every op names sizes in its errors.
inline std::string sizes_text(const index_t* n, int rank) {
  std::string s = "(";
  for (int i = 0; i < rank; ++i) s += (i ? ", " : "") + std::to_string(n[i]);
  return s + ")";
}
}  // namespace detail

template <class T, int R, class M>
std::string to_string(const view<T, R, M>& v) {
  return detail::sizes_text(v.size, R);
}

/// All axes but the last as rows: (..., D) -> (T, D). The leading axes must be mergeable: a slice
/// of the last axis of a contiguous array is.
template <class T, int R, class M>
view<T, 2, M> rows(const view<T, R, M>& v) {
  if constexpr (R == 1) {
    return view<T, 2, M>(v.data, shape<2>{{1, v.size[0]}}, shape<2>{{v.size[0], v.stride[0]}});
  } else {
    index_t n = 1, row = 0;
    bool first = true, mergeable = true;
    for (int i = R - 2; i >= 0; --i) {
      if (v.size[i] == 1) continue;
      if (first) {
        row = v.stride[i];
        first = false;
      } else if (v.stride[i] != row * n) {
        mergeable = false;
      }
      n *= v.size[i];
    }
    if (!mergeable && n > 0)
      fail<shape_error>("rows: the leading axes of a strided view ", to_string(v),
                        " cannot be merged; wanted is one stride over all rows");
    if (first) row = v.stride[R - 2];  // of one row: as if there were more
    return view<T, 2, M>(v.data, shape<2>{{n, v.size[R - 1]}}, shape<2>{{row, v.stride[R - 1]}});
  }
}

// Operands of ops: the direction is in the type.
template <engine E, int R>
using in = view<const typename E::value, R, typename E::memory>;
template <engine E, int R>
using out = view<typename E::value, R, typename E::memory>;
template <engine E, int R>
using in_accum = view<const typename E::accum, R, typename E::memory>;
template <engine E, int R>
using out_accum = view<typename E::accum, R, typename E::memory>;
template <engine E, int R>
using in_state = view<const typename E::state, R, typename E::memory>;
template <engine E, int R>
using out_state = view<typename E::state, R, typename E::memory>;
template <engine E, int R>
using in_weight = view<const typename E::weight, R, typename E::memory>;
template <engine E, int R>
using in_index = view<const std::int32_t, R, typename E::memory>;
template <engine E, int R>
using out_index = view<std::int32_t, R, typename E::memory>;

}  // namespace mlmamba
