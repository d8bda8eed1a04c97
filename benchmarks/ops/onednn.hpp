// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// The rival of matrix products: oneDNN's, with its own threads, where it is installed.
#pragma once

#include "harness.hpp"

#if defined(MLMAMBA_BENCH_ONEDNN)
#include <omp.h>

#include <dnnl.hpp>
#endif
#if defined(__linux__)
#include <unistd.h>

#include <cstdlib>
#endif

namespace bench {

#if defined(MLMAMBA_BENCH_ONEDNN)

/// y = x w^T by oneDNN, x being (m, k) and w (n, k): with w as it is, and reordered as oneDNN likes
/// it (outside the time). y is what x is; of bytes, x unsigned and w signed, float with one scale
/// per row of w.
class onednn {
 public:
  template <class X, class W>
  onednn(X* x, W* w, index_t m, index_t n, index_t k, index_t threads)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    omp_set_num_threads(int(threads));
    constexpr bool bytes = sizeof(X) == 1;
    using y_type = std::conditional_t<bytes, float, X>;
    y_ = tensor<std::byte, 1>({m * n * index_t(sizeof(y_type))});
    using tag = memory::format_tag;
    const memory::desc xd({m, k}, type<X>(), tag::ab), wd({k, n}, type<W>(), tag::ba),
        any({k, n}, type<W>(), tag::any), yd({m, n}, type<y_type>(), tag::ab);
    x_ = memory(xd, engine_, x);
    w_ = memory(wd, engine_, w);
    out_ = memory(yd, engine_, y_.data());
    dnnl::primitive_attr attributes;
    if (bytes) attributes.set_output_scales(1 << 1, std::vector<float>(std::size_t(n), 0.01f));
    plain_ = dnnl::matmul({{xd, wd, yd}, attributes, engine_});
    const dnnl::matmul::primitive_desc packed({xd, any, yd}, attributes, engine_);
    packed_ = dnnl::matmul(packed);
    packed_w_ = memory(packed.weights_desc(), engine_);
    dnnl::reorder(w_, packed_w_).execute(stream_, w_, packed_w_);
    stream_.wait();
  }
  void plain() { multiply(plain_, w_); }
  void packed() { multiply(packed_, packed_w_); }

 private:
  using memory = dnnl::memory;
  template <class T>
  static memory::data_type type() {
    using t = memory::data_type;
    return std::is_same_v<T, std::uint8_t>  ? t::u8
           : std::is_same_v<T, std::int8_t> ? t::s8
           : sizeof(T) == 2                 ? t::bf16
                                            : t::f32;
  }
  void multiply(dnnl::matmul& product, memory& w) {
    product.execute(stream_, {{DNNL_ARG_SRC, x_}, {DNNL_ARG_WEIGHTS, w}, {DNNL_ARG_DST, out_}});
    stream_.wait();
  }
  dnnl::engine engine_;
  dnnl::stream stream_;
  tensor<std::byte, 1> y_;
  memory x_, w_, packed_w_, out_;
  dnnl::matmul plain_, packed_;
};

#else

/// Not installed: takes no time, so ratios to it are 0.
struct onednn {
  template <class X, class W>
  onednn(X*, W*, index_t, index_t, index_t, index_t) {}
  void plain() {}
  void packed() {}
};

#endif

/// A main function in which rivals' threads wait as briefly for more work as ours do before they
/// sleep: libgomp's spin for milliseconds, in the time of whoever runs next. It reads that when the
/// program starts.
inline int main_beside_openmp(int argc, char** argv) {
#if defined(__linux__)
  if (setenv("GOMP_SPINCOUNT", "4000", 0) == 0 && !std::getenv("MLMAMBA_BENCH_AGAIN")) {
    setenv("MLMAMBA_BENCH_AGAIN", "1", 1);
    execv("/proc/self/exe", argv);
  }
#endif
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

}  // namespace bench
