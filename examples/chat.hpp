// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A chat on a terminal, as the original's: commands at the outer prompt, questions at the inner
// one.
#pragma once

#include <cctype>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "loaded_model.hpp"
#include "terminal.hpp"

namespace mlmamba::examples {

/// Answers go to standard output, everything else to standard error. `look(FILE)` gives the pixels
/// of a picture, a file or an address.
///
///   outer   by its first letter, in either case: q quits; i shows another picture and starts anew
///           (`i FILE` does not ask which); p asks for a system prompt and starts anew. Anything
///           else begins the chat, with this line as its first question if there is something in it
///   inner   every line is a question; an empty one, or CTRL-C there or during an answer, leads
///           back to the outer prompt. What was said stays, a cut answer too
template <class Look>
class chat {
 public:
  chat(loaded_model& opened, std::optional<chat_format> format, const generate_options& o,
       Look look)
      : conversation_(opened), format_(format), options_(o), look_(std::move(look)) {}

  /// Until q, or the end of the input. `picture` is the one that is shown, if any.
  void run(std::string picture) {
    picture_ = std::move(picture);
    banner();
    std::string line;
    for (;;) {
      std::cerr << "(i)mage, (p)rompt, (q)uit, or anything else to chat: ";
      const auto got = terminal_.read(line);
      if (got != terminal::input::line) break;
      const char command = line.empty() ? '\0' : char(std::tolower((unsigned char)(line[0])));
      if (command == 'q') return;
      if (command == 'i') {
        show(line);
      } else if (command == 'p') {
        begin_with_system_prompt();
      } else if (!talk(line)) {
        break;
      }
    }
    std::cerr << '\n';
  }

 private:
  void banner() const {
    std::cerr << "Picture: " << (picture_.empty() ? "none" : picture_) << '\n';
    const std::string_view asked = "<INSERT PROMPT HERE>";
    std::cerr << "Prompt template:\n"
              << (format_ ? prompt_builder(*format_).potential_prompt(asked) : std::string(asked))
              << '\n';
  }

  void show(const std::string& line) {
    const auto blank = line.find(' ');
    std::string word = line.substr(0, blank);
    for (char& c : word) c = char(std::tolower((unsigned char)(c)));
    std::string file;
    if (blank != std::string::npos && (word.size() == 1 || word == "image")) {
      file = line.substr(blank + 1);
    } else {
      std::cerr << "Picture, a JPEG or PNG file or its address: ";
      if (terminal_.read(file) != terminal::input::line) file.clear();
    }
    if (file.empty()) return;
    try {
      conversation_.begin(look_(file));
      picture_ = file;
      banner();
    } catch (const error& e) {  // the picture before stays, and what was said about it
      std::cerr << e.what() << '\n';
    }
  }

  void begin_with_system_prompt() {
    std::cerr << "System prompt: ";
    std::string text;
    if (terminal_.read(text) != terminal::input::line) return;
    conversation_.restart();
    if (!text.empty()) std::cerr << "This template has no system prompt; yours is left out.\n";
    banner();
  }

  /// False at the end of the input.
  bool talk(std::string line) {
    std::cerr << "Ask; an empty line or CTRL-C leads back.\n";
    for (;;) {
      if (!line.empty() && !ask(line)) return true;
      std::cerr << "> ";
      const auto got = terminal_.read(line);
      if (got == terminal::input::interrupted) std::cerr << '\n';
      if (got != terminal::input::line) return got == terminal::input::interrupted;
      if (line.empty()) return true;
    }
  }

  /// False if it was interrupted.
  bool ask(const std::string& question) {
    bool on = true;
    try {
      conversation_.ask(question, options_, [&](std::string_view piece) {
        std::cout << piece << std::flush;
        return on = !terminal::interrupted();
      });
      std::cout << std::endl;
    } catch (const error& e) {  // the question was not asked
      std::cerr << e.what() << '\n';
    }
    return on;
  }

  loaded_model& conversation_;
  std::optional<chat_format> format_;
  generate_options options_;
  Look look_;
  std::string picture_;
  terminal terminal_;
};

}  // namespace mlmamba::examples
