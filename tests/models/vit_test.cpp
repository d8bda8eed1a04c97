// SPDX-License-Identifier: MIT
// Copyright the mlmamba authors
//
// Vision towers: every kind differentiates exactly, inference equals training, threads and batch
// neighbours change nothing.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "engines.hpp"
#include "mlmamba/mlmamba.hpp"
#include "mlmamba/models/fused_vision.hpp"
#include "mlmamba/models/vit.hpp"
#include "mlmamba/verify/gradcheck.hpp"
#include "models/vit_case.hpp"

using namespace mlmamba;

namespace {

vit_config small(vit_kind kind) {
  vit_config c =
      make_vit_config(kind, 8, 3, 6, 3, 2, 1.9);  // 2 x 2 patches, 2 pixels are left over
  return c;
}
template <engine E>
std::vector<double> read(const out<E, 3>& v) {
  std::vector<double> r;
  const auto h = to_host(v);
  for (index_t i = 0; i < h.count(); ++i) r.push_back(double(h.data()[i]));
  return r;
}

}  // namespace

TEST_SUITE("vit_test") {
  TEST_CASE("the gradient of every kind is exact") {
    for (auto kind : {vit_kind::dinov2_reg4, vit_kind::siglip, vit_kind::clip, vit_kind::in1k}) {
      for (index_t batch : {1, 2}) {
        const auto g = verify::gradcheck_case<verify::vit_case>(7, small(kind), batch);
        INFO(name_of(kind), " batch ", batch, " worst at ", g.where);
        CHECK(g.worst < 1e-12);
        CHECK(g.checked > 500);
      }
    }
  }

  TEST_CASE("the feature block is the second to last, and can be chosen") {
    CHECK(vit<exact>(small(vit_kind::siglip)).blocks.size() == 2);
    auto c = small(vit_kind::siglip);
    c.feature_block = -1;
    CHECK(vit<exact>(c).blocks.size() == 3);
    c.feature_block = 0;
    CHECK(vit<exact>(c).blocks.size() == 1);
    c.feature_block = 3;
    CHECK_THROWS_AS((vit<exact>(c)), shape_error);
  }

  TEST_CASE("published sizes have the published number of parameters") {
    // Without the blocks after the feature block and the final norm.
    const auto count = [](vit_config c) {
      const index_t d = c.d_model, m = c.mlp_hidden;
      index_t block = 4 * d + 3 * d * d + 3 * d + d * d + d + 2 * d * m + m + d;
      if (c.layer_scale) block += 2 * d;
      return c.prefix() * d + c.positions() * d + 3 * c.patch_size * c.patch_size * d +
             (c.patch_bias ? d : 0) + (c.pre_norm ? 2 * d : 0) + c.depth * block + 2 * d;
    };
    auto dino = preset::dinov2_l_384;
    dino.image_size = 518;  // what is stored
    CHECK(count(dino) == 304'370'688);
    CHECK(count(preset::siglip_so400m_384) == 412'987'248 + 0);
    const auto c = small(vit_kind::clip);
    auto whole = c;
    whole.feature_block = -1;
    CHECK(nn::parameter_count(vit<exact>(whole)) == count(c) - 2 * c.d_model);
  }

  TEST_CASE("names are timm's") {
    std::vector<std::string> names;
    vit<exact> tower(small(vit_kind::dinov2_reg4));
    nn::for_each_parameter(tower, [&](const std::string& n, auto&) { names.push_back(n); });
    const std::vector<std::string> want{"cls_token", "reg_token", "pos_embed",
                                        "patch_embed.proj.weight", "patch_embed.proj.bias"};
    CHECK(std::vector<std::string>(names.begin(), names.begin() + 5) == want);
    for (const char* name :
         {"blocks.0.norm1.weight", "blocks.1.attn.qkv.bias", "blocks.1.attn.proj.weight",
          "blocks.0.ls1.gamma", "blocks.1.mlp.fc1.weight", "blocks.0.mlp.fc2.bias",
          "blocks.1.ls2.gamma"})
      CHECK(std::count(names.begin(), names.end(), name) == 1);
  }

  TEST_CASE("pictures of another size are refused") {
    vit<exact> tower(small(vit_kind::siglip));
    context<backend::reference> ctx;
    vit<exact>::saved s;
    tensor<double, 4> x({1, 3, 9, 8});
    CHECK_THROWS_AS(tower.forward(ctx, in<exact, 4>(x.view()), s), shape_error);
    CHECK_THROWS_AS(
        (fused<vit<exact>, vit<exact>>(vit<exact>(small(vit_kind::siglip)),
                                       vit<exact>(make_vit_config(vit_kind::clip, 8, 2, 6, 3, 2)))),
        shape_error);
  }

  TEST_CASE("positions resampled to their own grid stay, and a constant stays constant") {
    std::vector<float> x;
    for (int i = 0; i < (2 + 9) * 3; ++i) x.push_back(float(i) * 0.25f);
    CHECK(resample_positions(x, 2, 3, 3, 3) == x);
    const std::vector<float> ones(std::size_t(1 + 25) * 2, 1.0f);
    for (index_t to : {1, 2, 3, 7, 11})
      for (float v : resample_positions(ones, 1, 5, to, 2)) CHECK(std::abs(v - 1) < 1e-6f);
    CHECK_THROWS_AS(resample_positions(ones, 0, 5, 5, 2), shape_error);
  }
}

