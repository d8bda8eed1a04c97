// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What a Mamba-2 mixer does between its projections, for backends that have it in fewer pieces than
// its parts.
#pragma once

#include "mlmamba/core/context.hpp"
#include "mlmamba/ops/mamba2_state.hpp"

namespace mlmamba::ops {

/// Tokens of a sequence through the convolution and the scan of a Mamba-2 mixer; the window and the
/// state are continued in place.
///
///   (x, B, C)      = silu(causal_conv1d(window, xBC))
///   v              = ssd(state, x, softplus(dt + dt_bias) within its limits, -exp(A_log), B, C, D)
///   y              = v, or with a gate  v silu(z) gate_weight
///   squares[b,l,h] = the sum over the head's P of (v silu(z))^2
///
/// With a gate, y is the gated RMS norm but for a factor of each row, which squares tell: it is
/// left to whoever reads them (residual_sum).
///
/// Optional  a backend without it lacks nothing: modules run the parts. A backend that has it also
///           has prefers(ctx, op), which says whether it is to run instead of them
/// Shapes    xBC (B, L, d + 2 G N) with d = H P; dt (B, L, H); window (B, d + 2 G N, W - 1);
///           conv_weight (d + 2 G N, W); state (B, H, P, N); A_log, dt_bias (H); D (H, P);
///           y, z (B, L, d); gate_weight (d); squares (B, L, H)
/// Numerics  as causal_conv1d and ssd, which give the same bits; with a gate v is not rounded
/// Empty     z, gate_weight, squares: all or none. conv_bias: 0
template <engine E>
struct mamba2_scan {
  static constexpr const char* name = "mamba2_scan";
  using real = typename E::real;
  in<E, 3> xBC{}, dt{};
  out<E, 3> window{};
  in_accum<E, 2> conv_weight{};
  in_accum<E, 1> conv_bias{};
  out_state<E, 4> state{};
  in_accum<E, 1> A_log{}, dt_bias{};
  in_accum<E, 2> D{};
  in<E, 3> z{};
  in_accum<E, 1> gate_weight{};
  out_accum<E, 3> squares{};
  out<E, 3> y{};
  index_t groups = 1;
  real dt_min = 0, dt_max = std::numeric_limits<real>::infinity();
  index_t chunk_size = 0;  ///< see ssd_inputs

  index_t heads() const { return state.size[1]; }
  index_t scanned() const { return state.size[1] * state.size[2]; }
  index_t channels() const { return scanned() + 2 * groups * state.size[3]; }

  void check() const {
    check::given(name, "xBC", xBC);
    const index_t b = xBC.size[0], l = xBC.size[1];
    check_mamba2_state(*this, b);
    check::size(name, "xBC", xBC, shape<3>{{b, l, channels()}});
    check::size(name, "dt", dt, shape<3>{{b, l, heads()}});
    check::size(name, "y", y, shape<3>{{b, l, scanned()}});
    check::that(bool(z) == bool(gate_weight) && bool(z) == bool(squares), name,
                "of z, gate_weight and squares some are missing; give all or none");
    check::size_if_given(name, "z", z, y.shape());
    check::size_if_given(name, "gate_weight", gate_weight, shape<1>{{scanned()}});
    check::size_if_given(name, "squares", squares, shape<3>{{b, l, heads()}});
    check::unit_stride(name, "z", z);
    check::unit_stride(name, "xBC", xBC);
    check::unit_stride(name, "y", y);
  }
  double flops() const {
    return (2.0 * double(conv_weight.size[1]) + 8.0) * double(xBC.count()) +
           (5.0 * double(state.size[3]) + 4.0) * double(y.count());
  }
  double bytes() const {
    return check::total_bytes(xBC, dt, window, window, conv_weight, state, state, z, y, squares);
  }
};

}  // namespace mlmamba::ops
