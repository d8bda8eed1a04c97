// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Values of a file's array as the type a program wants: in place where possible, else converted.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "mlmamba/core/error.hpp"
#include "mlmamba/core/scalar.hpp"
#include "mlmamba/io/safetensors.hpp"

namespace mlmamba {

/// The file's name for a C++ type.
template <class T>
constexpr dtype dtype_of() {
  if constexpr (std::is_same_v<T, double>) {
    return dtype::f64;
  } else if constexpr (std::is_same_v<T, float>) {
    return dtype::f32;
  } else if constexpr (std::is_same_v<T, f16>) {
    return dtype::f16;
  } else if constexpr (std::is_same_v<T, bf16>) {
    return dtype::bf16;
  } else if constexpr (std::is_same_v<T, bool>) {
    return dtype::boolean;
  } else {
    static_assert(std::is_integral_v<T>,
                  "dtype_of<T>: T is a float, bf16, f16, bool or an integer");
    if constexpr (sizeof(T) == 8) return std::is_signed_v<T> ? dtype::i64 : dtype::u64;
    if constexpr (sizeof(T) == 4) return std::is_signed_v<T> ? dtype::i32 : dtype::u32;
    if constexpr (sizeof(T) == 2) return std::is_signed_v<T> ? dtype::i16 : dtype::u16;
    if constexpr (sizeof(T) == 1) return std::is_signed_v<T> ? dtype::i8 : dtype::u8;
  }
}

/// The array itself as a span of T: no copy. Empty pointer if the dtype is another one or the bytes
/// are not aligned for T (the format does not promise it); then use `read_values`.
template <class T>
const T* values_in_place(const safetensors_entry& entry) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(entry.bytes.data()) % alignof(T) == 0;
  if (entry.type != dtype_of<T>() || !aligned) return nullptr;
  if constexpr (std::is_same_v<T, bool>) return nullptr;  // bytes other than 0 and 1 are no bool
  return reinterpret_cast<const T*>(entry.bytes.data());
}

namespace detail {

template <class From, class To>
void convert_values(const safetensors_entry& entry, std::span<To> to) {
  constexpr bool from_float =
      std::is_same_v<From, bf16> || std::is_same_v<From, f16> || std::is_floating_point_v<From>;
  if constexpr (std::is_same_v<From, To> && !std::is_same_v<To, bool>) {
    if (!to.empty()) std::memcpy(to.data(), entry.bytes.data(), entry.bytes.size());
  } else if constexpr (std::is_integral_v<To> && from_float) {
    fail<io_error>("\"", entry.name, "\" is ", name_of(entry.type), "; integers are wanted");
  } else {
    using raw_type = std::conditional_t<std::is_same_v<From, bool>, std::uint8_t, From>;
    for (std::size_t i = 0; i < to.size(); ++i) {
      raw_type raw;  // by memcpy: the bytes may be unaligned
      std::memcpy(&raw, entry.bytes.data() + i * sizeof(raw_type), sizeof(raw_type));
      if constexpr (std::is_same_v<To, bool>) {
        to[i] = raw != 0;
      } else if constexpr (std::is_same_v<From, bool>) {
        to[i] = static_cast<To>(raw != 0 ? 1 : 0);
      } else if constexpr (std::is_integral_v<To>) {
        if (!std::in_range<To>(raw))
          fail<io_error>("\"", entry.name, "\"[", i, "] is ", +raw, "; it does not fit in ",
                         name_of(dtype_of<To>()));
        to[i] = static_cast<To>(raw);
      } else if constexpr (std::is_same_v<To, bf16> || std::is_same_v<To, f16>) {
        to[i] = To(static_cast<float>(raw));
        if constexpr (std::is_same_v<To, f16>)
          if (std::isinf(float(to[i])) && !std::isinf(static_cast<double>(raw)))
            fail<io_error>("\"", entry.name, "\"[", i, "] is ", static_cast<double>(raw),
                           "; F16 holds at most 65504 (BF16 and F32 hold it)");
      } else {
        to[i] = static_cast<To>(raw);
      }
    }
  }
}

}  // namespace detail

/// Copies the array into `to`, converting.
///
/// Numerics  narrowing floats rounds to nearest even (double to bf16 or f16 by way of float);
///           integers to floats round likewise; integers must fit, and what becomes f16 must not
///           round beyond 65504; floats never become integers
/// Errors    shape_error if `to` has another count; io_error for a conversion that is not defined
template <class T>
void read_values(const safetensors_entry& entry, std::span<T> to) {
  if (std::cmp_not_equal(to.size(), entry.count()))
    fail<shape_error>("\"", entry.name, "\" is ", shape_text(entry.shape), "; ", to.size(),
                      " values are wanted");
  switch (entry.type) {
    case dtype::f64:
      return detail::convert_values<double>(entry, to);
    case dtype::f32:
      return detail::convert_values<float>(entry, to);
    case dtype::f16:
      return detail::convert_values<f16>(entry, to);
    case dtype::bf16:
      return detail::convert_values<bf16>(entry, to);
    case dtype::i64:
      return detail::convert_values<std::int64_t>(entry, to);
    case dtype::i32:
      return detail::convert_values<std::int32_t>(entry, to);
    case dtype::i16:
      return detail::convert_values<std::int16_t>(entry, to);
    case dtype::i8:
      return detail::convert_values<std::int8_t>(entry, to);
    case dtype::u64:
      return detail::convert_values<std::uint64_t>(entry, to);
    case dtype::u32:
      return detail::convert_values<std::uint32_t>(entry, to);
    case dtype::u16:
      return detail::convert_values<std::uint16_t>(entry, to);
    case dtype::u8:
      return detail::convert_values<std::uint8_t>(entry, to);
    case dtype::boolean:
      return detail::convert_values<bool>(entry, to);
    case dtype::f8_e4m3:
    case dtype::f8_e5m2:
      break;
  }
  fail<io_error>("\"", entry.name, "\" is ", name_of(entry.type),
                 "; 8-bit floats can be listed but not read");
}

/// The array as a vector of T. Not for bool: std::vector<bool> has no contiguous storage.
template <class T>
std::vector<T> read_values(const safetensors_entry& entry) {
  std::vector<T> values(static_cast<std::size_t>(entry.count()));
  read_values(entry, std::span<T>(values));
  return values;
}

/// An entry for writing that borrows `values`.
template <class T>
safetensors_entry entry_of(std::string name, std::vector<std::int64_t> shape,
                           std::span<const T> values) {
  safetensors_entry entry;
  entry.name = std::move(name);
  entry.type = dtype_of<T>();
  entry.shape = std::move(shape);
  entry.bytes = std::as_bytes(values);
  return entry;
}

}  // namespace mlmamba
