// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What kernels are written with: launches, indices of threads, sums over warps and blocks.
#pragma once

#include "mlmamba/backend/cuda/context.cuh"

namespace mlmamba::backend::kernels {

inline constexpr int warp_size = 32;
inline constexpr unsigned all_lanes = 0xffffffffu;
inline constexpr int block_threads = 256;

/// Policies are types: nvcc 13.0 writes a broken host stub for a kernel with a class-type constant.
template <int N>
struct constant {
  static constexpr int value = N;
};

/// After each launch: names the op whose launch failed.
inline void launched(const char* op) { cuda_check(cudaGetLastError(), op); }

inline unsigned blocks_for(index_t n, index_t per_block) {
  const index_t b = (n + per_block - 1) / per_block;
  constexpr index_t most = 0x7fffffff;
  if (b > most)
    fail<shape_error>("cuda: ", n, " elements in one launch; wanted are at most ",
                      most * per_block);
  return unsigned(b);
}

/// One thread for each of n elements; the kernel returns where thread_index() >= n.
template <class Op>
void launch_elements(context<cuda>& ctx, void (*kernel)(Op), index_t n, const Op& op) {
  if (n <= 0) return;
  kernel<<<blocks_for(n, block_threads), block_threads, 0, ctx.stream>>>(op);
  launched(Op::name);
}

/// One block for each of n rows.
template <class Op>
void launch_rows(context<cuda>& ctx, void (*kernel)(Op), index_t n, const Op& op) {
  if (n <= 0) return;
  kernel<<<blocks_for(n, 1), block_threads, 0, ctx.stream>>>(op);
  launched(Op::name);
}

/// The same with no more warps than rows of `width` elements keep busy.
template <class Op>
void launch_rows(context<cuda>& ctx, void (*kernel)(Op), index_t n, index_t width, const Op& op) {
  if (n <= 0) return;
  const index_t warps = (width + warp_size - 1) / warp_size;
  const unsigned threads = unsigned(warps < 1 ? 1 : warps < 8 ? warps : 8) * warp_size;
  kernel<<<blocks_for(n, 1), threads, 0, ctx.stream>>>(op);
  launched(Op::name);
}

/// A launch that may begin before the one before it on the stream has ended (where the GPU can,
/// sm_90 and later): the kernel calls wait_for_launch_before() before it reads what others wrote or
/// writes what they read, and may fetch its weights before that.
template <class Op>
void launch_early(context<cuda>& ctx, const char* name, void (*kernel)(Op), unsigned blocks,
                  unsigned threads, std::size_t shared_bytes, const Op& op) {
  if (blocks == 0) return;
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t how{};
  how.gridDim = dim3(blocks), how.blockDim = dim3(threads);
  how.dynamicSmemBytes = shared_bytes;
  how.stream = ctx.stream;
  how.attrs = &early;
  how.numAttrs = ctx.overlaps_launches ? 1 : 0;
  cuda_check(cudaLaunchKernelEx(&how, kernel, op), name);
}
/// See launch_early. The launch after this one may begin too, once all blocks are here, while this
/// one waits: a chain of such launches has as many under way as there is room for.
__device__ inline void wait_for_launch_before() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
#endif
}

/// All threads of a block, or its first `Threads` without the others.
template <int Threads = 0>
__device__ void meet() {
  if constexpr (Threads == 0) {
    __syncthreads();
  } else {
    asm volatile("bar.sync 1, %0;\n" ::"n"(Threads) : "memory");
  }
}

/// After a block (or so many of its threads) has written something: whoever sees the flag sees that
/// too. Flags are zero before.
template <int Threads = 0>
__device__ void raise_flag(int* flag) {
  __threadfence();
  meet<Threads>();
  if (threadIdx.x == 0) asm volatile("st.release.gpu.global.s32 [%0], 1;\n" ::"l"(flag) : "memory");
}
/// Waits, with the whole block (or so many of its threads), for `count` flags, `apart` from each
/// other, that blocks with smaller indices raise without waiting for others: these have begun
/// before, so that they will. What they wrote must be read past the multiprocessor's own cache
/// (__ldcg).
template <int Threads = 0>
__device__ void wait_for_flags(const int* flags, int count, index_t apart) {
  const int step = Threads == 0 ? int(blockDim.x) : Threads;
  for (int i = int(threadIdx.x); i < count; i += step) {
    int there;
    do {
      asm volatile("ld.acquire.gpu.global.s32 %0, [%1];\n"
                   : "=r"(there)
                   : "l"(flags + i * apart)
                   : "memory");
    } while (there == 0);
  }
  meet<Threads>();
}

