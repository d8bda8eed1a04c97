// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Choosing tokens on a GPU: a block for each row, which looks at it a few times and sorts nothing.
//
// Tokens have an order, by falling logit and rising id, and every limit keeps the first ones of it.
// How many, is found as in a radix sort of which only one bin is ever looked into: what the tokens
// of each bin weigh together (or how many they are) says which bin has the last one; if few tokens
// are in there, each of them adds up those before it, else the bin is divided by the next digit.
// Sums are of whole numbers, so that it doesn't matter which thread is first.
#pragma once

#include "mlmamba/backend/cuda/launch.cuh"
#include "mlmamba/ops/sample.hpp"

namespace mlmamba::backend {

namespace kernels {

inline constexpr int sample_bins = 2048;  // 11 bits
inline constexpr int sample_few = 512;    // tokens that are compared with each other

struct sample_memory {
  std::uint64_t table[weight_steps];
  std::uint32_t count[sample_bins], low[sample_bins], high[sample_bins];  // of a bin; its mass
  std::uint64_t orders[sample_few], weights[sample_few];                  // few tokens
  std::uint64_t sums[warp_size];
  float values[warp_size];
  int places[warp_size];
  int few, bin, in_bin;
  std::uint64_t before, last;
  float best;
  int best_id, unfit;
};

/// The place of a token in the order, as a number: 32 bits of falling logit, then the id.
__device__ inline std::uint64_t token_order(float z, int id) {
  const std::uint32_t bits = detail::float_bits(z == 0 ? 0.0f : z);  // -0 is 0
  const std::uint32_t falling = bits >> 31 ? bits : ~(bits | 0x80000000u);
  return std::uint64_t{falling} << 32 | std::uint32_t(id);
}

template <class E, class X>
class row_sampler {
 public:
  __device__ row_sampler(const ops::sample<E, X>& op, sample_memory& memory)
      : op_(op),
        m_(memory),
        rule_(op.rules(index_t(blockIdx.x))),
        row_(op.x.data + index_t(blockIdx.x) * op.x.stride[0]),
        seen_(op.seen && rule_.penalty != 1 ? op.seen.data + index_t(blockIdx.x) * op.seen.stride[0]
                                            : nullptr),
        n_(int(rule_.tokens(op.x.size[1]))),
        bits_(weight_bits(n_)) {}

  __device__ void choose() {
    const index_t t = index_t(blockIdx.x);
    find_best();
    int id = m_.unfit >= 0 ? 0 : m_.best_id;
    if (m_.unfit < 0 && !rule_.greedy) {
      for (int i = int(threadIdx.x); i < weight_steps; i += int(blockDim.x))
        m_.table[i] = weight_step(i);
      const double least = double(best_) + rule_.least;
      least_ = __double2float_ru(least);
      if (rule_.top_k > 0 && rule_.top_k < n_) limit<false>(std::uint64_t(rule_.top_k));
      if (rule_.limits_mass()) limit<true>(0);
      id = draw(random_bits(rule_.seed, 0, op_.draws(t)));
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    op_.index(t) = id;
    op_.unfit(t) = m_.unfit;
    if (m_.unfit >= 0) return;
    if (!rule_.greedy) ++op_.draws(t);
    if (op_.seen) op_.seen(t, id / 32) |= 1u << (id % 32);
  }

 private:
  /// f(z, id) for all tokens; whole warps call it together, with -infinity where there is no token.
  template <class F>
  __device__ void for_each(F&& f) const {
    constexpr int ahead = 8;  // logits that are under way
    const int threads = int(blockDim.x);
    for (int from = int(threadIdx.x); from - lane_index() < n_; from += ahead * threads) {
      float z[ahead];
#pragma unroll
      for (int k = 0; k < ahead; ++k) {
        const int v = from + k * threads;
        z[k] = v < n_ ? float(row_[v]) : -INFINITY;
      }
#pragma unroll
      for (int k = 0; k < ahead; ++k) {
        const int v = from + k * threads;
        if (v - lane_index() >= n_) break;
        f(v < n_ && seen_ && (seen_[v / 32] >> (v % 32) & 1) ? penalised(z[k], rule_.penalty)
                                                             : z[k],
          v);
      }
    }
  }

  __device__ void find_best() {
    float best = -INFINITY;
    int at = 0x7fffffff, unfit = 0x7fffffff;
    for_each([&](float z, int v) {
      if (z > best) best = z, at = v;
      if (!(z < INFINITY) && v < unfit) unfit = v;
    });
    for (int o = warp_size / 2; o > 0; o /= 2) {
      const float z = __shfl_xor_sync(all_lanes, best, o);
      const int v = __shfl_xor_sync(all_lanes, at, o);
      if (z > best || (z == best && v < at)) best = z, at = v;
    }
    unfit = __reduce_min_sync(all_lanes, unfit);
    if (threadIdx.x == 0) m_.unfit = 0x7fffffff;
    __syncthreads();
    if (lane_index() == 0) {
      m_.values[warp_index()] = best, m_.places[warp_index()] = at;
      atomicMin(&m_.unfit, unfit);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int w = 1; w < int(blockDim.x) / warp_size; ++w)
        if (m_.values[w] > best || (m_.values[w] == best && m_.places[w] < at))
          best = m_.values[w], at = m_.places[w];
      m_.best = best, m_.best_id = at;
      if (m_.unfit == 0x7fffffff) m_.unfit = best == -INFINITY ? 0 : -1;
    }
    __syncthreads();
    best_ = m_.best;
  }

