// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Timing on a GPU: graphs of launches, medians, beside a copy measured in the same run.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "mlmamba/cuda.cuh"
#include "mlmamba/io/output_folder.hpp"

namespace bench {

using namespace mlmamba;
using backend::kernels::cuda_check;
using gpu = context<backend::cuda>;

/// What the arguments of a program say: [--json FILE] [WORD...].
struct options {
  const char* json = nullptr;  ///< where rows are written to, too
  std::vector<std::string>
      words;  ///< a row is wanted if it contains one of them, or if none is here

  /// False after --help, which prints what the program is.
  bool read(int argc, char** argv, const char* program) {
    for (int i = 1; i < argc; ++i) {
      if (std::strcmp(argv[i], "--help") == 0) {
        std::printf("%s [--json FILE] [WORD...]: only rows that contain a WORD\n", program);
        return false;
      }
      if (std::strcmp(argv[i], "--json") == 0) {
        if (++i == argc) fail<error>("--json: nothing after it; wanted is a file");
        json = argv[i];
        check_writable(json);  // not after minutes
      } else if (std::strncmp(argv[i], "--", 2) == 0) {
        fail<error>(argv[i], " is no option; --json FILE, --help or a WORD is wanted");
      } else {
        words.emplace_back(argv[i]);
      }
    }
    return true;
  }
};
inline options wanted;

inline bool is_wanted(const std::string& row) {
  return wanted.words.empty() ||
         std::any_of(wanted.words.begin(), wanted.words.end(),
                     [&](const std::string& w) { return row.find(w) != std::string::npos; });
}

/// Seconds of one call of `f` (which enqueues on ctx.stream): the median over replays of a graph of
/// `calls` of them, so that the host's launches are not in it.
inline double seconds(gpu& ctx, const std::function<void()>& f, int calls = 10, int replays = 11) {
  f();  // libraries load, scratch grows
  ctx.synchronize();
  cudaGraph_t graph;
  cudaGraphExec_t runnable;
  cuda_check(cudaStreamBeginCapture(ctx.stream, cudaStreamCaptureModeThreadLocal), "capture");
  for (int i = 0; i < calls; ++i) f();
  cuda_check(cudaStreamEndCapture(ctx.stream, &graph), "capture");
  cuda_check(cudaGraphInstantiate(&runnable, graph, 0), "capture");
  cudaEvent_t begin, end;
  cuda_check(cudaEventCreate(&begin), "event");
  cuda_check(cudaEventCreate(&end), "event");
  std::vector<double> all;
  for (int i = 0; i < replays + 2; ++i) {
    cuda_check(cudaEventRecord(begin, ctx.stream), "event");
    cuda_check(cudaGraphLaunch(runnable, ctx.stream), "replay");
    cuda_check(cudaEventRecord(end, ctx.stream), "event");
    ctx.synchronize();
    float ms = 0;
    cuda_check(cudaEventElapsedTime(&ms, begin, end), "event");
    if (i >= 2) all.push_back(ms * 1e-3 / calls);
  }
  cudaEventDestroy(begin), cudaEventDestroy(end);
  cudaGraphExecDestroy(runnable), cudaGraphDestroy(graph);
  std::sort(all.begin(), all.end());
  return all[all.size() / 2];
}

/// Normal numbers times `scale` plus `shift`, the same in each run.
template <class Tensor>
void fill_normal(Tensor& t, std::uint64_t seed, double scale = 1, double shift = 0) {
  using T = typename Tensor::value_type;
  random_stream r{seed, 20, 0};
  constexpr index_t period = 1048573;  // a prime: rows do not repeat
  std::vector<T> some;
  for (index_t i = 0; i < std::min(t.count(), period); ++i)
    some.push_back(T(float(shift + scale * r.normal())));
  for (index_t i = 0; i < t.count(); i += period)
    cuda_check(cudaMemcpy(t.data() + i, some.data(),
                          std::size_t(std::min(period, t.count() - i)) * sizeof(T),
                          cudaMemcpyHostToDevice),
               "fill");
}

/// ||a - b|| / ||b||; NaN if anything is.
template <class T, class S>
double relative_error(const T& a, const S& b) {
  const auto x = to_host(a.view());
  const auto y = to_host(b.view());
  double error = 0, norm = 0;
  for (index_t i = 0; i < x.count(); ++i) {
    const double want = double(float(y.data()[i])), e = double(float(x.data()[i])) - want;
    error += e * e, norm += want * want;
  }
  return norm > 0 ? std::sqrt(error / norm) : std::sqrt(error);
}

/// A copy by the multiprocessors, which is faster than the copy engine's: 16 bytes a thread, four
/// of them at once.
__global__ void __launch_bounds__(512) copy_kernel(uint4* to, const uint4* from, index_t count) {
  constexpr int ahead = 4;
  const index_t first = index_t(blockIdx.x) * blockDim.x * ahead + threadIdx.x;
  uint4 v[ahead];
#pragma unroll
  for (int k = 0; k < ahead; ++k)
    if (first + k * blockDim.x < count) v[k] = __ldcs(from + first + k * blockDim.x);
#pragma unroll
  for (int k = 0; k < ahead; ++k)
    if (first + k * blockDim.x < count) __stcs(to + first + k * blockDim.x, v[k]);
}

/// The rates that nothing beats: a copy (bytes read and written) and a bf16 product.
struct roofs {
  double copy = 0, product = 0;

