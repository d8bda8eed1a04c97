// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Bump allocation of activations, released by frames.
#pragma once

#include <algorithm>
#include <vector>

#include "mlmamba/core/tensor.hpp"

namespace mlmamba {

/// Bump allocator. It grows by blocks in the first step; once everything is released the blocks are
/// merged into one, and from then on it neither allocates nor moves: equal sequences of calls get
/// equal addresses. With MLMAMBA_POISON defined, memory is filled with NaN when handed out and when
/// released.
template <class Memory>
class arena {
 public:
  /// Everything made after the frame is released when the frame ends.
  class frame {
   public:
    explicit frame(arena& a) : arena_(&a), block_(a.block_), used_(a.used_) {}
    ~frame() { arena_->release(block_, used_); }
    frame(const frame&) = delete;
    frame& operator=(const frame&) = delete;

   private:
    arena* arena_;
    std::size_t block_, used_;
  };

  frame make_frame() { return frame(*this); }

  /// Where the next element will be: equal marks mean equal addresses for equal calls from here on.
  struct mark {
    std::size_t growth = 0, block = 0, used = 0;
    friend bool operator==(const mark&, const mark&) = default;
  };
  mark here() const { return {growth_, block_, used_}; }

  /// Off while launches are recorded: filling is not one of them.
  void poison([[maybe_unused]] bool on) {
#if defined(MLMAMBA_POISON)
    poison_ = on;
#endif
  }

  /// Uninitialised elements. Aligned to 256 bytes.
  template <class T, int R>
  view<T, R, Memory> make(shape<R> n) {
    for (index_t s : n.n)
      if (s < 0) fail<shape_error>("arena: size ", s, " is negative");
    return {static_cast<T*>(take(std::size_t(n.count()) * sizeof(T))), n};
  }

  std::size_t capacity() const {
    std::size_t c = 0;
    for (const block& b : blocks_) c += b.size;
    return c;
  }
  std::size_t peak() const { return peak_; }  ///< most bytes ever in use

 private:
  struct block {
    bytes_owner bytes;
    std::size_t size, offset;  // offset aligns the first byte
  };
  static constexpr std::size_t alignment = 256;
  static constexpr std::size_t smallest = std::size_t{1} << 20;

  void* take(std::size_t bytes) {
    bytes = std::max<std::size_t>((bytes + alignment - 1) / alignment * alignment, alignment);
    while (block_ < blocks_.size() && used_ + bytes > blocks_[block_].size) {
      if (block_ + 1 == blocks_.size()) break;
      ++block_;
      used_ = 0;
    }
    if (blocks_.empty() || used_ + bytes > blocks_[block_].size) {
      add_block(std::max({bytes, capacity(), smallest}));
      block_ = blocks_.size() - 1;
      used_ = 0;
    }
    std::byte* p = blocks_[block_].bytes.get() + blocks_[block_].offset + used_;
    used_ += bytes;
    std::size_t in_use = used_;
    for (std::size_t i = 0; i < block_; ++i) in_use += blocks_[i].size;
    peak_ = std::max(peak_, in_use);
#if defined(MLMAMBA_POISON)
    if (poison_) allocator<Memory>::fill(p, 0xff, bytes);
#endif
    return p;
  }

  void release(std::size_t to_block, std::size_t to_used) {
#if defined(MLMAMBA_POISON)
    for (std::size_t i = to_block; i < blocks_.size() && i <= block_; ++i) {
      const std::size_t from = i == to_block ? to_used : 0;
      const std::size_t end = i == block_ ? used_ : blocks_[i].size;
      if (poison_ && end > from)
        allocator<Memory>::fill(blocks_[i].bytes.get() + blocks_[i].offset + from, 0xff,
                                end - from);
    }
#endif
    block_ = to_block;
    used_ = to_used;
    if (block_ == 0 && used_ == 0 && blocks_.size() > 1) {
      const std::size_t all = capacity();
      blocks_.clear();
      add_block(all);
    }
  }

  void add_block(std::size_t bytes) {
    bytes_owner b;
    try {
      b = allocator<Memory>::allocate(bytes + alignment);
    } catch (const device_error& e) {
      fail<device_error>(e.what(), " (for activations, which have ", capacity(), " bytes)");
    }
    const std::size_t at = reinterpret_cast<std::uintptr_t>(b.get()) % alignment;
    blocks_.push_back({std::move(b), bytes, at ? alignment - at : 0});
    ++growth_;
  }

  std::vector<block> blocks_;
  std::size_t block_ = 0, used_ = 0, peak_ = 0, growth_ = 0;
#if defined(MLMAMBA_POISON)
  bool poison_ = true;
#endif
};

}  // namespace mlmamba