  /// Bins of 1/32 by the distance to the best logit: random logits are spread over many of them,
  /// where the first bits of a float are nearly all equal.
  __device__ int near_bin(float z) const {
    const int bin = __float2int_rz((best_ - z) * 32);
    return bin < sample_bins ? bin : sample_bins - 1;
  }
  __device__ bool alive(float z, int bin, std::uint64_t order) const {
    return z >= least_ && (bin < last_bin_ || (bin == last_bin_ && order <= last_order_));
  }
  __device__ std::uint64_t weight(float z) const {
    return token_weight(z, best_, rule_.scale, bits_, m_.table);
  }

  __device__ void clear_bins() {
    __syncthreads();
    for (int b = int(threadIdx.x); b < sample_bins; b += int(blockDim.x))
      m_.count[b] = m_.low[b] = m_.high[b] = 0;
    __syncthreads();
  }
  /// What a token adds to a sum: its mass, or one.
  template <bool Mass>
  __device__ std::uint64_t worth(float z) const {
    return Mass ? weight(z) : 1;
  }
  template <bool Mass>
  __device__ void add_to_bin(int b, float z) {
    const std::uint64_t w = worth<Mass>(z);
    if (w == 0) return;
    atomicAdd(&m_.count[b], 1u);
    if constexpr (Mass) add_mass(b, w);
  }
  __device__ void add_mass(int b, std::uint64_t w) {  // 64 bits, of which hardware has no addition
    const std::uint32_t low = std::uint32_t(w), before = atomicAdd(&m_.low[b], low);
    atomicAdd(&m_.high[b], std::uint32_t(w >> 32) + (before + low < before ? 1u : 0u));
  }
  template <bool Mass>
  __device__ std::uint64_t of_bin(int b) const {
    return Mass ? std::uint64_t{m_.high[b]} << 32 | m_.low[b] : m_.count[b];
  }

  /// The sum of all bins before this thread's own ones, and of all.
  template <bool Mass>
  __device__ std::uint64_t sum_before(std::uint64_t& all) {
    __syncthreads();
    const int own = sample_bins / int(blockDim.x);
    std::uint64_t sum = 0;
    for (int i = 0; i < own; ++i) sum += of_bin<Mass>(int(threadIdx.x) * own + i);
    std::uint64_t up_to = sum;
    for (int o = 1; o < warp_size; o *= 2) {
      const std::uint64_t other = __shfl_up_sync(all_lanes, up_to, unsigned(o));
      if (lane_index() >= o) up_to += other;
    }
    if (lane_index() == warp_size - 1) m_.sums[warp_index()] = up_to;
    __syncthreads();
    std::uint64_t before = up_to - sum;
    all = 0;
    for (int w = 0; w < int(blockDim.x) / warp_size; ++w) {
      if (w == warp_index()) before += all;
      all += m_.sums[w];
    }
    return before;
  }
  /// Leaves in m_ the bin with which the sum of all bins reaches `target`, and what is before it.
  template <bool Mass>
  __device__ void find_bin(std::uint64_t before, std::uint64_t target) {
    const int own = sample_bins / int(blockDim.x);
    for (int i = 0; i < own; ++i) {
      const int b = int(threadIdx.x) * own + i;
      const std::uint64_t w = of_bin<Mass>(b);
      if (before < target && before + w >= target)
        m_.bin = b, m_.before = before, m_.in_bin = int(m_.count[b]);
      before += w;
    }
    __syncthreads();
  }

  /// Keeps the first tokens of the order that together weigh `target` (a part of what is left, if
  /// Mass) or, if not Mass, so many tokens.
  template <bool Mass>
  __device__ void limit(std::uint64_t target) {
    clear_bins();
    for_each([&](float z, int v) {
      const int bin = near_bin(z);
      if (v < n_ && alive(z, bin, token_order(z, v))) add_to_bin<Mass>(bin, z);
    });
    std::uint64_t all;
    const std::uint64_t before = sum_before<Mass>(all);
    if constexpr (Mass) target = rule_.wanted(all);
    if (target >= all) return;
    find_bin<Mass>(before, target);
    const int bin = m_.bin;
    target -= m_.before;
    std::uint64_t prefix = 0;
    int shift = 64;  // orders of the bin are equal above this bit
    while (m_.in_bin > sample_few) {
      const int digit = shift > 11 ? 11 : shift;
      shift -= digit;
      clear_bins();
      for_each([&](float z, int v) {
        const std::uint64_t order = token_order(z, v);
        if (v >= n_ || near_bin(z) != bin || !alive(z, bin, order)) return;
        if (shift + digit < 64 && order >> (shift + digit) != prefix) return;
        add_to_bin<Mass>(int(order >> shift & ((1u << digit) - 1)), z);
      });
      const std::uint64_t others = sum_before<Mass>(all);
      find_bin<Mass>(others, target);
      target -= m_.before;
      prefix = prefix << digit | std::uint64_t(m_.bin);
    }
    keep_of_few<Mass>(bin, prefix, shift, target);
  }

