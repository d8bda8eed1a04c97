// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Owning arrays with value semantics, and how each memory allocates and copies bytes.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "mlmamba/core/view.hpp"

namespace mlmamba {

using bytes_owner = std::shared_ptr<std::byte[]>;

/// How a memory allocates, fills and copies. Specialised for memory::device in <mlmamba/cuda.cuh>.
template <class Memory>
struct allocator;

template <>
struct allocator<memory::host> {
  static constexpr std::size_t alignment = 64;  // a cache line, and the widest SIMD vector
  static bytes_owner allocate(std::size_t bytes) {
    auto* p =
        static_cast<std::byte*>(::operator new (bytes ? bytes : 1, std::align_val_t{alignment}));
    in_large_pages(p, bytes);
    return bytes_owner(p, [](std::byte* q) { ::operator delete (q, std::align_val_t{alignment}); });
  }
  /// Zeros. Large blocks come from the system as pages that cost nothing before they are touched,
  /// so a model whose arrays are about to be replaced by a file's is free to build.
  static bytes_owner allocate_zeroed(std::size_t bytes) {
    void* base = std::calloc(bytes + alignment, 1);
    if (base == nullptr) throw std::bad_alloc();
    const auto at = reinterpret_cast<std::uintptr_t>(base);
    auto* p = static_cast<std::byte*>(base) + (alignment - at % alignment) % alignment;
    in_large_pages(p, bytes);
    return bytes_owner(p, [base](std::byte*) { std::free(base); });
  }
  static void fill(void* p, unsigned char value, std::size_t bytes) {
    if (bytes) std::memset(p, value, bytes);
  }
  static void copy(void* to, const void* from, std::size_t bytes) {
    if (bytes) std::memcpy(to, from, bytes);
  }
  static void to_host(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }
  static void from_host(void* to, const void* from, std::size_t bytes) { copy(to, from, bytes); }

 private:
  /// Asks for pages of 2 MiB where an array fills some: rows that lie far apart are else each a
  /// page of their own to look up. A system that has none to give ignores it.
  static void in_large_pages([[maybe_unused]] std::byte* p, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    constexpr std::size_t page = std::size_t{1} << 21;
    const std::size_t skip = (page - reinterpret_cast<std::uintptr_t>(p) % page) % page;
    if (bytes >= skip + page) ::madvise(p + skip, (bytes - skip) / page * page, MADV_HUGEPAGE);
#endif
  }
};

/// An array that owns its elements: copying copies the elements, moving moves them. New elements
/// are zero. `alias` shares instead of copying (tied embeddings); `adopt` wraps bytes that somebody
/// else keeps alive (a mapped file).
template <class T, int R, class Memory = memory::host>
class tensor {
 public:
  using value_type = T;
  using memory = Memory;
  static constexpr int rank = R;

  tensor() = default;
  explicit tensor(mlmamba::shape<R> n) {
    const std::size_t size = byte_count(n);
    if constexpr (requires { allocator<Memory>::allocate_zeroed(size); }) {
      owner_ = allocator<Memory>::allocate_zeroed(size);
      view_ = {reinterpret_cast<T*>(owner_.get()), n};
    } else {
      try {
        owner_ = allocator<Memory>::allocate(size);
      } catch (const device_error& e) {
        fail<device_error>(e.what(), " (for an array ",
                           to_string(mlmamba::view<T, R, Memory>(nullptr, n)), ")");
      }
      view_ = {reinterpret_cast<T*>(owner_.get()), n};
      allocator<Memory>::fill(view_.data, 0, bytes());
    }
  }
  tensor(const tensor& o) : tensor() {
    if (!o) return;
    *this = tensor(o.view_.shape());
    allocator<Memory>::copy(view_.data, o.view_.data, bytes());
  }
  tensor(tensor&& o) noexcept
      : view_(std::exchange(o.view_, {})), owner_(std::exchange(o.owner_, nullptr)) {}
  tensor& operator=(tensor o) noexcept {
    std::swap(view_, o.view_);
    std::swap(owner_, o.owner_);
    return *this;
  }

  static tensor adopt(mlmamba::view<T, R, Memory> contiguous, bytes_owner keep_alive) {
    if (!contiguous.contiguous()) fail<shape_error>("tensor: adopted memory must be contiguous");
    tensor t;
    t.view_ = contiguous;
    t.owner_ = std::move(keep_alive);
    return t;
  }
  tensor alias() const { return adopt(view_, owner_); }

  mlmamba::view<T, R, Memory> view() { return view_; }
  mlmamba::view<const T, R, Memory> view() const { return view_; }
  operator mlmamba::view<T, R, Memory>() { return view_; }
  operator mlmamba::view<const T, R, Memory>() const { return view_; }
  template <class... I>
  T& operator()(I... i) {
    return view_(i...);
  }
  template <class... I>
  const T& operator()(I... i) const {
    return view_(i...);
  }
  T* data() { return view_.data; }
  const T* data() const { return view_.data; }
  mlmamba::shape<R> shape() const { return view_.shape(); }
  index_t size(int axis) const { return view_.size[axis]; }
  index_t count() const { return *this ? view_.count() : 0; }
  std::size_t bytes() const { return std::size_t(count()) * sizeof(T); }
  explicit operator bool() const { return view_.data != nullptr; }

 private:
  /// Sizes may come from a file: their product must be a number that memory can have.
  static std::size_t byte_count(const mlmamba::shape<R>& n) {
    constexpr std::size_t most = std::size_t(std::numeric_limits<index_t>::max()) / 2;
    std::size_t size = sizeof(T);
    bool empty = false, fits = true;
    for (const index_t s : n.n) {
      if (s < 0) fail<shape_error>("tensor: size ", s, " is negative");
      empty = empty || s == 0;
      if (s == 0) continue;
      fits = fits && size <= most / std::size_t(s);
      size *= std::size_t(s);
    }
    if (!empty && !fits)
      fail<shape_error>("tensor: ", to_string(mlmamba::view<T, R, Memory>(nullptr, n)),
                        " is more than can be addressed");
    return empty ? 0 : size;
  }
  mlmamba::view<T, R, Memory> view_;
  bytes_owner owner_;
};

template <engine E, int R>
using tensor_of = tensor<typename E::value, R, typename E::memory>;

/// A host copy of a contiguous view, whatever memory it is in; and the way back.
template <class T, int R, class Memory>
tensor<std::remove_const_t<T>, R> to_host(const view<T, R, Memory>& v) {
  if (!v.contiguous()) fail<shape_error>("to_host: the view must be contiguous");
  tensor<std::remove_const_t<T>, R> t(v.shape());
  allocator<Memory>::to_host(t.data(), v.data, t.bytes());
  return t;
}
template <class T, int R, class Memory>
void from_host(const view<T, R, Memory>& to, const view<const T, R>& from) {
  if (!to.contiguous() || !from.contiguous() || !(to.shape() == from.shape()))
    fail<shape_error>("from_host: ", to_string(from), " into ", to_string(to),
                      "; wanted are equal shapes and contiguous views");
  allocator<Memory>::from_host(to.data, from.data, std::size_t(to.count()) * sizeof(T));
}

}  // namespace mlmamba
