// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Normalisation of rows: RMSNorm, LayerNorm, and the gated group RMSNorm of Mamba-2.
#pragma once

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

/// What a norm adds to its x first: the end of a residual branch.
///
///   x'[t,d] = x[t,d] + gamma[d] f[t] branch[t,d] takes the place of x, and is kept in sum
///   f[t]    = 1 / sqrt(sum_k squares[t,k] / squares_of + squares_epsilon)      (1 without squares)
///
/// With squares, the branch is a product of rows that should have been normalised by their RMS, and
/// now is itself: rows may be normalised before a product or after it.
///
/// Shapes    branch, sum (T, D); gamma (D); squares (T, K). sum may be x
/// Layout    unit stride over d
/// Numerics  computed in accum, rounded once to X: the bits are those of add or channel_scale
/// Empty     branch: there is none of this. gamma: 1. squares: f is 1
template <engine E, class X>
struct residual_sum {
  in<E, 2> branch{};
  in_accum<E, 1> gamma{};
  view<X, 2, typename E::memory> sum{};
  in_accum<E, 2> squares{};
  typename E::real squares_of = 1, squares_epsilon = 0;

  MLMAMBA_HD explicit operator bool() const { return bool(branch); }
  void check(const char* name, const shape<2>& x) const {
    if (!branch) return;
    check::size(name, "branch", branch, x);
    check::size_if_given(name, "gamma", gamma, shape<1>{{x.n[1]}});
    check::size(name, "sum", sum, x);
    check::size_if_given(name, "squares", squares, shape<2>{{x.n[0], check::any}});
    check::unit_stride(name, "branch", branch);
    check::unit_stride(name, "gamma", gamma);
    check::unit_stride(name, "sum", sum);
  }
  double flops() const { return (gamma ? 2.0 : 1.0) * double(branch.count()); }
  double bytes() const { return check::total_bytes(branch, gamma, sum); }
};

/// RMS normalisation of each row, scaled by a weight.
///
///   rstd[t] = 1 / sqrt(mean_d x[t,d]^2 + epsilon)
///   y[t,d]  = x[t,d] rstd[t] weight[d]
///
/// Shapes    x, y (T, D); weight (D); rstd (T), kept for the backward
/// Layout    unit stride over d
/// Numerics  mean and rstd in accum; epsilon in the units of x squared. X is the type of x: accum
///           for a residual stream that is kept wide
/// Empty     weight: 1. rstd: not wanted. plus: nothing is added to x
/// Source    Zhang and Sennrich 2019, arXiv:1910.07467, eq. 4
template <engine E, class X = typename E::value>
struct rms_norm {
  static constexpr const char* name = "rms_norm";
  view<const X, 2, typename E::memory> x{};
  in_accum<E, 1> weight{};
  out<E, 2> y{};
  out_accum<E, 1> rstd{};
  typename E::real epsilon = typename E::real(1e-5);
  residual_sum<E, X> plus{};

  void check() const {
    check::given(name, "x", x);
    plus.check(name, x.shape());
    check::size_if_given(name, "weight", weight, shape<1>{{x.size[1]}});
    check::size(name, "y", y, x.shape());
    check::size_if_given(name, "rstd", rstd, shape<1>{{x.size[0]}});
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "weight", weight);
    check::unit_stride(name, "y", y);
    check::unit_stride(name, "rstd", rstd);
  }
  double flops() const { return 4.0 * double(x.count()) + plus.flops(); }
  double bytes() const { return check::total_bytes(x, weight, y, rstd) + plus.bytes(); }
};

/// With xhat = x rstd and g = dy weight:
///
///   dx[t,d]    = (g[t,d] - xhat[t,d] mean_d(g xhat)) rstd[t]     (+ dx[t,d] if accumulate)
///   dweight[d] += sum_t dy[t,d] xhat[t,d]     t by blocks, in a fixed order
template <engine E, class X = typename E::value>
struct rms_norm_backward {
  static constexpr const char* name = "rms_norm_backward";
  view<const X, 2, typename E::memory> x{};
  in_accum<E, 1> weight{};
  in_accum<E, 1> rstd{};
  in<E, 2> dy{};
  view<X, 2, typename E::memory> dx{};
  out_accum<E, 1> dweight{};  // or empty
  bool accumulate = false;    // add to dx: the residual path