  explicit roofs(gpu& ctx) {
    const std::size_t bytes = std::size_t{1} << 30;
    tensor<float, 1, memory::device> from({index_t(bytes / 4)}), to(from.shape());
    fill_normal(from, 1);
    const double engine = seconds(
        ctx,
        [&] {
          cuda_check(
              cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, ctx.stream),
              "copy");
        },
        3);
    const double kernel = seconds(
        ctx,
        [&] {
          constexpr unsigned pieces_of_block = 512 * 4;
          copy_kernel<<<unsigned(bytes / 16 / pieces_of_block), 512, 0, ctx.stream>>>(
              reinterpret_cast<uint4*>(to.data()), reinterpret_cast<const uint4*>(from.data()),
              index_t(bytes / 16));
          cuda_check(cudaGetLastError(), "copy");
        },
        3);
    copy = 2.0 * double(bytes) / std::min(engine, kernel);
    std::printf("copy by the copy engine %.2f TB/s, by a kernel %.2f\n",
                2e-12 * double(bytes) / engine, 2e-12 * double(bytes) / kernel);
    constexpr index_t n = 8192;
    tensor_of<cuda_bf16, 2> x({n, n}), w({n, n}), y({n, n});
    fill_normal(x, 2), fill_normal(w, 3);
    product = 2.0 * n * n * n /
              seconds(
                  ctx, [&] { run(ctx, ops::gemm<cuda_bf16>{.x = x, .w = w, .y = y}); }, 3);
    std::printf("copy %.2f TB/s, bf16 product %.0f TFLOP/s\n", copy * 1e-12, product * 1e-12);
  }
};

/// One row: what was timed, against the roof of its bytes and its useful operations.
struct row {
  std::string name;
  double seconds, bytes, flops, error, tolerance;
};

/// Prints rows as they come; writes them as JSON at the end.
class report {
 public:
  explicit report(const roofs& r) : roofs_(r) {
    std::printf("%-54s %10s %10s %8s %8s %8s %9s\n", "", "us", "roof us", "of roof", "TB/s",
                "TFLOP/s", "error");
  }
  void add(const row& r) {
    const bool ok = r.error <= r.tolerance;
    const double roof = std::max(r.bytes / roofs_.copy, r.flops / roofs_.product);
    if (ok) {
      std::printf("%-54s %10.1f %10.1f %8.2f %8.2f %8.1f %9.1e\n", r.name.c_str(), r.seconds * 1e6,
                  roof * 1e6, roof / r.seconds, r.bytes / r.seconds * 1e-12,
                  r.flops / r.seconds * 1e-12, r.error);
    } else {
      std::printf("%-54s WRONG: error %.2e, tolerance %.2e\n", r.name.c_str(), r.error,
                  r.tolerance);
    }
    std::fflush(stdout);
    ok_ = ok_ && ok;
    rows_.push_back(r);
  }
  bool ok() const { return ok_; }
  void write(const char* file) const {
    cudaDeviceProp p;
    cuda_check(cudaGetDeviceProperties(&p, 0), "asking the device");
    std::FILE* f = std::fopen(file, "w");
    if (!f) fail<io_error>(file, ": can't be written");
    std::fprintf(f,
                 "{\"device\": \"%s\", \"copy_bytes_per_s\": %.4g, \"product_flop_per_s\": %.4g,\n "
                 "\"rows\": [",
                 p.name, roofs_.copy, roofs_.product);
    for (std::size_t i = 0; i < rows_.size(); ++i)
      std::fprintf(f,
                   "%s\n  {\"name\": \"%s\", \"seconds\": %.5g, \"bytes\": %.5g, \"flops\": %.5g, "
                   "\"error\": %.3g}",
                   i ? "," : "", rows_[i].name.c_str(), rows_[i].seconds, rows_[i].bytes,
                   rows_[i].flops, rows_[i].error);
    std::fprintf(f, "\n ]}\n");
    if (std::fclose(f) != 0) fail<io_error>(file, ": can't be written");
  }

 private:
  roofs roofs_;
  std::vector<row> rows_;
  bool ok_ = true;
};

}  // namespace bench
