// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A model of any structure that a config.json may ask for, behind any_text_model.
//
// This compiles the structures and knows no files and no text; loaded_model_of.hpp has these.
#pragma once

#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "chosen_model.hpp"
#include "mlmamba/text/any_text_model.hpp"

namespace mlmamba::examples {

/// What a model is made from.
struct model_source {
  const json& config;
  std::string who;                                         ///< the folder
  std::function<std::vector<safetensors_entry>()> arrays;  ///< all of them; mapped anew
};

/// Would no weight lose bits in the types of a model? (Wider types than the files' lose none.)
struct exactness {
  const named_arrays& named;
  bool exact = true;

  template <class P>
  void operator()(const std::string& path, const P&) {
    const auto at = named.by_path.find(path);
    if (std::is_same_v<typename P::value_type, bf16> && at != named.by_path.end())
      exact = exact && at->second.type == dtype::bf16;
  }
};

/// On the engine `Held`, behind the activations of E; nothing if `only_exact` and a weight would be
/// rounded.
///
/// Errors    those of checkpoint::load
template <class E, class Held>
std::optional<any_text_model<E>> make_model(const model_source& from, bool only_exact = false,
                                            const load_options& options = {}) {
  return with_chosen_model<Held>(
      from.config, from.who,
      [&]<class Model>(std::type_identity<Model>) -> std::optional<any_text_model<E>> {
        try {
          Model model = published<Model>::make(
              from.config, (std::filesystem::path(from.who) / "config.json").string());
          const auto named = published<Model>::arrays(from.arrays(), from.config, from.who);
          if (only_exact) {
            exactness judge{named};
            nn::for_each_parameter(std::as_const(model), judge);
            if (!judge.exact) return std::nullopt;
          }
          load_parameters(model, named, options);
          return any_text_model<E>(std::move(model));
        } catch (const std::bad_alloc&) {
          fail<io_error>(from.who, ": no memory for a model of the sizes in config.json");
        }
      });
}

#if !defined(__CUDACC__)  // a program on a GPU is one file
/// The ways to hold matrices on the CPU: as in the files,
std::optional<any_text_model<cpu_f32>> make_f32(const model_source& from);
std::optional<any_text_model<cpu_f32>> make_bf16(const model_source& from, bool only_exact);
/// with activations in bf16, too,
std::optional<any_text_model<cpu_f32>> make_all_bf16(const model_source& from);
/// or prepared.
std::optional<any_text_model<cpu_f32>> make_packed(const model_source& from,
                                                   const weight_formats& formats);
/// The same with states in bf16.
std::optional<any_text_model<cpu_f32>> make_packed_states(const model_source& from,
                                                          const weight_formats& formats);
/// Both with activations in bf16.
std::optional<any_text_model<cpu_f32>> make_packed_bf16(const model_source& from,
                                                        const weight_formats& formats);
std::optional<any_text_model<cpu_f32>> make_packed_bf16_states(const model_source& from,
                                                               const weight_formats& formats);
#endif

}  // namespace mlmamba::examples
