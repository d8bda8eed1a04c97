// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Compiles the SIMD kernels for several targets and chooses one at run time; links nothing.
//
// Three modes:
//   (default)              every file that includes this compiles the kernels for AVX-512 (with and
//                          without native bf16), AVX2 and the baseline of its flags; with
//                          -march=native only for that machine. MLMAMBA_ALL_TARGETS adds SSE4.
//   MLMAMBA_CPU_STATIC     only for the target of the compiler's flags
//   MLMAMBA_CPU_COMPILED   this header only declares; simd/kernels.cpp is compiled once and linked
//                          (CMake: mlmamba::cpu)
#pragma once

#include "mlmamba/backend/cpu/simd/kernels.hpp"

#if defined(MLMAMBA_CPU_COMPILED) && !defined(MLMAMBA_CPU_KERNELS_UNIT)

namespace mlmamba::backend::simd {
/// The kernels of the best level of this machine, or what limit_cpu_level left.
const kernels& cpu_kernels();
/// Uses no level above `most` from now on, in the whole process. For tests and measurements; the
/// environment variable MLMAMBA_CPU_TARGET (a name of cpu_level) does the same at the start.
void limit_cpu_level(cpu_level most);
}  // namespace mlmamba::backend::simd

#else

// <hwy/foreach_target.h> works once per file, and before <hwy/highway.h>; otherwise only the
// baseline would be compiled, silently.
#if defined(HIGHWAY_HWY_FOREACH_TARGET_H_) || defined(HWY_HIGHWAY_INCLUDED)
#error \
    "mlmamba: Highway was included before mlmamba in this file; include mlmamba first, or compile its kernels apart (link mlmamba::cpu, which defines MLMAMBA_CPU_COMPILED)"
#endif

#if defined(MLMAMBA_CPU_STATIC) && !defined(HWY_COMPILE_ONLY_STATIC)
#define HWY_COMPILE_ONLY_STATIC
#endif
#if !defined(MLMAMBA_ALL_TARGETS) && !defined(HWY_DISABLED_TARGETS) && \
    !defined(HWY_COMPILE_ONLY_STATIC)
// Machines without AVX2 are rare: they get the baseline, and everybody a shorter compilation.
#if defined(__SSE4_2__)
#define HWY_DISABLED_TARGETS HWY_SSSE3
#else
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#endif
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "mlmamba/backend/cpu/simd/targets-inl.hpp"
#include <hwy/foreach_target.h>  // must come first: compiles all targets but the static one
//
#include "mlmamba/backend/cpu/simd/targets-inl.hpp"  // and this the static one

#if defined(MLMAMBA_CPU_STATIC) && HWY_TARGET == HWY_SCALAR
#warning \
    "mlmamba: MLMAMBA_CPU_STATIC without SIMD flags; compile with -march=native, or leave it out"
#endif

#include <atomic>
#include <cstdlib>
#include <string_view>

#include "mlmamba/core/error.hpp"

namespace mlmamba::backend::simd {
namespace detail {
// In files that compile the kernels themselves the target of the flags is in the name, so that
// files built with different flags don't clash.
#if defined(MLMAMBA_CPU_KERNELS_UNIT)
struct flags_of_this_file {};
#else
using flags_of_this_file = isa::current;
#endif

template <class Flags>
const kernels& select_kernels(cpu_level most) {
#if HWY_ARCH_X86 && (defined(__GNUC__) || defined(__clang__))
  __builtin_cpu_init();
  [[maybe_unused]] const bool avx2 = __builtin_cpu_supports("avx2") &&
                                     __builtin_cpu_supports("fma") &&
                                     __builtin_cpu_supports("bmi2");
  [[maybe_unused]] const bool avx512 =
      avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#if HWY_TARGETS & HWY_AVX3
#if defined(MLMAMBA_SIMD_HAS_ZEN4)
  if (most >= cpu_level::avx512_bf16 && avx512 && __builtin_cpu_supports("avx512bf16") &&
      __builtin_cpu_supports("avx512vnni")) {
    static const kernels k = N_AVX3::zen4::make_kernels();
    return k;
  }
#endif
  if (most >= cpu_level::avx512 && avx512) {
    static const kernels k = N_AVX3::make_kernels();
    return k;
  }
#endif
#if HWY_TARGETS & HWY_AVX2
  if (most >= cpu_level::avx2 && avx2) {
    static const kernels k = N_AVX2::make_kernels();
    return k;
  }
#endif
#if HWY_TARGETS & HWY_SSE4
  if (most >= cpu_level::sse4 && __builtin_cpu_supports("sse4.2") &&
      __builtin_cpu_supports("pclmul")) {
    static const kernels k = N_SSE4::make_kernels();
    return k;
  }
#endif
#endif
  (void)most;
  static const kernels k = HWY_STATIC_DISPATCH(make_kernels)();
  return k;
}

inline cpu_level level_from_environment() {
  const char* text = std::getenv("MLMAMBA_CPU_TARGET");
  if (!text || !*text) return cpu_level::avx512_bf16;
  for (int l = 0; l <= int(cpu_level::avx512_bf16); ++l)
    if (std::string_view(text) == to_string(cpu_level(l))) return cpu_level(l);
  fail<error>("MLMAMBA_CPU_TARGET: \"", text,
              "\" is not a level; wanted is baseline, sse4, avx2, avx512 or avx512_bf16");
}

template <class Flags>
std::atomic<const kernels*>& current_kernels() {
  static std::atomic<const kernels*> current{&select_kernels<Flags>(level_from_environment())};
  return current;
}

}  // namespace detail

#if defined(MLMAMBA_CPU_KERNELS_UNIT)
const kernels& cpu_kernels();
void limit_cpu_level(cpu_level most);
#else
/// The kernels of the best level of this machine, or what limit_cpu_level left.
template <class Flags = detail::flags_of_this_file>
const kernels& cpu_kernels() {
  return *detail::current_kernels<Flags>().load(std::memory_order_acquire);
}
/// Uses no level above `most` from now on, in all files built with the same flags. For tests and
/// measurements; the environment variable MLMAMBA_CPU_TARGET (a name of cpu_level) does the same at
/// the start.
template <class Flags = detail::flags_of_this_file>
void limit_cpu_level(cpu_level most) {
  detail::current_kernels<Flags>().store(&detail::select_kernels<Flags>(most),
                                         std::memory_order_release);
}
#endif

}  // namespace mlmamba::backend::simd

#endif