TEST_CASE_TEMPLATE("vit: engines agree with the reference in double", E, MLMAMBA_TEST_ENGINES) {
  context_of<E> ctx;
  for (auto kind : {vit_kind::dinov2_reg4, vit_kind::clip}) {
    const auto d = verify::compare<verify::vit_case, E>(ctx, 5, small(kind), index_t{2});
    INFO(name_of(kind), " ", d.where, " relative ", d.relative, " tolerance ", d.tolerance);
    CHECK(d.ok);
  }
}

TEST_CASE_TEMPLATE("vit: encode equals forward, whatever the batch", E, MLMAMBA_TEST_ENGINES) {
#if defined(__CUDACC__)
  context_of<E> ctx(cuda_options{.independent_rows = true});  // else products may depend on it
#else
  context_of<E> ctx;
#endif
  using two = fused<vit<E>, vit<E>>;
  two towers(vit<E>(make_vit_config(vit_kind::dinov2_reg4, 21, 7, 12, 3, 2)),
             vit<E>(make_vit_config(vit_kind::siglip, 21, 7, 10, 2, 2, 3.7)));
  nn::initialise(towers, {1, 2, 3});
  nn::for_each_parameter(towers, [](const std::string& path, auto& p) {
    random_stream r = random_stream{9, 9, 9}.fork(path);
    nn::fill(p, [&] { return 0.3 * r.normal(); });
  });
  tensor_of<E, 4> a({3, 3, 21, 21}), b({3, 3, 21, 21});
  random_stream r{4, 5, 6};
  tensor<typename E::value, 4> host(a.shape());
  for (auto* t : {&a, &b}) {
    for (index_t i = 0; i < host.count(); ++i)
      host.data()[i] = typename E::value(real_t<typename E::value>(r.normal()));
    from_host(t->view(), std::as_const(host).view());
  }
  const std::array<in<E, 4>, 2> x{a, b};
  auto frame = ctx.scratch.make_frame();
  typename two::saved s;
  const auto trained = read<E>(towers.forward(ctx, x, s));
  const auto encoded = read<E>(towers.encode(ctx, x));
  CHECK(trained == encoded);
  CHECK(towers.d_vision() == 22);
  const std::array<in<E, 4>, 2> one{in<E, 4>(a).slice(0, 1, 1), in<E, 4>(b).slice(0, 1, 1)};
  const auto alone = read<E>(towers.encode(ctx, one));
  CHECK(alone == std::vector<double>(encoded.begin() + std::ptrdiff_t(alone.size()),
                                     encoded.begin() + 2 * std::ptrdiff_t(alone.size())));
}
