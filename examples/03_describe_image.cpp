// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A picture in, an answer out: the model inside a struct of one's own.
//
//   03_describe_image examples/pictures/1.png
//   03_describe_image PICTURE QUESTION [FOLDER]
#include <mlmamba/mlmamba.hpp>
#include <mlmamba/io/checkpoint.hpp>
#include <mlmamba/io/image.hpp>
#include <mlmamba/models/published/ml_mamba.hpp>
#include <mlmamba/text/generate.hpp>
#include <mlmamba/text/prompt.hpp>

#include <cstdio>
#include <filesystem>
#include <string>

using namespace mlmamba;

struct captioner {
  checkpoint files;  // config.json, *.safetensors, tokenizer.json
  context<backend::cpu> ctx{};
  ml_mamba_3b<cpu_f32> model = files.load<ml_mamba_3b<cpu_f32>>();
  tokenizer words = files.tokenizer();
  std::vector<image_transform> rule = picture_rule(files.config(), files.who());  // of the towers
  chat_format chat = chat_format_of(
      json_get_or<std::string>(files.config(), "chat_format", "zephyr", files.who()));

  std::string operator()(const std::filesystem::path& picture, const std::string& question) {
    prompt p{.pixels = pixels_of(read_image(picture), rule)};  // resized and normalised
    p.text = prompt_builder(chat).add_turn(chat_role::human, question);
    return generate(ctx, model, words, p, {.max_new_tokens = 60}).rest();
  }
};

int main(int argc, char** argv) try {
  if (argc == 2 && std::string(argv[1]) == "--help")
    return std::puts(
               "03_describe_image PICTURE [QUESTION [FOLDER]]\nExit code: 0 done, 2 bad input."),
           0;
  if (argc < 2 || argc > 4)
    fail(argc - 1, " arguments; PICTURE, and if you like QUESTION and FOLDER, are wanted");
  captioner describe{checkpoint(argc > 3 ? argv[3] : MLMAMBA_SHIPPED_MODEL)};
  std::printf("%s\n", describe(argv[1], argc > 2 ? argv[2] : "Describe the picture.").c_str());
} catch (const std::exception& e) {
  std::fprintf(stderr, "03_describe_image: %s\n", e.what());
  return 2;
}
