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

/// What a processor can do, as far as the kernels differ. `avx512_vnni` is `avx512` with native dot
/// products of int8 (Cascade Lake and later), `avx512_bf16` has those of bf16 as well (Zen 4).
enum class cpu_level : int { baseline, sse4, avx2, avx512, avx512_vnni, avx512_bf16 };
inline constexpr int cpu_levels = 6;

inline const char* to_string(cpu_level l) {
  constexpr const char* names[cpu_levels] = {"baseline", "sse4",        "avx2",
                                             "avx512",   "avx512_vnni", "avx512_bf16"};
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
  if (!__builtin_cpu_supports("avx512vnni")) return cpu_level::avx512;
  return __builtin_cpu_supports("avx512bf16") ? cpu_level::avx512_bf16 : cpu_level::avx512_vnni;
#else
  return cpu_level::baseline;
#endif
}

/// The level that is fastest here. Dot products of bf16 do twice the work of multiply-adds of float
/// on Zen 4, but half of it on Sapphire Rapids (measured, see benchmarks/README.md), and no other
/// processor of Intel is known to be better.
inline cpu_level best_level() {
  const cpu_level l = machine_level();
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
  if (__builtin_cpu_is("intel")) return std::min(l, cpu_level::avx512_vnni);
#endif
  return l;
}

inline cpu_level level_from_environment() {
  const char* text = std::getenv("MLMAMBA_CPU_TARGET");
  if (!text || !*text) return best_level();
  for (int l = 0; l < cpu_levels; ++l)
    if (std::string_view(text) == to_string(cpu_level(l))) return cpu_level(l);
  fail<error>(
      "MLMAMBA_CPU_TARGET: \"", text,
      "\" is not a level; wanted is baseline, sse4, avx2, avx512, avx512_vnni or avx512_bf16");
}

inline std::atomic<cpu_level>& level_in_use() {
  static std::atomic<cpu_level> level{std::min(machine_level(), level_from_environment())};
  return level;
}

}  // namespace detail

/// The level whose kernels run: the machine's best, or what was asked for.
inline cpu_level current_cpu_level() {
  return detail::level_in_use().load(std::memory_order_relaxed);
}

/// Uses the machine's highest level up to `most` from now on, in the whole process. For tests and
/// measurements; the environment variable MLMAMBA_CPU_TARGET (a name of cpu_level) does the same at
/// the start.
inline void limit_cpu_level(cpu_level most) {
  detail::level_in_use().store(std::min(detail::machine_level(), most), std::memory_order_relaxed);
}

}  // namespace mlmamba::backend::simd
