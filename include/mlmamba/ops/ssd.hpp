// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// SSD, the state space dual scan of Mamba-2: forward, backward and one decode step.
#pragma once

#include <limits>

#include "mlmamba/ops/selective_scan.hpp"

namespace mlmamba::ops {

/// What the forward and the backward of SSD both read.
///
///   dt'[b,t,h]  = clamp(softplus(dt[b,t,h] + dt_bias[h]), dt_min, dt_max)
///                                                              (softplus only if dt_softplus)
///   S[b,t,h]    = exp(dt'[b,t,h] A[h]) S[b,t-1,h] + dt'[b,t,h] x[b,t,h,:] B[b,t,g,:]^T  (P, N)
///   v[b,t,h,:]  = S[b,t,h] C[b,t,g,:] + D[h,:] x[b,t,h,:]
///   y[b,t,h,:]  = v[b,t,h,:] silu(z[b,t,h,:])                  (v if there is no z)
///
/// with g = h / (H / G). Where seq_idx[b,t] != seq_idx[b,t-1] the carried state is dropped; the
/// index before token 0 counts as 0, so the initial state is dropped if seq_idx[b,0] != 0.
///
/// Shapes    x, z, y (B, L, H, P); dt (B, L, H); A, dt_bias (H); B, C (B, L, G, N); D (H, P), one
///           value per head as a view with stride 0 over p; initial_states, final_states
///           (B, H, P, N); seq_idx (B, L)
/// Layout    x, z, y: unit stride over p. B, C, states: unit stride over n
/// Numerics  dt', cumulative sums, exponentials and states in accum (initial and final states are
///           stored as the engine's state; their gradients are in accum); decays are exp of
///           differences that are never positive, or products of two such; softplus is the identity
///           above 20; dt_max may be infinite. On the CPU numbers below the smallest normal one
///           (1.2e-38 in float) count as zero, in states too. Where chunks are products (CPU, and
///           GPUs in bf16 and f16) an infinity or NaN also reaches the other tokens of its chunk,
///           and what follows from these, of earlier and of other sequences too. On matrix units
///           (from 16 tokens on: GPUs in bf16 or f16, processors with AMX in bf16) states and
///           decayed scores are rounded to values as operands of y, sums are not (in f16 beyond
///           65504 they are infinite, below 6e-5 they have fewer bits). On GPUs where the sequence
///           is split depends on batch and heads; with AMX what enters a state has an error of
///           2^-16, and is NaN if it were infinite
/// Empty     D: no skip. z: no gate. dt_bias: 0. initial_states: zeros
/// Errors    shape_error; H not a multiple of G; dt_min > dt_max; chunk_size < 0
/// Left out  complex A; B or C that are constant over time; cu_seqlens (seq_idx says as much)
/// Source    Dao and Gu 2024, arXiv:2405.21060, section 6
template <engine E>
struct ssd_inputs {
  in<E, 4> x{};
  in<E, 3> dt{};
  in_accum<E, 1> A{};
  in<E, 4> B{}, C{};
  in_accum<E, 2> D{};
  in<E, 4> z{};
  in_accum<E, 1> dt_bias{};
  in_state<E, 4> initial_states{};
  in_index<E, 2> seq_idx{};
  bool dt_softplus = false;
  typename E::real dt_min = 0;
  typename E::real dt_max = std::numeric_limits<typename E::real>::infinity();
  index_t chunk_size = 0;  ///< tokens in a chunk, at most; 0: what the backend thinks best

  index_t heads() const { return x.size[2]; }
  index_t groups() const { return B.size[2]; }
  index_t state_size() const { return B.size[3]; }
  shape<4> state_shape() const { return {{x.size[0], x.size[2], x.size[3], B.size[3]}}; }

