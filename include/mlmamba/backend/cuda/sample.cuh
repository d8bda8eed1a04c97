// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Choosing tokens on a GPU: a team of blocks for each row, which looks at it a few times and sorts
// nothing.
//
// Tokens have an order, by falling logit and rising id, and every limit keeps the first ones of it.
// How many, is found as in a radix sort of which only one bin is ever looked into: what the tokens
// of each bin weigh together (or how many they are) says which bin has the last one; if few tokens
// are in there, each of them adds up those before it, else the bin is divided by the next digit.
#pragma once

#include "mlmamba/backend/cuda/sample_bins.cuh"
#include "mlmamba/ops/sample.hpp"

namespace mlmamba::backend {

namespace kernels {

struct sample_memory {
  static constexpr int most_few = 512, most_blocks = 8;
  std::uint64_t table[weight_steps];
  sum_bins bins;
  float values[warp_size], best;
  int places[warp_size], unfits[warp_size], id, unfit;
  // What the first block has for all of the team:
  float best_of[most_blocks];  // block
  int place_of[most_blocks], unfit_of[most_blocks];
  std::uint64_t orders[most_few], weights[most_few];  // of tokens that are compared with each other
  int few;
  std::uint64_t last;  // the order of the last token that a limit keeps
};

/// The place of a token in the order, as a number: 32 bits of falling logit, then the id.
__device__ inline std::uint64_t token_order(float z, int id) {
  const std::uint32_t bits = mlmamba::detail::float_bits(z == 0 ? 0.0f : z);  // -0 is 0
  const std::uint32_t falling = bits >> 31 ? bits : ~(bits | 0x80000000u);
  return std::uint64_t{falling} << 32 | std::uint32_t(id);
}

template <class E, class X>
class row_sampler {
 public:
  __device__ row_sampler(const ops::sample<E, X>& op, sample_memory& memory)
      : op_(op),
        m_(memory),
        first_(block_team::of_first(&memory)),
        t_(index_t(blockIdx.x) / block_team::size()),
        rule_(op.rules(t_)),
        row_(op.x.data + t_ * op.x.stride[0]),
        seen_(op.seen && rule_.penalty != 1 ? op.seen.data + t_ * op.seen.stride[0] : nullptr),
        n_(int(rule_.tokens(op.x.size[1]))),
        bits_(weight_bits(n_)) {}

  __device__ void choose() {
    block_team::sync();  // all are there
    find_best();
    const bool fit = m_.unfit < 0, draws = fit && !rule_.greedy;
    if (draws) {
      for (int i = int(threadIdx.x); i < weight_steps; i += int(blockDim.x))
        m_.table[i] = weight_step(i);
      least_ = __double2float_ru(double(best_) + rule_.least);
      if (rule_.top_k > 0 && rule_.top_k < n_) limit<false>();
      if (rule_.limits_mass()) limit<true>();
      draw(random_bits(rule_.seed, 0, op_.draws(t_)));
    }
    block_team::sync();  // nobody ends before the last look at the first block's memory
    if (block_team::rank() != 0 || threadIdx.x != 0) return;
    const int id = fit ? m_.id : 0;
    op_.index(t_) = id;
    op_.unfit(t_) = m_.unfit;
    if (draws) ++op_.draws(t_);
    if (op_.seen && fit) op_.seen(t_, id / 32) |= 1u << (id % 32);
  }

 private:
  __device__ float penalised_if_seen(float z, int v) const {
    if (!seen_ || v >= n_ || (seen_[v / 32] >> (v % 32) & 1) == 0) return z;
    return penalised(z, rule_.penalty);
  }
  /// f(z, id) for all tokens; whole warps call it together, with -infinity where there is no token.
  template <class F>
  __device__ void for_each(F&& f) const {
    constexpr int ahead = 8;  // logits that are under way
    const int threads = int(blockDim.x) * block_team::size();
    for (int from = block_team::rank() * int(blockDim.x) + int(threadIdx.x);
         from - lane_index() < n_; from += ahead * threads) {
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
        f(penalised_if_seen(z[k], v), v);
      }
    }
  }

