// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Text to ids and back, in bytes of text per second on one thread. MLMAMBA_TOKENIZER names the
// tokenizer.json or its folder (GPT-NeoX's is the one that counts); else it is the small one of the
// shipped model, whose words take more merges.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "mlmamba/core/random.hpp"
#include "mlmamba/text/stream_decoder.hpp"
#include "mlmamba/text/tokenizer.hpp"

namespace {

using namespace mlmamba;

constexpr std::string_view english =
    "A language model reads text token by token and says what may come next. The state in which it "
    "keeps what it has read is small, and it doesn't grow; so what it forgets is forgotten. In the "
    "photograph a man irons shirts on the back of a moving taxi, which is unusual, because ironing "
    "is normally done indoors (on a stable surface). \"Is it safe?\" she asked. They've tried 12 "
    "of "
    "the 2,048 combinations, roughly 0.6 %, and weren't convinced; nevertheless, the experiment "
    "continued at https://example.org/results?page=3.\n\n    for (int i = 0; i < 10; ++i) {\n"
    "        total += values[i] * weights[i];  // accumulate\n    }\n";
// The formatter would break these lines anew each time: it does not know how wide they are.
// clang-format off
constexpr std::string_view mixed =
    "Каждая модель читает текст по частям. 言語モデルは文章を読み、次に来る語を予測する。模型读取"
    "文本并预测下一个词。 प्रत्येक मॉडल पाठ पढ़ता है। แบบจำลองอ่านข้อความทีละคำ النموذج يقرأ النص كلمة كلمة "
    "המודל קורא את הטקסט Το μοντέλο διαβάζει το κείμενο. Każdy model czyta tekst, třídí slova a hádá. "
    "모델은 글을 한 단어씩 읽습니다. Naïve café façade, señor Ångström 😀👍🏽 ❤️ Mô hình đọc văn bản. "
    "cafe\u0301 A\u030a — “quoted” … 3.14 €\n";
// clang-format on

/// About a megabyte: the words of a text in random order, so that no two stretches are the same.
std::string shuffled(std::string_view text) {
  std::vector<std::string_view> words;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at + 1), text.size());
    words.push_back(text.substr(at, end - at));
    at = end;
  }
  random_stream r{1, 0, 0};
  std::string all;
  while (all.size() < 1'000'000) all += words[r.below(words.size())];
  return all;
}

const tokenizer& words() {
  static const tokenizer t = [] {
    const char* named = std::getenv("MLMAMBA_TOKENIZER");
    return tokenizer::open(named != nullptr ? named : MLMAMBA_BENCH_EXAMPLES "/garment_model");
  }();
  return t;
}

/// Do the ids stand for the text? What is wrong has no time.
bool is_right(benchmark::State& state, const std::string& text,
              const std::vector<std::int32_t>& ids) {
  if (words().decode(ids, false) == detail::nfc(text)) return true;
  state.SkipWithError("the ids do not stand for the text");
  return false;
}

void encode(benchmark::State& state, std::string_view from) {
  const std::string text = shuffled(from);
  if (!is_right(state, text, words().encode(text))) return;
  std::size_t ids = 0;
  for (auto _ : state) {
    const auto made = words().encode(text);
    benchmark::DoNotOptimize(ids = made.size());
  }
  state.SetBytesProcessed(state.iterations() * std::int64_t(text.size()));
  state.counters["bytes per id"] = double(text.size()) / double(ids);
}

/// As text is generated: one id at a time, whole characters out.
void decode(benchmark::State& state, std::string_view from) {
  const std::string text = shuffled(from);
  const auto ids = words().encode(text);
  if (!is_right(state, text, ids)) return;
  for (auto _ : state) {
    stream_decoder stream(words(), false);
    std::size_t bytes = 0;
    for (const auto id : ids) bytes += stream.push(id).size();
    benchmark::DoNotOptimize(bytes += stream.finish().size());
  }
  state.SetBytesProcessed(state.iterations() * std::int64_t(text.size()));
  state.SetItemsProcessed(state.iterations() * std::int64_t(ids.size()));
}

BENCHMARK_CAPTURE(encode, english, english)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, mixed, mixed)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(decode, english, english)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(decode, mixed, mixed)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