/// After a block has done its part of a launch: whoever has waited for the count sees what it
/// wrote.
__device__ inline void arrive(int* count) {
  __syncthreads();
  if (threadIdx.x == 0)
    asm volatile("red.release.gpu.global.add.s32 [%0], 1;\n" ::"l"(count) : "memory");
}
/// Waits, by all threads of a block, for `all` arrivals: of blocks with smaller indices, which have
/// begun before, so that they will come. One thread asks: arrivals queue behind questions.
__device__ inline void wait_for_arrivals(const int* count, int all) {
  if (threadIdx.x == 0) {
    int there;
    do {
      asm volatile("ld.acquire.gpu.global.s32 %0, [%1];\n" : "=r"(there) : "l"(count) : "memory");
    } while (there < all);
  }
  __syncthreads();
}

__device__ inline index_t thread_index() { return index_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int lane_index() { return int(threadIdx.x) % warp_size; }
__device__ inline int warp_index() { return int(threadIdx.x) / warp_size; }

/// Takes the remainder of i by n, and leaves the quotient in i. Division of 64 bits is slow: most
/// arrays need only 32.
__device__ inline index_t take_index(index_t& i, index_t n) {
  if (((i | n) >> 32) == 0) {
    const auto small = std::uint32_t(i), by = std::uint32_t(n);
    i = small / by;
    return small % by;
  }
  const index_t r = i % n;
  i /= n;
  return r;
}

/// Of arrays by their first blocks, the last that begins at this one or before.
template <class Array>
__device__ int last_before(const Array* arrays, int count, index_t block) {
  int low = 0;
  for (int high = count; high - low > 1;) {
    const int middle = (low + high) / 2;
    (arrays[middle].first <= block ? low : high) = middle;
  }
  return low;
}

/// The sum over a warp (or over groups of `Width` lanes), in every lane, in a fixed order.
template <int Width = warp_size, class A>
__device__ A warp_sum(A v) {
  for (int o = Width / 2; o > 0; o /= 2) v += __shfl_xor_sync(all_lanes, v, o);
  return v;
}
template <class A>
__device__ A warp_max(A v) {
  for (int o = warp_size / 2; o > 0; o /= 2) {
    const A other = __shfl_xor_sync(all_lanes, v, o);
    v = other > v ? other : v;
  }
  return v;
}

/// The sum over a block, in every thread, in a fixed order; `shared` holds an element per warp.
template <class A>
__device__ A block_sum(A v, A* shared) {
  v = warp_sum(v);
  __syncthreads();  // shared may still be read from the sum before
  if (lane_index() == 0) shared[warp_index()] = v;
  __syncthreads();
  A sum = 0;
  for (int w = 0; w < int(blockDim.x) / warp_size; ++w) sum += shared[w];
  return sum;
}

/// The largest over a block. With a NaN among them it may be any of them, or NaN: what callers go
/// on to sum is NaN then.
template <class A>
__device__ A block_max(A v, A* shared) {
  v = warp_max(v);
  __syncthreads();
  if (lane_index() == 0) shared[warp_index()] = v;
  __syncthreads();
  A best = shared[0];
  for (int w = 1; w < int(blockDim.x) / warp_size; ++w) best = shared[w] > best ? shared[w] : best;
  return best;
}

/// a b + c, rounded once, so that two kernels that sum the same way give the same bits.
__device__ inline float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ inline double multiply_add(double a, double b, double c) { return fma(a, b, c); }

}  // namespace mlmamba::backend::kernels
