// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A whole Mamba-2 block for one token, for backends that have it in fewer pieces than its parts.
#pragma once

#include "mlmamba/core/context.hpp"
#include "mlmamba/ops/mamba2_state.hpp"

namespace mlmamba::ops {

/// One token of a residual block with a Mamba-2 mixer (nn::mamba2, without d_mlp and biases of the
/// projections); r, the window and the state are updated in place.
///
///   (z, xBC, dt) = in_proj u,   u = rms_norm(r) norm_weight
///   (x, B, C)    = silu(conv1d_step(window, xBC))
///   y            = ssd_step(state, x, dt, -exp(A_log), B, C, D)
///   r           += out_proj (group_rms_norm(y silu(z)) gate_weight)
///
/// Optional  a backend without it lacks nothing: modules run the parts. A backend that has it also
///           has prefers(ctx, op), which says whether it is to run instead of them
/// Shapes    residual (B, M); norm_weight (M); in_proj (2 d + 2 G N + H, M) with d = H P;
///           window (B, d + 2 G N, W - 1); conv_weight (d + 2 G N, W); state (B, H, P, N);
///           A_log, dt_bias (H); D (H, P); gate_weight (d); out_proj (M, d)
/// Numerics  u, z, xBC, dt, x, B, C, y and the normalised y are rounded to value, as the parts do
///           (u and the normalised y perhaps before they are multiplied by the factor of their
///           norm); what is added to r is not
template <engine E, class W = typename E::weight>
struct mamba2_block_step {
  static constexpr const char* name = "mamba2_block_step";
  using real = typename E::real;
  out_accum<E, 2> residual{};
  in_accum<E, 1> norm_weight{};
  view<const W, 2, typename E::memory> in_proj{};
  out<E, 3> window{};
  in_accum<E, 2> conv_weight{};
  in_accum<E, 1> conv_bias{};  // or empty
  out_state<E, 4> state{};
  in_accum<E, 1> A_log{}, dt_bias{};
  in_accum<E, 2> D{};
  in_accum<E, 1> gate_weight{};
  view<const W, 2, typename E::memory> out_proj{};
  index_t groups = 1;
  real epsilon = real(1e-5), gate_epsilon = real(1e-5);
  real dt_min = 0, dt_max = std::numeric_limits<real>::infinity();

  index_t heads() const { return state.size[1]; }
  index_t scanned() const { return state.size[1] * state.size[2]; }
  index_t channels() const { return scanned() + 2 * groups * state.size[3]; }

  void check() const {
    check::given(name, "residual", residual);
    const index_t b = residual.size[0], m = residual.size[1];
    check_mamba2_state(*this, b);
    check::size(name, "norm_weight", norm_weight, shape<1>{{m}});
    check::size(name, "in_proj", in_proj, shape<2>{{scanned() + channels() + heads(), m}});
    check::size(name, "gate_weight", gate_weight, shape<1>{{scanned()}});
    check::size(name, "out_proj", out_proj, shape<2>{{m, scanned()}});
    check::unit_stride(name, "residual", residual);
    check::unit_stride(name, "in_proj", in_proj);
    check::unit_stride(name, "out_proj", out_proj);
  }
  double flops() const {
    return 2.0 * double(residual.size[0]) * (double(in_proj.count()) + double(out_proj.count())) +
           5.0 * double(state.count());
  }
  double bytes() const {
    return check::total_bytes(residual, residual, norm_weight, in_proj, window, window, conv_weight,
                              state, state, gate_weight, out_proj);
  }
};

}  // namespace mlmamba::ops
