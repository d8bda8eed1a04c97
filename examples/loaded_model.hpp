// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A model whose structure and precision are chosen at run time: what the programs see of it.
//
// Every composition is compiled once per way to hold weights, in made_model_{stored,packed}.cpp;
// what reads files and makes text is compiled once for all of them, in loaded_model.cpp; both for a
// GPU in loaded_model_{f32,bf16,bf16_states}.cu. The programs share these.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/io/checkpoint.hpp"
#include "mlmamba/text/conversation.hpp"

namespace mlmamba::evaluate {  // evaluate/answer.hpp
struct dataset;
struct answer;
struct answer_options;
}  // namespace mlmamba::evaluate

namespace mlmamba::examples {

/// A model in memory with its tokenizer. It holds one conversation.
class loaded_model {
 public:
  /// False ends the answer.
  using listener = std::function<bool(std::string_view)>;

  virtual ~loaded_model() = default;

  std::vector<image_transform> towers;  ///< how it takes pictures; empty: it can't see
  std::string_view weights;             ///< how matrices are held: "f32", "int8"

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

/// How matrices of weights are held in memory. Sums are f32: weights that the files have in bf16
/// give the same bits whichever way they are held. Products with int8 and int4 round the
/// activations to 8 bits. A GPU has f32, which is its `automatic`, and bf16, where activations are
/// bf16 as well.
enum class weight_choice {
  automatic,  ///< as the model was quantised; bf16 if the files have all of them so: they stay in
              ///< the mapped files. Else f32. With activations in bf16: bf16
  f32,        ///< converted if the files have another type
  bf16,       ///< rounded if the files have a wider type
  int8,
  int4,
};
/// How activations are held between ops. In bf16 a CPU that multiplies tiles does so in products,
/// attention and SSD; weights are then bf16, int8 or int4.
enum class activation_choice {
  automatic,  ///< f32; on a GPU as the weights
  f32,
  bf16,
};
struct weight_options {
  weight_choice choice = weight_choice::automatic;
  index_t group = 64;        ///< int8, int4: weights with one scale; 0: a row
  bool prepare = false;      ///< f32 and bf16 (automatic: f32) are arranged for the kernels at load
  bool bf16_states = false;  ///< states of scans in bf16, not f32: with prepared weights, or on a
                             ///< GPU with weights in bf16
  activation_choice activations = activation_choice::automatic;
};

/// Errors    those of checkpoint::load; error for what there is not on this machine
std::unique_ptr<loaded_model> load_f32(const checkpoint& files, int threads);
/// The same; nothing if the choice is automatic and a weight or an activation would be rounded.
std::unique_ptr<loaded_model> load_bf16(const checkpoint& files, int threads,
                                        const weight_options& o);
std::unique_ptr<loaded_model> load_packed(const checkpoint& files, int threads,
                                          const weight_formats& formats, const weight_options& o);
/// Weights as they are, states in bf16. Not on the CPU, and of no other weights than bf16.
std::unique_ptr<loaded_model> load_bf16_states(const checkpoint& files, const weight_options& o);

inline weight_choice weight_choice_of(const std::string& name) {
  if (name == "auto") return weight_choice::automatic;
  if (name == "f32") return weight_choice::f32;
  if (name == "bf16") return weight_choice::bf16;
  if (name == "int8") return weight_choice::int8;
  if (name == "int4") return weight_choice::int4;
  fail<error>("weights \"", name, "\"; auto, f32, bf16, int8 or int4 is wanted");
}

inline activation_choice activation_choice_of(const std::string& name) {
  if (name == "auto") return activation_choice::automatic;
  if (name == "f32") return activation_choice::f32;
  if (name == "bf16") return activation_choice::bf16;
  fail<error>("activations \"", name, "\"; auto, f32 or bf16 is wanted");
}

inline std::unique_ptr<loaded_model> load_model(const checkpoint& files, const weight_options& o,
                                                int threads) {
  using enum weight_choice;
  const bool narrow = o.activations == activation_choice::bf16;
  if (narrow && o.choice == f32)
    fail<error>(files.who(),
                ": activations in bf16 go with weights that are multiplied as such; --weights "
                "bf16, int8 or int4, or --activations f32, is wanted");
  if (o.choice == automatic && json_has(files.config(), "quantisation"))
    return load_packed(files, threads, files.formats(), o);
  const auto packed = [&](weight_scheme s) {
    return load_packed(files, threads, {.format = {s, o.group}, .keep = {}}, o);
  };
  if (o.choice == int8) return packed(weight_scheme::int8);
  if (o.choice == int4) return packed(weight_scheme::int4);
  if (o.prepare)
    return packed(o.choice == bf16 || narrow ? weight_scheme::bf16 : weight_scheme::f32);
  if (o.bf16_states) return load_bf16_states(files, o);
  if (o.choice != f32)
    if (auto model = load_bf16(files, threads, o)) return model;
  return load_f32(files, threads);
}

}  // namespace mlmamba::examples