  void check_inputs(const char* op) const {
    check::given(op, "x", x);
    const index_t b = x.size[0], l = x.size[1], h = x.size[2], p = x.size[3];
    check::size(op, "dt", dt, shape<3>{{b, l, h}});
    check::size(op, "A", A, shape<1>{{h}});
    check::size(op, "B", B, shape<4>{{b, l, check::any, check::any}});
    check::size(op, "C", C, B.shape());
    check::grouped(op, "heads", h, groups());
    check::size_if_given(op, "D", D, shape<2>{{h, p}});
    check::size_if_given(op, "z", z, x.shape());
    check::size_if_given(op, "dt_bias", dt_bias, shape<1>{{h}});
    check::size_if_given(op, "initial_states", initial_states, state_shape());
    check::size_if_given(op, "seq_idx", seq_idx, shape<2>{{b, l}});
    check::dt_limits(op, dt_min, dt_max);
    check::that(chunk_size >= 0, op,
                "chunk_size is " + std::to_string(chunk_size) + "; wanted is 0 or more");
    check::unit_stride(op, "x", x);
    check::unit_stride(op, "B", B);
    check::unit_stride(op, "C", C);
    check::unit_stride(op, "z", z);
    check::unit_stride(op, "initial_states", initial_states);
  }
  double input_bytes() const {
    return check::total_bytes(x, dt, A, B, C, D, z, dt_bias, initial_states, seq_idx);
  }
};

/// SSD forward (see ssd_inputs).
///
/// Shapes    y like x; final_states (B, H, P, N), may be empty
/// Aliases   final_states may be initial_states: a state is continued in place
/// Speed     `automatic` walks token by token below 8 tokens (CPU), in chunks from there on
template <engine E>
struct ssd : ssd_inputs<E> {
  static constexpr const char* name = "ssd";
  out<E, 4> y{};
  out_state<E, 4> final_states{};
  scan_algorithm algorithm = scan_algorithm::automatic;

  void check() const {
    this->check_inputs(name);
    check::size(name, "y", y, this->x.shape());
    check::size_if_given(name, "final_states", final_states, this->state_shape());
    check::unit_stride(name, "y", y);
    check::unit_stride(name, "final_states", final_states);
  }
  /// Useful work of the recurrence itself: update and read of a P x N state per token and head.
  double flops() const {
    return 5.0 * double(this->x.count()) * double(this->state_size()) +
           4.0 * double(this->x.count());
  }
  double bytes() const { return this->input_bytes() + check::total_bytes(y, final_states); }
};

/// Backward of ssd; everything inside is recomputed from the inputs. With dv = dy silu(z) and the
/// adjoint state
///
///   G[t] = dv[t] C[t]^T + exp(dt'[t+1] A) G[t+1]   (+ dfinal_states at the last token),  (P, N)
///
///   dx[t]  = D dv[t] + dt'[t] G[t] B[t]               dz = dy v silu'(z)
///   dB[t]  = sum over the group's h of dt'[t] G[t]^T x[t]
///   dC[t]  = sum over the group's h of S[t]^T dv[t]
///   ddt'[t] = <G[t], x[t] B[t]^T> + A exp(dt'[t] A) <G[t], S[t-1]>
///   dA    += sum_{b,t} dt'[t] exp(dt'[t] A) <G[t], S[t-1]>
///   dD    += sum_{b,t} dv[t] x[t]    (also summed over p if dD has stride 0 over p)
///   ddt    = ddt' softplus'(dt + dt_bias), 0 where the clamp holds;  ddt_bias += sum_{b,t} ddt
///   dinitial_states = exp(dt'[0] A) G[0]
///
/// Outputs without += are overwritten; those with += are in accum and accumulate; each but dx, ddt,
/// dB, dC may be empty.
/// Numerics  as forward; sums over (b, t, h) in an order that depends on sizes only, b outermost
template <engine E>
struct ssd_backward : ssd_inputs<E> {
  static constexpr const char* name = "ssd_backward";
  in<E, 4> dy{};
  in_accum<E, 4> dfinal_states{};  // or empty: zero
  out<E, 4> dx{};
  out<E, 3> ddt{};
  out_accum<E, 1> dA{};
  out<E, 4> dB{}, dC{};
  out_accum<E, 2> dD{};
  out<E, 4> dz{};
  out_accum<E, 1> ddt_bias{};
  out_accum<E, 4> dinitial_states{};

