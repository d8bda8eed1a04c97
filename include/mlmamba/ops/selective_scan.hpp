// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Selective scan (Mamba-1): forward, backward and one decode step.
#pragma once

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

/// Several algorithms for one recurrence; all give the same result up to rounding.
enum class scan_algorithm : std::uint8_t {
  automatic,   ///< what the backend thinks is fastest
  sequential,  ///< token by token: least memory and work, no parallelism over time
  chunked,     ///< chunks of tokens, joined by their states: parallel over time
};

/// Selective scan (Mamba-1): a diagonal recurrence whose step and maps depend on the input.
///
///   dt'[b,t,d]  = softplus(dt[b,t,d] + dt_bias[d])             (softplus only if dt_softplus)
///   h[b,t,d,n]  = exp(dt'[b,t,d] A[d,n]) h[b,t-1,d,n] + dt'[b,t,d] B[b,t,g,n] x[b,t,d]
///   v[b,t,d]    = sum_n C[b,t,g,n] h[b,t,d,n] + D[d] x[b,t,d]
///   y[b,t,d]    = v[b,t,d] silu(z[b,t,d])                       (v if there is no z)
///
/// with g = d / (D / G). Where seq_idx[b,t] != seq_idx[b,t-1] the carried state is dropped; the
/// index before token 0 counts as 0, so the initial state is dropped if seq_idx[b,0] != 0.
///
/// Shapes    x, dt, z, y (B, L, D); A (D, N); B, C (B, L, G, N); D, dt_bias (D);
///           initial_states, final_states (B, D, N); seq_idx (B, L)
/// Layout    x, dt, z, y: unit stride over d. A, B, C and the states: unit stride over n
/// Aliases   final_states may be initial_states: a state is continued in place
/// Numerics  h, dt', exponentials and the sum over n in accum (initial_states and final_states are
///           stored as the engine's state; their gradients are in accum); softplus is the identity
///           above 20
/// Empty     D: no skip. z: no gate. dt_bias: 0. initial_states: zeros. final_states: not wanted
/// Errors    shape_error; D not a multiple of G
/// Left out  complex A; B or C that are constant over time, (D, N); cu_seqlens (seq_idx says as
///           much)
/// Source    Gu and Dao 2023, arXiv:2312.00752, eq. 2 and algorithm 2
template <engine E>
struct selective_scan {
  static constexpr const char* name = "selective_scan";
  in<E, 3> x{}, dt{};
  in_accum<E, 2> A{};
  in<E, 4> B{}, C{};
  in_accum<E, 1> D{};
  in<E, 3> z{};
  in_accum<E, 1> dt_bias{};
  in_state<E, 3> initial_states{};
  in_index<E, 2> seq_idx{};
  out<E, 3> y{};
  out_state<E, 3> final_states{};
  bool dt_softplus = false;
  scan_algorithm algorithm = scan_algorithm::automatic;

  void check() const {
    check_inputs(name, *this);
    check::size(name, "y", y, x.shape());
    check::size_if_given(name, "final_states", final_states,
                         shape<3>{{x.size[0], x.size[2], A.size[1]}});
    check::unit_stride(name, "y", y);
    check::unit_stride(name, "final_states", final_states);
  }
  double flops() const { return (9.0 * double(A.size[1]) + 12.0) * double(x.count()); }
  double bytes() const {
    return check::total_bytes(x, dt, A, B, C, D, z, dt_bias, initial_states, seq_idx, y,
                              final_states);
  }

  template <class Op>
  static void check_inputs(const char* op, const Op& o) {
    check::given(op, "x", o.x);
    const index_t b = o.x.size[0], l = o.x.size[1], d = o.x.size[2];
    check::size(op, "dt", o.dt, o.x.shape());
    check::size(op, "A", o.A, shape<2>{{d, check::any}});
    const index_t n = o.A.size[1];
    check::size(op, "B", o.B, shape<4>{{b, l, check::any, n}});
    check::size(op, "C", o.C, shape<4>{{b, l, o.B.size[2], n}});
    check::grouped(op, "channels", d, o.B.size[2]);
    check::size_if_given(op, "D", o.D, shape<1>{{d}});
    check::size_if_given(op, "z", o.z, o.x.shape());
    check::size_if_given(op, "dt_bias", o.dt_bias, shape<1>{{d}});
    check::size_if_given(op, "initial_states", o.initial_states, shape<3>{{b, d, n}});
    check::size_if_given(op, "seq_idx", o.seq_idx, shape<2>{{b, l}});
    check::unit_stride(op, "x", o.x);
    check::unit_stride(op, "dt", o.dt);
    check::unit_stride(op, "A", o.A);
    check::unit_stride(op, "B", o.B);
    check::unit_stride(op, "C", o.C);
    check::unit_stride(op, "z", o.z);
    check::unit_stride(op, "initial_states", o.initial_states);
  }
};

