// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Data sets of LLaVA's form: the file, the examples' ids and labels, the collated batch.
#include "mlmamba/train/llava.hpp"

#include <doctest/doctest.h>

#include "io/temporary.hpp"
#include "mlmamba/text/tokenizer.hpp"
#include "mlmamba/train/batch.hpp"

using namespace mlmamba;
using namespace mlmamba::train;

namespace {
using ids_t = std::vector<std::int32_t>;

example chat(std::vector<std::string> texts) {
  example e;
  for (std::size_t i = 0; i < texts.size(); ++i) e.turns.push_back({texts[i], i % 2 == 0});
  return e;
}
encoder encoder_of(const tokenizer& words) {
  return [words](std::string_view text) { return words.encode(text); };
}
ids_t join(const std::vector<ids_t>& parts) {
  ids_t out;
  for (const ids_t& p : parts) out.insert(out.end(), p.begin(), p.end());
  return out;
}
ids_t masked(const ids_t& ids) { return ids_t(ids.size(), ignored); }

std::string record_of(const std::string& members, const std::string& question,
                      const std::string& answer) {
  return "{" + members + R"("conversations": [{"from": "human", "value": ")" + question +
         R"("}, {"from": "gpt", "value": ")" + answer + "\"}]}";
}
// Three with pictures among five.
std::string five() {
  std::string text = " [\n";
  for (int i = 0; i < 5; ++i)
    text += (i ? ", " : "") +
            record_of(i % 2 ? "" : R"("image": "p.png", "extra": {"a": [1, "}]{["]}, )",
                      std::string(std::size_t(3 * (i + 1)), 'q'), std::to_string(i));
  return text + "]\n";
}
}  // namespace