  /// The last step: those in the bin whose orders begin with `prefix` are few.
  template <bool Mass>
  __device__ void keep_of_few(int bin, std::uint64_t prefix, int shift, std::uint64_t target) {
    __syncthreads();
    if (threadIdx.x == 0) m_.few = 0;
    __syncthreads();
    for_each([&](float z, int v) {
      const std::uint64_t order = token_order(z, v);
      if (v >= n_ || near_bin(z) != bin || !alive(z, bin, order)) return;
      if (shift < 64 && order >> shift != prefix) return;
      const std::uint64_t w = worth<Mass>(z);
      if (w == 0) return;
      const int to = atomicAdd(&m_.few, 1);
      m_.orders[to] = order;
      m_.weights[to] = w;
    });
    __syncthreads();
    for (int i = int(threadIdx.x); i < m_.few; i += int(blockDim.x)) {
      std::uint64_t before = 0;
      for (int k = 0; k < m_.few; ++k)
        if (m_.orders[k] < m_.orders[i]) before += m_.weights[k];
      if (before < target && before + m_.weights[i] >= target) m_.last = m_.orders[i];
    }
    __syncthreads();
    last_bin_ = bin;
    last_order_ = m_.last;
  }

  /// The token at which the masses of those that are left, added up by id, exceed the part of their
  /// sum that the random bits say.
  __device__ int draw(std::uint64_t random) {
    const int tiles = (n_ + warp_size - 1) / warp_size;
    const int tiles_of_bin = (tiles + sample_bins - 1) / sample_bins;
    const auto left_weight = [&](float z, int v) {
      return v < n_ && alive(z, near_bin(z), token_order(z, v)) ? weight(z) : 0;
    };
    clear_bins();
    for_each([&](float z, int v) {  // a warp has a tile of neighbours
      const std::uint64_t w = left_weight(z, v);
      if (!__any_sync(all_lanes, w != 0)) return;
      const std::uint64_t sum = warp_sum(w);
      if (lane_index() == 0) add_mass(v / warp_size / tiles_of_bin, sum);
    });
    std::uint64_t all;
    const std::uint64_t before = sum_before<true>(all);
    const std::uint64_t target = multiply_high(random, all) + 1;
    find_bin<true>(before, target);
    if (warp_index() == 0) {
      std::uint64_t left = target - m_.before;
      for (int v = m_.bin * tiles_of_bin * warp_size + lane_index();; v += warp_size) {
        const bool seen = v < n_ && seen_ && (seen_[v / 32] >> (v % 32) & 1);
        const float x = v < n_ ? float(row_[v]) : -INFINITY;
        std::uint64_t up_to = left_weight(seen ? penalised(x, rule_.penalty) : x, v);
        for (int o = 1; o < warp_size; o *= 2) {
          const std::uint64_t other = __shfl_up_sync(all_lanes, up_to, unsigned(o));
          if (lane_index() >= o) up_to += other;
        }
        const unsigned reached = __ballot_sync(all_lanes, up_to >= left);
        if (reached) {
          if (lane_index() == 0) m_.best_id = v + __ffs(int(reached)) - 1;
          break;
        }
        left -= __shfl_sync(all_lanes, up_to, warp_size - 1);
      }
    }
    __syncthreads();
    return m_.best_id;
  }

  const ops::sample<E, X>& op_;
  sample_memory& m_;
  const sampling_rule rule_;
  const X* row_;
  const std::uint32_t* seen_;
  const int n_, bits_;
  float best_ = 0, least_ = -INFINITY;
  // Left are the tokens of bins before this one, and those in it up to this order.
  int last_bin_ = sample_bins;
  std::uint64_t last_order_ = 0;
};

template <class E, class X>
__global__ void __launch_bounds__(1024) sample_kernel(const ops::sample<E, X> op) {
  __shared__ sample_memory memory;
  row_sampler<E, X>(op, memory).choose();
}

}  // namespace kernels

template <class E, class X>
void execute(context<cuda>& ctx, const ops::sample<E, X>& op) {
  if (op.x.size[0] == 0) return;
  const unsigned threads = op.x.size[1] > 8192 ? 1024 : kernels::block_threads;
  kernels::sample_kernel<E, X>
      <<<kernels::blocks_for(op.x.size[0], 1), threads, 0, ctx.stream>>>(op);
  kernels::launched(op.name);
}

}  // namespace mlmamba::backend
