// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the processor can do, and how much of it is used.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string_view>

#include "mlmamba/core/error.hpp"

namespace mlmamba::backend::simd {

/// What a processor can do, as far as the kernels differ. `avx512_bf16` is `avx512` with native dot
/// products of bf16 and int8 (Zen 4, Sapphire Rapids).
enum class cpu_level : int { baseline, sse4, avx2, avx512, avx512_bf16 };
inline constexpr int cpu_levels = 5;

inline const char* to_string(cpu_level l) {
  constexpr const char* names[cpu_levels] = {"baseline", "sse4", "avx2", "avx512", "avx512_bf16"};
  return names[int(l)];
}

namespace detail {

inline cpu_level machine_level() {
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("pclmul"))
    return cpu_level::baseline;
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("bmi2"))
    return cpu_level::sse4;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
    return cpu_level::avx2;
  if (!__builtin_cpu_supports("avx512bf16") || !__builtin_cpu_supports("avx512vnni"))
    return cpu_level::avx512;
  return cpu_level::avx512_bf16;
#else
  return cpu_level::baseline;
#endif
}

inline cpu_level level_from_environment() {
  const char* text = std::getenv("MLMAMBA_CPU_TARGET");
  if (!text || !*text) return cpu_level::avx512_bf16;
  for (int l = 0; l < cpu_levels; ++l)
    if (std::string_view(text) == to_string(cpu_level(l))) return cpu_level(l);
  fail<error>("MLMAMBA_CPU_TARGET: \"", text,
              "\" is not a level; wanted is baseline, sse4, avx2, avx512 or avx512_bf16");
}

inline std::atomic<cpu_level>& level_in_use() {
  static std::atomic<cpu_level> level{std::min(machine_level(), level_from_environment())};
  return level;
}

}  // namespace detail

/// The level whose kernels run: the machine's, or what limit_cpu_level left.
inline cpu_level current_cpu_level() {
  return detail::level_in_use().load(std::memory_order_relaxed);
}

/// Uses no level above `most` from now on, in the whole process. For tests and measurements; the
/// environment variable MLMAMBA_CPU_TARGET (a name of cpu_level) does the same at the start.
inline void limit_cpu_level(cpu_level most) {
  detail::level_in_use().store(std::min(detail::machine_level(), most), std::memory_order_relaxed);
}

}  // namespace mlmamba::backend::simd
