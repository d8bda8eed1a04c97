// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// States as values: copies, comparison, rows, files, and files that are damaged or hostile.
#include "mlmamba/models/state.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <functional>

#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/mamba_lm.hpp"
#include "mlmamba/models/state_rows.hpp"
#include "mlmamba/nn/mamba1.hpp"

using namespace mlmamba;

namespace {
using E = on<backend::reference, bf16>;  // two element types in one state
using model_type = mamba_lm<E>;

mamba_config small(index_t n_layer = 2) {
  mamba_config c;
  c.mixer.d_model = 8;
  c.mixer.d_state = 3;
  c.mixer.headdim = 4;
  c.n_layer = n_layer;
  c.vocab_size = 13;
  return c;
}
model_type made() {
  model_type m(small());
  nn::initialise(m, {2, 0, 0});
  return m;
}
/// The state after rows that begin with different tokens.
model_type::state read_by(const model_type& m, index_t batch) {
  context_of<E> ctx;
  tensor<std::int32_t, 2> ids({batch, 5});
  for (index_t i = 0; i < ids.count(); ++i) ids.data()[i] = std::int32_t(i * 5 % 13);
  auto state = m.make_state(batch);
  m.prefill(ctx, m.embed(ctx, ids), state);
  return state;
}
std::vector<float> next(const model_type& m, model_type::state& state, index_t batch) {
  context_of<E> ctx;
  tensor<std::int32_t, 1> id({batch});
  const auto y = m.step(ctx, in_index<E, 1>(id.view()), state);
  return {y.data, y.data + y.count()};
}
std::filesystem::path place(const char* name) {
  return std::filesystem::temp_directory_path() / (std::string("mlmamba_state_test_") + name);
}
std::span<const std::byte> bytes(const std::string& s) { return std::as_bytes(std::span(s)); }

/// The same file with other contents, and the checksum that belongs to them.
std::string changed(std::string file, const std::function<void(std::string&)>& change) {
  file.resize(file.size() - 4);
  change(file);
  detail::put(file, crc32c(bytes(file)));
  return file;
}
template <class T>
void set(std::string& file, std::size_t at, T value) {
  std::memcpy(file.data() + at, &value, sizeof value);
}
std::string refusal(const std::string& file) {
  try {
    load_state(made(), bytes(file), "f");
  } catch (const io_error& e) {
    return e.what();
  }
  return "";
}
}  // namespace

