// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A model whose structure and precision are chosen at run time: what the programs see of it.
//
// Every composition is compiled once per precision, in loaded_model_f32.cpp and
// loaded_model_bf16.cpp, and shared by the programs.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/evaluate/answer.hpp"
#include "mlmamba/io/checkpoint.hpp"
#include "mlmamba/text/conversation.hpp"

namespace mlmamba::examples {

/// A model in memory with its tokenizer. It holds one conversation.
class loaded_model {
 public:
  /// False ends the answer.
  using listener = std::function<bool(std::string_view)>;

  virtual ~loaded_model() = default;

  std::vector<image_transform> towers;  ///< how it takes pictures; empty: it can't see
  std::string_view weights;             ///< how matrices are held: "f32" or "bf16"

  /// A new conversation before nothing; without a format the model continues text.
  virtual void open(std::optional<chat_format> format) = 0;
  /// As those of `conversation`.
  virtual void begin(const std::vector<tensor<float, 4>>& pixels) = 0;
  virtual void restart() = 0;
  virtual const conversation_turn& ask(std::string_view question, const generate_options& o,
                                       const listener& listen) = 0;
  /// evaluate::answer_questions with the chat and the towers of this model. Errors: error if it
  /// can't see
  virtual void answer(const evaluate::dataset& set, std::span<const std::size_t> numbers,
                      evaluate::answer_options o,
                      const std::function<void(std::size_t, evaluate::answer)>& done) = 0;
};

/// How matrices of weights are held in memory. Activations are f32 in any case, and so are sums:
/// weights that the files have in bf16 give the same bits whichever way they are held.
enum class weight_choice {
  automatic,  ///< bf16 if the files have all of them so: they stay in the mapped files. Else f32
  f32,        ///< converted if the files have another type
  bf16,       ///< rounded if the files have a wider type
};

/// Errors    those of checkpoint::load
std::unique_ptr<loaded_model> load_f32(const checkpoint& files, int threads);
/// The same; nothing if `only_exact` and a weight would be rounded.
std::unique_ptr<loaded_model> load_bf16(const checkpoint& files, int threads, bool only_exact);

inline weight_choice weight_choice_of(const std::string& name) {
  if (name == "auto") return weight_choice::automatic;
  if (name == "f32") return weight_choice::f32;
  if (name == "bf16") return weight_choice::bf16;
  fail<error>("weights \"", name, "\"; auto, f32 or bf16 is wanted");
}

inline std::unique_ptr<loaded_model> load_model(const checkpoint& files, weight_choice weights,
                                                int threads) {
  if (weights != weight_choice::f32)
    if (auto model = load_bf16(files, threads, weights == weight_choice::automatic)) return model;
  return load_f32(files, threads);
}

}  // namespace mlmamba::examples
