// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Memory of weights that every step reads whole: arrays lie one behind the other in large pages.
#pragma once

#include <mutex>

#include "mlmamba/core/tensor.hpp"

namespace mlmamba {

/// Zeros at first; copying copies, moving moves. A matrix of a small model fills no page of 2 MiB,
/// and read in pages of 4 KiB it comes a fifth slower. So arrays share blocks, and a block is
/// released with its last array: not for what lives shortly.
class kept_bytes {
 public:
  kept_bytes() = default;
  explicit kept_bytes(std::size_t bytes) : owner_(take(bytes)), bytes_(bytes) {}
  kept_bytes(const kept_bytes& o) : kept_bytes(o.bytes_) {
    allocator<memory::host>::copy(data(), o.data(), bytes_);
  }
  kept_bytes(kept_bytes&& o) noexcept
      : owner_(std::move(o.owner_)), bytes_(std::exchange(o.bytes_, 0)) {}
  kept_bytes& operator=(kept_bytes o) noexcept {
    std::swap(owner_, o.owner_), std::swap(bytes_, o.bytes_);
    return *this;
  }

  std::byte* data() { return owner_.get(); }
  const std::byte* data() const { return owner_.get(); }
  std::size_t bytes() const { return bytes_; }

 private:
  static bytes_owner take(std::size_t bytes) {
    using host = allocator<memory::host>;
    constexpr std::size_t page = std::size_t{1} << 21, block = 16 * page, least = page / 32;
    if (bytes < least || bytes >= block / 2) return host::allocate_zeroed(bytes);
    static std::mutex mutex;
    static std::weak_ptr<std::byte[]> current;
    static std::size_t used = 0;
    const std::lock_guard<std::mutex> lock(mutex);
    bytes_owner b = current.lock();
    if (!b || used + bytes > block) {
      b = host::allocate_zeroed(block);
      const auto at = reinterpret_cast<std::uintptr_t>(b.get());
      current = b, used = (page - at % page) % page;
    }
    std::byte* const p = b.get() + used;
    used += (bytes + host::alignment - 1) / host::alignment * host::alignment;
    return bytes_owner(std::move(b), p);
  }

  bytes_owner owner_;
  std::size_t bytes_ = 0;
};

}  // namespace mlmamba
