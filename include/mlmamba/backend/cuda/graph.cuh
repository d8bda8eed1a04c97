// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Launches that are recorded once and replayed.
#pragma once

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "mlmamba/backend/cuda/memory.cuh"
#include "mlmamba/core/arena.hpp"

namespace mlmamba::backend::kernels {

/// A graph of launches, and the place in the scratch that its addresses are right for.
class graph_recording {
 public:
  using mark = arena<memory::device>::mark;

  graph_recording() = default;
  graph_recording(const graph_recording&) {}  // a copy has no recording: it is of other addresses
  graph_recording(graph_recording&&) = default;
  graph_recording& operator=(graph_recording o) noexcept {
    std::swap(graph_, o.graph_), std::swap(at_, o.at_);
    return *this;
  }

  bool is_for(const mark& here) const { return graph_ && was_at(here); }
  bool was_at(const mark& here) const { return at_ && *at_ == here; }
  void note(const mark& here) { at_ = here; }
  void reset() { graph_ = nullptr, at_ = std::nullopt; }

  template <class F>
  void record(cudaStream_t stream, arena<memory::device>& scratch, F&& work) {
    // Threads of the host may go on using the device: only this one is held to what can be
    // recorded.
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording");
    cudaGraph_t launches = nullptr;
    scratch.poison(false);
    try {
      work();
    } catch (...) {
      scratch.poison(true);
      cudaStreamEndCapture(stream, &launches);
      if (launches) cudaGraphDestroy(launches);
      cudaGetLastError();
      throw;
    }
    scratch.poison(true);
    cuda_check(cudaStreamEndCapture(stream, &launches), "recording");
    cudaGraphExec_t runnable = nullptr;
    const cudaError_t e = cudaGraphInstantiate(&runnable, launches, 0);
    cudaGraphDestroy(launches);
    cuda_check(e, "making a graph of what was recorded");
    graph_ = owner(runnable, [](cudaGraphExec_t g) { cudaGraphExecDestroy(g); });
  }
  void launch(cudaStream_t stream) const {
    cuda_check(cudaGraphLaunch(graph_.get(), stream), "replaying a graph");
  }

 private:
  using owner = std::shared_ptr<std::remove_pointer_t<cudaGraphExec_t>>;
  owner graph_;
  std::optional<mark> at_;
};

}  // namespace mlmamba::backend::kernels
