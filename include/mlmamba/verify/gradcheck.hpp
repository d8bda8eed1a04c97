// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Exact gradient checks: the hand-written backward against the complex-step derivative of forward.
#pragma once

#include <cmath>
#include <complex>
#include <limits>

#include "mlmamba/nn/module.hpp"
#include "mlmamba/verify/op_case.hpp"

namespace mlmamba::verify {

using exact_complex = on<backend::reference, std::complex<double>>;

struct gradcheck_result {
  double worst = 0;     ///< largest |numeric - analytic| / max(1, |numeric|)
  std::string where;    ///< the operand and element that has it
  index_t checked = 0;  ///< numbers checked
};

/// Checks every number of every input of Case<exact>(args...): adds i h to it, h = 1e-20, and reads
/// the derivative of sum(dy y) from the imaginary part. No step-size error: what is left is
/// rounding.
///
/// Source    Squire and Trapp 1998, "Using complex variables to estimate derivatives"
template <template <class> class Case, class... Args>
gradcheck_result gradcheck_case(std::uint64_t seed, const Args&... args) {
  using C = std::complex<double>;
  Case<exact> real(args...);
  Case<exact_complex> complex(args...);
  randomise(real, complex, seed);
  context<backend::reference> ctx;
  run_case(real, ctx);

  std::vector<std::vector<double>> dy, dx;
  std::vector<std::string> names;
  Case<exact>::outputs(real, [&](const char*, auto&, auto& d) { dy.push_back(detail::read(d)); });
  Case<exact>::inputs(real, [&](const char* name, auto&, auto& d, range = range::normal) {
    dx.push_back(detail::read(d));
    names.push_back(name);
  });

  gradcheck_result r;
  constexpr double h = 1e-20;
  std::size_t k = 0;
  Case<exact_complex>::inputs(complex, [&](const char*, auto& t, auto&, range = range::normal) {
    const std::size_t which = k++;
    for (index_t i = 0; i < t.count() && !dx[which].empty(); ++i) {
      auto frame = ctx.scratch.make_frame();
      C& slot = t.data()[i];
      slot += C(0, h);
      complex.forward(ctx);
      slot = slot.real();
      C loss = 0;
      std::size_t o = 0;
      Case<exact_complex>::outputs(complex, [&](const char*, auto& y, auto&) {
        const auto& d = dy[o++];
        for (std::size_t j = 0; j < d.size(); ++j) loss += d[j] * y.data()[j];
      });
      const double numeric = loss.imag() / h;
      double e = std::abs(numeric - dx[which][std::size_t(i)]) / std::max(1.0, std::abs(numeric));
      if (std::isnan(e)) e = std::numeric_limits<double>::infinity();  // NaN would be forgotten
      ++r.checked;
      if (e > r.worst) {
        r.worst = e;
        r.where = names[which] + "[" + std::to_string(i) + "]";
      }
    }
  });
  return r;
}

/// A module as a case: its input and every parameter are inputs, what forward returns is the
/// output.
template <class Module>
struct module_case {
  using engine_type = typename Module::engine_type;
  using E = engine_type;
  Module module;
  tensor_of<E, 3> x, dx, y, dy;

  template <class... Args>
  explicit module_case(shape<3> n, const Args&... args) : module(args...), x(n), dx(n) {
    context_of<E> ctx;
    typename Module::saved s;
    const auto r = module.forward(ctx, x, s);  // to learn the shape of the output
    y = tensor_of<E, 3>(r.shape());
    dy = tensor_of<E, 3>(r.shape());
    nn::allocate_grads(module);
  }
  static void inputs(auto& self, auto&& f) {
    f("input", self.x, self.dx);
    nn::for_each_parameter(self.module, [&](const std::string& path, auto& p) {
      f(path.c_str(), p.value, p.grad, range::small);
    });
  }
  static void outputs(auto& self, auto&& f) { f("output", self.y, self.dy); }
  void forward(context_of<E>& ctx) {
    auto frame = ctx.scratch.make_frame();
    typename Module::saved s;
    keep(module.forward(ctx, x, s), y);
  }
  void backward(context_of<E>& ctx) {
    auto frame = ctx.scratch.make_frame();
    typename Module::saved s;
    this->module.forward(ctx, x, s);
    keep(module.backward(ctx, dy, s), dx);
  }
  double terms() const { return double(x.count()); }

 private:
  static void keep(out<E, 3> from, tensor_of<E, 3>& to) {
    if (!(from.shape() == to.shape()) || !from.contiguous())
      fail<shape_error>("gradcheck: a module returned ", to_string(from), "; wanted is ",
                        to_string(to.view()), ", contiguous");
    allocator<typename E::memory>::copy(to.data(), from.data, to.bytes());
  }
};

namespace detail {
template <class Module>
struct module_case_on {
  template <class E>
  using type = module_case<rebind_t<Module, E>>;
};
}  // namespace detail

/// Is the backward of a module right? 1e-15 or a bug; the worst parameter is named.
///
///   gradcheck<my_connector<exact>>({2, 9, 12}, connector_shape{12, 8, 3, 3})
template <class Module, class... Args>
gradcheck_result gradcheck(shape<3> n, const Args&... args) {
  return gradcheck_case<detail::module_case_on<Module>::template type>(42, n, args...);
}

}  // namespace mlmamba::verify