  /// Leaves the best token and whether the row is fit in the memory of each block.
  __device__ void find_best() {
    constexpr int none = 0x7fffffff;
    float best = -INFINITY;
    int at = none, unfit = none;
    const auto take = [&](float z, int v, int u) {
      if (z > best || (z == best && v < at)) best = z, at = v;
      if (u < unfit) unfit = u;
    };
    for_each([&](float z, int v) { take(z, v, v < n_ && !(z < INFINITY) ? v : none); });
    for (int o = warp_size / 2; o > 0; o /= 2)
      take(__shfl_xor_sync(all_lanes, best, o), __shfl_xor_sync(all_lanes, at, o),
           __shfl_xor_sync(all_lanes, unfit, o));
    if (lane_index() == 0)
      m_.values[warp_index()] = best, m_.places[warp_index()] = at, m_.unfits[warp_index()] = unfit;
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int w = 1; w < int(blockDim.x) / warp_size; ++w)
        take(m_.values[w], m_.places[w], m_.unfits[w]);
      const int rank = block_team::rank();
      first_->best_of[rank] = best, first_->place_of[rank] = at, first_->unfit_of[rank] = unfit;
    }
    block_team::sync();
    if (threadIdx.x == 0) {
      for (int b = 0; b < block_team::size(); ++b)
        take(first_->best_of[b], first_->place_of[b], first_->unfit_of[b]);
      m_.best = best, m_.id = at;
      m_.unfit = unfit < none ? unfit : best == -INFINITY ? 0 : -1;
    }
    __syncthreads();
    best_ = m_.best;
  }

  /// Bins of 1/32 by the distance to the best logit: logits are spread over many of them, where the
  /// first bits of a float are nearly all equal.
  __device__ int near_bin(float z) const {
    const int bin = __float2int_rz((best_ - z) * 32);
    return bin < sum_bins::size ? bin : sum_bins::size - 1;
  }
  /// Is the token there, and within the limits so far?
  __device__ bool left(float z, int v, int bin, std::uint64_t order) const {
    return v < n_ && z >= least_ && (bin < last_bin_ || (bin == last_bin_ && order <= last_));
  }
  /// What a token adds to a sum: its mass, or one.
  template <bool Mass>
  __device__ std::uint64_t worth(float z) const {
    return Mass ? token_weight(z, best_, rule_.scale, bits_, m_.table) : 1;
  }

  /// The top k; if Mass, the first tokens that together have the wanted mass.
  template <bool Mass>
  __device__ void limit() {
    m_.bins.clear();
    for_each([&](float z, int v) {
      const int bin = near_bin(z);
      if (!left(z, v, bin, token_order(z, v))) return;
      if (const std::uint64_t w = worth<Mass>(z)) m_.bins.add(bin, w);
    });
    auto at = m_.bins.find(
        [&](std::uint64_t all) { return Mass ? rule_.wanted(all) : std::uint64_t(rule_.top_k); },
        false);
    if (!at.found) return;
    const int bin = at.bin;
    std::uint64_t target = at.target - at.before;
    std::uint64_t prefix = 0;
    int shift = 64;  // the orders that are looked at are `prefix` from this bit on
    const auto add = [&](float z, int v, auto&& take) {
      const std::uint64_t order = token_order(z, v);
      if (near_bin(z) != bin || !left(z, v, bin, order)) return;
      if (shift < 64 && order >> shift != prefix) return;
      if (const std::uint64_t w = worth<Mass>(z)) take(order, w);
    };
    while (at.in_bin > sample_memory::most_few) {
      const int digit = shift < sum_bins::digit ? shift : sum_bins::digit;
      m_.bins.clear();
      for_each([&](float z, int v) {
        add(z, v, [&](std::uint64_t order, std::uint64_t w) {
          m_.bins.add(int(order >> (shift - digit) & ((1u << digit) - 1)), w);
        });
      });
      at = m_.bins.find([&](std::uint64_t) { return target; }, true);
      target -= at.before;
      prefix = prefix << digit | std::uint64_t(at.bin);
      shift -= digit;
    }

    if (threadIdx.x == 0) m_.few = 0;
    block_team::sync();
    for_each([&](float z, int v) {
      add(z, v, [&](std::uint64_t order, std::uint64_t w) {
        const int to = atomicAdd(&first_->few, 1);
        first_->orders[to] = order, first_->weights[to] = w;
      });
    });
    block_team::sync();
    if (block_team::rank() == 0)
      for (int i = int(threadIdx.x); i < m_.few; i += int(blockDim.x)) {
        std::uint64_t before = 0;
        for (int k = 0; k < m_.few; ++k)
          if (m_.orders[k] < m_.orders[i]) before += m_.weights[k];
        if (before < target && before + m_.weights[i] >= target) m_.last = m_.orders[i];
      }
    block_team::sync();
    last_bin_ = bin, last_ = first_->last;
  }

  /// The token at which the masses of those that are left, added up by id, exceed the part of their
  /// sum that the random bits say.
  __device__ void draw(std::uint64_t random) {
    const int tiles = (n_ + warp_size - 1) / warp_size;
    const int tiles_of_bin = (tiles + sum_bins::size - 1) / sum_bins::size;
    const auto mass = [&](float z, int v) {
      return left(z, v, near_bin(z), token_order(z, v)) ? worth<true>(z) : 0;
    };
    m_.bins.clear();
    for_each([&](float z, int v) {  // a warp has a tile of neighbours
      const std::uint64_t w = mass(z, v);
      if (!__any_sync(all_lanes, w != 0)) return;
      const std::uint64_t sum = warp_sum(w);
      if (lane_index() == 0) m_.bins.add(v / warp_size / tiles_of_bin, sum);
    });
    const auto at =
        m_.bins.find([&](std::uint64_t all) { return multiply_high(random, all) + 1; }, true);
    if (block_team::rank() == 0 && warp_index() == 0) {
      std::uint64_t open = at.target - at.before;
      for (int v = at.bin * tiles_of_bin * warp_size + lane_index();; v += warp_size) {
        const float z = penalised_if_seen(v < n_ ? float(row_[v]) : -INFINITY, v);
        const std::uint64_t up_to = sum_bins::warp_sum_up_to(mass(z, v));
        const unsigned reached = __ballot_sync(all_lanes, up_to >= open);
        if (reached) {
          if (lane_index() == 0) m_.id = v + __ffs(int(reached)) - 1;
          break;
        }
        open -= __shfl_sync(all_lanes, up_to, warp_size - 1);
      }
    }
  }

  const ops::sample<E, X>& op_;
  sample_memory& m_;
  sample_memory* const first_;
  const index_t t_;
  const sampling_rule rule_;
  const X* row_;
  const std::uint32_t* seen_;
  const int n_, bits_;
  float best_ = 0, least_ = 0;
  // Left are the tokens of bins before this one, and those in it up to this order.
  int last_bin_ = sum_bins::size;
  std::uint64_t last_ = 0;
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
  const auto kernel = kernels::sample_kernel<E, X>;
  const bool wide = op.x.size[1] > 8192;
  const unsigned threads = wide ? 1024 : kernels::block_threads;
  // As many blocks for a row as leave no row waiting. What a GPU has room for is asked once.
  int team = 1;
  if (wide && ctx.overlaps_launches) {  // as teams do, this begins with sm_90
    static const int eights = kernels::team_launch(1, 8, threads).at_once(kernel),
                     fours = kernels::team_launch(1, 4, threads).at_once(kernel),
                     pairs = kernels::team_launch(1, 2, threads).at_once(kernel);
    const index_t rows = op.x.size[0];
    team = rows <= eights ? 8 : rows <= fours ? 4 : rows <= pairs ? 2 : 1;
  }
  kernels::team_launch(op.x.size[0], team, threads, ctx.stream).run(kernel, op);
}

}  // namespace mlmamba::backend
