// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Examples to arrays: token ids and labels with padding, and one array of pixels for each tower.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "mlmamba/core/tensor.hpp"
#include "mlmamba/io/image_transform.hpp"
#include "mlmamba/train/conversation.hpp"
#include "mlmamba/train/source.hpp"

namespace mlmamba::train {

/// Rows that go through the model together: all with a picture, or all without. On the host.
struct micro_batch {
  tensor<std::int32_t, 2> ids, labels;     // (B, L), padded on the right
  std::vector<tensor<float, 4>> pictures;  // (B, 3, S, S) for each tower; empty: text only
  /// Parts with the same number were cut together: they share one mean where means of micro-batches
  /// are taken. Negative: a part by itself.
  index_t cut = -1;

  index_t batch() const { return ids.size(0); }
  index_t length() const { return ids.size(1); }
  bool has_pictures() const { return !pictures.empty(); }
  /// Labels that some position predicts.
  index_t labelled() const { return train::labelled(labels.view(), has_pictures() ? 1 : 0); }
};

/// All that one update learns from.
struct update_batch {
  std::vector<micro_batch> parts;
  index_t text_tokens = 0;  ///< without padding

  index_t labelled() const {
    index_t n = 0;
    for (const micro_batch& p : parts) n += p.labelled();
    return n;
  }
};

/// Which examples go through the model together.
enum class cutting : std::uint8_t {
  by_length,  ///< all of one modality in order of length: least padding
  in_order,   ///< as the sampler has them, so that the means of micro-batches are the original's
};

/// How examples become arrays.
///
/// Source    the original's collator, but for rows of both kinds in one micro-batch: it lets text
///           rows end in as many zeros as a picture has tokens, here they are a part of their own
///           (rows with pictures first, each kind in its order). Nothing reads what lies behind a
///           row's end, so losses and gradients are the same
struct batch_builder {
  encoder encode{};
  chat_format chat = chat_format::zephyr;
  labelling labels = labelling::answers;
  std::vector<image_transform> towers{};  ///< empty: pictures are not looked at
  std::size_t max_length = 2048;          ///< of the text, in tokens; the rest is cut
  index_t micro_batch_size = 16;
  cutting cut = cutting::by_length;
  std::int32_t padding = 0;
  index_t length_multiple = 1;  ///< lengths are padded to a multiple of this

  /// The batch of these examples. By length: rows with pictures come first, then text, both longest
  /// first, cut into micro-batches. In order: cut into micro-batches, each into its two kinds.
  ///
  /// Errors    whatever the source throws; mlmamba::error if a conversation has no token
  update_batch operator()(const data_source& source, std::span<const std::uint64_t> numbers) const {
    if (micro_batch_size < 1 || length_multiple < 1)
      fail("batch: micro-batches of ", micro_batch_size, ", lengths to a multiple of ",
           length_multiple, "; at least 1 is wanted");
    std::vector<row> with, without;
    update_batch out;
    const std::size_t group = cut == cutting::in_order ? std::size_t(micro_batch_size)
                                                       : std::max<std::size_t>(numbers.size(), 1);
    for (std::size_t at = 0; at < numbers.size(); at += group) {
      for (const std::uint64_t n : numbers.subspan(at, std::min(group, numbers.size() - at))) {
        const example e = source.get(n);
        row r{encode_conversation(e, encode, chat, max_length, labels), {}};
        if (r.text.ids.empty()) fail("batch: example ", n, " of ", source.name, " has no token");
        out.text_tokens += static_cast<index_t>(r.text.ids.size());
        if (e.picture)
          for (const image_transform& t : towers) r.pixels.push_back(t(*e.picture));
        (r.pixels.empty() ? without : with).push_back(std::move(r));
      }
      const std::size_t before = out.parts.size();
      for (std::vector<row>* rows : {&with, &without}) {
        cut_into(*rows, out.parts);
        rows->clear();
      }
      if (cut == cutting::in_order)
        for (std::size_t i = before; i < out.parts.size(); ++i)
          out.parts[i].cut = static_cast<index_t>(at / group);
    }
    return out;
  }

 private:
  struct row {
    encoded text;
    std::vector<std::vector<float>> pixels;
  };

  void cut_into(std::vector<row>& rows, std::vector<micro_batch>& parts) const {
    if (cut == cutting::by_length)
      std::stable_sort(rows.begin(), rows.end(), [](const row& a, const row& b) {
        return a.text.ids.size() > b.text.ids.size();
      });
    const std::size_t size = static_cast<std::size_t>(micro_batch_size);
    for (std::size_t at = 0; at < rows.size(); at += size)
      parts.push_back(assemble(std::span(rows).subspan(at, std::min(size, rows.size() - at))));
  }

  micro_batch assemble(std::span<const row> rows) const {
    std::size_t longest = 1;
    for (const row& r : rows) longest = std::max(longest, r.text.ids.size());
    const index_t batch = static_cast<index_t>(rows.size());
    const index_t length =
        (static_cast<index_t>(longest) + length_multiple - 1) / length_multiple * length_multiple;
    micro_batch m;
    m.ids = tensor<std::int32_t, 2>({batch, length});
    m.labels = tensor<std::int32_t, 2>({batch, length});
    std::fill_n(m.ids.data(), m.ids.count(), padding);
    std::fill_n(m.labels.data(), m.labels.count(), ignored);
    for (index_t b = 0; b < batch; ++b) {
      const encoded& text = rows[static_cast<std::size_t>(b)].text;
      std::copy(text.ids.begin(), text.ids.end(), m.ids.data() + b * length);
      std::copy(text.labels.begin(), text.labels.end(), m.labels.data() + b * length);
    }
    const std::size_t towers_here = rows[0].pixels.size();
    for (std::size_t t = 0; t < towers_here; ++t) {
      const index_t side = towers[t].size;
      tensor<float, 4> pixels({batch, 3, side, side});
      for (index_t b = 0; b < batch; ++b) {
        const std::vector<float>& from = rows[static_cast<std::size_t>(b)].pixels[t];
        std::copy(from.begin(), from.end(), pixels.data() + b * 3 * side * side);
      }
      m.pictures.push_back(std::move(pixels));
    }
    return m;
  }
};

}  // namespace mlmamba::train