/// Backward of selective_scan; states are recomputed. With dv = dy silu(z) and the adjoint
///
///   g[t] = dv[t] C[t] + exp(dt'[t+1] A) g[t+1] (+ dfinal_states at the last token),
///
///   dx   = D dv + sum_n g B dt'            dz = dy v silu'(z)
///   ddt' = sum_n g (B x + A exp(dt' A) h[t-1])
///   dA  += sum_{b,t} g dt' exp(dt' A) h[t-1]       dD += sum_{b,t} dv x
///   dB   = sum over the group's d of g dt' x       dC  = sum over the group's d of dv h
///   ddt  = ddt' softplus'(dt + dt_bias)            ddt_bias += sum_{b,t} ddt
///   dinitial_states = exp(dt'[0] A) g[0]
///
/// Outputs without += are overwritten; those with += are in accum and accumulate; each but dx, ddt,
/// dB, dC may be empty. The order of sums over (b, t, d) depends on sizes only, b outermost.
template <engine E>
struct selective_scan_backward {
  static constexpr const char* name = "selective_scan_backward";
  in<E, 3> x{}, dt{};
  in_accum<E, 2> A{};
  in<E, 4> B{}, C{};
  in_accum<E, 1> D{};
  in<E, 3> z{};
  in_accum<E, 1> dt_bias{};
  in_state<E, 3> initial_states{};
  in_index<E, 2> seq_idx{};
  in<E, 3> dy{};
  in_accum<E, 3> dfinal_states{};  // or empty: zero
  out<E, 3> dx{}, ddt{};
  out_accum<E, 2> dA{};
  out<E, 4> dB{}, dC{};
  out_accum<E, 1> dD{};
  out<E, 3> dz{};
  out_accum<E, 1> ddt_bias{};
  out_accum<E, 3> dinitial_states{};
  bool dt_softplus = false;

  void check() const {
    selective_scan<E>::check_inputs(name, *this);
    const shape<3> state{{x.size[0], x.size[2], A.size[1]}};
    check::size(name, "dy", dy, x.shape());
    check::size_if_given(name, "dfinal_states", dfinal_states, state);
    check::size(name, "dx", dx, x.shape());
    check::size(name, "ddt", ddt, x.shape());
    check::size_if_given(name, "dA", dA, A.shape());
    check::size(name, "dB", dB, B.shape());
    check::size(name, "dC", dC, B.shape());
    check::size_if_given(name, "dD", dD, shape<1>{{x.size[2]}});
    check::size_if_given(name, "dz", dz, x.shape());
    check::that(bool(dz) == bool(z), name, "one of z and dz is missing; give both or none");
    check::size_if_given(name, "ddt_bias", ddt_bias, shape<1>{{x.size[2]}});
    check::size_if_given(name, "dinitial_states", dinitial_states, state);
    check::unit_stride(name, "dy", dy);
    check::unit_stride(name, "dx", dx);
    check::unit_stride(name, "ddt", ddt);
    check::unit_stride(name, "dB", dB);
    check::unit_stride(name, "dC", dC);
    check::unit_stride(name, "dz", dz);
    check::unit_stride(name, "dfinal_states", dfinal_states);
    check::unit_stride(name, "dinitial_states", dinitial_states);
  }
  double flops() const { return (28.0 * double(A.size[1]) + 40.0) * double(x.count()); }
  double bytes() const {
    return check::total_bytes(x, dt, A, B, C, D, z, dt_bias, initial_states, seq_idx, dy) +
           check::total_bytes(dfinal_states, dx, ddt, dA, dB, dC, dD, dz, ddt_bias,
                              dinitial_states);
  }
};

/// One token of selective_scan: updates the state in place. y is of the new state before it is
/// rounded to be stored.
///
/// Shapes    state (B, D, N); x, dt, z, y (B, D); A (D, N); B, C (B, G, N); D, dt_bias (D)
template <engine E>
struct selective_scan_step {
  static constexpr const char* name = "selective_scan_step";
  out_state<E, 3> state{};
  in<E, 2> x{}, dt{};
  in_accum<E, 2> A{};
  in<E, 3> B{}, C{};
  in_accum<E, 1> D{};
  in<E, 2> z{};
  in_accum<E, 1> dt_bias{};
  out<E, 2> y{};
  bool dt_softplus = false;

  void check() const {
    check::given(name, "x", x);
    const index_t b = x.size[0], d = x.size[1];
    check::size(name, "dt", dt, x.shape());
    check::size(name, "A", A, shape<2>{{d, check::any}});
    const index_t n = A.size[1];
    check::size(name, "state", state, shape<3>{{b, d, n}});
    check::size(name, "B", B, shape<3>{{b, check::any, n}});
    check::size(name, "C", C, B.shape());
    check::grouped(name, "channels", d, B.size[1]);
    check::size_if_given(name, "D", D, shape<1>{{d}});
    check::size_if_given(name, "z", z, x.shape());
    check::size_if_given(name, "dt_bias", dt_bias, shape<1>{{d}});
    check::size(name, "y", y, x.shape());
    check::unit_stride(name, "state", state);
    check::unit_stride(name, "x", x);
    check::unit_stride(name, "dt", dt);
    check::unit_stride(name, "A", A);
    check::unit_stride(name, "B", B);
    check::unit_stride(name, "C", C);
    check::unit_stride(name, "z", z);
    check::unit_stride(name, "y", y);
  }
  double flops() const { return (9.0 * double(A.size[1]) + 12.0) * double(x.count()); }
  double bytes() const {
    return check::total_bytes(state, state, x, dt, A, B, C, D, z, dt_bias, y);
  }
};

}  // namespace mlmamba::ops
