// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Pictures to rows of patches, and back for gradients.
#pragma once

#include "mlmamba/core/check.hpp"
#include "mlmamba/core/context.hpp"

namespace mlmamba::ops {

/// Cuts a picture into square patches, so that a convolution with kernel = stride = patch is a
/// gemm.
///
///   y[b, r (W/p) + c, (ch p + i) p + j] = x[b, ch, r p + i, c p + j]
///
/// Shapes    x (B, C, H, W); y (B, (H/p)(W/p), C p p), divisions rounded down: the last H mod p
///           rows and W mod p columns are ignored
/// Layout    y: unit stride over its last axis
template <engine E>
struct patchify {
  static constexpr const char* name = "patchify";
  in<E, 4> x{};
  out<E, 3> y{};
  index_t patch = 0;

  void check() const {
    check::given(name, "x", x);
    check_patch(name, patch);
    check::size(name, "y", y, patches(x.shape(), patch));
    check::unit_stride(name, "y", y);
  }
  double flops() const { return 0; }
  double bytes() const { return 2.0 * check::bytes(y); }

  static void check_patch(const char* op, index_t patch) {
    check::that(patch > 0, op, "patch is " + std::to_string(patch) + "; wanted is at least 1");
  }
  static shape<3> patches(shape<4> x, index_t p) {
    return {{x.n[0], (x.n[2] / p) * (x.n[3] / p), x.n[1] * p * p}};
  }
};

/// dx from dy; pixels that no patch covers get 0.
template <engine E>
struct patchify_backward {
  static constexpr const char* name = "patchify_backward";
  in<E, 3> dy{};
  out<E, 4> dx{};
  index_t patch = 0;

  void check() const {
    check::given(name, "dx", dx);
    patchify<E>::check_patch(name, patch);
    check::size(name, "dy", dy, patchify<E>::patches(dx.shape(), patch));
    check::unit_stride(name, "dy", dy);
  }
  double flops() const { return 0; }
  double bytes() const { return check::total_bytes(dy, dx); }
};

}  // namespace mlmamba::ops
