// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Compiles the SIMD kernels for several targets and chooses one at run time; links nothing.
//
// Three modes:
//   (default)              every file that includes this compiles the kernels of the ops it runs
//                          for AVX-512 (with and without native int8 and bf16, and AMX), AVX2 and
//                          the baseline of its flags; with -march=native only for that machine.
//                          MLMAMBA_ALL_TARGETS adds SSE4.
//   MLMAMBA_CPU_STATIC     only for the target of the compiler's flags
//   MLMAMBA_CPU_COMPILED   this header only declares; simd/kernels_*.cpp are compiled once, and
//                          linked (CMake: mlmamba::cpu)
#pragma once

#include "mlmamba/backend/cpu/simd/kernels.hpp"
#include "mlmamba/backend/cpu/simd/level.hpp"

#if defined(MLMAMBA_CPU_COMPILED) && !defined(MLMAMBA_CPU_KERNELS_UNIT)

namespace mlmamba::backend::simd {
/// The kernels of the level in use. Defined in kernels_*.cpp.
template <class Entries>
const Entries& cpu_kernels();
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
#if !defined(HWY_DISABLED_TARGETS)
#if defined(__aarch64__) || defined(__arm__)
// Vectors of SVE have no size: they can't be members or lie in arrays, as sums of tiles do. NEON.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
// Then there is nothing to choose at run time. Highway would still compile for "+crypto", and GCC
// 12 then can't inline the constructors that it makes itself.
#define TOOLCHAIN_MISS_SYS_AUXV_H
// AVX3_DL: -march=native picks it on Ice Lake and later, and Highway 1.0.3 then contradicts itself;
// what it has over AVX3 is in the level avx512_vnni. SSE4: machines without AVX2 are rare; they get
// the baseline, and everybody a shorter compilation.
#elif defined(HWY_COMPILE_ONLY_STATIC)
#define HWY_DISABLED_TARGETS HWY_AVX3_DL
#elif defined(MLMAMBA_ALL_TARGETS)
#define HWY_DISABLED_TARGETS (HWY_AVX3_DL | HWY_SSSE3)
#elif defined(__SSE4_2__)
#define HWY_DISABLED_TARGETS (HWY_AVX3_DL | HWY_SSSE3)
#else
#define HWY_DISABLED_TARGETS (HWY_AVX3_DL | HWY_SSSE3 | HWY_SSE4)
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

namespace mlmamba::backend::simd {
namespace detail {

// In files that compile the kernels themselves the target of the flags is in the name, so that
// files built with different flags don't clash.
#if defined(MLMAMBA_CPU_KERNELS_UNIT)
struct flags_of_this_file {};
#else
using flags_of_this_file = isa::current;
#endif

/// Some kernels of all levels; a level that is not compiled has those of the level below.
template <class Entries, class Flags>
struct kernels_by_level {
  Entries of[cpu_levels];

  kernels_by_level() {
    const wanted<Entries> w;
    const Entries baseline = HWY_STATIC_DISPATCH(kernels_for)(w);
    for (Entries& e : of) e = baseline;
    // Only levels that the machine has are asked: what lists the kernels of a level is compiled for
    // that level as well.
    [[maybe_unused]] const cpu_level most = machine_level();
#if HWY_ARCH_X86 && (HWY_TARGETS & HWY_SSE4)
    if (most >= cpu_level::sse4) from(cpu_level::sse4, N_SSE4::kernels_for(w));
#endif
#if HWY_ARCH_X86 && (HWY_TARGETS & HWY_AVX2)
    if (most >= cpu_level::avx2) from(cpu_level::avx2, N_AVX2::kernels_for(w));
#endif
#if HWY_ARCH_X86 && (HWY_TARGETS & HWY_AVX3)
    if (most >= cpu_level::avx512) from(cpu_level::avx512, N_AVX3::kernels_for(w));
#if defined(MLMAMBA_SIMD_HAS_ZEN4)
    if (most >= cpu_level::avx512_vnni) from(cpu_level::avx512_vnni, N_AVX3::vnni::kernels_for(w));
    if (most >= cpu_level::avx512_bf16) from(cpu_level::avx512_bf16, N_AVX3::zen4::kernels_for(w));
#endif
#if defined(MLMAMBA_SIMD_HAS_AMX)
    if (most >= cpu_level::amx) from(cpu_level::amx, N_AVX3::amx::kernels_for(w));
#endif
#endif
  }

 private:
  void from(cpu_level lowest, const Entries& e) {
    for (int l = int(lowest); l < cpu_levels; ++l) of[l] = e;
  }
};

}  // namespace detail

#if defined(MLMAMBA_CPU_KERNELS_UNIT)
template <class Entries>
const Entries& cpu_kernels() {
  using Flags = detail::flags_of_this_file;
#else
/// The kernels of the level in use.
template <class Entries, class Flags = detail::flags_of_this_file>
const Entries& cpu_kernels() {
#endif
  static const detail::kernels_by_level<Entries, Flags> kernels;
  return kernels.of[int(current_cpu_level())];
}

}  // namespace mlmamba::backend::simd

#endif
