// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What the ops of a whole Mamba-2 mixer agree on: the sizes of its window, state and parameters.
#pragma once

#include "mlmamba/core/check.hpp"

namespace mlmamba::ops {

/// Part of check() of an op that continues `window` and `state` of a batch.
template <class Op>
void check_mamba2_state(const Op& op, index_t batch) {
  constexpr const char* name = Op::name;
  check::size(name, "state", op.state, shape<4>{{batch, check::any, check::any, check::any}});
  const index_t heads = op.heads(), channels = op.channels();
  check::grouped(name, "heads", heads, op.groups);
  check::size(name, "conv_weight", op.conv_weight, shape<2>{{channels, check::any}});
  check::size(name, "window", op.window, shape<3>{{batch, channels, op.conv_weight.size[1] - 1}});
  check::size_if_given(name, "conv_bias", op.conv_bias, shape<1>{{channels}});
  check::size(name, "A_log", op.A_log, shape<1>{{heads}});
  check::size(name, "dt_bias", op.dt_bias, shape<1>{{heads}});
  check::size(name, "D", op.D, shape<2>{{heads, op.state.size[2]}});
  check::dt_limits(name, op.dt_min, op.dt_max);
  check::unit_stride(name, "state", op.state);
}

}  // namespace mlmamba::ops