TEST_SUITE("state_test") {
  TEST_CASE("the checksum is CRC-32C") {
    CHECK(crc32c(bytes("123456789")) == 0xE3069283u);
    CHECK(crc32c(bytes("6789"), crc32c(bytes("12345"))) == 0xE3069283u);
    CHECK(crc32c({}) == 0u);
  }
  TEST_CASE("copies are equal until one goes on, and go on equally") {
    const model_type m = made();
    auto a = read_by(m, 2);
    auto b = a;
    CHECK(equal(a, b));
    const auto there = next(m, a, 2);
    CHECK_FALSE(equal(a, b));
    CHECK(next(m, b, 2) == there);
    CHECK(equal(a, b));
    CHECK_FALSE(equal(read_by(m, 1), read_by(m, 2)));
    auto moved = b;
    ++moved.position;
    CHECK_FALSE(equal(moved, b));
  }
  TEST_CASE("rows: picked, repeated, joined again; each goes on as it was") {
    const model_type m = made();
    const auto all = read_by(m, 3);
    const std::vector<index_t> at{2, 0, 2};
    auto some = gather_rows(all, at);
    auto whole = all;
    const auto want = next(m, whole, 3), got = next(m, some, 3);
    const auto row = [](const std::vector<float>& v, std::size_t i) {
      const auto n = std::ptrdiff_t(v.size() / 3);
      return std::vector<float>(v.begin() + n * std::ptrdiff_t(i),
                                v.begin() + n * std::ptrdiff_t(i + 1));
    };
    CHECK(row(got, 0) == row(want, 2));
    CHECK(row(got, 1) == row(want, 0));
    CHECK(row(got, 2) == row(want, 2));
    const std::vector<index_t> first{0}, others{1, 2}, none{}, no_row{3};
    const std::vector<model_type::state> parts{gather_rows(all, first), gather_rows(all, none),
                                               gather_rows(all, others)};
    CHECK(equal(join_rows(std::span<const model_type::state>(parts)), all));
    CHECK_THROWS_AS(gather_rows(all, no_row), shape_error);
    CHECK_THROWS_AS(join_rows(std::span<const model_type::state>()), shape_error);
    const std::vector<model_type::state> strange{all, model_type(small(1)).make_state(1)};
    CHECK_THROWS_AS(join_rows(std::span<const model_type::state>(strange)), shape_error);
  }
  TEST_CASE("a file gives back the state, bit for bit, whatever its batch") {
    const model_type m = made();
    for (const index_t batch : {0, 1, 3}) {
      auto state = read_by(m, batch);
      save_state(state, place("good"));
      auto again = load_state(m, place("good"));
      CHECK(equal(state, again));
      CHECK(again.position == 5);
      CHECK(next(m, state, batch) == next(m, again, batch));
    }
    std::filesystem::remove(place("good"));
    mamba_lm<E, nn::mamba1> other(small());
    CHECK(equal(load_state(other, bytes(state_bytes(other.make_state(2))), "f"),
                other.make_state(2)));
  }
  TEST_CASE("a file of other sizes, precision or layers is refused with both values") {
    const std::string file = state_bytes(read_by(made(), 2));
    const auto refused_by = [&](const auto& m) {
      try {
        load_state(m, bytes(file), "f");
      } catch (const io_error& e) {
        return std::string(e.what());
      }
      return std::string();
    };
    mamba_config wide = small();
    wide.mixer.d_state = 4;
    CHECK(refused_by(model_type(wide)) ==
          "f: \"layers.0.conv\" is (2, 3, 22); the model wants (2, 3, 24)");
    CHECK(refused_by(mamba_lm<reference_f32>(small())) ==
          "f: \"layers.0.conv\" is bf16; the model wants f32");
    CHECK(refused_by(model_type(small(3))) ==
          "f: \"layers.2.conv\" is missing; the model's state has it");
    CHECK(refused_by(model_type(small(1))) == "f: it has 4 arrays; the model wants 2");
  }
  TEST_CASE("scans may store their states in bf16") {
    using N = on<backend::reference, float, float, float, bf16>;
    mamba_lm<N> narrow(small());
    mamba_lm<reference_f32> wide(small());
    nn::initialise(narrow, {2, 0, 0}), nn::initialise(wide, {2, 0, 0});
    context_of<N> ctx;
    tensor<std::int32_t, 2> ids({1, 5});
    for (index_t i = 0; i < 5; ++i) ids.data()[i] = std::int32_t(i * 5 % 13);
    auto a = narrow.make_state(1);
    auto b = wide.make_state(1);
    static_assert(std::is_same_v<decltype(a.layers[0].ssm)::value_type, bf16>);
    narrow.prefill(ctx, narrow.embed(ctx, ids), a), wide.prefill(ctx, wide.embed(ctx, ids), b);
    double error = 0, norm = 0;
    for (int t = 0; t < 8; ++t) {
      tensor<std::int32_t, 1> id({1});
      id.data()[0] = t;
      const auto x = narrow.step(ctx, in_index<N, 1>(id.view()), a);
      const auto y = wide.step(ctx, in_index<N, 1>(id.view()), b);
      for (index_t i = 0; i < x.count(); ++i)
        error += std::pow(double(x.data[i]) - double(y.data[i]), 2), norm += std::pow(y.data[i], 2);
    }
    CHECK(error > 0);
    CHECK(std::sqrt(error / norm) < 4 * 0x1p-9);
    CHECK(equal(load_state(narrow, bytes(state_bytes(a)), "f"), a));
    CHECK_THROWS_WITH_AS(load_state(wide, bytes(state_bytes(a)), "f"),
                         "f: \"layers.0.ssm\" is bf16; the model wants f32", io_error);
  }
  TEST_CASE("every cut and every flipped bit is found") {
    const std::string file = state_bytes(read_by(made(), 1));
    CHECK(refusal(file) == "");
    for (std::size_t n = 0; n < file.size(); ++n) CHECK(refusal(file.substr(0, n)) != "");
    for (std::size_t i = 0; i < file.size(); ++i) {
      std::string wrong = file;
      wrong[i] = char(wrong[i] ^ (1 << i % 8));
      CHECK(refusal(wrong) != "");
    }
    CHECK(refusal(file + "x") != "");
    CHECK_THROWS_AS(load_state(made(), place("not_there")), io_error);
  }
  TEST_CASE("lies with a right checksum are found before memory is asked for") {
    const std::string file = state_bytes(read_by(made(), 1));
    const auto lie = [&](auto&& change) { return refusal(changed(file, change)); };
    const auto huge = ~std::uint64_t{0};
    CHECK(lie([&](std::string& f) { set(f, 8, std::uint32_t{2}); }) ==
          "f: it has version 2; this program reads version 1");
    CHECK(lie([&](std::string& f) { set(f, 12, std::uint32_t{3}); }) != "");
    CHECK(lie([&](std::string& f) { set(f, 12, ~std::uint32_t{0}); }) != "");
    CHECK(lie([&](std::string& f) { set(f, 16, huge); }) != "");
    CHECK(lie([&](std::string& f) { set(f, 24, huge); }) != "");
    CHECK(lie([&](std::string& f) { set(f, 32, huge); }) != "");
    CHECK(lie([&](std::string& f) { set(f, 40, std::uint8_t{255}); }) != "");
    CHECK(lie([&](std::string& f) { f[41] = '\n'; }) != "");
    const std::size_t kind = 41 + std::string("layers.0.conv").size();
    CHECK(lie([&](std::string& f) { set(f, kind, std::uint8_t{9}); }) != "");
    CHECK(lie([&](std::string& f) { set(f, kind + 1, std::uint8_t{0}); }) != "");
    CHECK(lie([&](std::string& f) { set(f, kind + 1, std::uint8_t{200}); }) != "");
    CHECK(lie([&](std::string& f) { set(f, kind + 2, std::uint64_t{1} << 39); }) != "");
    CHECK(lie([&](std::string& f) { set(f, kind + 2, huge); }) != "");
  }
  TEST_CASE("a folder that is not there leaves nothing behind") {
    CHECK_THROWS_AS(save_state(made().make_state(1), place("no/such/folder")), io_error);
  }
}
