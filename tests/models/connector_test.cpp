// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Every connector: the reference on every engine, sizes, names, what it refuses.
#include <algorithm>
#include <string>
#include <vector>

#include "engines.hpp"
#include "mlmamba/mlmamba.hpp"
#include "mlmamba/models/connectors/mlp.hpp"
#include "mlmamba/models/connectors/pool.hpp"
#include "mlmamba/models/connectors/scan.hpp"
#include "mlmamba/verify/gradcheck.hpp"
#include "models/gated_connector.hpp"

using namespace mlmamba;

namespace {

/// Any connector as a case, from its shape alone.
template <class C>
struct on_engine {
  template <class E>
  struct type : verify::module_case<rebind_t<C, E>> {
    type(connector_shape n, index_t batch)
        : verify::module_case<rebind_t<C, E>>(shape<3>{{batch, n.tokens(), n.d_vision}}, n) {}
    double terms() const { return 64.0 * double(this->x.count()); }
  };
};

}  // namespace

static_assert(connector<linear_connector<exact>> && connector<fused_ldp_connector<cpu_bf16>>);
static_assert(connector<scan_connector<cpu_f32>> && connector<cross_scan_connector<cuda_bf16>>);
static_assert(connector<verify::gated_connector<cpu_f32>>);

TEST_CASE_TEMPLATE("connector: tokens of another width or grid are refused", C,
                   linear_connector<exact>, pixel_shuffle_connector<exact>, scan_connector<exact>) {
  context<backend::reference> ctx;
  C c(connector_shape{5, 4, 2, 2});
  typename C::saved s;
  tensor<double, 3> narrow({1, 4, 4}), many({1, 5, 5});
  CHECK_THROWS_AS(c.forward(ctx, narrow, s), shape_error);
  CHECK_THROWS_AS(c.forward(ctx, many, s), shape_error);
  CHECK_THROWS_AS(C(connector_shape{5, 4, 0, 2}), shape_error);
  CHECK_THROWS_AS(C(connector_shape{0, 4, 2, 2}), shape_error);
}

TEST_SUITE("connector_test") {
  TEST_CASE("the flagship's scan connector has the published number of parameters and names") {
    // 2560 wide it has 184,405,440 parameters, too many to build here: counted at a tenth of it.
    const connector_shape n{17, 128, 3, 3};
    scan_options o;
    const scan_connector<exact> c(n, o);
    const index_t d = 128, in = 2 * 256 + 2 * 128 + 4, conv = 256 + 2 * 128;
    const index_t mixer = in * d + 2 * (conv * 4 + conv + 3 * 4) + 256 + d * 256;
    CHECK(nn::parameter_count(c.mlp) == 17 * d + d);
    CHECK(nn::parameter_count(c.bidirectional_mamba) ==
          2 * (mixer + 3 * (d * d + d) + 2 * d) + 2 * d);
    CHECK(nn::parameter_count(c.projector) == 4 * d * d + 4 * d + 4 * d * d + d + d * d + d);
    std::vector<std::string> names;
    nn::for_each_parameter(c, [&](const std::string& path, const auto&) { names.push_back(path); });
    for (const char* name :
         {"mlp.0.weight", "bidirectional_mamba.layers.0.mixer.in_proj.weight",
          "bidirectional_mamba.layers.1.mixer.conv1d_b.bias",
          "bidirectional_mamba.layers.1.mixer.A_log_b", "bidirectional_mamba.layers.0.mixer.D",
          "bidirectional_mamba.layers.0.mixer.norm.weight",
          "bidirectional_mamba.layers.0.mlp.w3.bias", "bidirectional_mamba.layers.0.norm.bias",
          "bidirectional_mamba.norm_f.weight", "projector.projector.4.bias"})
      CHECK(std::count(names.begin(), names.end(), name) == 1);
  }

  TEST_CASE("projectors are chosen by the original's rules") {
    CHECK(projector_kind_of("no-align+fused-gelu-mlp") == projector_kind::fused_gelu_mlp);
    CHECK(projector_kind_of("no-align+gelu-mlp") == projector_kind::gelu_mlp);
    CHECK(projector_kind_of("no-align+fused-ldpnet") == projector_kind::fused_ldpnet);
    CHECK(projector_kind_of("linear") == projector_kind::linear);
    CHECK_THROWS_AS(projector_kind_of("no-align+linear"), error);
    CHECK_THROWS_AS(projector_kind_of(""), error);
  }

  TEST_CASE("every connector initialises all it has") {
    const connector_shape n{6, 4, 2, 2};
    const auto check = [&](auto c) {
      nn::for_each_parameter(c,
                             [](const std::string&, auto& p) { nn::fill(p, [] { return 7.0; }); });
      nn::initialise(c, {1, 0, 0});
      nn::for_each_parameter(c, [](const std::string& path, auto& p) {
        INFO(path);
        CHECK(p.value.data()[0] != 7.0);
      });
    };
    check(linear_connector<exact>(n)), check(fused_mlp_connector<exact>(n));
    check(ldp_connector<exact>(n)), check(pixel_shuffle_connector<exact>(n));
    check(scan_connector<exact>(n)), check(cross_scan_connector<exact>(n));
  }
}

TEST_CASE_TEMPLATE("connector: engines agree with the reference", E, MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  const connector_shape n{10, 8, 3, 3};
  const auto check = [&](const verify::difference& d, const char* who) {
    INFO(who, " ", d.where, " relative ", d.relative, " tolerance ", d.tolerance);
    CHECK(d.ok);
  };
  const index_t batch = 2;
  check(verify::compare<on_engine<fused_mlp_connector<exact>>::type, E>(ctx, 1, n, batch), "mlp");
  check(verify::compare<on_engine<ldp_connector<exact>>::type, E>(ctx, 1, n, batch), "ldp");
  check(verify::compare<on_engine<pixel_shuffle_connector<exact>>::type, E>(ctx, 1, n, batch),
        "shuffle");
  check(verify::compare<on_engine<scan_connector<exact>>::type, E>(ctx, 1, n, batch), "scan");
  check(verify::compare<on_engine<cross_scan_connector<exact>>::type, E>(ctx, 1, n, batch),
        "cross scan");
}
