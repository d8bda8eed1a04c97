// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Denormal numbers count as zero for a while: each costs a processor a hundred cycles or more.
#pragma once

#include <cstdint>
#if defined(__x86_64__) || defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace mlmamba::backend::simd {

/// From here to the end of the scope, arithmetic of this thread takes operands below the smallest
/// normal number (1.2e-38 in float) for zero, and returns zero for such results. Copies keep them.
/// x86-64 and 64-bit ARM; others compute with denormals as ever. Call kernels through pointers
/// inside the scope: a compiler may move arithmetic, not calls, across its ends.
class without_denormals {
 public:
  without_denormals() : before_(get()) { set(before_ | bits); }
  ~without_denormals() { set((get() & ~bits) | (before_ & bits)); }
  without_denormals(const without_denormals&) = delete;
  without_denormals& operator=(const without_denormals&) = delete;

 private:
#if defined(__x86_64__) || defined(__SSE2__)
  using word = std::uint32_t;
  static constexpr word bits = 0x8040;  // MXCSR: flush to zero, denormals are zero
  static word get() { return _mm_getcsr(); }
  static void set(word w) { _mm_setcsr(w); }
#elif defined(__aarch64__)
  using word = std::uint64_t;
  static constexpr word bits = word(1) << 24;  // FPCR: flush to zero, both ways
  static word get() {
    word w;
    asm volatile("mrs %0, fpcr" : "=r"(w));
    return w;
  }
  static void set(word w) { asm volatile("msr fpcr, %0" ::"r"(w)); }
#else
  using word = std::uint32_t;
  static constexpr word bits = 0;
  static word get() { return 0; }
  static void set(word) {}
#endif
  word before_;
};

}  // namespace mlmamba::backend::simd