  void check() const {
    this->check_inputs(name);
    const auto& like = this->x;
    check::size(name, "dy", dy, like.shape());
    check::size_if_given(name, "dfinal_states", dfinal_states, this->state_shape());
    check::size(name, "dx", dx, like.shape());
    check::size(name, "ddt", ddt, this->dt.shape());
    check::size_if_given(name, "dA", dA, shape<1>{{like.size[2]}});
    check::size(name, "dB", dB, this->B.shape());
    check::size(name, "dC", dC, this->B.shape());
    check::size_if_given(name, "dD", dD, shape<2>{{like.size[2], like.size[3]}});
    check::that(bool(dz) == bool(this->z), name, "one of z and dz is missing; give both or none");
    check::size_if_given(name, "dz", dz, like.shape());
    check::size_if_given(name, "ddt_bias", ddt_bias, shape<1>{{like.size[2]}});
    check::size_if_given(name, "dinitial_states", dinitial_states, this->state_shape());
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dfinal_states", dfinal_states);
    check::unit_stride(name, "dx", dx);
    check::unit_stride(name, "dB", dB);
    check::unit_stride(name, "dC", dC);
    check::unit_stride(name, "dz", dz);
    check::unit_stride(name, "dinitial_states", dinitial_states);
  }
  double flops() const { return 14.0 * double(this->x.count()) * double(this->state_size()); }
  double bytes() const {
    return this->input_bytes() + check::total_bytes(dy, dfinal_states, dx, ddt, dA, dB, dC, dD, dz,
                                                    ddt_bias, dinitial_states);
  }
};

/// One token of ssd: updates the state in place. y is of the new state before it is rounded to be
/// stored.
///
/// Shapes    state (B, H, P, N); x, z, y (B, H, P); dt (B, H); A, dt_bias (H); B, C (B, G, N);
///           D (H, P) or empty
template <engine E>
struct ssd_step {
  static constexpr const char* name = "ssd_step";
  out_state<E, 4> state{};
  in<E, 3> x{};
  in<E, 2> dt{};
  in_accum<E, 1> A{};
  in<E, 3> B{}, C{};
  in_accum<E, 2> D{};
  in<E, 3> z{};
  in_accum<E, 1> dt_bias{};
  out<E, 3> y{};
  bool dt_softplus = false;
  typename E::real dt_min = 0;
  typename E::real dt_max = std::numeric_limits<typename E::real>::infinity();

  void check() const {
    check::given(name, "x", x);
    const index_t b = x.size[0], h = x.size[1], p = x.size[2];
    check::size(name, "dt", dt, shape<2>{{b, h}});
    check::size(name, "A", A, shape<1>{{h}});
    check::size(name, "B", B, shape<3>{{b, check::any, check::any}});
    check::size(name, "C", C, B.shape());
    check::grouped(name, "heads", h, B.size[1]);
    check::size(name, "state", state, shape<4>{{b, h, p, B.size[2]}});
    check::size_if_given(name, "D", D, shape<2>{{h, p}});
    check::size_if_given(name, "z", z, x.shape());
    check::size_if_given(name, "dt_bias", dt_bias, shape<1>{{h}});
    check::size(name, "y", y, x.shape());
    check::dt_limits(name, dt_min, dt_max);
    check::unit_stride(name, "state", state);
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "B", B);
    check::unit_stride(name, "C", C);
    check::unit_stride(name, "z", z);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return 5.0 * double(state.count()) + 4.0 * double(x.count()); }
  double bytes() const {
    return check::total_bytes(state, state, x, dt, A, B, C, D, z, dt_bias, y);
  }
};

}  // namespace mlmamba::ops
