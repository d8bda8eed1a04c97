// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// A connector chosen while the program runs is the connector itself: gradient, numbers, names,
// file.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "io/temporary.hpp"
#include "mlmamba/backend/reference.hpp"
#include "mlmamba/models/connectors/any.hpp"
#include "mlmamba/models/published/connectors.hpp"
#include "mlmamba/verify/gradcheck.hpp"
#include "models/gated_connector.hpp"

using namespace mlmamba;

namespace {

const json llm = {{"d_model", 4},
                  {"n_layer", 1},
                  {"vocab_size", 8},
                  {"ssm_cfg", {{"layer", "Mamba2"}, {"headdim", 4}, {"d_state", 3}}}};

/// All parameters with their paths below a model, in order.
template <class C>
std::vector<std::string> names_of(const C& c) {
  std::vector<std::string> names;
  const std::string below = requires { C::names_are_top_level; }
  ? "" : "projector";
  nn::for_each_parameter(
      c, [&](const std::string& path, const auto&) { names.push_back(path); }, below);
  return names;
}
template <class C>
std::vector<double> answer_of(C& c) {
  nn::initialise(c, {5, 0, 0});
  context<backend::reference> ctx;
  tensor<double, 3> x({2, 12, 5});
  for (index_t i = 0; i < x.count(); ++i) x.data()[i] = double(i % 7) - 3;
  typename C::saved s;
  return verify::detail::read(tensor<double, 3>(to_host(c.forward(ctx, x, s))));
}

TEST_SUITE("any_connector_test") {
  TEST_CASE("the gradient of whichever is chosen is exact") {
    const connector_shape n{5, 4, 3, 4};
    for (const char* kind :
         {"mamba2_scan_connector", "mamba2_cross_scan_connector", "linear", "gelu-mlp",
          "fused-gelu-mlp", "ldpnet", "fused-ldpnet", "average-pool"}) {
      const auto g = verify::gradcheck<any_connector<exact>>({1, n.tokens(), 5}, n, kind);
      INFO(kind, ", worst at ", g.where, ": ", g.worst);
      CHECK(g.worst < 1e-12);
      CHECK(g.checked > 60);
    }
    const connector_shape even{5, 4, 2, 4};  // where the factor is 2
    const auto g = verify::gradcheck<any_connector<exact>>({2, 8, 5}, even, "pixel-shuffle");
    CHECK(g.worst < 1e-12);
  }

  TEST_CASE_TEMPLATE("it is the connector itself, and so are its names and its config", C,
                     linear_connector<exact>, mlp_connector<exact>, fused_mlp_connector<exact>,
                     ldp_connector<exact>, fused_ldp_connector<exact>,
                     average_pool_connector<exact>, pixel_shuffle_connector<exact>,
                     scan_connector<exact>, cross_scan_connector<exact>) {
    const connector_shape n{5, 4, 2, 6};
    const json config = {{"connector", {{"type", C::kind}}}};
    auto own = detail::make_connector<C>(config, llm, n, "config");
    auto any = detail::make_connector<any_connector<exact>>(config, llm, n, "config");
    CHECK(any.shape == n);
    CHECK(any.tokens() == own.tokens());
    CHECK(names_of(any) == names_of(own));
    CHECK(answer_of(any) == answer_of(own));
    const json written = detail::connector_json(any);
    CHECK(written == detail::connector_json(own));
    const auto again =
        detail::make_connector<any_connector<exact>>({{"connector", written}}, llm, n, "config");
    CHECK(again.chosen.index() == any.chosen.index());
    CHECK(detail::connector_json(again) == written);
  }

  TEST_CASE("without a name it is the published one; unknown names are refused") {
    const connector_shape n{5, 4, 2, 6};
    using any = any_connector<exact>;
    CHECK(detail::make_connector<any>(json::object(), llm, n, "config").chosen.index() == 0);
    const json odd = {{"connector", "wavelet"}};
    const auto why =
        test::message_of<io_error>([&] { detail::make_connector<any>(odd, llm, n, "c.json"); });
    CHECK(why ==
          "c.json: connector \"wavelet\" is not known; one of mamba2_scan_connector, "
          "mamba2_cross_scan_connector, linear, gelu-mlp, fused-gelu-mlp, ldpnet, fused-ldpnet, "
          "average-pool, pixel-shuffle is wanted");
    const json bad = {{"connector", {{"type", "pixel-shuffle"}, {"factor", 5}}}};
    CHECK_THROWS_AS(detail::make_connector<any>(bad, llm, n, "config"), io_error);
    CHECK_THROWS_AS(any(connector_shape{0, 4, 2, 2}), shape_error);
  }

  TEST_CASE("connectors of one's own take part, by value") {
    using lab = one_of_connectors<linear_connector<exact>, verify::gated_connector<exact>>;
    static_assert(connector<lab> && connector<any_connector<exact>>);
    const connector_shape n{5, 4, 2, 6};
    verify::gated_connector<exact> own(n);
    lab any(n, own);
    CHECK(names_of(any) == names_of(own));
    CHECK(answer_of(any) == answer_of(own));
  }
}

}  // namespace