  void check() const {
    check::given(name, "x", x);
    check::size_if_given(name, "weight", weight, shape<1>{{x.size[1]}});
    check::size(name, "rstd", rstd, shape<1>{{x.size[0]}});
    check::size(name, "dy", dy, x.shape());
    check::size(name, "dx", dx, x.shape());
    check::size_if_given(name, "dweight", dweight, shape<1>{{x.size[1]}});
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "weight", weight);
    check::unit_stride(name, "rstd", rstd);
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dx", dx);
    check::unit_stride(name, "dweight", dweight);
  }
  double flops() const { return 10.0 * double(x.count()); }
  double bytes() const { return check::total_bytes(x, weight, rstd, dy, dx, dweight); }
};

/// Layer normalisation of each row, scaled and shifted.
///
///   mean[t] = mean_d x[t,d];  rstd[t] = 1 / sqrt(mean_d (x[t,d] - mean[t])^2 + epsilon)
///   y[t,d]  = (x[t,d] - mean[t]) rstd[t] weight[d] + bias[d]
///
/// Shapes    x, y (T, D); weight, bias (D); mean, rstd (T), kept for the backward
/// Layout    unit stride over d
/// Numerics  in accum, squares of differences from the mean or a number near it; epsilon in the
///           units of x squared
/// Empty     weight: 1. bias: 0. mean and rstd (both or none): not wanted. plus: nothing is added
/// Source    Ba, Kiros and Hinton 2016, arXiv:1607.06450
template <engine E, class X = typename E::value>
struct layer_norm {
  static constexpr const char* name = "layer_norm";
  view<const X, 2, typename E::memory> x{};
  in_accum<E, 1> weight{}, bias{};
  out<E, 2> y{};
  out_accum<E, 1> mean{}, rstd{};
  typename E::real epsilon = typename E::real(1e-5);
  residual_sum<E, X> plus{};

  void check() const {
    check::given(name, "x", x);
    plus.check(name, x.shape());
    check::size_if_given(name, "weight", weight, shape<1>{{x.size[1]}});
    check::size_if_given(name, "bias", bias, shape<1>{{x.size[1]}});
    check::size(name, "y", y, x.shape());
    check::size_if_given(name, "mean", mean, shape<1>{{x.size[0]}});
    check::size_if_given(name, "rstd", rstd, shape<1>{{x.size[0]}});
    check::that(bool(mean) == bool(rstd), name,
                "one of mean and rstd is missing; give both or none");
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "weight", weight);
    check::unit_stride(name, "bias", bias);
    check::unit_stride(name, "y", y);
    check::unit_stride(name, "mean", mean);
    check::unit_stride(name, "rstd", rstd);
  }
  double flops() const { return 8.0 * double(x.count()) + plus.flops(); }
  double bytes() const { return check::total_bytes(x, weight, bias, y, mean, rstd) + plus.bytes(); }
};

/// With xhat = (x - mean) rstd and g = dy weight:
///
///   dx[t,d]    = (g[t,d] - mean_d(g) - xhat[t,d] mean_d(g xhat)) rstd[t]  (+ dx if accumulate)
///   dweight[d] += sum_t dy[t,d] xhat[t,d];  dbias[d] += sum_t dy[t,d]     as above
template <engine E, class X = typename E::value>
struct layer_norm_backward {
  static constexpr const char* name = "layer_norm_backward";
  view<const X, 2, typename E::memory> x{};
  in_accum<E, 1> weight{};
  in_accum<E, 1> mean{}, rstd{};
  in<E, 2> dy{};
  view<X, 2, typename E::memory> dx{};
  out_accum<E, 1> dweight{}, dbias{};  // each may be empty
  bool accumulate = false;

  void check() const {
    check::given(name, "x", x);
    check::size_if_given(name, "weight", weight, shape<1>{{x.size[1]}});
    check::size(name, "mean", mean, shape<1>{{x.size[0]}});
    check::size(name, "rstd", rstd, shape<1>{{x.size[0]}});
    check::size(name, "dy", dy, x.shape());
    check::size(name, "dx", dx, x.shape());
    check::size_if_given(name, "dweight", dweight, shape<1>{{x.size[1]}});
    check::size_if_given(name, "dbias", dbias, shape<1>{{x.size[1]}});
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "weight", weight);
    check::unit_stride(name, "mean", mean);
    check::unit_stride(name, "rstd", rstd);
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dx", dx);
    check::unit_stride(name, "dweight", dweight);
    check::unit_stride(name, "dbias", dbias);
  }
  double flops() const { return 14.0 * double(x.count()); }
  double bytes() const { return check::total_bytes(x, weight, mean, rstd, dy, dx, dweight, dbias); }
};

