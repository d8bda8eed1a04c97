// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A trained model as a folder that anybody can load: weights in f32, or matrices in bf16.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/io/checkpoint.hpp"
#include "mlmamba/io/output_folder.hpp"
#include "mlmamba/train/optimizer.hpp"

namespace mlmamba::train {

enum class stored : std::uint8_t { f32, bf16 };

namespace detail {
/// Is it written in bf16? Vectors, convolutions, tokens and positions stay wide, as an engine with
/// bf16 weights has them.
inline bool stored_narrow(stored how, const std::string& path, int rank) {
  const std::string_view leaf = std::string_view(path).substr(path.rfind('.') + 1);
  return how == stored::bf16 && decays(path, rank, {.decay_convolutions = false}) &&
         leaf != "pos_embed" && leaf != "cls_token" && leaf != "reg_token";
}
}  // namespace detail

/// Gives a model the weights that export_model will write, so that what is measured of it is true
/// of what is written.
template <class Model>
void round_as_stored(Model& model, stored how) {
  nn::for_each_parameter(model, [&](const std::string& path, auto& p) {
    using P = std::remove_cvref_t<decltype(p)>;
    if (!detail::stored_narrow(how, path, P::rank)) return;
    auto host = to_host(p.value.view());
    for (index_t i = 0; i < host.count(); ++i)
      host.data()[i] = typename P::value_type(float(bf16(float(host.data()[i]))));
    from_host(p.value.view(), std::as_const(host).view());
  });
}

/// Writes model.safetensors, tokenizer.json and, last, config.json: published<Model>::config with
/// the members of `more`. If it fails, a folder that was not there is not there.
///
/// Numerics  bf16: matrices are rounded to nearest even
template <class Model>
void export_model(const Model& model, const std::filesystem::path& folder, stored how,
                  const json& more, std::string_view tokenizer_json,
                  const std::map<std::string, std::string>& metadata = {}) {
  output_folder to(folder);
  std::vector<safetensors_entry> entries;
  nn::for_each_parameter(model, [&](const std::string& path, const auto& p) {
    using P = std::remove_cvref_t<decltype(p)>;
    using T = typename P::value_type;
    const auto host = std::make_shared<tensor<T, P::rank>>(to_host(p.value.view()));
    const auto shape = mlmamba::detail::shape_of(p);
    const std::size_t n = std::size_t(host->count());
    const bool narrow = detail::stored_narrow(how, path, P::rank);
    const auto as = [&]<class To>(To) {
      const auto out = std::make_shared<std::vector<To>>(n);
      for (std::size_t i = 0; i < n; ++i) (*out)[i] = To(float(host->data()[i]));
      entries.push_back(entry_of<To>(path, shape, std::span<const To>(*out)));
      entries.back().owner = out;
    };
    if (narrow) {
      as(bf16{});
    } else {
      as(float{});
    }
  });
  json config = published<Model>::config(model);
  for (const auto& [key, value] : more.items()) config[key] = value;
  write_safetensors(folder / "model.safetensors", entries, metadata);
  if (!tokenizer_json.empty()) write_file(folder / "tokenizer.json", tokenizer_json);
  write_file(folder / "config.json", config.dump(2) + "\n");
  to.keep();
}

}  // namespace mlmamba::train
