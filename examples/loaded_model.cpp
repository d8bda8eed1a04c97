// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// What reads files and makes text, for every model on the CPU.
#include "mlmamba/backend/cpu.hpp"

#include "loaded_model_of.hpp"

namespace mlmamba::examples {

namespace {

std::unique_ptr<loaded_model> loaded(const checkpoint& files, int threads,
                                     std::optional<any_text_model<cpu_f32>> made,
                                     std::string_view weights) {
  if (!made) return nullptr;
  return std::make_unique<loaded_model_of<cpu_f32>>(
      files, std::make_shared<context_of<cpu_f32>>(cpu_options{.threads = threads}),
      *std::move(made), weights);
}

}  // namespace

std::unique_ptr<loaded_model> load_f32(const checkpoint& files, int threads) {
  return loaded(files, threads, make_f32(source_of(files)), "f32");
}
std::unique_ptr<loaded_model> load_packed(const checkpoint& files, int threads,
                                          const weight_formats& formats, const weight_options& o) {
  const auto make = o.activations == activation_choice::bf16
                        ? (o.bf16_states ? make_packed_bf16_states : make_packed_bf16)
                        : (o.bf16_states ? make_packed_states : make_packed);
  return loaded(files, threads, make(source_of(files), formats), to_string(formats.format.scheme));
}
std::unique_ptr<loaded_model> load_bf16(const checkpoint& files, int threads,
                                        const weight_options& o) {
  const model_source from = source_of(files);
  return loaded(files, threads,
                o.activations == activation_choice::bf16
                    ? make_all_bf16(from)
                    : make_bf16(from, o.choice == weight_choice::automatic),
                "bf16");
}
std::unique_ptr<loaded_model> load_bf16_states(const checkpoint& files, const weight_options&) {
  fail<error>(files.who(),
              ": on the CPU states in bf16 go with prepared weights; --weights int8 or int4, or "
              "--prepare, is wanted");
}

}  // namespace mlmamba::examples