/// Group RMSNorm with a gate, in Mamba-2's two orders.
///
///   norm_before_gate:  y = norm(x) weight silu(z)
///   else (Mamba-2):    y = norm(x silu(z)) weight
///   norm(u)[t,d] = u[t,d] / sqrt(mean over the group of d of u[t,.]^2 + epsilon)
///
/// Shapes    x, z, y (T, D); weight (D); rstd (T, D / group_size)
/// Layout    unit stride over d
/// Numerics  all in accum, rounded once to y; where y is bf16, backends may compute SiLU to 2^-13
/// Empty     z: no gate. weight: 1. rstd: not wanted
/// Errors    shape_error if group_size (0: D) does not divide D
/// Source    Dao and Gu 2024, arXiv:2405.21060, section 7; state-spaces/mamba layernorm_gated
template <engine E>
struct gated_rms_norm {
  static constexpr const char* name = "gated_rms_norm";
  in<E, 2> x{}, z{};
  in_accum<E, 1> weight{};
  out<E, 2> y{};
  out_accum<E, 2> rstd{};
  index_t group_size = 0;  // 0: one group
  bool norm_before_gate = false;
  typename E::real epsilon = typename E::real(1e-5);

  index_t group() const { return group_size == 0 ? x.size[1] : group_size; }
  void check() const {
    check::given(name, "x", x);
    check::that(group_size >= 0 && (x.size[1] == 0 || x.size[1] % group() == 0), name,
                "group_size is " + std::to_string(group_size) + " and x is " + to_string(x) +
                    "; wanted is a divisor of the last size");
    check::size_if_given(name, "z", z, x.shape());
    check::size_if_given(name, "weight", weight, shape<1>{{x.size[1]}});
    check::size(name, "y", y, x.shape());
    if (x.size[1] > 0)
      check::size_if_given(name, "rstd", rstd, shape<2>{{x.size[0], x.size[1] / group()}});
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "z", z);
    check::unit_stride(name, "weight", weight);
    check::unit_stride(name, "y", y);
    check::unit_stride(name, "rstd", rstd);
  }
  double flops() const { return (z ? 12.0 : 4.0) * double(x.count()); }
  double bytes() const { return check::total_bytes(x, z, weight, y, rstd); }
};

/// Backward of gated_rms_norm. With u the normalised input (x, or x silu(z)), uhat = u rstd, and
/// g = dy weight (times silu(z) if norm_before_gate):
///
///   t  = (g - uhat mean_group(g uhat)) rstd
///   norm_before_gate:  dx = t;          dz = dy uhat weight silu'(z)
///   else:              dx = t silu(z);  dz = t x silu'(z)
///   dweight[d] += sum_t uhat dy (silu(z) if norm_before_gate)    as above
template <engine E>
struct gated_rms_norm_backward {
  static constexpr const char* name = "gated_rms_norm_backward";
  in<E, 2> x{}, z{};
  in_accum<E, 1> weight{};
  in_accum<E, 2> rstd{};
  in<E, 2> dy{};
  out<E, 2> dx{}, dz{};
  out_accum<E, 1> dweight{};  // or empty
  index_t group_size = 0;
  bool norm_before_gate = false;

  index_t group() const { return group_size == 0 ? x.size[1] : group_size; }
  void check() const {
    check::given(name, "x", x);
    check::that(group_size >= 0 && (x.size[1] == 0 || x.size[1] % group() == 0), name,
                "group_size is " + std::to_string(group_size) + " and x is " + to_string(x) +
                    "; wanted is a divisor of the last size");
    check::size_if_given(name, "z", z, x.shape());
    check::size_if_given(name, "weight", weight, shape<1>{{x.size[1]}});
    if (x.size[1] > 0) check::size(name, "rstd", rstd, shape<2>{{x.size[0], x.size[1] / group()}});
    check::size(name, "dy", dy, x.shape());
    check::size(name, "dx", dx, x.shape());
    check::that(bool(dz) == bool(z), name, "one of z and dz is missing; give both or none");
    check::size_if_given(name, "dz", dz, x.shape());
    check::size_if_given(name, "dweight", dweight, shape<1>{{x.size[1]}});
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "z", z);
    check::unit_stride(name, "weight", weight);
    check::unit_stride(name, "rstd", rstd);
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dx", dx);
    check::unit_stride(name, "dz", dz);
    check::unit_stride(name, "dweight", dweight);
  }
  double flops() const { return (z ? 26.0 : 10.0) * double(x.count()); }
  double bytes() const { return check::total_bytes(x, z, weight, rstd, dy, dx, dz, dweight); }
};

}  // namespace mlmamba::ops
