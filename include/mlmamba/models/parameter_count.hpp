// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// How many parameters a model has, from its sizes alone: nothing is allocated.
#pragma once

#include <cstdint>
#include <string_view>

#include "mlmamba/models/config.hpp"
#include "mlmamba/models/connector.hpp"
#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/models/vit_config.hpp"

namespace mlmamba {

namespace detail {
constexpr std::int64_t linear_parameters(std::int64_t in, std::int64_t out, bool bias = true) {
  return in * out + (bias ? out : 0);
}
}  // namespace detail

/// Of a tower's first `blocks` blocks and of what stands before them.
constexpr std::int64_t parameter_count(const vit_config& c, index_t blocks, index_t positions) {
  using detail::linear_parameters;
  const std::int64_t d = c.d_model;
  const std::int64_t block = 2 * 2 * d + linear_parameters(d, 3 * d, c.qkv_bias) +
                             linear_parameters(d, d) + linear_parameters(d, c.mlp_hidden) +
                             linear_parameters(c.mlp_hidden, d) + (c.layer_scale ? 2 * d : 0);
  return (c.prefix() + positions) * d +
         linear_parameters(3 * c.patch_size * c.patch_size, d, c.patch_bias) +
         (c.pre_norm ? 2 * d : 0) + blocks * block;
}
/// Of the tower as `vit` builds it: up to the feature block.
constexpr std::int64_t parameter_count(const vit_config& c) {
  return parameter_count(c, c.blocks(), c.positions());
}
/// Of the tower as it is published: all blocks and the final norm, with the positions of
/// pictures of `stored_image_size` pixels; heads and pooling aside.
constexpr std::int64_t published_parameter_count(vit_config c, index_t stored_image_size = 0) {
  if (stored_image_size > 0) c.image_size = stored_image_size;
  return parameter_count(c, c.depth, c.positions()) + 2 * c.d_model;
}

/// Of a Mamba-2 mixer that scans in `directions` orders (nn::multi_scan_mamba2; 1: nn::mamba2).
constexpr std::int64_t mamba2_parameter_count(const nn::mixer_config& m, index_t directions = 1) {
  using detail::linear_parameters;
  const std::int64_t skip = m.nheads() * (m.D_has_hdim ? m.headdim : 1);
  return linear_parameters(m.d_model, m.d_in_proj(), m.bias) +
         directions * (m.conv_dim() * (m.d_conv + (m.conv_bias ? 1 : 0)) + 2 * m.nheads() + skip) +
         (m.rmsnorm ? m.scanned() : 0) + linear_parameters(m.d_inner(), m.d_model, m.bias);
}
constexpr std::int64_t mamba1_parameter_count(const nn::mixer_config& m) {
  using detail::linear_parameters;
  const std::int64_t d = m.d_inner();
  return linear_parameters(m.d_model, 2 * d, m.bias) + d * (m.d_conv + (m.conv_bias ? 1 : 0)) +
         linear_parameters(d, m.rank() + 2 * m.d_state, false) + linear_parameters(m.rank(), d) +
         d * m.d_state + d + linear_parameters(d, m.d_model, m.bias);
}

/// Of a language model whose mixers are `layer`: "Mamba1" or "Mamba2". A tied head counts once.
constexpr std::int64_t parameter_count(const mamba_config& c, std::string_view layer) {
  const std::int64_t d = c.mixer.d_model, embedding = c.padded_vocabulary() * d;
  std::int64_t one =
      d + (layer == "Mamba1" ? mamba1_parameter_count(c.mixer) : mamba2_parameter_count(c.mixer));
  if (c.d_intermediate > 0)
    one += d + 3 * d * ((c.d_intermediate + 127) / 128 * 128);  // norm2, fc1, fc2 of nn::gated_mlp
  return embedding * (c.tie_embeddings ? 1 : 2) + c.n_layer * one + d;
}

inline std::int64_t parameter_count(const projector_config& c) {
  const auto widths = c.widths();
  std::int64_t n = c.pools() ? 10 * c.d_model : 0;  // a depthwise 3 x 3 convolution with bias
  for (std::size_t i = 0; i + 1 < widths.size(); ++i)
    n += detail::linear_parameters(widths[i], widths[i + 1]);
  return n;
}

/// The parts of a scan_connector, under the names of its fields.
struct scan_connector_parameters {
  std::int64_t mlp, bidirectional_mamba, projector;
};
inline scan_connector_parameters parameter_count(const connector_shape& n, const scan_options& o,
                                                 index_t directions = 2) {
  const std::int64_t w = o.mixer.d_model > 0 ? o.mixer.d_model : n.d_model;
  nn::mixer_config m = o.mixer;
  m.d_model = w;
  const std::int64_t branch = o.swiglu ? 3 * detail::linear_parameters(w, w) + 2 * w : w;
  return {detail::linear_parameters(n.d_vision, w),
          o.n_layer * (mamba2_parameter_count(m, directions) + branch) + 2 * w,
          parameter_count(projector_config{o.projector, w, n.d_model, n.grid_rows, n.grid_cols,
                                           o.out_rows, o.out_cols})};
}

}  // namespace mlmamba