TEST_SUITE("llava_test") {
  TEST_CASE("GPT-NeoX: a training example has the original's ids and labels") {
    const auto file = test::shared_data("gpt-neox-20b/tokenizer.json");
    if (!std::filesystem::exists(file)) {
      MESSAGE("skipped: no ", file.string(), " (set MLMAMBA_SHARED_DATA)");
      return;
    }
    const auto encode = encoder_of(tokenizer::open(file));
    const ids_t first{29, 93,  4537, 49651, 187, 1276, 310,   436, 32,
                      0,  187, 29,   93,    515, 5567, 49651, 187},
        cat{34, 5798, 15, 0}, second{187, 29,  93, 4537, 49651, 187,  1276,  10688, 32,
                                     0,   187, 29, 93,   515,   5567, 49651, 187},
        black{15383, 15, 0};
    const example e = chat({"<image>\nWhat is this?", "A cat.", " What colour? ", "Black."});
    const encoded all = encode_conversation(e, encode, chat_format::zephyr, 2048);
    CHECK(all.ids == join({first, cat, second, black}));
    CHECK(all.labels == join({masked(first), cat, masked(second), black}));
    CHECK(all.ids == encode("<|user|>\nWhat is this?<|endoftext|>\n<|assistant|>\nA cat."
                            "<|endoftext|>\n<|user|>\nWhat colour?<|endoftext|>\n<|assistant|>\n"
                            "Black.<|endoftext|>"));
    const encoded cut = encode_conversation(e, encode, chat_format::zephyr, 20);
    CHECK(cut.ids == join({first, {34, 5798, 15}}));
    CHECK(cut.labels == join({masked(first), {34, 5798, 15}}));

    const auto caption = [&](const std::string& answer) {
      return encode_conversation(chat({"Describe.\n<image>", answer}), encode, chat_format::zephyr,
                                 2048, labelling::caption);
    };
    CHECK(caption(" Hello world\n").ids == ids_t{12092, 1533, 0});
    CHECK(caption(" Hello world\n").labels == ids_t{12092, 1533, 0});
    CHECK(caption("").ids == ids_t{0});
    const auto dog = encode_conversation(
        chat({"Is there a dog in the image?\nAnswer the question using a single word or phrase.",
              "No"}),
        encode, chat_format::zephyr, 2048);
    CHECK(dog.ids == ids_t{29, 93,  4537,  49651, 187,  2513, 627,   247,  4370, 275, 253,   2460,
                           32, 187, 32869, 253,   1953, 970,  247,   2014, 3159, 390, 12616, 15,
                           0,  187, 29,    93,    515,  5567, 49651, 187,  2302, 0});
    CHECK(dog.labels == join({ids_t(32, ignored), {2302, 0}}));
  }
  TEST_CASE("a tokenizer of our own: turn by turn, cut at the end") {
    const auto words = tokenizer::open(test::test_data("golden/tokenizer/tokenizer.json"));
    const auto encode = encoder_of(words);
    const ids_t q1 = words.encode("<|user|>\nOne?<|endoftext|>\n<|assistant|>\n"),
                a1 = words.encode("first<|endoftext|>"),
                q2 = words.encode("\n<|user|>\nTwo?<|endoftext|>\n<|assistant|>\n"),
                a2 = words.encode(" <|endoftext|>");
    const example e = chat({"One?", "first", "Two?", ""});
    const encoded all = encode_conversation(e, encode, chat_format::zephyr, 2048);
    CHECK(all.ids == join({q1, a1, q2, a2}));
    CHECK(all.labels == join({masked(q1), a1, masked(q2), a2}));
    const std::string word = "wonder ";
    std::string many;
    for (int i = 0; i < 3000; ++i) many += word;
    const encoded cut =
        encode_conversation(chat({"One?", many}), encode, chat_format::zephyr, 2048);
    const ids_t whole = join({q1, words.encode(many.substr(0, many.size() - 1) + "<|endoftext|>")});
    REQUIRE(whole.size() > 2048);
    CHECK(cut.ids == ids_t(whole.begin(), whole.begin() + 2048));
    CHECK(cut.labels.size() == 2048);
    CHECK(cut.labels.back() == cut.ids.back());
  }
  TEST_CASE("alignment learns the caption alone, and refuses what is none") {
    const auto encode =
        encoder_of(tokenizer::open(test::test_data("golden/tokenizer/tokenizer.json")));
    const auto caption = [&](std::vector<std::string> texts) {
      return encode_conversation(chat(std::move(texts)), encode, chat_format::zephyr, 2048,
                                 labelling::caption);
    };
    CHECK(caption({"Q", " a dog "}).ids == encode("a dog<|endoftext|>"));
    CHECK(caption({"Q", " a dog "}).labels == caption({"", "a dog"}).ids);
    CHECK(caption({"Q", " \n"}).ids == encode("<|endoftext|>"));
    CHECK_THROWS_AS(caption({"Q", "a <image> dog"}), error);
    CHECK_THROWS_AS(caption({"Q", "A", "Q", "A"}), error);
  }
  TEST_CASE("words are what white space separates, of any kind") {
    const auto words = [](const char* text) { return count_words(chat({text}).turns); };
    CHECK(words("") == 0);
    CHECK(words(" <image>\nWhat\tis\x1cit? ") == 4);
    CHECK(words("a\xe3\x80\x80"
                "b\xc2\xa0"
                "c\xe2\x80\x8b"
                "d") == 3);  // U+3000 and U+00A0 are white space, U+200B is not
    CHECK(words("\xff\xff a") == 2);
  }
  TEST_CASE("a file: texts at once, pictures when they are asked for") {
    const test::temporary_folder folder;
    write_png(folder / "p.png", image{1, 1, {1, 2, 3}});
    test::spill(folder / "chat.json", five());
    const data_source s = read_llava(folder / "chat.json", folder / ".");
    REQUIRE(s.size == 5);
    for (std::uint64_t i = 0; i < 5; ++i) {
      CHECK(s.has_picture(i) == (i % 2 == 0));
      CHECK(s.words(i) == 2);
      CHECK(s.get(i).picture.has_value() == (i % 2 == 0));
      CHECK(s.turns(i)[0].text == std::string(3 * (i + 1), 'q'));
      CHECK(s.get(i).turns[1].text == std::to_string(i));
    }
    CHECK_THROWS(s.words(5));
  }
  TEST_CASE("what is wrong is named with its record") {
    const test::temporary_folder folder;
    const auto message = [&](const std::string& text) {
      test::spill(folder / "chat.json", text);
      return test::message_of<io_error>(
          [&] { (void)read_llava(folder / "chat.json", folder / "."); });
    };
    const std::string good = record_of("", "Q", "A");
    const auto names = [&](const std::string& bad, const char* what) {
      const std::string m = message("[" + good + ", " + bad + "]");
      CAPTURE(m);
      CHECK(m.find("chat.json: record 1") != std::string::npos);
      CHECK(m.find(what) != std::string::npos);
    };
    names("7", "an object is wanted");
    names("", "an object is wanted");
    names("{\"a\": 1", "the end of the object is wanted");
    names("{\"a\": \"}\"", "the end of the object is wanted");
    names("{\"a\": [}", "not valid JSON");
    names("{\"id\": \"000x\"}", "(id \"000x\")");
    names(record_of("\"id\": 12, \"image\": \"../x\", ", "Q", "A"), "(id 12): image");
    names(record_of("\"image\": 3, ", "Q", "A"), "a string");
    CHECK(message("[" + good + good + "]").find("a comma") != std::string::npos);
    CHECK(message("[" + good).find("a comma") != std::string::npos);
    CHECK(message("[" + good + "] x").find("nothing more") != std::string::npos);
    CHECK(message("[" + good + ",]").find("record 1") != std::string::npos);
    CHECK(message("[ ]").find("empty list") != std::string::npos);
    CHECK(message("").find("not a list") != std::string::npos);
    CHECK(message(" [" + good + "] \n") == "nothing was thrown");
    CHECK(message("\xEF\xBB\xBF[" + good + "]") == "nothing was thrown");

    // a picture, when it is asked for
    test::spill(folder / "chat.json",
                "[" + good + "," + record_of(R"("image": "no.png", )", "Q", "A") + "]");
    const data_source s = read_llava(folder / "chat.json", folder / ".");
    const std::string m = test::message_of<io_error>([&] { (void)s.get(1); });
    CAPTURE(m);
    CHECK(m.find("chat.json: record 1: ") != std::string::npos);
    CHECK(m.find("no.png: can't open it") != std::string::npos);
  }
  TEST_CASE("in order: micro-batches are the sampler's, pictures first, padding 0 and -100") {
    const test::temporary_folder folder;
    write_png(folder / "p.png", image{1, 1, {255, 0, 0}});
    test::spill(folder / "chat.json", five());
    const data_source s = read_llava(folder / "chat.json", folder / ".");
    batch_builder build;
    build.encode = [](std::string_view text) { return ids_t(text.size(), 5); };
    build.chat = chat_format::plain;
    build.towers = {image_transform{2, resize_strategy::naive, {0, 0, 0}, {1, 1, 1}}};
    build.micro_batch_size = 3;
    build.cut = cutting::in_order;
    const std::vector<std::uint64_t> numbers{1, 4, 0, 3, 1};  // text, two pictures; text alone
    const update_batch b = build(s, numbers);
    REQUIRE(b.parts.size() == 3);
    CHECK(b.parts[0].cut == 0);
    CHECK(b.parts[1].cut == 0);
    CHECK(b.parts[2].cut == 1);
    CHECK(b.parts[0].pictures[0].shape() == shape<4>{{2, 3, 2, 2}});
    CHECK(b.parts[0].pictures[0](1, 0, 1, 1) == 1);
    CHECK_FALSE(b.parts[1].has_pictures());
    CHECK_FALSE(b.parts[2].has_pictures());
    const index_t end = 14;                      // of an answer: its digit and "<|endoftext|>"
    CHECK(b.parts[0].length() == 15 + 1 + end);  // record 4, then 0
    CHECK(b.parts[0].ids(0, 15 + end) == 5);
    CHECK(b.parts[0].ids(1, 3 + end) == 5);
    CHECK(b.parts[0].ids(1, 3 + 1 + end) == 0);
    CHECK(b.parts[0].labels(1, 3) == ignored);
    CHECK(b.parts[0].labels(1, 3 + 1) == 5);
    CHECK(b.parts[0].labels(1, 3 + 1 + end) == ignored);
    CHECK(b.parts[2].length() == 12 + 1 + end);  // record 3, then 1
    CHECK(b.labelled() == 5 * end);

    build.cut = cutting::by_length;
    const update_batch sorted = build(s, numbers);
    REQUIRE(sorted.parts.size() == 2);
    CHECK(sorted.parts[0].cut < 0);
    CHECK(sorted.labelled() == b.labelled());
  }
  TEST_CASE("missing pictures are found without reading one") {
    test::temporary_folder folder;
    test::spill(folder / "chat.json", five());
    const data_source s = read_llava(folder / "chat.json", folder / ".");
    const std::string missing = test::message_of<io_error>([&] { check_pictures(s); });
    CHECK(missing == (folder / "chat.json").string() +
                         ": record 0: " + (folder / "./p.png").string() +
                         ": No such file or directory; a picture is wanted");
    std::filesystem::create_directory(folder / "p.png");
    CHECK_THROWS_AS(check_pictures(s), io_error);
    std::filesystem::remove(folder / "p.png");
    test::spill(folder / "p.png", "not looked into");
    check_pictures(s);
    check_pictures(data_source{});  // in no files
  }
  TEST_CASE("the original's data sets") {
    CHECK(llava_set_of("llava-v15").finetune("data").annotations ==
          "data/download/llava-v1.5-instruct/llava_v1_5_mix665k.json");
    CHECK(llava_set_of("llava-lvis4v-lrv").finetune("d").annotations ==
          "d/download/llava-v1.5-instruct/llava_v1_5_lvis4v_lrv_mix1231k.json");
    CHECK(llava_set_of("llava-lrv").finetune("d").images == "d/download/llava-v1.5-instruct");
    CHECK(llava_set_of("llava-lvis4v").align("data").annotations ==
          "data/download/llava-laion-cc-sbu-558k/chat.json");
    CHECK(llava_set_of("llava-multimodal").align("data").images ==
          "data/download/llava-laion-cc-sbu-558k");
    CHECK(test::message_of<error>([] {
            (void)llava_set_of("llava");
          }).find("llava-v15, llava-multimodal") != std::string::npos);
  }
}
