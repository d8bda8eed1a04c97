// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the check() of an op is written with: constant time, messages that name what was given.
#pragma once

#include "mlmamba/core/view.hpp"

namespace mlmamba::ops::check {

inline constexpr index_t any = -1;

namespace detail {
[[noreturn]] inline void missing(const char* op, const char* name, int rank) {
  fail<shape_error>(op, ": ", name, " is missing; wanted is an array of rank ", rank);
}
// Not a template of the rank: an op has operands of many.
inline void size(const char* op, const char* name, const void* data, const index_t* n,
                 const index_t* want, int rank) {
  if (!data) missing(op, name, rank);
  for (int i = 0; i < rank; ++i) {
    if (want[i] == any || want[i] == n[i]) continue;
    std::string w = "(";
    for (int k = 0; k < rank; ++k)
      w += (k ? ", " : "") + (want[k] == any ? std::string("*") : std::to_string(want[k]));
    fail<shape_error>(op, ": ", name, " is ", mlmamba::detail::sizes_text(n, rank), "; wanted is ",
                      w, ")");
  }
}
}  // namespace detail

/// The operand is there.
template <class T, int R, class M>
void given(const char* op, const char* name, const view<T, R, M>& v) {
  if (!v) detail::missing(op, name, R);
}

/// The operand is there and has these sizes (`any` fits all).
template <class T, int R, class M>
void size(const char* op, const char* name, const view<T, R, M>& v, shape<R> want) {
  detail::size(op, name, v.data, v.size, want.n, R);
}
/// The same for an operand that may be absent.
template <class T, int R, class M>
void size_if_given(const char* op, const char* name, const view<T, R, M>& v, shape<R> want) {
  if (v) size(op, name, v, want);
}

/// The last axis has unit stride.
template <class T, int R, class M>
void unit_stride(const char* op, const char* name, const view<T, R, M>& v) {
  if (v && v.size[R - 1] > 1 && v.stride[R - 1] != 1)
    fail<shape_error>(op, ": ", name, " has stride ", v.stride[R - 1],
                      " over its last axis; wanted is 1");
}

inline void that(bool condition, const char* op, const std::string& message) {
  if (!condition) fail<shape_error>(op, ": ", message);
}

/// Heads (or channels) fall into groups of equal size.
inline void grouped(const char* op, const char* things, index_t count, index_t groups) {
  if (groups <= 0 || count % groups != 0)
    fail<shape_error>(op, ": there are ", count, " ", things, " and ", groups,
                      " groups; wanted is a number of groups that divides the ", things);
}

/// Steps have limits that leave room between them.
template <class R>
void dt_limits(const char* op, R dt_min, R dt_max) {
  if (!(dt_min <= dt_max))
    fail<shape_error>(op, ": dt_min is ", dt_min, " and dt_max is ", dt_max,
                      "; wanted is dt_min <= dt_max");
}

template <class T, int R, class M>
double bytes(const view<T, R, M>& v) {
  return v ? double(v.count()) * double(sizeof(T)) : 0.0;
}
template <class... V>
double total_bytes(const V&... v) {
  return (bytes(v) + ... + 0.0);
}

}  // namespace mlmamba::ops::check
