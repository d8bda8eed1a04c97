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

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace mlmamba::backend::simd {

/// What a processor can do, as far as the kernels differ. `avx512_vnni` is `avx512` with native dot
/// products of int8 (Cascade Lake and later), `avx512_bf16` has those of bf16 as well (Zen 4),
/// `amx` also products of tiles of bf16 and int8 (Sapphire Rapids and later, on Linux).
enum class cpu_level : int { baseline, sse4, avx2, avx512, avx512_vnni, avx512_bf16, amx };
inline constexpr int cpu_levels = 7;
inline constexpr cpu_level highest_cpu_level = cpu_level::amx;

inline const char* to_string(cpu_level l) {
  constexpr const char* names[cpu_levels] = {"baseline",    "sse4",        "avx2", "avx512",
                                             "avx512_vnni", "avx512_bf16", "amx"};
  return names[int(l)];
}

namespace detail {

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)
/// Has the processor tiles of bf16 and int8, and does the kernel let this process use them? It
/// wants to be asked, since their registers are 8 KiB of each thread's state: from then on it
/// refuses stacks for signals (sigaltstack) that are too small for them, and says no if there is
/// one. So nobody asks if MLMAMBA_CPU_TARGET names another level.
inline bool may_use_amx() {
  const char* text = std::getenv("MLMAMBA_CPU_TARGET");
  if (text && *text && std::string_view(text) != "amx") return false;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24, amx_int8 = 1u << 25;
  constexpr unsigned wanted = amx_bf16 | amx_tile | amx_int8;
  if ((d & wanted) != wanted) return false;
  constexpr long request_permission = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
#else
inline bool may_use_amx() { return false; }
#endif

inline cpu_level find_machine_level() {
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
  if (!__builtin_cpu_supports("avx512bf16")) return cpu_level::avx512_vnni;
  return may_use_amx() ? cpu_level::amx : cpu_level::avx512_bf16;
#else
  return cpu_level::baseline;
#endif
}
inline cpu_level machine_level() {
  static const cpu_level l = find_machine_level();
  return l;
}

/// The level that is fastest here. Dot products of bf16 do twice the work of multiply-adds of float
/// on Zen 4, but half of it on Sapphire Rapids (measured, see benchmarks/results), and no other
/// processor of Intel is known to be better. Tiles are best.
inline cpu_level best_level() {
  const cpu_level l = machine_level();
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
  if (l == cpu_level::avx512_bf16 && __builtin_cpu_is("intel")) return cpu_level::avx512_vnni;
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
      "\" is not a level; wanted is baseline, sse4, avx2, avx512, avx512_vnni, avx512_bf16 or amx");
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
