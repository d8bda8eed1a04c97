// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Sizes and options of the recurrent mixers, and the rule of their initialisation.
#pragma once

#include <cmath>
#include <limits>

#include "mlmamba/core/error.hpp"
#include "mlmamba/nn/module.hpp"

namespace mlmamba::nn {

/// One struct for Mamba-1 and Mamba-2: names and defaults of the published `ssm_cfg`.
struct mixer_config {
  index_t d_model = 0;
  index_t d_state = 128;
  index_t d_conv = 4;
  index_t expand = 2;
  index_t headdim = 64;  // Mamba-2: channels of a head
  index_t ngroups = 1;   // Mamba-2: groups of B and C
  index_t d_ssm = 0;     // Mamba-2: channels that are scanned; 0: all. The others form a gated MLP
  index_t dt_rank = 0;   // Mamba-1: width of the step's low-rank map; 0: ceil(d_model / 16)
  index_t chunk_size = 0;  // 0: what the backend thinks best
  bool D_has_hdim = false, rmsnorm = true, norm_before_gate = false;
  bool bias = false, conv_bias = true;
  bool scan_norms = false;  // Mamba-1: RMSNorm without weights of dt, B and C (FalconMamba)
  double scan_norm_epsilon = 1e-6;
  double norm_epsilon = 1e-5;
  double dt_limit_low = 0, dt_limit_high = std::numeric_limits<double>::infinity();
  double A_init_low = 1, A_init_high = 16;
  double dt_min = 1e-3, dt_max = 0.1, dt_init_floor = 1e-4;
  double conv_init = 0;  // bound of the uniform initial weights; 0: 1 / sqrt(d_conv)

  constexpr index_t d_inner() const { return expand * d_model; }
  constexpr index_t scanned() const { return d_ssm == 0 ? d_inner() : d_ssm; }
  constexpr index_t d_mlp() const { return d_inner() - scanned(); }
  constexpr index_t nheads() const { return scanned() / headdim; }
  constexpr index_t conv_dim() const { return scanned() + 2 * ngroups * d_state; }
  constexpr index_t d_in_proj() const { return 2 * d_mlp() + scanned() + conv_dim() + nheads(); }
  constexpr index_t rank() const { return dt_rank == 0 ? (d_model + 15) / 16 : dt_rank; }
};

/// The first problem of a Mamba-2 mixer's sizes, or null.
constexpr const char* problem_with(const mixer_config& c) {
  if (c.d_model < 1 || c.expand < 1) return "d_model and expand must be at least 1";
  if (c.d_state < 1) return "d_state must be at least 1";
  if (c.d_conv < 2 || c.d_conv > 8) return "d_conv must be 2 to 8";
  if (c.headdim < 1 || c.ngroups < 1) return "headdim and ngroups must be at least 1";
  if (c.d_ssm < 0 || c.scanned() > c.d_inner()) return "d_ssm must be 0 to expand * d_model";
  if (c.scanned() % c.headdim != 0) return "headdim must divide the scanned channels";
  if (c.nheads() % c.ngroups != 0) return "ngroups must divide the number of heads";
  if (c.chunk_size < 0) return "chunk_size must be 0 or more";
  if (!(c.norm_epsilon >= 0) || c.norm_epsilon > 1) return "norm_epsilon must be 0 to 1";
  if (!(c.dt_limit_low <= c.dt_limit_high)) return "dt_limit_low must not exceed dt_limit_high";
  return nullptr;
}

namespace detail {
/// A step size drawn log-uniformly, as the bias that softplus maps to it.
inline double sample_dt_bias(const mixer_config& c, random_stream& r) {
  const double low = std::log(c.dt_min), high = std::log(c.dt_max);
  const double dt = std::max(std::exp(r.uniform(low, high)), c.dt_init_floor);
  return dt + std::log(-std::expm1(-dt));
}
}  // namespace detail

}  // namespace mlmamba::nn
